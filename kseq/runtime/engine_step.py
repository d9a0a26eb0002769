"""`EngineStep`: an exported step, run by an engine, as the step of a stream."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import host_dtype, numpy_dtype
from .manifest import Manifest
from .protocols import Runner
from .row_arguments import of_rows

# Steps of a call of a long chunk: so many make products fast.
_LONG = 16
# How often it is timed whether they do.
_TRIALS = 5


class _Caller:
    """A runner, and how it wants its inputs."""

    def __init__(self, manifest: Manifest, runner: Runner) -> None:
        self.manifest, self.runner, self.block = manifest, runner, manifest.block
        self.is_masked, self.count = manifest.is_masked, len(manifest.inputs)
        self.all_valid = np.ones((manifest.batch_size, manifest.block), bool)
        masks = self.count + (manifest.presence_tensor is not None) if self.is_masked else 0
        self.no_masks = [self.all_valid] * masks
        self.masked_outputs = [port.mask_tensor is not None for port in manifest.outputs]

    def run(self, values: Any, masks: Any, start: int, kept: Any) -> tuple[list[np.ndarray], Any]:
        """What the runner gives of the block that begins at a step, and its state."""
        part = slice(start, start + self.block)
        given = [np.ascontiguousarray(x[:, part]) for x in values[: self.count]]
        if self.is_masked:
            given += [self.all_valid if m is None else np.ascontiguousarray(m[:, part]) for m in masks]
        return self.runner(given, kept)

    def outputs(self, made: Any) -> list[Any]:
        """The values of outputs, each with its mask or `None`."""
        count = len(self.masked_outputs)
        if len(made) == count:
            return [(y, None) for y in made]
        masks, values = iter(made[count:]), zip(made[:count], self.masked_outputs, strict=True)
        return [(y, next(masks) if is_masked else None) for y, is_masked in values]

    def make(self, leaves: Any) -> Any:
        return self.runner.state(leaves)


class EngineState(NamedTuple):
    """The state of a stream between two calls.

    Attributes:
        engine: whose it is.
        kept: what its runner keeps.
        seeds: values that random numbers of the model go on from elsewhere; none are drawn here.
    """

    engine: Any
    kept: Any
    seeds: dict[int, Any]

    @property
    def leaves(self) -> list[np.ndarray]:
        """Copies of the leaves, in the order of the manifest."""
        return self.engine.runner.leaves(self.kept)


class EngineStep:
    """A `RunnableStep` over a `Runner`: blocks one after the other, rows that wait, masks where there are any.

    Rows that are not active keep their old leaves. Masks that say that all is valid need no engine that takes masks.

    Args:
        manifest: of what is run.
        runner: runs it.
        more: gives a manifest and a runner of the same step that takes masks, or several of its blocks at once, at the
            first use of each: of whether, and of how many.
    """

    compilations = 0

    def __init__(
        self,
        manifest: Manifest,
        runner: Runner,
        more: Callable[[bool, int], tuple[Manifest, Runner]] | None = None,
    ) -> None:
        self.manifest, self.is_limited = manifest, bool(manifest.allowances)
        self._engine = engine = _Caller(manifest, runner)
        self._more, self._callers = more, {(engine.is_masked, 1): engine, (False, 1): engine}
        self._long = 1 if more is None else max(_LONG // manifest.block, 1)

    def __call__(self, values: Any, masks: Any, active: Any, state: Any) -> Any:
        engine = self._engine
        if (  # as nearly always
            active is None
            and values[0].shape[1] == engine.block
            and (masks[0] is None if len(masks) == 1 else all(mask is None for mask in masks))
            and state.engine is engine
        ):
            given = [np.ascontiguousarray(x) for x in values[: engine.count]]
            made, kept = engine.runner(given + engine.no_masks, state.kept)
            return engine.outputs(made), EngineState(engine, kept, state.seeds)
        engines = self.prepare(values, masks, active)
        before = None if active is None or active.all() else state.leaves
        made, start = [], 0
        for engine in engines:
            if state.engine is not engine:
                state = state._replace(engine=engine, kept=engine.make(state.leaves))
            found, kept = engine.run(values, masks, start, state.kept)
            state, start = state._replace(kept=kept), start + engine.block
            made.append(found)
        joined = made[0] if len(made) == 1 else [np.concatenate(parts, axis=1) for parts in zip(*made, strict=True)]
        return state.engine.outputs(joined), state if before is None else self._held(state, before, active)

    def _held(self, state, before, active):
        """The state with the old leaves of the rows that wait."""
        return self.from_numpy(of_rows(active, state.leaves, before), like=state)

    def prepare(self, values: Any, masks: Any, active: Any) -> list[_Caller]:
        """What runs a call, part by part.

        Raises:
            ValueError: masks, where the step takes none.
        """
        blocks = values[0].shape[1] // self._engine.block
        if any(mask is not None and not mask.all() for mask in masks):
            return [self._caller(True, 1)] * blocks
        if 1 < self._long <= blocks and (False, self._long) not in self._callers:
            self._try_long()
        long = self._callers.get((False, self._long), self._engine)
        count, left = divmod(blocks, self._long) if long is not self._engine else (0, blocks)
        return [long] * count + [self._engine] * left

    def _try_long(self):
        """Take long calls if they are quicker: an unrolled loop may have its weights as often as it has steps."""
        long = self._caller(False, self._long)
        if not self._least_seconds(long, 1) < self._least_seconds(self._engine, self._long):
            del self._callers[False, self._long]
            self._long = 1

    def _least_seconds(self, engine, calls):
        """What so many calls take at least."""
        manifest, times = engine.manifest, []
        given = [np.zeros((manifest.batch_size, engine.block, *x.shape), host_dtype(x.dtype)) for x in manifest.inputs]
        for _ in range(_TRIALS):
            kept, start = engine.make(self.manifest.initial_state), time.perf_counter()
            for _ in range(calls):
                _, kept = engine.runner(given + engine.no_masks, kept)
            times.append(time.perf_counter() - start)
        return min(times)

    def _caller(self, masked, blocks):
        found = self._callers.get((masked, blocks))
        if found is None:
            if self._more is None:
                raise ValueError(
                    "the exported step takes every step as valid; received steps that are not, by a mask or to make "
                    "the last outputs of a stream come out: export it with `masks=True`"
                )
            found = self._callers[masked, blocks] = _Caller(*self._more(masked, blocks))
        return found

    def initial_leaves(self) -> list[np.ndarray]:
        return [leaf.copy() for leaf in self.manifest.initial_state]

    def initial_state(self) -> EngineState:
        return EngineState(self._engine, self._engine.make(self.manifest.initial_state), self.manifest.seeds)

    def fork(self, state: EngineState) -> EngineState:
        return self.from_numpy(state.leaves, like=state)

    def to_numpy(self, state: EngineState) -> list[np.ndarray]:
        return state.leaves

    def from_numpy(self, leaves: Any, like: EngineState | None = None) -> EngineState:
        seeds = self.manifest.seeds if like is None else like.seeds
        engine = like.engine if like is not None and like.engine in self._callers.values() else self._engine
        return EngineState(engine, engine.make(leaves), seeds)

    def copied_rows(self, state: EngineState, sources: Any, targets: Any) -> EngineState:
        leaves = state.leaves
        for leaf in leaves:
            leaf[targets] = leaf[sources]
        return self.from_numpy(leaves, like=state)

    def limits(self, state: EngineState) -> Any:
        return self.manifest.allowances

    def saved(self, state: EngineState) -> tuple[list[np.ndarray], dict[int, Any], Any]:
        leaves, specs = state.leaves, self.manifest.state
        return [leaves[i].astype(numpy_dtype(specs[i].dtype)) for i in self.manifest.order], state.seeds, None

    def restored(self, leaves: Any, seeds: Any, generator: Any) -> EngineState:
        order = self.manifest.order
        found = [array for _, array in sorted(zip(order, leaves, strict=True), key=lambda pair: pair[0])]
        for leaf, array in zip(self.manifest.state, found, strict=True):
            if array.shape != leaf.shape or array.dtype != numpy_dtype(leaf.dtype):
                raise ValueError(
                    f"the state's leaf {leaf.name!r} must have shape {leaf.shape} and dtype {leaf.dtype}; received "
                    f"shape {array.shape} and dtype {array.dtype}"
                )
        return EngineState(self._engine, self._engine.make(found), seeds)
