"""A `StepFunction` compiled by tensorflow."""

import copy
from typing import Any

import numpy as np

from ..layers.structures import parts
from .compiled import CompiledStep
from .tracing import State, in_row

# Bytes at whose multiples memory begins that is shared with XLA.
_ALIGNMENT = 64


class TensorFlowStep(CompiledStep):
    """One flat concrete function per chunk size, compiled by XLA."""

    @staticmethod
    def copy(value: Any) -> Any:
        import tensorflow as tf

        return tf.identity(value)

    def leaf(self, x: Any, dtype: Any) -> Any:
        import tensorflow as tf

        return tf.constant(x, dtype=dtype)

    def function(self, trace: Any, values: Any, masks: Any, active: Any, written: Any) -> Any:
        return _TensorFlowFunction(self, trace, in_row(values, masks, active), written)


class _TensorFlowFunction:
    """Its weights are captured, and can be captured anew: as arguments they would take longer than the step itself.

    XLA keeps for ever what it has compiled: it must not compile again for weights that have changed. Where there are
    operations that XLA does not have, as determinants, tensorflow runs its own graph instead.
    """

    def __init__(self, run: Any, trace: Any, row: Any, written: Any) -> None:
        import tensorflow as tf

        weights = run.weights.values
        kinds = [spec.dtype for spec in parts(run.step.input_spec)]
        kinds += ["bool"] * (len(row) - len(kinds))
        signature = [tf.TensorSpec(a.shape, kind) for a, kind in zip(row, kinds, strict=True)]
        signature += [tf.TensorSpec(weights[i].shape, weights[i].dtype) for i in written]
        signature += [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in run.step.state]
        start, end, masked = len(row), len(row) + len(written), []

        def flat(*given):
            seeds = dict(zip(written, given[start:end], strict=True))
            variables = [seeds[i] if i in seeds else captured(value) for i, value in enumerate(weights)]
            outputs, leaves, updates = trace(list(given[end:]), variables, given[:start])
            masked[:] = [y.mask is not None for y in outputs]
            found = [*[y.values for y in outputs], *[y.mask for y in outputs if y.mask is not None]]
            return [*found, *updates.values(), *leaves]

        self.trace, self.masked, self.traced = trace, masked, (flat, signature, weights)
        self.written, self.weights = [(i, weights[i]) for i in written], weights
        self.takes = [_taken_as(a, spec.dtype) for a, spec in zip(row, signature, strict=False)]
        self.unsupported = tf.errors.InvalidArgumentError
        self._compile(True)

    def _compile(self, by_xla):
        import tensorflow as tf

        flat, signature, weights = self.traced
        function = tf.function(flat, input_signature=signature, jit_compile=by_xla, autograph=False)
        self.function, self.by_xla = function.get_concrete_function(), by_xla
        # Called with a flat list, past the checks of structures, which take longer than a step.
        self.call = self.function.inference_fn.call_preflattened
        self.captured = exchanged(self.function.captured_inputs, weights, self.weights)

    def bound_to(self, weights: Any) -> Any:
        """The same function with other weights."""
        bound = copy.copy(self)
        bound.weights, bound.written = weights.values, [(i, weights.values[i]) for i, _ in self.written]
        bound.captured = exchanged(self.captured, self.weights, weights.values)
        return bound.call_plain if self.trace.is_plain else bound

    def __call__(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        row = [take(a) for take, a in zip(self.takes, in_row(values, masks, active), strict=True)]
        seeds = [state.seeds.get(i, value) for i, value in self.written]
        found = self._outcome([*row, *seeds, *state.leaves])
        outputs, found = found[: len(self.masked)], found[len(self.masked) :]
        outputs = [
            (y.numpy(), found.pop(0).numpy() if has_mask else None)
            for y, has_mask in zip(outputs, self.masked, strict=True)
        ]
        updates = {i: found.pop(0) for i in self.trace.written}
        return outputs, State(found, state.seeds | updates)

    def _outcome(self, given):
        """What the function gives, without XLA from the first time that it has not all of its operations."""
        try:
            return self.call([*given, *self.captured])
        except self.unsupported as error:
            if not self.by_xla or "_XlaMustCompile" not in str(error):  # said where it does not compile
                raise
            self._compile(False)
            return self.call([*given, *self.captured])

    def call_plain(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        """The same of a plain trace: a tenth of a small step is saved."""
        row = [take(a) for take, a in zip(self.takes, values, strict=True)]
        y, *leaves = self._outcome([*row, *state.leaves])
        mask = leaves.pop(0).numpy() if self.masked[0] else None
        return [(y.numpy(), mask)], State(leaves, state.seeds)


def _taken_as(example, kind):
    """What makes a tensor of a copy of arrays like an example: in shared memory where that can be, the quickest."""
    import tensorflow as tf

    share = tf.experimental.dlpack.from_dlpack
    if example.dtype != kind or example.dtype.kind not in "fi" or not example.size:
        return lambda array: tf.constant(array.copy(), kind)

    def shared(array):
        # What XLA compiles may count on where memory begins.
        memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
        start = -memory.__array_interface__["data"][0] % _ALIGNMENT
        own = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        own[...] = array
        return share(own.__dlpack__())

    return shared


def captured(value: Any) -> Any:
    """A tensor as a capture of the function that is traced, also where it is so small that it would be a constant."""
    import tensorflow as tf

    placeholder = tf.compat.v1.placeholder(value.dtype, value.shape)
    tf.compat.v1.get_default_graph().add_capture(value, placeholder)
    return placeholder


def exchanged(captures: Any, old: Any, new: Any) -> list[Any]:
    """What a function of tensorflow has captured, with new values in the place of old ones."""
    numbers = {id(value): i for i, value in enumerate(old)}
    return [new[numbers[id(x)]] if id(x) in numbers else x for x in captures]
