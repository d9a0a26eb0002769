"""`SelfAttention`: of each step to a window around it, or to all that came before; the past is a cache."""

import math
from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import Shape
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, hold_rows
from . import clock as clocks
from .base import Attention, AttentionOptions
from .cache import LARGE, Cache
from .in_blocks import Keys, Queries, in_parts, in_windows
from .visibility import Steps, Visibility


@register
class SelfAttention(Attention):
    """Multi-head attention of each step to the steps around it.  [B, T, C] -> [B, T, output_dim].

    A step sees itself, `max_past_horizon` steps before it (by default all of them) and `max_future_horizon` steps after
    it, as far as they are valid. Mask: unchanged. Timing: latency `max_future_horizon`. State: a cache of keys and
    values, written in place: a ring of the window's size, or of `max_length` steps where the past is unlimited. Layer
    mode takes time and memory that grow with the window, and where there is none keeps the weights of a part of the
    queries at a time. The weights are laid out as those of `keras.layers.MultiHeadAttention` and `GroupQueryAttention`.
    Source: Vaswani et al., 2017, "Attention Is All You Need"; Ainslie et al., 2023, "GQA"; Xiao et al., 2023,
    "Efficient Streaming Language Models with Attention Sinks" for `num_sink_steps`.

    Args:
        num_heads: heads of queries.
        key_dim: size of each head's queries and keys.
        max_past_horizon: steps before each that it sees, `None` for all.
        max_future_horizon: steps after each that it sees; `None` for all of them does not stream.
        block_size: steps of a block, which see one another; horizons then count blocks, and so does a stream.
        prefix_length: so many first valid steps of a sequence, or segment, see one another. The latency is at least one
            less.
        use_segment_ids: whether there is a second input, integers [B, T]: wherever the id of a valid step differs from
            the one before a segment begins. Steps see their own segment alone, and positions begin anew with it.
        max_length: steps of a stream, where the past is unlimited.
        overflow: what a longer stream does: `"error"`, or `"slide"`, which sees the last `max_length` steps, in layer
            mode as well.
        num_sink_steps: so many first valid steps are seen however long ago they were.
        max_rollback: steps that a stream can be rolled back by, where the past is limited.
        cache_dtype: the dtype that keys and values are kept in, `"bfloat16"`, `"float16"` or `"int8"` (with a scale for
            each step and head); layer mode rounds alike.
        **kwargs: the options of all attention: see `kseq.layers.attention.Attention`.

    Raises:
        ValueError: sizes below 1, negative horizons, or options that exclude each other.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.SelfAttention(num_heads=2, key_dim=4, max_past_horizon=3, max_future_horizon=1)
        >>> layer(np.zeros((1, 7, 6), "float32")).shape, layer.timing.output_latency
        ((1, 7, 6), 1)
    """

    max_past_horizon: int | None
    max_future_horizon: int | None

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
        past, future = (
            None if horizon is None else as_size(name, horizon, 0)
            for name, horizon in {
                "max_past_horizon": max_past_horizon,
                "max_future_horizon": max_future_horizon,
            }.items()
        )
        self.max_past_horizon, self.max_future_horizon = past, future
        for name, least in {
            "block_size": 1,
            "prefix_length": 0,
            "max_length": 1,
            "num_sink_steps": 0,
            "max_rollback": 0,
        }.items():
            setattr(self, name, as_size(name, getattr(self, name), least))
        check_choice("overflow", overflow, ("error", "slide"))
        if cache_dtype is not None:
            check_choice("cache_dtype", cache_dtype, ("float32", "bfloat16", "float16", "int8"))
        self.num_inputs = 2 if use_segment_ids else 1
        self.input_rank = None if use_segment_ids else 3
        self.visibility = Visibility(past, future, self.block_size, self.prefix_length, self.num_sink_steps)
        if past is None and future is not None and overflow == "slide":
            seen = (self.max_length - self.visibility.after) // self.block_size - 1
            if seen < 0:
                raise ValueError(
                    f"`max_length` must hold a block and the future of its steps, "
                    f"{self.block_size + self.visibility.after} steps; received {max_length}"
                )
            self.visibility = Visibility(seen, future, self.block_size, self.prefix_length, self.num_sink_steps)
        self._check_together()

    def _check_together(self):
        if self.num_sink_steps and self.use_segment_ids:
            raise ValueError(
                "`num_sink_steps` and `use_segment_ids` exclude each other: a cache keeps no first steps of segments"
            )
        if self.max_rollback and (self.num_sink_steps or self.use_segment_ids or self._networks):
            raise ValueError(
                "`max_rollback` excludes `num_sink_steps`, `use_segment_ids` and networks, which cannot go back"
            )
        if self.max_rollback and self.max_rollback % self.block_size:
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
        latency = 0 if self.visibility.after is None else self.visibility.after
        return Timing(
            block_size=self.block_size,
            input_latency=latency,
            output_latency=latency,
            receptive_field_per_step=self.visibility.field,
        )

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
        return bool(self.prefix_length or self.num_sink_steps)

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        if self.use_segment_ids:
            ids = input_spec[1]
            if ids.shape != () or not keras.backend.is_int_dtype(ids.dtype):
                raise ValueError(
                    f"{self._named} takes segment ids [batch, time] of integers as its second input; received "
                    f"channel shape {tuple(ids.shape)} and dtype {ids.dtype}"
                )
        return super().output_spec(input_spec)

    def build(self, input_shape: Shape) -> None:
        channels = (input_shape[0] if self.use_segment_ids else input_shape)[-1]
        self.build_projections(channels, channels)

    # The whole sequence.

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        if self._cache.sinks:
            return super().call_layer(x, training=training)  # one step over everything
        x, ids = x if self.use_segment_ids else (x, None)
        batch, time = ops.shape(x.values)[:2]
        rows = 1 if ids is None else batch
        steps, _ = clocks.read(clocks.start(rows, ids is not None), time, x.mask, ids and ids.values)
        heads, _ = self.project(x, self._roles, steps.position, training=training)
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

    @property
    def _roles(self):
        return ("query", "key", "value", "gate") if self.use_gate else ("query", "key", "value")

    # Step by step. State: the cache, the clock, states of networks, and of the queries that wait for their future what
    # they are, with what is known of them; where a stream can be rolled back also those of the steps before.

    def initial_state(self, batch_size: int, input_spec: Any, context: dict[str, Any] | None = None) -> Any:
        state = self._cache.empty(batch_size) | {"clock": clocks.start(batch_size, self.use_segment_ids)}
        networks = self.network_states(batch_size, self._roles)
        if networks:
            state["networks"] = networks
        if self.visibility.after:
            waiting = self.visibility.after + self.max_rollback
            size = self.shape_of("query")[1] + (self.value_shape[1] if self.use_gate else 0)
            state["waiting"] = {
                "queries": ops.zeros((batch_size, self.num_heads, waiting, size), dtype=self.compute_dtype),
                "valid": ops.zeros((batch_size, waiting), dtype="bool"),
            }
            if self.needs_positions:
                state["waiting"]["positions"] = ops.zeros((batch_size, waiting), dtype="int32")
            if self.use_segment_ids:
                state["waiting"]["segments"] = ops.zeros((batch_size, waiting), dtype="int32")
        return state

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self._step_rows(x, state, None, training)

    def hold_step(self, x: Any, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        time = (x[0] if self.use_segment_ids else x).values.shape[1]
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
        x, ids = x if self.use_segment_ids else (x, None)
        time, cache = x.values.shape[1], self._cache
        steps, clock = clocks.read(state["clock"], time, x.mask, ids and ids.values)
        heads, networks = self.project(
            x, self._roles, steps.position, state.get("networks", {}), active=active, training=training
        )
        new_state = {"networks": networks} if networks else {}
        steps = Steps(steps.index, x.with_mask().mask, *steps[2:])
        queries, gate, mask, waiting = self._due(heads, steps, x.mask, state)
        if waiting:
            new_state["waiting"] = waiting
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

    def _due(self, heads, steps, mask, state):
        """The queries whose future is there, their gates and their mask, and those that wait."""
        query, gate = heads["query"], heads.get("gate")
        after = self.visibility.after
        if not after:
            return Queries(query, steps), gate, mask, None
        old, time = state["waiting"], query.shape[2]
        new = {"queries": query if gate is None else ops.concatenate([query, gate], axis=-1), "valid": steps.valid}
        new |= {"positions": steps.position, "segments": steps.segment}
        all_ = {name: ops.concatenate([old[name], new[name]], axis=2 if name == "queries" else 1) for name in old}
        start = self.max_rollback
        due = {
            name: x[:, :, start : start + time] if name == "queries" else x[:, start : start + time]
            for name, x in all_.items()
        }
        waiting = {name: x[:, :, time:] if name == "queries" else x[:, time:] for name, x in all_.items()}
        size = query.shape[-1]
        query, gate = due["queries"][..., :size], None if gate is None else due["queries"][..., size:]
        of_due = Steps(steps.index - after, due["valid"], due.get("positions"), due.get("segments"))
        return Queries(query, of_due), gate, due["valid"], waiting

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 2, "max_past_horizon": 3}
        return [
            Example(small | {"max_future_horizon": 2, "use_bias": False, "output_dim": 4}),
            Example({"num_heads": 2, "key_dim": 2, "max_length": 32, "num_key_value_heads": 1}),
        ]


def _after(count, keys):
    """Keys without the first so many."""
    steps = Steps(*(None if part is None else part[..., count:] for part in keys.steps))
    return Keys(keys.key[:, :, count:], keys.value[:, :, count:], steps)
