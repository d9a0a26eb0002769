"""`StreamedAttention`: of each step to the steps around it, in its own sequence or in one beside it.

The past is a cache.
"""

import math
from typing import Any

from keras import ops

from ...sequence import Sequence
from ..base import hold_rows
from ..structures import as_sequences, each, first, parts, to_tensors
from . import clock as clocks
from . import waiting
from .cache import LARGE
from .horizons import Horizons
from .in_blocks import Keys, Queries, in_parts, in_windows, joined
from .scores import at_places
from .visibility import Steps


class StreamedAttention(Horizons):
    """What attention of a stream to itself, and to another beside it, share; `SelfAttention` has the arguments."""

    def check_rank(self, shape: Any) -> None:
        super().check_rank(shape)
        if self.use_segment_ids and len(shape) not in (2, 3):
            raise ValueError(f"{self._named} takes values of rank 3 and ids of rank 2; received shape {tuple(shape)}")

    def check_shapes(self, x: Any) -> None:
        super().check_shapes(x)
        self.check_ids(parts(x)[-1].spec)
        rows = [part.values.shape[0] for part in parts(x) if isinstance(part.values.shape[0], int)]
        if len(set(rows)) > 1:
            raise ValueError(
                f"the inputs of {self._named} must have equally many rows; received {', '.join(map(str, rows))}"
            )

    def step(self, x: Any, state: Any, *, training: bool = False, active: Any = None) -> tuple[Any, Any]:
        y, new_state = super().step(x, state, training=training, active=active)
        if self.use_segment_ids:
            self._check_order(each(to_tensors, as_sequences(x, self.num_inputs)), state["clock"], active)
        return y, new_state

    def _check_order(self, x, clock=None, active=None):
        _, source, ids = self._inputs(x)
        if ids is None:
            return
        mask = source.mask
        if active is not None:
            mask = ops.logical_and(source.with_mask().mask, ops.convert_to_tensor(active)[:, None])
        clocks.check_ids(self._named, ids, mask, clock)

    def build(self, input_shape: Any) -> None:
        shapes = input_shape if self.num_inputs > 1 else (input_shape,)
        if self.use_segment_ids and [len(shape) for shape in shapes] != [3] * (len(shapes) - 1) + [2]:
            raise ValueError(
                f"{self._named} takes values of rank 3, and then ids of segments of rank 2; received shapes "
                f"{', '.join(str(tuple(shape)) for shape in shapes)}"
            )
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
        self._check_order(x)
        x, source, ids = self._inputs(x)
        batch, time = ops.shape(x.values)[:2]
        steps, _ = clocks.read(clocks.start(1 if ids is None else batch, ids is not None), time, source.mask, ids)
        heads, _ = self._project(x, source, steps, training=training)
        key, value = self.cache.rounded(heads["key"], heads["value"])
        queries, keys = Queries(heads["query"], steps), Keys(key, value, steps)
        beside, start = None, 0
        if self.cache.sinks:
            keys, beside = self._apart(keys, source.with_mask().mask)
        if self.return_attention_scores:
            if beside is not None:
                keys, start = joined(self._surrounded(keys, time), beside), self.visibility.before
            y, scores = self._with_scores(queries, keys, ops.full((1,), start, dtype="int32"), training)
            return self.outputs(y, heads.get("gate"), scores, x.mask)
        attend = self.attending(self.visibility, training, self.drawn_future(training))
        if self.window is None and beside is not None:
            y = in_parts(attend, queries, joined(keys, beside), None, self.variables)
        elif self.window is None:
            after = self.visibility.after
            ahead = None if after is None else after + self.block_size - 1  # of the first query of a block
            y = in_parts(attend, queries, keys, ahead, self.variables)
        else:
            y = in_windows(attend, queries, self._surrounded(keys, time), self.window, self.block_size, beside)
        return self.outputs(y, heads.get("gate"), None, x.mask)

    def _with_scores(self, queries, keys, start, training, ring=None):
        """What queries read, and the scores [B, T, H, sinks + steps]: of sink steps, then in the order of time.

        Args:
            queries, keys: all of them; those of sink steps are the last.
            start: int32 [B or 1], the place among the keys of what comes at the time of the first query's block.
            training: as in Keras.
            ring: how many of the keys are a ring.
        """
        y, weights = self.read_values(queries, keys, self.visibility, training, self.drawn_future(training))
        block, time = self.block_size, ops.shape(weights)[2]
        of_block = ops.arange(0, time, dtype="int32") // block * block
        behind = self.seen - block - self.latency
        places = start[:, None, None] + of_block[:, None] - behind + ops.arange(0, self.seen, dtype="int32")
        if ring is not None:
            places = places % ring
        if sinks := self.cache.sinks:
            last = ops.shape(weights)[-1] - sinks + ops.arange(0, sinks, dtype="int32")
            last = ops.broadcast_to(last, (*ops.shape(places)[:2], sinks))
            places = ops.concatenate([last, places], axis=-1)
        return y, at_places(weights, places)

    def _apart(self, keys, valid):
        """Keys without the first valid steps, which have slots of their own, and these."""
        position = ops.broadcast_to(keys.steps.position, ops.shape(valid))
        steps = keys.steps._replace(valid=valid, position=position)
        rest, firsts, of_firsts = self.cache.apart(keys.key, keys.value, steps)
        return keys._replace(steps=rest), Keys(firsts["keys"], firsts["values"], of_firsts)

    def _surrounded(self, keys, time):
        """Keys with invalid ones around them, as many as a window reaches."""
        around = (self.visibility.before or 0, self.latency)
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
        state = self.cache.empty(batch_size) | {"clock": clocks.start(batch_size, self.use_segment_ids)}
        networks = self.network_states(batch_size, ("query", "key", "value"))
        if networks:
            state["networks"] = networks
        if self.latency:
            size = self.shape_of("query")[1] + (self.value_shape[1] if self.use_gate else 0)
            count = self.latency + self.max_rollback
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
        return self.visibility.before is None or time <= self.block_size + self.max_rollback

    def _step_rows(self, x, state, active, training):
        x, source, ids = self._inputs(x)
        time, cache = x.values.shape[1], self.cache
        steps, clock = clocks.read(state["clock"], time, source.mask, ids)
        options = {"state": state.get("networks", {}), "active": active, "training": training}
        heads, networks = self._project(x, source, steps, **options)
        new_state: dict[str, Any] = {"networks": networks} if networks else {}
        queries, gate, mask = Queries(heads["query"], steps), heads.get("gate"), x.mask
        if self.latency:
            queries, gate, mask, new_state["waiting"] = self._due(heads, steps, x.with_mask().mask, state["waiting"])
        if self._counts_history:
            new_state["history"] = ops.minimum(state["history"] + time, self.max_rollback)
        steps = Steps(steps.index, source.with_mask().mask, *steps[2:])
        slot, scores = state["clock"][:, 0], None
        attend = self.attending(self.visibility, training, self.drawn_future(training))
        if self._fits(time):
            written, of_keys = cache.write(state, slot, heads["key"], heads["value"], steps, active)
            keys = Keys(*cache.read(written), of_keys)
            if self.return_attention_scores:
                y, scores = self._with_scores(queries, keys, slot - self.latency, training, self.slots)
            else:
                y = in_parts(attend, queries, keys, None, self.variables)
            slot = slot + time
            if self.visibility.before is None:
                over = ops.where(slot > self.max_length, ops.cast(math.nan, y.dtype), ops.cast(0, y.dtype))
                y = y + over[:, None, None, None]
            else:
                slot = slot % self.slots
        else:
            written, (leaves, of_keys), firsts = cache.append(state, slot, heads["key"], heads["value"], steps)
            keys = Keys(*cache.read(leaves), of_keys)
            beside = None if firsts is None else Keys(*cache.read(firsts[0]), firsts[1])
            if self.return_attention_scores:
                start = ops.full_like(slot[:1], self.slots - self.latency)
                y, scores = self._with_scores(queries, joined(keys, beside), start, training)
            else:
                spare = self.block_size + self.max_rollback
                y = in_windows(attend, queries, _after(spare, keys), self.slots - spare, self.block_size, beside)
            slot = ops.zeros_like(slot)
        new_state |= written | {"clock": ops.concatenate([slot[:, None], clock], axis=1)}
        return self.outputs(y, gate, scores, mask), new_state

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
        of_due = Steps(steps.index - self.latency, None, due.get("positions"), due.get("segments"))
        query = due[waiting.QUERIES]
        return Queries(query[..., :size], of_due), None if gate is None else query[..., size:], due["valid"], kept

    # How long a stream may be, and how far it goes back.

    def room(self, state: Any) -> Any:
        return None if self.visibility.before is not None else self.max_length - state["clock"][:, 0]

    @property
    def room_advice(self) -> str | None:
        return f'raise max_length (={self.max_length}) of `{self.name}`, or give it overflow="slide"'

    @property
    def _counts_history(self) -> bool:
        """Whether the state says how far it goes back: not where the cache forgets nothing, and no query waits."""
        return bool(self.max_rollback)

    def history(self, state: Any) -> Any:
        return state["history"] if self._counts_history else state["clock"][:, 0]

    @property
    def history_advice(self) -> str | None:
        return f"raise max_rollback (={self.max_rollback}) of `{self.name}`" if self._counts_history else None

    @property
    def rollback_obstacle(self) -> str | None:
        if obstacle := self.never_rolls_back:
            return obstacle
        forgets = self.visibility.before is not None or self.visibility.after
        return "`max_rollback` is 0" if forgets and not self.max_rollback else None

    def call_rollback(self, state: Any, steps: Any) -> Any:
        slot, position = state["clock"][:, 0], state["clock"][:, 1]
        new_state, lost = self.cache.take_back(state, slot, steps)
        slot = slot - steps
        if self.visibility.before is not None:
            slot = slot % self.slots
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
