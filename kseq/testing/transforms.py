"""Compiling, differentiating and float64, each as the backend does it: what Keras does not offer and tests need."""

import contextlib
from typing import Any

import keras
from keras import tree

# Tests run a compiled function a few times: time spent on making it faster is lost.
_QUICK_COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}


def jit(fn: Any, *, quick: Any = False) -> Any:
    """Compile a function of NumPy arrays or trees of them, for tests; on torch it runs as it is.

    With `quick` less time goes into compiling and more into running.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(fn, compiler_options=_QUICK_COMPILE if quick else None)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, autograph=False, reduce_retracing=False)
    return fn


def float64() -> Any:
    """A scope in which float64 exists: jax has it only on request, the others always."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()


def no_gradients() -> Any:
    """A scope in which nothing is kept for gradients, which only torch would keep."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()
    return contextlib.nullcontext()


def stateless(fn: Any, variables: Any) -> Any:
    """Compile `fn(*arguments)` into `run(weights, *arguments)`, where `weights` are values for Keras variables."""

    def run(weights, *arguments):
        weights, arguments = tree.map_structure(keras.ops.convert_to_tensor, (list(weights), arguments))
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return fn(*arguments)

    return jit(run, quick=True)


def value_and_gradients(fn: Any, variables: Any, *, of_values: Any = True) -> Any:
    """Compile a scalar function with its gradients, for tests.

    Args:
        fn: `fn(values, *arguments)` gives a scalar and a tree of further results.
        variables: Keras variables that `fn` reads.
        of_values: whether to find the gradient of `values`; integers have none.

    Returns:
        A function `run(values, weights, *arguments)` of NumPy arrays, where `weights` are values for `variables`. It
        returns the scalar, the further results, the gradient of `values` or `None`, and the list of gradients of the
        weights; zeros where there is no dependence.
    """
    backend = {"jax": _jax_value, "tensorflow": _tensorflow_value, "torch": _torch_value}[keras.backend.backend()]

    def loss(values, weights, *arguments):
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return fn(values, *arguments)

    return backend(loss, of_values)


def _jax_value(loss, of_values):
    import jax

    compiled = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1) if of_values else 1, has_aux=True), compiler_options=_QUICK_COMPILE
    )

    def run(values, weights, *arguments):
        (value, more), found = compiled(values, weights, *arguments)
        of_input, of_weights = found if of_values else (None, found)
        return value, more, of_input, of_weights

    return run


def _tensorflow_value(loss, of_values):
    import tensorflow as tf

    @tf.function(autograph=False)
    def compiled(values, weights, *arguments):
        sources = [values, *weights] if of_values else list(weights)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            value, more = loss(values, weights, *arguments)
        found = tape.gradient(value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO) if sources else []
        return value, more, [tf.convert_to_tensor(g) for g in found]

    def run(values, weights, *arguments):
        value, more, found = compiled(tf.constant(values), [tf.constant(w) for w in weights], *arguments)
        return value, more, found[0] if of_values else None, found[1:] if of_values else found

    return run


def _torch_value(loss, of_values):
    import torch

    def run(values, weights, *arguments):
        values, *arguments = [keras.ops.convert_to_tensor(a) for a in (values, *arguments)]
        weights = [torch.tensor(w) for w in weights]
        sources = [values, *weights] if of_values else weights
        for source in sources:
            source.requires_grad_(True)
        value, more = loss(values, weights, *arguments)
        found = [torch.zeros_like(s) for s in sources]
        if sources and value.requires_grad:
            given = torch.autograd.grad(value, sources, allow_unused=True)
            found = [zero if g is None else g for g, zero in zip(given, found, strict=True)]
        return value, more, found[0] if of_values else None, found[1:] if of_values else found

    return run


def gradients_of_gradients(fn: Any, variables: Any) -> Any:
    """Compile the gradients of a gradient penalty, the sum of squares of all gradients of a scalar function, for tests.

    Args:
        fn: `fn(values)` gives a scalar.
        variables: Keras variables that `fn` reads.

    Returns:
        A function `run(values, weights)` of NumPy arrays that gives a list of gradients: of the values, and of each of
        the weights, which are values for `variables`.
    """

    def loss(values, *weights):
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return fn(values)

    def penalty(gradients):
        return sum(keras.ops.sum(g**2) for g in gradients)

    backend = {"jax": _jax_second, "tensorflow": _tensorflow_second, "torch": _torch_second}[keras.backend.backend()]
    second = backend(loss, penalty)
    return lambda values, weights: [keras.ops.convert_to_numpy(g) for g in second([values, *weights])]


def _jax_second(loss, penalty):
    import jax

    def of_gradients(sources):
        return penalty(jax.grad(lambda sources: loss(*sources))(sources))

    return jax.jit(jax.grad(of_gradients), compiler_options=_QUICK_COMPILE)


def _tensorflow_second(loss, penalty):
    import tensorflow as tf

    @tf.function(autograph=False)
    def second(sources):
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                value = loss(*sources)
            found = penalty(inner.gradient(value, sources))
        return outer.gradient(found, sources)

    return lambda arrays: second([tf.constant(a) for a in arrays])


def _torch_second(loss, penalty):
    import torch

    def second(arrays):
        sources = [torch.tensor(a, requires_grad=True) for a in arrays]
        found = torch.autograd.grad(loss(*sources), sources, create_graph=True)
        return torch.autograd.grad(penalty(found), sources)

    return second
