"""The step of a layer, compiled once per chunk size by the backend."""

import functools

import keras
import numpy as np
from keras import tree

from ..sequence import Sequence


def compile_step(layer, batch_size, spec):
    """A step `step(values, mask, state)` on NumPy arrays; `step.initial_state()` gives its first, opaque, state.

    `values` is [B, T, ...], `mask` bool [B, T] or `None`; the step returns (values, mask or `None`, state) with NumPy
    arrays. It is compiled at the first call of each chunk size, with and without a mask, over the weights that the
    layer has now; the state given to a call must not be used again. `step.compilations` counts.
    """
    example = layer.initial_state(batch_size, spec)

    def step(values, mask, leaves):
        state = tree.pack_sequence_as(example, leaves)
        y, state = layer.step(Sequence(values, mask), state)
        return y.values, y.mask, tree.flatten(state)

    leaves = [np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in tree.flatten(example)]
    dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in tree.flatten(example)]
    return _compiler()(step, layer, leaves, dtypes, batch_size, spec)


def _compiler():
    return {"jax": _JaxStep, "tensorflow": _TensorFlowStep, "torch": _TorchStep}[keras.backend.backend()]


def _scope(layer, copy):
    """A scope in which the layer's variables have the values that they have now."""
    return keras.StatelessScope([(v, copy(v.value)) for v in layer.variables])


class _Step:
    """What the backends share: a cache of compiled functions by chunk length and by whether there is a mask."""

    def __init__(self, step, layer, leaves, dtypes, batch_size, spec):
        self._step, self._leaves, self._dtypes = step, leaves, dtypes
        self._batch_size, self._spec = batch_size, spec
        self._functions = {}
        self.scope = self._freeze(layer)

    @property
    def compilations(self) -> int:
        """How many functions have been compiled."""
        return len(self._functions)

    def __call__(self, values, mask, state):
        key = values.shape[1], mask is not None
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = self._compile(*key)
        return function(values, mask, state)


class _JaxStep(_Step):
    """Jitted with the weights closed over and the state donated; NumPy goes straight in."""

    def _freeze(self, layer):
        import jax.numpy as jnp

        return _scope(layer, functools.partial(jnp.array, copy=True))

    def initial_state(self):
        import jax.numpy as jnp

        # Copies: the step is given their buffers, and takes each buffer once.
        return [jnp.array(leaf, dtype=dtype) for leaf, dtype in zip(self._leaves, self._dtypes, strict=True)]

    def _compile(self, time, masked):
        import jax

        def with_mask(values, mask, leaves):
            with self.scope:
                return self._step(values, mask, leaves)

        def without_mask(values, leaves):
            with self.scope:
                return self._step(values, None, leaves)

        if masked:
            jitted = jax.jit(with_mask, donate_argnums=2)
        else:
            jitted_values = jax.jit(without_mask, donate_argnums=1)

            def jitted(values, mask, state):
                return jitted_values(values, state)

        def run(values, mask, state):
            y, y_mask, state = jitted(values, mask, state)
            return np.asarray(y), None if y_mask is None else np.asarray(y_mask), state

        return run


class _TensorFlowStep(_Step):
    """One flat concrete function per chunk size, compiled by XLA."""

    def _freeze(self, layer):
        import tensorflow as tf

        return _scope(layer, tf.identity)

    def initial_state(self):
        import tensorflow as tf

        return [tf.constant(leaf, dtype=dtype) for leaf, dtype in zip(self._leaves, self._dtypes, strict=True)]

    def _compile(self, time, masked):
        import tensorflow as tf

        has_mask = []

        def flat(values, *rest):
            mask, leaves = (rest[0], rest[1:]) if masked else (None, rest)
            with self.scope:
                y, y_mask, leaves = self._step(values, mask, list(leaves))
            has_mask.append(y_mask is not None)
            return [y, *([] if y_mask is None else [y_mask]), *leaves]

        shape = (self._batch_size, time)
        signature = [tf.TensorSpec((*shape, *self._spec.shape), self._spec.dtype)]
        signature += [tf.TensorSpec(shape, "bool")] if masked else []
        signature += [tf.TensorSpec(a.shape, dtype) for a, dtype in zip(self._leaves, self._dtypes, strict=True)]
        function = tf.function(flat, input_signature=signature, jit_compile=True, autograph=False)
        concrete = function.get_concrete_function()
        outputs_mask = has_mask[-1]

        def run(values, mask, state):
            given = [tf.constant(values)] + ([tf.constant(mask)] if masked else [])
            y, *rest = concrete(*given, *state)
            return y.numpy(), rest.pop(0).numpy() if outputs_mask else None, rest

        return run


class _TorchStep(_Step):
    """Eager, in inference mode."""

    def _freeze(self, layer):
        return _scope(layer, lambda value: value.detach().clone())

    def initial_state(self):
        import torch

        names = zip(self._leaves, self._dtypes, strict=True)
        return [
            torch.tensor(leaf.astype("float32") if dtype == "bfloat16" else leaf, dtype=getattr(torch, dtype))
            for leaf, dtype in names
        ]

    def _compile(self, time, masked):
        import torch

        def run(values, mask, state):
            with torch.inference_mode(), self.scope:
                y, y_mask, state = self._step(_to_torch(values), None if mask is None else _to_torch(mask), state)
                return _torch_to_numpy(y), None if y_mask is None else y_mask.numpy(), state

        return run


def _to_torch(x):
    """A tensor on the array's memory where torch can take it: not where it is read-only or runs backwards."""
    import torch

    return torch.from_numpy(x if x.flags.writeable and x.flags.c_contiguous else x.copy())


def _torch_to_numpy(y):
    return y.numpy() if keras.backend.standardize_dtype(y.dtype) != "bfloat16" else keras.ops.convert_to_numpy(y)
