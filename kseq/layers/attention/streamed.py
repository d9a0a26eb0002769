"""`StreamedAttention`: of each step to the steps around it, in its own sequence or in one beside it.

The past is a cache.
"""

import dataclasses
import math
from typing import Any, Unpack

import keras
from keras import ops

from ... import timing as algebra
from ...arguments import as_size, check_choice
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import hold_rows
from ..structures import first
from . import clock as clocks
from . import waiting
from .base import Attention, AttentionOptions
from .cache import LARGE, Cache
from .in_blocks import Keys, Queries, in_parts, in_windows
from .visibility import Steps, Visibility


class StreamedOptions(AttentionOptions, total=False):
    """The options of attention to what flows along; `SelfAttention` explains them."""

    block_size: int
    prefix_length: int
    use_segment_ids: bool
    max_length: int
    overflow: str
    num_sink_steps: int
    max_rollback: int
    cache_dtype: str | None


class StreamedAttention(Attention):
    """What attention of a stream to itself, and to another beside it, share; `SelfAttention` has the arguments.

    Attributes:
        has_source: whether keys and values are made of a second input.
        visibility: what queries see.
    """

    has_source = False
    max_past_horizon: int | None
    max_future_horizon: int | None
    visibility: Visibility

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        max_past_horizon: int | None = None,
        max_future_horizon: int | None = 0,
        block_size: int = 1,
        prefix_length: int = 0,
        use_segment_ids: bool = False,
        max_length: int = 1024,
        overflow: str = "error",
        num_sink_steps: int = 0,
        max_rollback: int = 0,
        cache_dtype: str | None = None,
        **kwargs: Unpack[AttentionOptions],
    ) -> None:
        super().__init__(num_heads, key_dim, **kwargs)
        self.keep(locals())
        for name in ("max_past_horizon", "max_future_horizon"):
            if getattr(self, name) is not None:
                setattr(self, name, as_size(name, getattr(self, name), 0))
        for name in ("block_size", "prefix_length", "max_length", "num_sink_steps", "max_rollback"):
            setattr(self, name, as_size(name, getattr(self, name), 1 if name in ("block_size", "max_length") else 0))
        check_choice("overflow", overflow, ("error", "slide"))
        if cache_dtype is not None:
            check_choice("cache_dtype", cache_dtype, ("float32", "bfloat16", "float16", "int8"))
        self.num_inputs = 1 + self.has_source + use_segment_ids
        self.input_rank = None if use_segment_ids else 3
        self.visibility = Visibility(
            self.max_past_horizon, self.max_future_horizon, self.block_size, self.prefix_length, self.num_sink_steps
        )
        if overflow == "slide" and self.max_past_horizon is None and self.visibility.after is not None:
            self.visibility = dataclasses.replace(self.visibility, past=self._past_that_fits())
        self._check_together()

    def _past_that_fits(self):
        """Blocks before its own that a query sees, where all that it sees are `max_length` steps."""
        needed = self.block_size + self.visibility.after
        if self.max_length < needed:
            raise ValueError(
                f"`max_length` must be at least {needed}, a block and the future of its steps; "
                f"received {self.max_length}"
            )
        return (self.max_length - needed) // self.block_size

    def _check_together(self):
        if self.num_sink_steps and self.use_segment_ids:
            raise ValueError(
                "`num_sink_steps` keeps the first steps of a stream, and excludes `use_segment_ids`; "
                f"received {self.num_sink_steps} and True"
            )
        if self.max_rollback and (obstacle := self._never_rolls_back):
            raise ValueError(f"`max_rollback` must be 0, since {obstacle}; received {self.max_rollback}")
        if self.max_rollback % self.block_size:
            raise ValueError(
                f"`max_rollback` must be a multiple of the block, {self.block_size}; received {self.max_rollback}"
            )

    # What it is.

    @property
    def _window(self) -> int | None:
        """Other steps that a block of queries may look at; `None` where they are not limited."""
        before, after = self.visibility.before, self.visibility.after
        return None if before is None or after is None else before + after

    @property
    def _slots(self) -> int:
        """Slots of the cache's ring."""
        if self.visibility.before is None:
            return self.max_length
        return self._window + self.block_size + self.max_rollback

    @property
    def _cache(self) -> Cache:
        (heads, key_dim), (_, value_dim) = self.shape_of("key"), self.value_shape
        return Cache(
            self._slots,
            heads,
            key_dim,
            value_dim,
            self.compute_dtype,
            self.cache_dtype or self.compute_dtype,
            positions=self.needs_positions,
            segments=self.use_segment_ids,
            sinks=self.num_sink_steps if self.visibility.before is not None else 0,
        )

    @property
    def needs_positions(self) -> bool:
        return super().needs_positions or bool(self.prefix_length or self.num_sink_steps)

    @property
    def timing(self) -> Timing:
        latency = self.visibility.after or 0
        own = Timing(
            block_size=self.block_size,
            input_latency=latency,
            output_latency=latency,
            receptive_field_per_step=self.visibility.field,
        )
        return algebra.serial([self.networks_timing(), own]) if self.sublayers else own

    @property
    def step_obstacle(self) -> str | None:
        return None if self.visibility.after is not None else "each step sees the whole future"

    @property
    def step_remedy(self) -> str | None:
        return (
            None if self.visibility.after is not None else "`max_future_horizon`, the number of steps that it waits for"
        )

    @property
    def training_obstacle(self) -> str | None:
        if self._cache.stored == self.compute_dtype:
            return None
        return f"gradients do not go through keys and values that are kept as {self.cache_dtype}"

    @property
    def counts_steps(self) -> bool:
        return super().counts_steps or bool(self.prefix_length or self.num_sink_steps)

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        specs = input_spec if type(input_spec) is tuple else (input_spec,)
        if self.use_segment_ids and (specs[-1].shape != () or not keras.backend.is_int_dtype(specs[-1].dtype)):
            raise ValueError(
                f"{self._named} takes segment ids [batch, time] of integers as its last input; received "
                f"channel shape {tuple(specs[-1].shape)} and dtype {specs[-1].dtype}"
            )
        return super().output_spec(specs[0])

    def check_rank(self, shape: Any) -> None:
        super().check_rank(shape)
        if self.use_segment_ids and len(shape) not in (2, 3):
            raise ValueError(f"{self._named} takes values of rank 3 and ids of rank 2; received shape {tuple(shape)}")

    def build(self, input_shape: Any) -> None:
        shapes = input_shape if self.num_inputs > 1 else (input_shape,)
        self.build_projections(shapes[0][-1], shapes[1 if self.has_source else 0][-1])

    def _inputs(self, x) -> tuple[Sequence, Sequence, Any]:
        """What queries are made of, what keys are, and the ids of segments or `None`."""
        given = x if self.num_inputs > 1 else (x,)
        return given[0], given[1 if self.has_source else 0], given[-1].values if self.use_segment_ids else None

    def _project(self, x, source, steps, **options):
        """Heads of all roles, and the next states of networks."""
        of_queries = ("query", "gate") if self.use_gate else ("query",)
        if source is x:
            return self.project(x, (*of_queries, "key", "value"), steps.position, **options)
        heads, networks = self.project(x, of_queries, steps.position, **options)
        others, of_others = self.project(source, ("key", "value"), steps.position, **options)
        return heads | others, networks | of_others

    # The whole sequence.

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        if self._cache.sinks:
            return super().call_layer(x, training=training)  # one step over everything
        x, source, ids = self._inputs(x)
        batch, time = ops.shape(x.values)[:2]
        steps, _ = clocks.read(clocks.start(1 if ids is None else batch, ids is not None), time, source.mask, ids)
        heads, _ = self._project(x, source, steps, training=training)
        key, value = self._cache.rounded(heads["key"], heads["value"])
        queries, keys = Queries(heads["query"], steps), Keys(key, value, steps)
        attend = self._attend(training)
        if self._window is None:
            y = in_parts(attend, queries, keys, self.visibility.after, self.variables)
        else:
            y = in_windows(attend, queries, self._surrounded(keys, time), self._window, self.block_size)
        return Sequence(self.combine(y, heads.get("gate")), x.mask)

    def _attend(self, training):
        def attend(queries, keys):
            return self.read_values(queries, keys, self.visibility, training)[0]

        return attend

    def _surrounded(self, keys, time):
        """Keys with invalid ones around them, as many as a window reaches."""
        around = (self.visibility.before, self.visibility.after)
        steps = keys.steps
        index = ops.arange(-around[0], time + around[1], dtype="int32")
        valid = ops.ones((1, time), dtype="bool") if steps.valid is None else steps.valid
        valid = ops.pad(valid, [(0, 0), around], constant_values=False)
        others = (None if part is None else ops.pad(part, [(0, 0), around]) for part in steps[2:])
        wide = [(0, 0), (0, 0), around, (0, 0)]
        return Keys(ops.pad(keys.key, wide), ops.pad(keys.value, wide), Steps(index, valid, *others))

    # Step by step. State: the cache, the clock, states of networks, and of the queries that wait for their future what
    # they are, with what is known of them; where a stream can be rolled back also those of the steps before.

    def initial_state(self, batch_size: int, input_spec: Any, context: dict[str, Any] | None = None) -> Any:
        state = self._cache.empty(batch_size) | {"clock": clocks.start(batch_size, self.use_segment_ids)}
        networks = self.network_states(batch_size, ("query", "key", "value"))
        if networks:
            state["networks"] = networks
        if self.visibility.after:
            size = self.shape_of("query")[1] + (self.value_shape[1] if self.use_gate else 0)
            count = self.visibility.after + self.max_rollback
            known = {"positions": self.needs_positions, "segments": self.use_segment_ids}
            numbers = [name for name, there in known.items() if there]
            state["waiting"] = waiting.empty(batch_size, self.num_heads, size, count, self.compute_dtype, numbers)
        if self._counts_history:
            state["history"] = ops.zeros((batch_size,), dtype="int32")
        return state

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self._step_rows(x, state, None, training)

    def hold_step(self, x: Any, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        time = first(x).values.shape[1]
        if not self._fits(time):
            return super().hold_step(x, state, active, training=training)
        # What is written into the ring of a held row is what stood there: nothing else of a ring changes.
        y, new_state = self._step_rows(x, state, active, training)
        small = [name for name in new_state if name not in LARGE]
        held = hold_rows(active, *({name: part[name] for name in small} for part in (new_state, state)))
        return y, new_state | held

    def _fits(self, time):
        """Whether so many steps are written in place: none of them, nor a query's past, is overwritten by others."""
        return self.visibility.before is None or time <= self._slots - self._window

    def _step_rows(self, x, state, active, training):
        x, source, ids = self._inputs(x)
        time, cache = x.values.shape[1], self._cache
        steps, clock = clocks.read(state["clock"], time, source.mask, ids)
        options = {"state": state.get("networks", {}), "active": active, "training": training}
        heads, networks = self._project(x, source, steps, **options)
        new_state: dict[str, Any] = {"networks": networks} if networks else {}
        queries, gate, mask = Queries(heads["query"], steps), heads.get("gate"), x.mask
        if self.visibility.after:
            queries, gate, mask, new_state["waiting"] = self._due(heads, steps, x.with_mask().mask, state["waiting"])
        if self._counts_history:
            new_state["history"] = ops.minimum(state["history"] + time, self.max_rollback)
        steps = Steps(steps.index, source.with_mask().mask, *steps[2:])
        slot, attend = state["clock"][:, 0], self._attend(training)
        if self._fits(time):
            written, of_keys = cache.write(state, slot, heads["key"], heads["value"], steps, active)
            y = in_parts(attend, queries, Keys(*cache.read(written), of_keys), None, self.variables)
            slot = slot + time
            if self.visibility.before is None:
                over = ops.where(slot > self.max_length, ops.cast(math.nan, y.dtype), ops.cast(0, y.dtype))
                y = y + over[:, None, None, None]
            else:
                slot = slot % self._slots
        else:
            written, (leaves, of_keys), firsts = cache.append(state, slot, heads["key"], heads["value"], steps)
            spare = self._slots - self._window
            keys = _after(spare, Keys(*cache.read(leaves), of_keys))
            beside = None if firsts is None else Keys(*cache.read(firsts[0]), firsts[1])
            y = in_windows(attend, queries, keys, self._window, self.block_size, beside)
            slot = ops.zeros_like(slot)
        new_state |= written | {"clock": ops.concatenate([slot[:, None], clock], axis=1)}
        return Sequence(self.combine(y, gate), mask), new_state

    def _due(self, heads, steps, mask, old):
        """The queries whose future is there, their gates and their mask, and those that wait."""
        query, gate = heads["query"], heads.get("gate")
        size = query.shape[-1]
        new = {
            waiting.QUERIES: query if gate is None else ops.concatenate([query, gate], axis=-1),
            "valid": mask,
            "positions": steps.position,
            "segments": steps.segment,
        }
        due, kept = waiting.passed(old, new, self.max_rollback)
        of_due = Steps(steps.index - self.visibility.after, None, due.get("positions"), due.get("segments"))
        query = due[waiting.QUERIES]
        return Queries(query[..., :size], of_due), None if gate is None else query[..., size:], due["valid"], kept

    # How long a stream may be, and how far it goes back.

    def room(self, state: Any) -> Any:
        return None if self.visibility.before is not None else self.max_length - state["clock"][:, 0]

    @property
    def room_advice(self) -> str | None:
        return f'raise max_length (={self.max_length}) of `{self.name}`, or give it overflow="slide"'

    @property
    def _never_rolls_back(self) -> str | None:
        if self.sublayers:
            return "networks of queries, keys and values keep nothing of the steps before"
        if self.use_segment_ids or self.num_sink_steps:
            return "segments and sink steps are not counted backwards"
        return None

    @property
    def _counts_history(self) -> bool:
        """Whether the state says how far it goes back: not where the cache forgets nothing, and no query waits."""
        return bool(self.max_rollback)

    def history(self, state: Any) -> Any:
        return state["history"] if self._counts_history else state["clock"][:, 0]

    @property
    def history_advice(self) -> str | None:
        return f"raise max_rollback (={self.max_rollback}) of `{self.name}`"

    @property
    def rollback_obstacle(self) -> str | None:
        if obstacle := self._never_rolls_back:
            return obstacle
        forgets = self.visibility.before is not None or self.visibility.after
        return "`max_rollback` is 0" if forgets and not self.max_rollback else None

    def call_rollback(self, state: Any, steps: Any) -> Any:
        slot, position = state["clock"][:, 0], state["clock"][:, 1]
        new_state, lost = self._cache.take_back(state, slot, steps)
        slot = slot - steps
        if self.visibility.before is not None:
            slot = slot % self._slots
        new_state["clock"] = ops.stack([slot, position - lost], axis=1)
        if self._counts_history:
            new_state["history"] = state["history"] - steps
        if "waiting" in state:
            new_state["waiting"] = waiting.moved_back(state["waiting"], steps)
        return new_state


def _after(count, keys):
    """Keys without the first so many."""
    steps = Steps(*(None if part is None else part[..., count:] for part in keys.steps))
    return Keys(keys.key[:, :, count:], keys.value[:, :, count:], steps)
