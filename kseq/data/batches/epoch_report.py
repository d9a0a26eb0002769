"""What an epoch of batches looks like."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class EpochReport:
    """What an epoch of batches looks like; prints as text.

    Attributes:
        epoch: its number.
        steps: batches.
        records: records that come in it.
        dropped: records that do not, because the last batch was not full.
        useful: cells of the leading sequence that hold data.
        cells: cells in all.
        shapes: for each pair (rows, padded length) the number of batches.
    """

    epoch: int
    steps: int
    records: int
    dropped: int
    useful: int
    cells: int
    shapes: dict[tuple[int, int], int]

    @property
    def efficiency(self) -> float:
        """The share of cells that hold data."""
        return self.useful / self.cells if self.cells else 1.0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        shapes = [{"rows": rows, "length": length, "batches": n} for (rows, length), n in sorted(self.shapes.items())]
        return dataclasses.asdict(self) | {"efficiency": self.efficiency, "shapes": shapes}

    def __str__(self) -> str:
        lines = [
            f"epoch {self.epoch}: {self.steps} steps, {self.records} records, {self.dropped} dropped",
            f"useful cells {self.efficiency:.3f} ({self.useful} of {self.cells}), {len(self.shapes)} shapes",
        ]
        lines += [f"  [{rows}, {length}] x {n}" for (rows, length), n in sorted(self.shapes.items())]
        return "\n".join(lines)
