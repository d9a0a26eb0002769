"""How one field gets from stores into batches: by the kernel, or by NumPy where its dtype or its text needs it."""

import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseq import _ext

from ..store.chunks import Chunks
from ..store.protocol import Records
from ..store.schema import Field
from ..store.shard import step_bytes
from .options import Options
from .structure import Shift, Shown, field_of

_CUTS = {None: 0, "left": 1, "right": 2}


class Slot:
    """How one field is read for batches.

    Args:
        store: the store of the batches.
        shown: the field, or a `Shift` of it.
        at: the place of its values among the arrays of a batch; its mask comes after them.
        fill: the padding value.
        begin, end: values to put before and after every sequence, or None.
        options: the `Options`.
    """

    name: str
    at: int
    mask_at: int
    number: int
    chunks: Chunks
    ragged: bool
    text: bool
    kind: Field
    cast: np.dtype[Any] | None
    job: Any

    def __init__(
        self, store: Records, shown: Shown, at: int, fill: Any, begin: Any, end: Any, options: Options
    ) -> None:
        self.name, self.at, self.mask_at = field_of(shown), at, at + 1
        self.shift: int = shown.steps if isinstance(shown, Shift) else 0
        kind = store.schema[self.name]
        core, self.number, _ = store.place(self.name)
        self.chunks, self.ragged, self.text, self.kind = core.chunks, kind.ragged, kind.text, kind
        self.plain: bool = not (kind.text or kind.ragged or kind.optional) and kind.store == kind.dtype
        self.cast = self.job = None
        if kind.text:
            return
        widens = kind.store == kind.dtype or _ext.widens(kind.store, kind.dtype)
        dtype = kind.dtype if widens and not options.pack else kind.store
        self.cast = None if dtype == kind.dtype else kind.dtype
        self.fill: NDArray[Any] = _scalar(f"pad_value of {self.name!r}", fill, kind.dtype)
        first = np.zeros(1, dtype) if self.cast is not None else self.fill

        def step(what, value):
            if value is None:
                return np.empty(0, np.uint8)
            one = np.broadcast_to(_scalar(f"{what} of {self.name!r}", value, dtype).reshape(()), kind.inner_shape)
            return np.ascontiguousarray(one).reshape(-1).view(np.uint8)

        self.job = _ext.Job(
            self.number,
            step_bytes(kind),
            kind.store,
            dtype,
            kind.inner_shape,
            kind.ragged,
            first.view(np.uint8),
            step("eos", end),
            _CUTS[options.truncate],
            begin=step("bos", begin),
            skip=0 if options.pack else self.shift,
            left=kind.ragged and options.side == "left",
        )

    def shown_steps(self, steps: NDArray[np.int64], padded: int) -> NDArray[np.int64]:
        """How many steps are shown of sequences of so many, with what is put before and after them: int64."""
        return np.maximum(np.minimum(steps, padded) - self.shift, 0)

    def widened(self, array: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
        """The array in the field's dtype, with the padding value where it holds nothing."""
        array = array.astype(self.cast)
        if mask is not None:
            array[~mask] = self.fill[0]
        return array

    def texts(self, rows: Sequence[int]) -> NDArray[Any]:
        """The texts of records: objects [B]."""
        out = np.empty(len(rows), object)
        for place, row in enumerate(rows):
            value = self.chunks.value(self.number, row)
            out[place] = self._missing() if value is None else value
        return out

    def _missing(self):
        return "" if self.kind.dtype == "string" else b""


class Group(typing.NamedTuple):
    """Fields that lie together.

    Attributes:
        chunks: where they lie.
        places: for each record its row there, as in `Place`, or None.
        slots: their slots.
        jobs: those of the fields that are no texts.
    """

    chunks: Chunks
    places: NDArray[np.int64] | None
    slots: list[Slot]
    jobs: tuple[Any, ...]


def group_slots(
    store: Records, shown: Iterable[Shown], marks: Callable[[str], tuple[Any, Any, Any]], options: Options
) -> tuple[list[Group], dict[Shown, Slot]]:
    """The slots of what is shown, by where each field lies.

    Args:
        store: the store of the batches.
        shown: fields and `Shift`s.
        marks: gives for a field its padding value, its begin and its end.
        options: the `Options`.

    Returns:
        `Group`s, in the order of their arrays; and the slots by what they show.
    """
    together = {}
    for each in shown:
        place = store.place(field_of(each))
        together.setdefault(place.group, (place, []))[1].append(each)
    at, groups, slots = 0, [], {}
    for place, members in together.values():
        for each in members:
            slots[each] = Slot(store, each, at, *marks(field_of(each)), options)
            at += 1 + slots[each].ragged
        own = [slots[each] for each in members]
        groups.append(Group(place.core.chunks, place.rows, own, tuple(slot.job for slot in own if not slot.text)))
    return groups, slots


def _scalar(what, value, dtype):
    """A number as an array [1] of a dtype that holds it."""
    given = np.asarray(value)
    with np.errstate(all="ignore"):
        stored = given.astype(dtype).reshape(-1)
    if given.ndim or (given.dtype.kind in "biuf" and dtype.kind in "biu" and stored[0] != given):
        raise ValueError(f"{what} must be a number that {dtype.name} holds; received {value!r}")
    return stored
