"""What layers share that have weights for each of so many steps: where a step stands, and that it is one of them."""

import math
from typing import Any

from keras import ops

from ...arguments import as_size, check_choice
from ...hints import has_values
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import SequenceLayer
from ..counting import COUNTED, Counted, bounded, count
from ..reordering import at_steps, valid_first

# Steps of a call up to which each row reads the weights of its own position; of more all steps are computed at once.
FEW = 8


class NumberedLayer(SequenceLayer):
    """A layer that knows `num_steps` steps of a row, each by its position; a valid one beyond them is an error.

    Where values are not known, while a call is traced, the output of such a step is NaN.

    A subclass writes `call_numbered`.
    """

    takes_complex = False

    num_steps: int
    positions: Counted

    def check_steps_and_positions(self) -> None:
        """Check what all constructors take."""
        self.num_steps = as_size("num_steps", self.num_steps)
        check_choice("positions", self.positions, COUNTED)

    def call_numbered(self, x: Sequence, places: "StepPlaces", state: Any) -> tuple[Any, Any]:
        """Outputs [B, T, ...] of steps at their places, and what the state has beside the position."""
        raise NotImplementedError

    def memory(self, batch_size: Any, input_spec: SequenceSpec) -> dict[str, Any]:
        """What the state has beside the position before the first step."""
        return {}

    @property
    def counts_steps(self) -> bool:
        return self.positions == "valid"

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((1 - self.num_steps if self.counts_steps else 0, 0),))

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: Any = None) -> Any:
        return {"position": ops.zeros((batch_size,), dtype="int32")} | self.memory(batch_size, input_spec)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        places = StepPlaces(x, ops.zeros((1,), dtype="int32"), self.num_steps, self.positions)
        self._check_places(places, x.values.shape[1])
        y, _ = self.call_numbered(x, places, None)
        return Sequence(places.known(y), x.mask).mask_invalid()

    def _check_places(self, places, time):
        if isinstance(time, int) and time <= self.num_steps:
            return
        if places.mask is None and isinstance(time, int):
            steps = time
        elif places.mask is not None and has_values(places.mask):
            steps = int(ops.max(places.needed))
        else:
            return
        if steps > self.num_steps:
            raise ValueError(f"{self._named} knows {self.num_steps} steps; received {steps}: {self.room_advice}")

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        places = StepPlaces(x, state["position"], self.num_steps, self.positions)
        y, memory = self.call_numbered(x, places, state)
        return Sequence(places.known(y), x.mask).mask_invalid(), {"position": places.after} | memory

    def room(self, state: Any) -> Any:
        return self.num_steps - state["position"]

    room_counts_valid = True

    @property
    def room_advice(self) -> str | None:
        return f"raise num_steps (={self.num_steps}) of `{self.name}`"


class StepPlaces:
    """Where the steps of a chunk stand among those that a layer knows.

    Attributes:
        mask: of the chunk, or `None`.
        positions: int32 [B, T], or [1, T] where all rows have the same: of invalid steps anything up to the number of
            steps.
        needed: int32 [B], how many steps a row needs after the last valid one.
        after: int32 [B], the position of what comes next: beyond the number of steps only if a valid step was.
    """

    mask: Any
    before: Any
    num_steps: int
    time: Any
    positions: Any
    needed: Any
    after: Any

    def __init__(self, x: Sequence, before: Any, num_steps: int, counted: str) -> None:
        self.mask, self.before, self.num_steps = x.mask, before, num_steps
        self.time = ops.shape(x.values)[1]
        self.positions, after = count(x.mask, self.time, before, counted)
        if x.mask is None:
            self.needed = self.after = after
            self._counts = None
        else:
            self._counts = x.mask if counted == "valid" else self.positions >= before[:, None]
            self.needed = ops.max(ops.where(x.mask, self.positions + 1, before[:, None]), axis=1)
            self.after = ops.maximum(self.needed, ops.minimum(after, num_steps))

    @property
    def same_in_all_rows(self) -> bool:
        """Whether every row has the whole chunk from the first step on."""
        return self.mask is None and self.before.shape[0] == 1

    @property
    def index(self) -> Any:
        """The positions, each one that the layer knows."""
        return bounded(self.positions, 0, self.num_steps - 1)

    def known(self, y: Any) -> Any:
        """Outputs, NaN where a valid step is none that the layer knows."""
        if isinstance(self.time, int) and self.same_in_all_rows and self.time <= self.num_steps:
            return y
        beyond = self.positions >= self.num_steps
        if self.mask is not None:
            beyond = ops.logical_and(beyond, self.mask)
        for _ in range(len(y.shape) - 2):
            beyond = ops.expand_dims(beyond, -1)
        return ops.where(beyond, ops.cast(math.nan, y.dtype), y)

    def to_slots(self, values: Any) -> tuple[Any, Any]:
        """Values [B, T, C] by their positions, [B, num_steps, C], and which of these slots the chunk has filled."""
        slots = ops.arange(0, self.num_steps, dtype="int32")[None, :] - self.before[:, None]  # within the chunk
        if self._counts is None:
            order, end = slots, self.time
        else:
            sorted_steps = valid_first(self._counts)  # those that count
            rows = ops.broadcast_to(slots, (ops.shape(sorted_steps)[0], self.num_steps))
            order = ops.take_along_axis(sorted_steps, bounded(rows, 0, self.time - 1), axis=1)
            end = ops.sum(ops.cast(self._counts, "int32"), axis=1, keepdims=True)
        filled = ops.logical_and(slots >= 0, slots < end)
        order = bounded(order, 0, self.time - 1)
        filled = ops.broadcast_to(filled, (ops.shape(values)[0], self.num_steps))[:, :, None]
        found = at_steps(values, order)
        return ops.where(filled, found, ops.zeros_like(found)), filled

    def from_slots(self, slots: Any) -> Any:
        """Of values [B, num_steps, C] those at the positions, [B, T, C]."""
        return at_steps(slots, self.index)
