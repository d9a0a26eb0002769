"""A `StepFunction` compiled by the backend, for NumPy arrays in and out."""

import threading
import weakref

import keras
import numpy as np

from ..layers.structures import parts
from ..sequence import Sequence
from .shared import Weights, fingerprint, shared_by
from .step import StepFunction

# Calls of which a state is made anew where one has failed: as many as take the memory of the state, at least so much.
_LOGGED_BYTES, _LOGGED_CALLS = 1 << 16, 256


def compile_step(step: StepFunction, weights: Weights | None = None):
    """A step `run(values, masks, active, state) -> (outputs, state)` on NumPy arrays.

    `values` is a tuple with [B, T, ...] for every input, `masks` one with bool [B, T] or `None` for each, `active` bool
    [B] or `None`; none of these arrays is kept. `outputs` is a list of (values, mask or `None`), arrays that are the
    caller's to write. `run.initial_state()` gives the first state, which is opaque: `run.to_numpy(state)` gives its
    leaves, `run.from_numpy(leaves)` makes it of them. The state given to a call must not be used again, but where the
    call has raised: then `run.restore(state)` gives what it was.

    It is compiled at the first call of each chunk size, with and without masks and active rows, for all steps of one
    model, batch size and input together: weights are arguments of what is compiled. `run.compilations` counts what this
    step had to compile itself.

    Args:
        step: what is compiled.
        weights: those that it uses, of `freeze`; by default those that its layer has now.
    """
    return _step_class()(step, freeze(step.layer) if weights is None else weights)


def freeze(layer) -> Weights:
    """The weights that a layer has now."""
    return shared_by(layer.origin()).weights(layer.variables, _step_class().copy)


def _step_class():
    return {"jax": _JaxStep, "tensorflow": _TensorFlowStep, "torch": _TorchStep}[keras.backend.backend()]


class State(list):
    """The state of a stream between calls: the leaves of the layer's state, and more.

    Attributes:
        leaves: a plain list of them.
        variables: values of the layer's: the stream's weights, and the seeds that its steps have moved on.
        more: of the backend: on jax what the leaves can be made of anew, on torch the state of its own generator.
    """

    __slots__ = ("leaves", "more", "variables")

    def __init__(self, leaves, variables, more=None):
        super().__init__(leaves)
        self.leaves, self.variables, self.more = leaves, variables, more


class _Scope(keras.StatelessScope):
    """A scope in which variables have given values; notes what is written, and whether others are read."""

    def __init__(self, variables, values):
        super().__init__(list(zip(variables, values, strict=True)))
        self.variables = variables
        self._numbers = {id(v): i for i, v in enumerate(variables)}
        self.updates, self.reads_others = {}, False

    def begin(self, values):
        """Give the variables that were written before the values that they have in a state."""
        self.updates = {i: values[i] for i in self.updates}
        for i, value in self.updates.items():
            super().add_update((self.variables[i], value))

    def get_current_value(self, variable):
        self.reads_others |= id(variable) not in self._numbers
        return super().get_current_value(variable)

    def add_update(self, update):
        variable, value = update
        number = self._numbers.get(id(variable))
        if number is None or keras.backend.is_float_dtype(variable.dtype):
            raise ValueError(
                f"a step writes the variable {variable.path!r}, and a stream changes no weights: seeds and counts of "
                f"the model's layers may be written, of a stream's own; keep anything else in the layer's state"
            )
        super().add_update(update)
        self.updates[number] = value


class _CompiledStep:
    """What the backends share: compiled functions by chunk length, and by which masks there are."""

    def __init__(self, step: StepFunction, weights: Weights):
        self.step, self.weights = step, weights
        self.compilations, self._functions = 0, {}

    def __call__(self, values, masks, active, state):
        key = (values[0].shape[1], active is None, *[mask is None for mask in masks])
        function = self._functions.get(key)
        if function is None:
            function = self._adopt(key, values, masks, active)
        return function(self, values, masks, active, state)

    def _adopt(self, key, values, masks, active):
        """The function of a key, of those that the streams of the model share."""

        def make():
            made = self.compile(values, masks, active)
            self.compilations += 1
            return made

        layer, step = self.step.layer.origin(), self.step
        wanted = (key, step.batch_size, step.input_spec, tuple(step.state), fingerprint(layer))
        function = shared_by(layer).function(wanted, make)
        function.trace.steps.add(step)
        self._functions[key] = function
        return function

    def initial_state(self) -> State:
        return self.from_numpy(self.step.initial_state())

    def from_numpy(self, leaves, like: State | None = None) -> State:
        """A state of leaves, with the variables of another state or those of the start."""
        variables = self.weights.values if like is None else like.variables
        return self.as_state(
            [self.leaf(x, spec.dtype) for x, spec in zip(leaves, self.step.state, strict=True)], variables
        )

    def to_numpy(self, state) -> list[np.ndarray]:
        return [np.array(keras.ops.convert_to_numpy(leaf)) for leaf in state.leaves]

    def restore(self, state) -> State:
        """The state that was given to a call that has raised, or to one before it."""
        return state

    def as_state(self, leaves, variables, more=None) -> State:
        return State(leaves, variables, more)


def _row(values, masks, active) -> list:
    """Copies of all arrays of a call in a row: the caller may write its next chunk into the same ones."""
    row = [x.copy() for x in values]
    row += [m.copy() for m in masks if m is not None]
    return row if active is None else [*row, active.copy()]


def _advance(step, row, masks, active, leaves):
    """The step of arrays in a row: the values, the masks that there are, and the active rows if there are any.

    Of `masks` and `active` only what is `None` counts.
    """
    row = list(row)
    active = None if active is None else row.pop()
    values, row = row[: len(masks)], row[len(masks) :]
    sequences = tuple(Sequence(v, None if m is None else row.pop(0)) for v, m in zip(values, masks, strict=True))
    y, leaves = step(sequences if len(masks) > 1 else sequences[0], leaves, active)
    return parts(y), leaves


def _updated(variables, updates) -> tuple:
    if not updates:
        return variables
    return tuple(updates.get(i, value) for i, value in enumerate(variables))


class _Trace:
    """Traces the step for one call; knows its steps only as long as they are there, and not what it is compiled to."""

    def __init__(self, step, masks, active):
        self.steps, self.is_shareable = weakref.WeakSet([step]), True
        # Only which there are: what is compiled must not keep arrays.
        self.masks = [None if m is None else True for m in masks]
        self.active = None if active is None else True

    def __call__(self, leaves, variables, row):
        """Outputs, leaves and written variables, of tracers; any of the steps gives the same."""
        step = next(iter(self.steps))
        with _Scope(step.layer.variables, variables) as scope:
            outputs, leaves = _advance(step, row, self.masks, self.active, leaves)
        # Of the value of a variable that is no layer's a trace makes a constant.
        self.is_shareable = not scope.reads_others
        return outputs, leaves, scope.updates


class _JaxStep(_CompiledStep):
    """Jitted with the state donated; NumPy goes straight in."""

    @staticmethod
    def copy(value):
        import jax.numpy as jnp

        return jnp.array(value, copy=True)

    def leaf(self, x, dtype):
        import jax.numpy as jnp

        return jnp.array(x, dtype=dtype)  # a copy: the step is given its buffer

    def as_state(self, leaves, variables, more=None):
        return State(leaves, variables, (_Past(leaves, variables), 0))

    def compile(self, values, masks, active):
        function = _JaxFunction(_Trace(self.step, masks, active))
        function(self, values, masks, active, self.initial_state())  # compiles, before anything has moved
        return function

    def restore(self, state):
        past, count = state.more
        calls = past.calls[:count]
        if not any(leaf.is_deleted() for leaf in state.leaves):
            leaves, variables = state.leaves, state.variables
        else:
            leaves, variables = self.from_numpy(past.leaves).leaves, past.variables
            for call, row in calls:
                _, leaves, updates = call(leaves, variables, *row)
                variables = _updated(variables, updates)
        return State(leaves, variables, (_Past(past.leaves, past.variables, calls), count))


class _Past:
    """An earlier state, copied, and the calls since: donated buffers are gone also where a call fails or is broken off.

    Steps are deterministic, so the calls give bit for bit what they gave.
    """

    def __init__(self, leaves, variables, calls=()):
        self.leaves, self.variables, self.calls = [np.array(x) for x in leaves], variables, list(calls)
        self.bytes_left = max(sum(x.nbytes for x in self.leaves), _LOGGED_BYTES)


class _JaxFunction:
    def __init__(self, trace):
        import jax

        def flat(leaves, variables, *row):
            outputs, leaves, updates = trace(leaves, variables, row)
            return [tuple(y) for y in outputs], leaves, updates

        self.trace, self.call = trace, jax.jit(flat, donate_argnums=0)

    def __call__(self, run, values, masks, active, state):
        row = _row(values, masks, active)
        outputs, leaves, updates = self.call(state.leaves, state.variables, *row)
        outputs = [(np.array(y), None if mask is None else np.array(mask)) for y, mask in outputs]
        variables = _updated(state.variables, updates)
        past, count = state.more
        past.calls.append((self.call, row))
        past.bytes_left -= sum(x.nbytes for x in row)
        if past.bytes_left < 0 or count >= _LOGGED_CALLS:
            return outputs, run.as_state(leaves, variables)
        return outputs, State(leaves, variables, (past, count + 1))


class _TensorFlowStep(_CompiledStep):
    """One flat concrete function per chunk size, compiled by XLA."""

    @staticmethod
    def copy(value):
        import tensorflow as tf

        return tf.identity(value)

    def leaf(self, x, dtype):
        import tensorflow as tf

        return tf.constant(x, dtype=dtype)

    def compile(self, values, masks, active):
        return _TensorFlowFunction(self, values, masks, active)


class _TensorFlowFunction:
    def __init__(self, run, values, masks, active):
        import tensorflow as tf

        specs = parts(run.step.input_spec)
        row = [tf.TensorSpec(a.shape, spec.dtype) for a, spec in zip(values, specs, strict=True)]
        row += [tf.TensorSpec(a.shape, "bool") for a in _row((), masks, active)]
        variables = [tf.TensorSpec(v.shape, v.dtype) for v in run.weights.values]
        leaves = [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in run.step.state]
        start, end = len(row), len(row) + len(variables)
        trace, self.masked, self.written = _Trace(run.step, masks, active), [], []
        masked, written = self.masked, self.written

        def flat(*given):
            outputs, state, updates = trace(list(given[end:]), given[start:end], given[:start])
            masked[:], written[:] = [y.mask is not None for y in outputs], updates
            found = [*[y.values for y in outputs], *[y.mask for y in outputs if y.mask is not None]]
            return [*found, *updates.values(), *state]

        function = tf.function(flat, input_signature=[*row, *variables, *leaves], jit_compile=True, autograph=False)
        self.trace, self.call, self.constant = trace, function.get_concrete_function(), tf.constant

    def __call__(self, run, values, masks, active, state):
        row = map(self.constant, _row(values, masks, active))
        found = self.call(*row, *state.variables, *state.leaves)
        outputs, found = found[: len(self.masked)], found[len(self.masked) :]
        outputs = [
            (y.numpy(), found.pop(0).numpy() if has_mask else None)
            for y, has_mask in zip(outputs, self.masked, strict=True)
        ]
        updates = {number: found.pop(0) for number in self.written}
        return outputs, State(found, _updated(state.variables, updates))


class _TorchStep(_CompiledStep):
    """Eager, in inference mode."""

    def __init__(self, step, weights):
        import torch

        super().__init__(step, weights)
        self.scope = _Scope(step.layer.variables, weights.values)
        self.generator = torch.get_rng_state()

    @staticmethod
    def copy(value):
        return value.detach().clone()

    def leaf(self, x, dtype):
        import torch

        return torch.tensor(x.astype("float32") if dtype == "bfloat16" else x, dtype=getattr(torch, dtype))

    def as_state(self, leaves, variables, more=None):
        return State(leaves, variables, self.generator if more is None else more)

    def compile(self, values, masks, active):
        return _TorchFunction(_Trace(self.step, masks, active))

    def advance(self, row, masks, active, state):
        """Outputs in NumPy, the leaves and the variables after a step."""
        import torch

        self.scope.begin(state.variables)
        with torch.inference_mode(), self.scope:
            outputs, leaves = _advance(self.step, map(torch.from_numpy, row), masks, active, state.leaves)
            outputs = [(_owned(y), None if mask is None else mask.numpy().copy()) for y, mask in outputs]
        return outputs, leaves, _updated(state.variables, self.scope.updates)


class _TorchFunction:
    """Torch compiles nothing: this is but the place that a call has among those of the other backends."""

    drawing = threading.Lock()

    def __init__(self, trace):
        self.trace, self.draws = trace, None  # not known before the first call

    def __call__(self, run, values, masks, active, state):
        row = _row(values, masks, active)
        if self.draws is False:
            return _with_state(*run.advance(row, masks, active, state), state.more)
        return self.draw(run, row, masks, active, state)

    def draw(self, run, row, masks, active, state):
        """A step that may draw from torch's own generator, as layers without a seed do: it draws as the stream's."""
        import torch

        with self.drawing:
            outside = torch.get_rng_state()
            torch.set_rng_state(state.more)
            try:
                found = run.advance(row, masks, active, state)
                generator = torch.get_rng_state()
            finally:
                torch.set_rng_state(outside)
        self.draws = not torch.equal(generator, state.more)
        return _with_state(*found, generator)


def _with_state(outputs, *state):
    return outputs, State(*state)


def _owned(y):
    """Values in NumPy, in memory of their own: a layer may give its state, its input or another's output."""
    return np.array(
        y.numpy() if keras.backend.standardize_dtype(y.dtype) != "bfloat16" else keras.ops.convert_to_numpy(y)
    )
