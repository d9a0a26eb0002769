"""A `StepFunction` on torch: eager, and once it is called often a program of its operations."""

import threading
import weakref
from typing import Any

import keras
import numpy as np

from .compiled import CompiledStep
from .torch_program import as_program
from .tracing import Scope, State, advance, in_row

# Calls of a chunk size on torch after which it is traced, which takes about as long as some hundred.
_OFTEN = 100


class TorchStep(CompiledStep):
    """In inference mode, eager or as a program."""

    scope: Any
    generator: Any

    def __init__(self, step: Any, weights: Any) -> None:
        import torch

        super().__init__(step, weights)
        self.scope = Scope(step.layer.variables, weights.values)
        self.generator = torch.get_rng_state()
        self.programs: dict[Any, Any] = {}  # by function, with these weights
        self.inference = torch.inference_mode()

    @staticmethod
    def copy(value: Any) -> Any:
        return value.detach().clone()

    def leaf(self, x: Any, dtype: Any) -> Any:
        import torch

        return torch.tensor(x.astype("float32") if dtype == "bfloat16" else x, dtype=getattr(torch, dtype))

    def as_state(self, leaves: Any, seeds: Any, more: Any = None) -> Any:
        return super().as_state(leaves, seeds, self.generator if more is None else more)

    def generator_of(self, state: State) -> Any:
        drawn = [function.draws for function in self._functions.values()]
        return None if drawn and not any(draws is None or draws for draws in drawn) else state.more.numpy()

    def generator_from(self, saved: Any) -> Any:
        return None if saved is None else self.leaf(saved, "uint8")

    def function(self, trace: Any, values: Any, masks: Any, active: Any, written: Any) -> Any:
        return _TorchFunction(trace)

    def advance(self, row: Any, masks: Any, active: Any, state: Any) -> Any:
        """Outputs in NumPy, the leaves and the seeds after a step."""
        import torch

        self.scope.begin(state.seeds)
        with torch.inference_mode(), self.scope:
            outputs, leaves = advance(self.step, row, masks, active, state.leaves)
            outputs = [(_owned(y), None if mask is None else mask.numpy().copy()) for y, mask in outputs]
        return outputs, leaves, dict(self.scope.updates)


class _TorchFunction:
    """Eager at first; what is called often, and does the same every time, becomes a program of its operations."""

    drawing = threading.Lock()
    tracing = threading.Lock()

    def __init__(self, trace: Any) -> None:
        import torch

        self.tensor = torch.from_numpy
        self.trace, self.draws = trace, None  # not known before the first call
        self.calls, self.masked = 0, []
        self.program: Any = None
        self.bound: Any = weakref.WeakKeyDictionary()  # the program of weights

    def bound_to(self, weights: Any) -> Any:
        return self

    def __call__(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        row = [self.tensor(x.copy()) for x in in_row(values, masks, active)]
        if self.program is not None:
            return self.run_program(run, row, state)
        if self.draws is not False:
            return self.draw(run, row, masks, active, state)
        self.calls += 1
        if self.calls == _OFTEN:
            with self.tracing:
                self.program = self.made_program(run, row, state)
        outputs, leaves, seeds = run.advance(row, masks, active, state)
        return outputs, State(leaves, seeds, state.more)

    def made_program(self, run: Any, row: Any, before: Any) -> Any:
        """The program of a call, or `None` where there is none."""
        weights, leaves, masked = len(run.weights.values), len(before.leaves), self.masked

        def flat(*given):
            outputs, made, _ = self.trace(
                list(given[weights : weights + leaves]), given[:weights], given[weights + leaves :]
            )
            masked[:] = [y.mask is not None for y in outputs]
            return (*[y.values for y in outputs], *[y.mask for y in outputs if y.mask is not None], *made)

        shareable = self.trace.is_shareable
        program = as_program(flat, run.weights.values, [*before.leaves, *row])
        changes = self.trace.written or not self.trace.is_shareable  # it would be a constant
        self.trace.is_shareable = shareable
        return None if changes else program

    def run_program(self, run: Any, row: Any, state: Any) -> Any:
        program = run.programs.get(self) or self.bind(run)
        with run.inference:
            found = program(*state.leaves, *row)
        if self.masked == [False]:  # as nearly always
            y, *leaves = found
            return [(_owned(y), None)], State(leaves, state.seeds, state.more)
        count = len(self.masked)
        outputs, leaves = [(_owned(y), None) for y in found[:count]], list(found[count:])
        if any(self.masked):
            masks = [leaves.pop(0).numpy().copy() if has_mask else None for has_mask in self.masked]
            outputs = [(y, mask) for (y, _), mask in zip(outputs, masks, strict=True)]
        return outputs, State(leaves, state.seeds, state.more)

    def bind(self, run: Any) -> Any:
        """The program with the weights of a step, for all steps that have these."""
        if run.weights not in self.bound:
            with run.inference:
                self.bound[run.weights] = self.program.bind(run.weights.values)
        run.programs[self] = self.bound[run.weights]
        return run.programs[self]

    def draw(self, run: Any, row: Any, masks: Any, active: Any, state: Any) -> Any:
        """A step that may draw from torch's own generator, as layers without a seed do: it draws as the stream's."""
        import torch

        with self.drawing:
            outside = torch.get_rng_state()
            torch.set_rng_state(state.more)
            try:
                outputs, leaves, seeds = run.advance(row, masks, active, state)
                generator = torch.get_rng_state()
            finally:
                torch.set_rng_state(outside)
        self.draws = not torch.equal(generator, state.more)
        return outputs, State(leaves, seeds, generator)


def _owned(y):
    """Values in NumPy, in memory of their own: a layer may give its state, its input or another's output."""
    try:
        return y.numpy().copy()
    except TypeError:  # bfloat16, which NumPy does not have
        return np.array(keras.ops.convert_to_numpy(y))
