"""A `StepFunction` compiled by the backend, for NumPy arrays in and out."""

import functools
from typing import Any

import keras
import numpy as np

from ..layers.limits import Limit
from .saving import seeds_of
from .shared import Weights, fingerprint, shared_by
from .state import put, take
from .step import StepFunction
from .tracing import State, Trace


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
    """The class for the backend, whose module is loaded with the first step."""
    backend = keras.backend.backend()
    if backend == "torch":
        from .torch_step import TorchStep

        return TorchStep
    if backend == "tensorflow":
        from .tensorflow_step import TensorFlowStep

        return TensorFlowStep
    from .jax_step import JaxStep

    return JaxStep


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
