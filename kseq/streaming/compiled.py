"""A `StepFunction` compiled by the backend, for NumPy arrays in and out."""

import functools

import keras
import numpy as np

from ..layers.structures import parts
from ..sequence import Sequence
from .step import StepFunction


def compile_step(step: StepFunction):
    """A step `run(values, masks, active, state) -> (outputs, state)` on NumPy arrays.

    `values` is a tuple with [B, T, ...] for every input, `masks` one with bool [B, T] or `None` for each, `active` bool
    [B] or `None`. `outputs` is a list of (values, mask or `None`). `run.initial_state()` gives the first state, which
    is opaque: `run.to_numpy(state)` gives its leaves, `run.from_numpy(leaves)` makes it of them. It is compiled at the
    first call of each chunk size, with and without masks and active rows, over the weights that the layer has now; the
    state given to a call must not be used again. `run.compilations` counts.
    """
    return {"jax": _JaxStep, "tensorflow": _TensorFlowStep, "torch": _TorchStep}[keras.backend.backend()](step)


class _CompiledStep:
    """What the backends share: a cache of compiled functions by chunk length, and by which masks there are."""

    def __init__(self, step: StepFunction):
        self.step = step
        self._functions = {}
        self.scope = self._freeze(step.layer)

    @property
    def compilations(self) -> int:
        """How many functions have been compiled."""
        return len(self._functions)

    def __call__(self, values, masks, active, state):
        key = (values[0].shape[1], active is None, *[mask is None for mask in masks])
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = self._compile(values, masks, active)
        return function(values, masks, active, state)

    def initial_state(self):
        return self.from_numpy(self.step.initial_state())

    def to_numpy(self, state) -> list[np.ndarray]:
        return [np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in state]

    def _scope(self, copy):
        """A scope in which the layer's variables have the values that they have now."""
        return keras.StatelessScope([(v, copy(v.value)) for v in self.step.layer.variables])

    def _outputs(self, given, masks, active, state):
        """The step of arrays in a row: the values, the masks that there are, and the active rows if there are any."""
        given = list(given)
        active = None if active is None else given.pop()
        values, given = given[: len(masks)], given[len(masks) :]
        sequences = tuple(Sequence(v, None if m is None else given.pop(0)) for v, m in zip(values, masks, strict=True))
        y, state = self.step(sequences if len(masks) > 1 else sequences[0], state, active)
        return parts(y), state


def _row(values, masks, active):
    """All arrays of a call in a row."""
    return [*values, *[m for m in masks if m is not None], *([] if active is None else [active])]


class _JaxStep(_CompiledStep):
    """Jitted with the weights closed over and the state donated; NumPy goes straight in."""

    def _freeze(self, layer):
        import jax.numpy as jnp

        return self._scope(functools.partial(jnp.array, copy=True))

    def from_numpy(self, leaves):
        import jax.numpy as jnp

        # Copies: the step is given their buffers, and takes each buffer once.
        return [jnp.array(leaf, dtype=spec.dtype) for leaf, spec in zip(leaves, self.step.state, strict=True)]

    def _compile(self, values, masks, active):
        import jax

        def flat(state, *given):
            with self.scope:
                outputs, state = self._outputs(given, masks, active, state)
            return [tuple(y) for y in outputs], state

        jitted = jax.jit(flat, donate_argnums=0)

        def run(values, masks, active, state):
            outputs, state = jitted(state, *_row(values, masks, active))
            return [(np.asarray(y), None if mask is None else np.asarray(mask)) for y, mask in outputs], state

        def run_one(values, masks, active, state):
            [(y, mask)], state = jitted(state, values[0])
            return [(np.asarray(y), None if mask is None else np.asarray(mask))], state

        plain = len(values) == self.step.layer.num_outputs == 1 and masks[0] is None and active is None
        return run_one if plain else run


class _TensorFlowStep(_CompiledStep):
    """One flat concrete function per chunk size, compiled by XLA."""

    def _freeze(self, layer):
        import tensorflow as tf

        return self._scope(tf.identity)

    def from_numpy(self, leaves):
        import tensorflow as tf

        return [tf.constant(leaf, dtype=spec.dtype) for leaf, spec in zip(leaves, self.step.state, strict=True)]

    def _compile(self, values, masks, active):
        import tensorflow as tf

        masked, count = [], len(_row(values, masks, active))

        def flat(*given):
            with self.scope:
                outputs, state = self._outputs(given[:count], masks, active, list(given[count:]))
            masked[:] = [y.mask is not None for y in outputs]
            return [*[y.values for y in outputs], *[y.mask for y in outputs if y.mask is not None], *state]

        signature = [
            tf.TensorSpec(a.shape, spec.dtype) for a, spec in zip(values, parts(self.step.input_spec), strict=True)
        ]
        signature += [tf.TensorSpec(a.shape, "bool") for a in _row((), masks, active)]
        signature += [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in self.step.state]
        function = tf.function(flat, input_signature=signature, jit_compile=True, autograph=False)
        concrete = function.get_concrete_function()

        def run(values, masks, active, state):
            found = concrete(*map(tf.constant, _row(values, masks, active)), *state)
            outputs, found = found[: len(masked)], found[len(masked) :]
            outputs = [
                (y.numpy(), found.pop(0).numpy() if has_mask else None)
                for y, has_mask in zip(outputs, masked, strict=True)
            ]
            return outputs, found

        return run


class _TorchStep(_CompiledStep):
    """Eager, in inference mode."""

    def _freeze(self, layer):
        return self._scope(lambda value: value.detach().clone())

    def from_numpy(self, leaves):
        import torch

        return [
            torch.tensor(leaf.astype("float32") if spec.dtype == "bfloat16" else leaf, dtype=getattr(torch, spec.dtype))
            for leaf, spec in zip(leaves, self.step.state, strict=True)
        ]

    def _compile(self, values, masks, active):
        import torch

        def run(values, masks, active, state):
            given = map(_to_torch, _row(values, masks, active))
            with torch.inference_mode(), self.scope:
                outputs, state = self._outputs(given, masks, active, state)
                outputs = [(_torch_to_numpy(y), None if mask is None else mask.numpy()) for y, mask in outputs]
            return outputs, state

        return run


def _to_torch(x):
    """A tensor on the array's memory where torch can take it: not where it is read-only or runs backwards."""
    import torch

    return torch.from_numpy(x if x.flags.writeable and x.flags.c_contiguous else x.copy())


def _torch_to_numpy(y):
    return y.numpy() if keras.backend.standardize_dtype(y.dtype) != "bfloat16" else keras.ops.convert_to_numpy(y)
