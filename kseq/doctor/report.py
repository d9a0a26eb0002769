"""What is wrong with the masks of a model: a row for each fault, as a value that prints and goes into JSON."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..printable import printable

LOST, WRONG, REFUSED, MISSING, LEAK = "mask lost", "mask wrong", "mask refused", "mask missing", "leak"
#: What stood in the padding: what the model leaves there, a large number, no number.
OWN, LARGE, NAN = "own", "large", "nan"


class MaskFault(NamedTuple):
    """A layer or operation that does not keep padding out.

    Attributes:
        layer: its name, after those of the models that it is in: `encoder/conv`.
        type: its class's name.
        fault: `"mask lost"`, `"mask wrong"`, `"mask refused"` (it raises where there is a mask), `"leak"`, or
            `"mask missing"`: padding leaks because no mask reaches the layer, through no fault of its own.
        reason: what was found, in words.
        size: of a leak or a missing mask the largest difference of a valid step from what the row alone gives; `None`
            where that is no number, and of other faults.
        padding: of these what in the padding shows it first: `"own"` is what the model itself leaves there, `"large"`
            10,000, `"nan"` NaN. `None` of other faults.
        training: whether it is so in training alone.
        instead: what to use instead, or `None`.
    """

    layer: str
    type: str
    fault: str
    reason: str
    size: float | None = None
    padding: str | None = None
    training: bool = False
    instead: str | None = None

    def __str__(self) -> str:
        text = f"{self.layer} ({self.type}): {self.fault}: {self.reason}"
        return printable(text + (f"; use {self.instead}" if self.instead else ""), keep="")


class Unchecked(NamedTuple):
    """A layer or operation that could not be looked at, and why."""

    layer: str
    type: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.layer} ({self.type}): not checked: {self.reason}", keep="")


class OutputCheck(NamedTuple):
    """An output of a whole model, whose padding is what its inputs and layers leave there.

    Attributes:
        output: its number, in the order in which Keras flattens the outputs.
        has_mask: whether it has a right mask; `None` where it has no time axis.
        size: the largest difference of a valid step from what the row alone gives; `None` where that is no number.
    """

    output: int
    has_mask: bool | None
    size: float | None

    def __str__(self) -> str:
        size = "by no number" if self.size is None else f"by up to {self.size:.2g}"
        mask = {None: "", True: ", with its mask", False: ", without a right mask"}[self.has_mask]
        return f"output {self.output}: valid steps differ from those of rows alone {size}{mask}"


@dataclasses.dataclass(frozen=True)
class MaskReport:
    """What `kseq.masks.check` found; true where there is a fault.

    Attributes:
        model: the model's name.
        faults: a `MaskFault` for each, in the order of the model's calls.
        unchecked: an `Unchecked` for each call that could not be looked at.
        outputs: an `OutputCheck` for each output of the whole model, none where it could not be run.
    """

    model: str
    faults: tuple[MaskFault, ...]
    unchecked: tuple[Unchecked, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    def __bool__(self) -> bool:
        return bool(self.faults)

    def __len__(self) -> int:
        return len(self.faults)

    def __iter__(self) -> Iterator[MaskFault]:
        return iter(self.faults)

    def __str__(self) -> str:
        count = len(self.faults)
        whole = "no faults found" if self.unchecked else "no faults: padding stays out"
        head = f"{self.model}: " + (f"{count} fault{'s' * (count != 1)}" if count else whole)
        rows = [*self.faults, *self.unchecked, *self.outputs]
        return "\n".join([printable(head, keep=""), *(f"  {row}" for row in rows)])

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data that JSON can hold."""
        rows = {name: [row._asdict() for row in getattr(self, name)] for name in ("faults", "unchecked", "outputs")}
        return {"model": self.model, "ok": self.ok, **rows}
