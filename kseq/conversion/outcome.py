"""What a conversion did: a row for each layer and operation, as a value that prints and goes into JSON."""

import dataclasses
import json
from typing import Any, NamedTuple

from ..doctor import MaskReport
from ..obstacles import Obstacle
from ..printable import printable


class Converted(NamedTuple):
    """A layer or operation of a converted model.

    Attributes:
        layer: its name, after those of the models that it is in: `encoder/conv`.
        type: its class's name, before.
        twin: what took its place, as `kseq.Conv1D`, or `None` where it stays.
        reason: why it stays, or `None`.
    """

    layer: str
    type: str
    twin: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        text = f"{self.layer} ({self.type}): "
        return printable(text + (f"now {self.twin}" if self.twin else f"stays: {self.reason}"), keep="")


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `kseq.convert` replaced, and what it did not.

    Attributes:
        model: the model's name.
        rows: a `Converted` for each layer and operation that is not kseq's already, in the order of the model's calls.
        compiled: whether the model was compiled and is again, with a new state of the optimizer.
        not_compiled: why it is not, or `None`.
        masks: what `kseq.masks.check` finds in the new model.
        obstacles: a `kseq.obstacles.Obstacle` for each layer of the new model that does not stream, with the reason and
            what to use instead.
    """

    model: str
    rows: tuple[Converted, ...]
    compiled: bool = False
    not_compiled: str | None = None
    masks: MaskReport = dataclasses.field(kw_only=True)
    obstacles: tuple[Obstacle, ...] = dataclasses.field(kw_only=True)

    @property
    def replaced(self) -> tuple[Converted, ...]:
        return tuple(row for row in self.rows if row.twin)

    @property
    def kept(self) -> tuple[Converted, ...]:
        return tuple(row for row in self.rows if not row.twin)

    @property
    def streams(self) -> bool:
        """Whether the new model streams."""
        return not self.obstacles

    def __str__(self) -> str:
        lines = [f"{self.model}: {len(self.replaced)} replaced, {len(self.kept)} as before"]
        lines += [f"  {row}" for row in self.rows]
        if self.compiled:
            lines.append("  compiled as before; the optimizer begins anew")
        if self.not_compiled:
            lines.append(f"  not compiled: {self.not_compiled}")
        if self.masks:
            lines += ["  faults of masks that are left:", *(f"    {fault}" for fault in self.masks)]
        else:
            lines.append("  no faults of masks are left")
        if self.obstacles:
            lines += ["  it does not stream:", *(f"    {obstacle}" for obstacle in self.obstacles)]
        else:
            lines.append("  it streams")
        return "\n".join(printable(line, keep="") for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data that JSON can hold."""
        return {
            "model": self.model,
            "replaced": [row._asdict() for row in self.replaced],
            "kept": [row._asdict() for row in self.kept],
            "compiled": self.compiled,
            "not_compiled": self.not_compiled,
            "masks": self.masks.to_dict(),
            "streams": self.streams,
            "obstacles": [obstacle._asdict() for obstacle in self.obstacles],
        }

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict())
