"""Computations of many steps of a layer, compiled as one: their loops stay on the device."""

import copy
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from ..layers.structures import parts
from ..sequence import Sequence
from .compiled import compile_step
from .products import merged
from .shared import Weights, fingerprint, shared_by
from .step import StepFunction
from .tensorflow_step import captured, exchanged
from .tracing import TraceScope


class Carry(NamedTuple):
    """What goes from step to step: the leaves of the layer's state, and the seeds that its steps draw with."""

    leaves: list[Any]
    seeds: list[Any]


class Stepper:
    """The step of a layer, called as `advance(x, carry, active=None) -> (y, carry)` within a computation.

    Args:
        step: the step.
        call: makes one, of all inputs.
    """

    def __init__(self, step: StepFunction, call: Any) -> None:
        self._step, self._call = step, call

    def __call__(self, x: Sequence, carry: Carry, active: Any = None) -> tuple[Sequence, Carry]:
        inputs = (x,)
        if self._step.layer.reads_presence:
            inputs = (x, Sequence(keras.ops.zeros(keras.ops.shape(x.values)[:2], dtype="bool"), x.mask))
        y, leaves, seeds = self._call(inputs, carry.leaves, carry.seeds, active)
        return y, Carry(leaves, seeds)

    def rollback(self, carry: Carry, steps: Any) -> Carry:
        """The carry without the last steps of each row, int32 [B], which the layer must remember."""
        return carry._replace(leaves=self._step.rollback(carry.leaves, steps))


class Programs:
    """The step of a layer of one input and one output, for computations that make many of them.

    A computation is a pure function in `keras.ops`, `fn(advance, carry, *arrays) -> (arrays, carry)`, which calls
    `advance`, a `Stepper`, for a chunk, a `Sequence`, also within loops. It is compiled
    once for what it is and the shapes of its arrays, for all programs of one model, batch size and input together; on
    jax for the same weights, which are closed over. On torch it is called as it is.

    Args:
        step: what is called.
        weights: those that it uses, of `freeze`.

    Attributes:
        step: the `StepFunction`.
        compilations: how often a call had to wait until a computation was compiled.
    """

    weights: Any

    step: StepFunction
    compilations: int

    def __init__(self, step: StepFunction, weights: Weights) -> None:
        self.step, self.weights, self.compilations = step, weights, 0
        self._run = compile_step(step, weights)
        # What steps may write is not known before one is traced: integers, as seeds and counts are. Weights are none.
        kinds = [keras.backend.standardize_dtype(v.dtype) for v in step.layer.variables]
        self._written = tuple(i for i, kind in enumerate(kinds) if "int" in kind and "int8" not in kind)
        self._functions: dict[Any, Any] = {}

    def start(self) -> Carry:
        """What the first step is given."""
        return Carry(self._run.initial_state().leaves, [self.weights.values[i] for i in self._written])

    def with_leaves(self, carry: Carry, leaves: list[Any]) -> Carry:
        """The carry with other leaves, of these shapes and dtypes: arrays of the backend."""
        return carry._replace(leaves=self._run.changed(self._run.initial_state(), leaves).leaves)

    def __call__(self, key: Any, fn: Callable[..., Any], carry: Carry, *arrays: Any) -> tuple[Any, Carry]:
        """Run a computation; on jax it takes the memory of the leaves that it is given.

        Args:
            key: what the computation is, hashable: of one key all are alike, and know no model.
            fn: the computation.
            carry: what goes on.
            arrays: NumPy arrays, or those of the backend.
        """
        key = (key, *[(tuple(a.shape), keras.backend.standardize_dtype(a.dtype)) for a in arrays])
        function = self._functions.get(key) or self._adopt(key, fn, arrays)
        outputs, leaves, seeds = function(carry, arrays)
        return outputs, Carry(list(leaves), list(seeds))

    def _adopt(self, key, fn, arrays):
        step, layer = self.step, self.step.layer.origin()
        kind = {"jax": _JaxProgram, "tensorflow": _TensorFlowProgram, "torch": _TorchProgram}[keras.backend.backend()]

        def make():
            self.compilations += 1
            return kind(_ProgramTrace(step, fn, self._written), self.weights, self.start(), arrays)

        wanted = ("program", key, step.batch_size, step.input_spec, tuple(step.state), fingerprint(layer))
        closed_over = self.weights if kind is _JaxProgram else None
        function = shared_by(layer).function(wanted, make, closed_over)
        function.trace.steps.add(step)
        self._functions[key] = function.bound_to(self.weights)
        return self._functions[key]


class _ProgramTrace:
    """A computation as a function of arrays; knows its steps only as long as they are there."""

    def __init__(self, step: StepFunction, fn: Any, written: tuple[int, ...]) -> None:
        self.steps, self.is_shareable, self.fn, self.written = weakref.WeakSet([step]), True, fn, written

    def __call__(self, leaves: Any, seeds: Any, weights: Any, arrays: Any, form: Any = lambda fn: fn) -> Any:
        """Outputs, leaves and seeds.

        Args:
            leaves, seeds: the carry.
            weights: values of all variables.
            arrays: of the computation.
            form: gives a function of one step another form.
        """
        step = next(iter(self.steps))

        def one(inputs, leaves, seeds, active):
            given = dict(zip(self.written, seeds, strict=True))
            variables = [given.get(i, value) for i, value in enumerate(weights)]
            with TraceScope(step.layer.variables, variables) as scope:
                y, leaves = step.advance(inputs[0] if len(inputs) == 1 else inputs, leaves, active)
            self.is_shareable &= not scope.reads_others
            return parts(y)[0], leaves, [scope.updates.get(i, value) for i, value in given.items()]

        stepper = Stepper(step, form(one))
        outputs, carry = self.fn(stepper, Carry(list(leaves), list(seeds)), *arrays)
        return outputs, carry.leaves, carry.seeds


class _JaxProgram:
    """Jitted with the weights closed over and the leaves donated."""

    def __init__(self, trace: Any, weights: Any, carry: Any, arrays: Any) -> None:
        import jax

        def flat(leaves, seeds, *arrays):
            return trace(leaves, seeds, weights.values, arrays, merged)

        self.trace, self.call = trace, jax.jit(flat, donate_argnums=0)
        self.call.eval_shape(carry.leaves, carry.seeds, *arrays)  # so that it is known whether it may be shared

    def bound_to(self, weights: Any) -> Any:
        return self

    def __call__(self, carry: Any, arrays: Any) -> Any:
        return self.call(carry.leaves, carry.seeds, *arrays)


class _TensorFlowProgram:
    """A concrete function compiled by XLA, whose captured weights can be exchanged."""

    def __init__(self, trace: Any, weights: Any, carry: Any, arrays: Any) -> None:
        import tensorflow as tf

        self.weights, count = weights.values, (len(carry.leaves), len(carry.seeds))
        given = [*carry.leaves, *carry.seeds, *arrays]

        def flat(*given):
            variables = [captured(value) for value in weights.values]
            leaves, seeds, arrays = _split(given, *count)
            outputs, leaves, seeds = trace(leaves, seeds, variables, arrays)
            return [*leaves, *seeds, *outputs]

        signature = [tf.TensorSpec(a.shape, keras.backend.standardize_dtype(a.dtype)) for a in given]
        function = tf.function(flat, input_signature=signature, jit_compile=True, autograph=False)
        self.trace, self.count, self.call = trace, count, function.get_concrete_function()
        self.constant = tf.constant

    def bound_to(self, weights: Any) -> Any:
        bound = copy.copy(self)
        bound.weights, bound.call = weights.values, copy.copy(self.call)
        bound.call.set_external_captures(exchanged(self.call.captured_inputs, self.weights, weights.values))
        return bound

    def __call__(self, carry: Any, arrays: Any) -> Any:
        found = self.call(*carry.leaves, *carry.seeds, *[self.constant(a) for a in arrays])
        leaves, seeds, outputs = _split(found, *self.count)
        return outputs, leaves, seeds


class _TorchProgram:
    """Eager, in inference mode; each call is of the weights that it is bound to."""

    def __init__(self, trace: Any, weights: Any, carry: Any, arrays: Any) -> None:
        self.trace, self.weights = trace, weights.values

    def bound_to(self, weights: Any) -> Any:
        bound = copy.copy(self)
        bound.weights = weights.values
        return bound

    def __call__(self, carry: Any, arrays: Any) -> Any:
        import torch

        with torch.inference_mode():
            arrays = [torch.as_tensor(a) for a in arrays]
            return self.trace(carry.leaves, carry.seeds, self.weights, arrays)


def _split(items, *counts):
    """A list of so many items for each count, and of all others."""
    found, start = [], 0
    for count in counts:
        found.append(list(items[start : start + count]))
        start += count
    return [*found, list(items[start:])]
