"""A `StepFunction` compiled by the backend, for NumPy arrays in and out."""

import copy
import functools
from typing import Any

import keras
import numpy as np

from ..layers.limits import Limit
from ..layers.structures import parts
from .products import merged
from .saving import seeds_of
from .shared import Weights, fingerprint, shared_by
from .state import put, take
from .step import StepFunction
from .tracing import State, Trace, in_row

# Bytes at whose multiples memory begins that is shared with XLA.
_ALIGNMENT = 64


def compile_step(step: StepFunction, weights: Weights | None = None) -> Any:
    """A `RunnableStep` of what the backend compiles.

    On jax a call takes the memory of the state that it is given, which cannot be used again, even if it fails.

    It is compiled at the first call of each chunk size, with and without masks and active rows, for all steps of one
    model, batch size and input together. On jax these are steps of the same weights, which are closed over: as
    arguments they would cost 0.4 microseconds each. `run.compilations` counts what this step had to compile itself.

    Args:
        step: what is compiled.
        weights: those that it uses, of `freeze`; by default those that its layer has now.
    """
    return _step_class()(step, freeze(step.layer) if weights is None else weights)


def freeze(layer: Any) -> Weights:
    """The weights that a layer has now."""
    return shared_by(layer.origin()).weights(layer.variables, _step_class().copy)


def _step_class():
    if keras.backend.backend() == "torch":
        from .torch_step import TorchStep

        return TorchStep
    return {"jax": _JaxStep, "tensorflow": _TensorFlowStep}[keras.backend.backend()]


class CompiledStep:
    """What the backends share: compiled functions by chunk length, and by which masks there are."""

    step: Any
    weights: Any
    compilations: int

    closes_over_weights = False

    def __init__(self, step: StepFunction, weights: Weights) -> None:
        self.step, self.weights = step, weights
        self.compilations, self._functions = 0, {}

    def function(self, trace, values, masks, active, written) -> Any:
        """A function compiled for a call, which writes the variables in `written`."""
        raise NotImplementedError

    def leaf(self, x, dtype) -> Any:
        """A leaf of the state, of a NumPy array."""
        raise NotImplementedError

    def __call__(self, values: Any, masks: Any, active: Any, state: Any) -> Any:
        if active is None and len(masks) == 1 and masks[0] is None:  # as nearly always
            key = values[0].shape[1], True, True
        else:
            key = _key(values, masks, active)
        function = self._functions.get(key) or self._adopt(key, values, masks, active)
        return function(self, values, masks, active, state)

    def prepare(self, values: Any, masks: Any, active: Any) -> Any:
        """The function of a call, compiled."""
        key = _key(values, masks, active)
        return self._functions.get(key) or self._adopt(key, values, masks, active)

    def _adopt(self, key, values, masks, active):
        """The function of a key, of those that the streams of the model share."""

        def make():
            made = self._compile(values, masks, active)
            self.compilations += 1
            return made

        layer, step = self.step.layer.origin(), self.step
        wanted = (key, step.batch_size, step.input_spec, tuple(step.state), fingerprint(layer))
        function = shared_by(layer).function(wanted, make, self.weights if self.closes_over_weights else None)
        function.trace.steps.add(step)
        self._functions[key] = function.bound_to(self.weights)
        return self._functions[key]

    def _compile(self, values, masks, active):
        trace = Trace(self.step, masks, active)
        function = self.function(trace, values, masks, active, ())
        if trace.written:  # seeds: as arguments
            function = self.function(trace, values, masks, active, tuple(trace.written))
        return function

    @functools.cached_property
    def is_limited(self) -> bool:
        return self.step.is_limited

    def limits(self, state: State) -> list[Limit]:
        return self.step.limits(self.leaves(state))

    def initial_leaves(self) -> list[np.ndarray]:
        return self.step.initial_state()

    def initial_state(self) -> State:
        return self.as_state(self.initial_leaves(), {})

    def from_numpy(self, leaves: Any, like: State | None = None) -> State:
        """A state of leaves, with the random numbers of the start or those of another state."""
        return self.as_state(leaves, {}) if like is None else self.as_state(leaves, like.seeds, like.more)

    def as_state(self, leaves: Any, seeds: Any, more: Any = None) -> State:
        return State([self.leaf(x, spec.dtype) for x, spec in zip(leaves, self.step.state, strict=True)], seeds, more)

    def copied_rows(self, state: State, sources: Any, targets: Any) -> State:
        leaves = self.leaves(state)
        return self.changed(state, put(leaves, targets, take(leaves, sources)))

    def saved(self, state: State) -> tuple[list[np.ndarray], dict[int, Any], Any]:
        leaves = self.step.in_order(self.leaves(state))
        return leaves, seeds_of(self.step.layer, self.weights, state.seeds), self.generator_of(state)

    def restored(self, leaves: Any, seeds: Any, generator: Any) -> State:
        """The state that was saved: of its leaves in the order of the layers, of seeds by number and a generator."""
        variables = self.step.layer.variables
        kinds = {i: keras.backend.standardize_dtype(variables[i].dtype) for i in seeds}
        seeds = {i: self.leaf(x.astype(kinds[i]), kinds[i]) for i, x in seeds.items()}
        return self.as_state(self.step.of_order(leaves), seeds, self.generator_from(generator))

    def generator_of(self, state: State) -> Any:
        """What random numbers go on from besides variables, an array that is saved, or `None`."""
        return None

    def generator_from(self, saved: Any) -> Any:
        """What `generator_of` gave here; `None` for what another backend gave, or nobody."""
        return None

    def changed(self, state: State, leaves: Any) -> State:
        """The state with other leaves, of its shapes and dtypes: arrays of the backend."""
        return State(leaves, state.seeds, state.more)

    def leaves(self, state: State) -> list[Any]:
        """The leaves of a state, arrays of the backend."""
        return state.leaves

    def fork(self, state: State) -> State:
        """The state for a call that must leave it as it is."""
        return state

    def to_numpy(self, state: Any) -> list[np.ndarray]:
        return [np.array(keras.ops.convert_to_numpy(leaf)) for leaf in state]


def _key(values, masks, active):
    """By which a function is compiled: the steps of a call, and which of its arrays there are."""
    return values[0].shape[1], active is None, *[mask is None for mask in masks]


class _JaxStep(CompiledStep):
    """Jitted with the weights closed over and the state donated; NumPy goes straight in."""

    closes_over_weights = True

    @staticmethod
    def copy(value: Any) -> Any:
        import jax.numpy as jnp

        return jnp.array(value, copy=True)

    def leaf(self, x: Any, dtype: Any) -> Any:
        import jax.numpy as jnp

        return jnp.array(x, dtype=dtype)  # a copy: the step is given its buffer

    def function(self, trace: Any, values: Any, masks: Any, active: Any, written: Any) -> Any:
        is_plain = self.step.layer.num_outputs == 1 and active is None and all(mask is None for mask in masks)
        function = _JaxFunction(trace, self.weights, written, is_plain and not written)
        state = self.initial_state()
        function.call.eval_shape(state.leaves, function.arguments(state.seeds), *in_row(values, masks, active))
        if written or not trace.written:
            function(self, values, masks, active, state)  # compiles, before anything has moved
        return function

    def changed(self, state: State, leaves: Any) -> State:
        import jax.numpy as jnp

        made, taken = [], set()
        for x, spec in zip(leaves, self.step.state, strict=True):
            # Strong types, or the step would be compiled again; and buffers of their own, since it is given each.
            leaf = jnp.array(x, dtype=spec.dtype) if id(x) in taken else jnp.asarray(x, dtype=spec.dtype)
            taken.add(id(leaf))
            made.append(leaf)
        return super().changed(state, made)

    def leaves(self, state: State) -> list[Any]:
        _check_unspent(state)
        return super().leaves(state)

    def fork(self, state: State) -> State:
        import jax.numpy as jnp

        _check_unspent(state)
        return State([jnp.array(x, copy=True) for x in state.leaves], state.seeds, state.more)

    def to_numpy(self, state: Any) -> Any:
        return super().to_numpy(self.leaves(state))


def _check_unspent(state):
    if state.is_spent:
        _refuse_spent()


def _refuse_spent():
    raise RuntimeError("the state of this stream went with a step that was broken off; `reset()` begins anew")


class _JaxFunction:
    def __init__(self, trace: Any, weights: Any, written: Any, is_plain: Any) -> None:
        import jax

        values = weights.values

        def flat(leaves, seeds, *row):
            given = dict(zip(written, seeds, strict=True))
            outputs, leaves, updates = trace(leaves, [given.get(i, v) for i, v in enumerate(values)], row)
            return [tuple(y) for y in outputs], leaves, updates

        self.trace, self.call = trace, jax.jit(merged(flat), donate_argnums=0)
        self.written = [(i, values[i]) for i in written]
        self.is_plain = is_plain

    def bound_to(self, weights: Any) -> Any:
        return self.call_plain if self.is_plain else self

    def arguments(self, seeds: Any) -> Any:
        return tuple([seeds.get(i, value) for i, value in self.written])

    def __call__(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        _check_unspent(state)
        state.is_spent = True
        outputs, leaves, updates = self.call(state.leaves, self.arguments(state.seeds), *in_row(values, masks, active))
        return _in_numpy(outputs), State(leaves, state.seeds | updates)

    def call_plain(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        """The same where there are but values, and one output: a tenth of a small step is saved."""
        if state.is_spent:
            _refuse_spent()
        state.is_spent = True
        [(y, mask)], leaves, _ = self.call(state.leaves, (), *values)
        y.block_until_ready()
        return [(np.array(y), None if mask is None else np.array(mask))], State(leaves, state.seeds)


def _in_numpy(outputs):
    """Outputs of a call, once it is done: all at once, so that what it was given is the caller's again."""
    outputs[0][0].block_until_ready()  # quicker than to read what is not there yet
    return [(np.array(y), None if mask is None else np.array(mask)) for y, mask in outputs]


class _TensorFlowStep(CompiledStep):
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
        self.updated = list(trace.written)
        self.is_plain = len(row) == len(parts(run.step.input_spec)) and len(masked) == 1 and not self.updated

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
        return bound.call_plain if self.is_plain else bound

    def __call__(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        row = [take(a) for take, a in zip(self.takes, in_row(values, masks, active), strict=True)]
        seeds = [state.seeds.get(i, value) for i, value in self.written]
        try:
            found = self.call([*row, *seeds, *state.leaves, *self.captured])
        except self.unsupported as error:
            if not self.by_xla or "_XlaMustCompile" not in str(error):  # said where it does not compile
                raise
            self._compile(False)
            found = self.call([*row, *seeds, *state.leaves, *self.captured])
        outputs, found = found[: len(self.masked)], found[len(self.masked) :]
        outputs = [
            (y.numpy(), found.pop(0).numpy() if has_mask else None)
            for y, has_mask in zip(outputs, self.masked, strict=True)
        ]
        updates = {i: found.pop(0) for i in self.updated}
        return outputs, State(found, state.seeds | updates)

    def call_plain(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        """The same where there are but values, and one output: a tenth of a small step is saved."""
        try:
            row = [take(a) for take, a in zip(self.takes, values, strict=True)]
            y, *leaves = self.call([*row, *state.leaves, *self.captured])
        except self.unsupported:
            return self(run, values, masks, active, state)
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
