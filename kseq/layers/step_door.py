"""How a layer is stepped: from state to state, looked ahead, as far as there is room, and rolled back."""

import functools
from typing import Any

import keras
from keras import ops

from ..hints import is_exporting
from ..obstacles import NotStreamable, Obstacle
from ..sequence import Sequence, SequenceSpec
from .door import KerasDoor, listed, spec_of
from .leaves import leaves, map_leaves, named_leaves
from .limits import Limit, as_steps, check_history, check_overfull, check_room
from .structures import as_sequences, check_returned, each, first, parts, specs_of


class StepDoor(KerasDoor):
    """The part of `SequenceLayer` that goes from state to state, and refuses what does not fit it."""

    # What an author writes: the state, and the step that goes on from it.

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        """State before the first step: arrays of distinct buffers, batch first; `()` where there is none.

        Args:
            batch_size: B.
            input_spec: channel shape and dtype of the input.
            context: what `context_names` names: sequences and arrays whose first axis is the batch.
        """
        return ()

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        """Process a chunk and return the outputs with the next state."""
        raise NotImplementedError(f"{type(self).__name__} must implement call_step, or call_layer and step_obstacle")

    def hold_step(self, x: Sequence, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        """`call_step` in rows where `active`, bool [B], is true; the state of the others stays bit for bit what it was.

        Override it where a step writes into a large state in place: this one makes a copy of the state to choose from.
        """
        y, new_state = self._call_step(x, state, training)
        return y, hold_rows(active, new_state, state)

    @property
    def step_obstacle(self) -> str | None:
        """Why the layer cannot step, or `None` where it can."""
        return None

    @property
    def step_remedy(self) -> str | None:
        """What to use instead of a layer that cannot step, or `None` where there is nothing."""
        return None

    # What the author of a layer with a long state writes.

    def room(self, state: Any) -> Any:
        """Input steps that the state of each row still takes, int32 [B], or `None` where there is no limit."""
        return None

    #: Whether only valid steps take of the room: the state may then say less than none, which is refused afterwards.
    room_counts_valid: bool = False

    @property
    def room_advice(self) -> str | None:
        """What to change where more steps are wanted: "raise max_length (=1024) of `attention`" for one."""
        return None

    def history(self, state: Any) -> Any:
        """Input steps by which the state of each row can be rolled back, int32 [B], or `None` where by any number."""
        return None

    @property
    def history_advice(self) -> str | None:
        """What to change where it is to be rolled back by more."""
        return None

    @property
    def rollback_obstacle(self) -> str | None:
        """Why the state cannot be rolled back, or `None` where it can; by default what has no state can."""
        rolls_back = type(self).call_rollback is not StepDoor.call_rollback
        return None if rolls_back or not self._keeps_state() else "its state keeps nothing of the steps before"

    def call_context(self, state: Any, input_spec: Any, context: dict[str, Any]) -> Any:
        """The state with what is made of the context made anew; by default the parts that `context_state` names."""
        if not self.context_state:
            raise ValueError(f"{self._named} does not say what of its state is made of its context: it cannot change")
        fresh = self.initial_state(ops.shape(leaves(state)[0])[0], input_spec, context=context)
        return state | {name: fresh[name] for name in self.context_state if name in fresh}

    def call_rollback(self, state: Any, steps: Any) -> Any:
        """The state as if the last `steps` of each row, int32 [B], had not been fed: bit for bit, also of what follows.

        Steps of 0 leave a row as it is. That there is no more than `history` gives was checked, where it has values.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement call_rollback, or rollback_obstacle")

    # What a user calls.

    @property
    def supports_step(self) -> bool:
        """Whether `step` works."""
        return not self.obstacles()

    def state_specs(self, input_spec: SequenceSpec) -> list[keras.KerasTensor]:
        """Shape and dtype of each leaf of one stream's state, of which nothing is made."""
        return specs_of(lambda: leaves(self.initial_state(1, input_spec)))

    def obstacles(self) -> list[Obstacle]:
        """A row for every layer, this one or one within it, because of which this one cannot step."""
        if self.step_obstacle is None:
            return []
        return [Obstacle(self.name, type(self).__name__, self.step_obstacle, self.step_remedy)]

    def rollback_obstacles(self, state: Any = None) -> list[Obstacle]:
        """A row for every layer, this one or one within it, because of which a state cannot be rolled back.

        Args:
            state: one of the layer's, or `None`: then a layer that is not built may be thought to have a state.
        """
        reason = self.rollback_obstacle
        if reason is None or (state is not None and not leaves(state)):
            return []
        return [Obstacle(self.name, type(self).__name__, reason)]

    def limits(self, state: Any) -> list[Limit]:
        """What every layer, this one or one within it, still takes, where `room` limits it."""
        room = self.room(state)
        return [] if room is None else [Limit(self._named, room, self.room_advice, self.room_counts_valid)]

    def histories(self, state: Any) -> list[Limit]:
        """By how much the state of every layer, this one or one within it, can be rolled back, where it is limited."""
        known = self.history(state)
        return [] if known is None else [Limit(self._named, known, self.history_advice)]

    def step(self, x: Sequence, state: Any, *, training: bool = False, active: Any = None) -> tuple[Sequence, Any]:
        """Step mode: process a chunk [B, n * block_size, ...] and return (outputs, next state).

        Args:
            x: the chunk, a `Sequence` or values that are all valid.
            state: what `initial_state` or the last step returned.
            training: as in Keras.
            active: bool [B]: rows that receive data in this call. The state of every other row stays bit for bit what
                it was, and its outputs are invalid.

        Raises:
            NotStreamable: a layer that cannot step, with the reason.
            ValueError: a wrong rank, channel or mask shape, a number of steps that is no multiple of the block, or more
                steps than the state has room for (where it has values: none are there while a function is traced).
            TypeError: a mask that is not bool.
        """
        return self._checked_step(x, state, training, active, self._may_be_full)

    def step_in_room(self, x: Any, state: Any, *, training: bool = False, active: Any = None) -> tuple[Any, Any]:
        """`step` where it is known that the state has room, at which it does not look."""
        return self._checked_step(x, state, training, active, False)

    def peek(self, x: Sequence, state: Any, *, training: bool = False, active: Any = None) -> Sequence:
        """The outputs of `step`, of which nothing is kept: neither the state nor that random numbers were drawn."""
        if not self.built:
            self.build_for(as_sequences(x, self.num_inputs))
        with keras.StatelessScope([(variable, variable.value) for variable in self.variables]):
            y, _ = self.step(x, state, training=training, active=active)
        return y

    def replace_context(self, state: Any, input_spec: Any, context: dict[str, Any], active: Any = None) -> Any:
        """The state that other context stands in, in the place of that from which it began; all else in it stays.

        Args:
            state: one of the layer's.
            input_spec: as of `initial_state`.
            context: what the layer reads as context; of a network one or several of the names.
            active: bool [B] or `None`: rows that get it. The state of every other row stays bit for bit what it was.

        Raises:
            ValueError: names that the layer does not read, other shapes than the first context had, or a layer that
                cannot exchange it.
        """
        names = list(context) if isinstance(context, dict) else [repr(context)]
        unknown = [name for name in names if name not in self.context_names]
        if unknown or not names:
            raise ValueError(
                f"the context of {self._named} that changes must be a dict of "
                f"{listed(self.context_names) or 'nothing'}; received {listed(unknown) or 'nothing'}"
            )
        new_state = self.call_context(state, input_spec, context)
        for (name, new), old in zip(named_leaves(new_state), leaves(state), strict=True):
            if tuple(new.shape) != tuple(old.shape):
                raise ValueError(
                    f"the context of {self._named} must be of the shape of the first one; received one of which it "
                    f"makes {name!r} of shape {tuple(new.shape)}, before {tuple(old.shape)}"
                )
        return new_state if active is None else hold_rows(ops.convert_to_tensor(active), new_state, state)

    def rollback(self, state: Any, steps: Any) -> Any:
        """The state as if the last steps of each row had not been fed, so that what follows is, bit for bit, the same.

        Args:
            state: what a step returned.
            steps: input steps, warm-up and invalid ones too: a number, or int32 [B]; rows of 0 stay as they are.

        Raises:
            ValueError: a layer, or one within it, that cannot; more steps than a row's state remembers; negative ones,
                or such as are no multiple of the block.
        """
        found = leaves(state)
        if not found:
            return state
        if obstacles := self.rollback_obstacles(state):
            reasons = "; ".join(row.advice if row.layer == self.name else str(row) for row in obstacles)
            raise ValueError(f"{self._named} cannot be rolled back: {reasons}")
        steps = as_steps(steps, found[0], self._timing.block_size)
        check_history(self.histories(state), steps)
        return self.call_rollback(state, steps)

    def _checked_step(self, x, state, training, active, checks_room):
        x = self.check_input(as_sequences(x, self.num_inputs))
        if not self.built:
            self.build_for(x)
        self.check_steps()
        batch, time = first(x).values.shape[:2]
        if time is not None and time % self._timing.block_size:
            raise ValueError(
                f"{self._named} steps over blocks of {self._timing.block_size}: the number of "
                f"time steps must be a multiple of it; received {time}"
            )
        limits = self.limits(state) if checks_room and time else []
        if limits:
            check_room(limits, time if active is None else ops.where(active, time, 0), "a chunk")
        lengths = () if time is None else tuple(int(time * timing.ratio) for timing in self._timings)
        if 0 in (time, batch):
            y, new_state = self.nothing(x, lengths[0] if len(lengths) == 1 else lengths), state
        else:
            y, new_state = self.advance(x, state, training=training, active=active)
            if limits:
                check_overfull(self.limits(new_state), limits, "a chunk")
        if lengths:
            self._check_lengths(y, lengths, time)
        if active is not None:
            y = each(lambda part: Sequence(part.values, ops.logical_and(part.with_mask().mask, active[:, None])), y)
        return y, new_state

    def _check_lengths(self, y, lengths, time):
        found = tuple(part.values.shape[1] for part in parts(y))
        if found != lengths:
            ratios = " and ".join(str(timing.ratio) for timing in self._timings)
            raise ValueError(
                f"{type(self).__name__}.call_step must give {listed(lengths)} outputs for {time} inputs "
                f"(ratio {ratios}); received {listed(found)}"
            )

    # What layers and networks of them share.

    def check_steps(self) -> None:
        """Refuse a layer that cannot step.

        Raises:
            NotStreamable: such a layer, with the reason.
        """
        if self._obstacles:
            raise NotStreamable(f"{self._named} cannot step: {self._reasons}", self._obstacles)

    def go_on(self, x: Any, state: Any, context: Any, training: bool) -> tuple[Any, Any]:
        """`step` from a state that is checked, or from the first one where it is `None`."""
        if state is None:
            given = {"context": context} if self.context_names else {}
            state = self.initial_state(ops.shape(first(x).values)[0], each(spec_of, x), **given)
        return self.step(x, state, training=training)

    def check_state(self, state: Any, x: Any) -> None:
        """Refuse what is no state of the layer: of another batch, or (where it reads no context) with other leaves.

        Raises:
            ValueError: other leaves, by their names, or another batch.
        """
        names, found = [], named_leaves(state)
        if not self.context_names:

            def make():
                made = named_leaves(self.initial_state(1, each(spec_of, x)))
                names[:] = [name for name, _ in made]
                return [leaf for _, leaf in made]

            specs_of(make)
            if names != [name for name, _ in found]:
                raise ValueError(
                    f"`initial_state` of {self._named} must have the leaves {', '.join(names) or 'none'}; "
                    f"received {', '.join(name for name, _ in found) or 'none'}"
                )
        batch = first(x).values.shape[0]
        for name, leaf in found:
            rows = leaf.shape[0] if len(leaf.shape) else 0
            if isinstance(batch, int) and isinstance(rows, int) and rows != batch:
                raise ValueError(
                    f"`initial_state` of {self._named} must have a batch of {batch}, as the input has; received shape "
                    f"{tuple(leaf.shape)} of {name!r}"
                )

    def advance(self, x: Any, state: Any, *, training: bool = False, active: Any = None) -> Any:
        """`step` for what is known to be right: tensors of the right shapes, at least one step of at least one row."""
        x = each(self.standardize, x)
        if active is None:
            if is_exporting():  # where errors name the layer by it
                with keras.name_scope(self.name):
                    return self._call_step(x, state, training)
            return self._call_step(x, state, training)
        return self.hold_step(x, state, active, training=training)

    def _call_step(self, x, state, training):
        returned = self.call_step(x, state, training=training)
        pair = type(returned) is tuple and len(returned) == 2
        check_returned(self, "call_step", "(Sequence, state)", returned[0] if pair else None, returned)
        return returned

    @property
    def may_be_full(self) -> bool:
        """Whether there may be a limit to what a state takes: where not, no step waits for a look at it."""
        return type(self).room is not StepDoor.room

    @functools.cached_property
    def _may_be_full(self):
        return self.may_be_full

    def _keeps_state(self) -> bool:
        """Whether the layer has a state; of one that is not built, or reads context, whether it may have one."""
        if type(self).initial_state is StepDoor.initial_state:
            return False
        shape = None if self.context_names or not self.built else self.channel_shape
        if shape is None:
            return True
        shapes = (shape,) if self.num_inputs == 1 else shape
        specs: Any = tuple(SequenceSpec(part, self.compute_dtype) for part in shapes)
        return bool(self.state_specs(specs[0] if self.num_inputs == 1 else specs))

    @property
    def _reasons(self) -> str:
        return "; ".join(row.advice if row.layer == self.name else str(row) for row in self._obstacles)

    @functools.cached_property
    def _obstacles(self):
        return self.obstacles()


def hold_rows(active: Any, new_state: Any, old_state: Any) -> Any:
    """The new state in rows where `active`, bool [B], is true, the old state bit for bit in the others."""

    def choose(new, old):
        return ops.where(ops.reshape(active, (-1, *[1] * (len(new.shape) - 1))), new, old)

    return map_leaves(choose, new_state, old_state)
