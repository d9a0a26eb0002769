"""What a build did: counts, one CSV of each split, and the configuration that reproduces it."""

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Sequence
from typing import Any

from ..errors import BuildError
from ..store.folder import Folder
from ..store.manifest import shard_file
from .sink import tfrecord_file
from .task import FAILED, SKIPPED, ShardResult

CONFIG = "build.json"
VERSION = 1
_COLUMNS = ["row", "line", "shard", "first", "records", "outcome", "detail"]


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """What a build made of one split.

    Attributes:
        rows: rows of the source.
        records: records that were written; more or fewer than the rows where `split` divides or skips them.
        skipped: rows that raised `SkipRecord`.
        errors: rows that failed, with `on_error="skip"`.
        shards: files with records.
        bytes: of these files.
    """

    rows: int
    records: int
    skipped: int
    errors: int
    shards: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        path: folder or URL of the build.
        splits: for every split, or fold, its `SplitCounts`.
    """

    path: str
    splits: dict[str, SplitCounts]

    @property
    def records(self) -> int:
        """Records of all splits."""
        return sum(counts.records for counts in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"path": self.path, "splits": {name: dataclasses.asdict(counts) for name, counts in self.splits.items()}}

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.records:,} records"]
        for name, counts in self.splits.items():
            line = f"  {name}: {counts.records:,} records of {counts.rows:,} rows in {counts.shards} shards"
            line += f", {counts.skipped:,} skipped" if counts.skipped else ""
            line += f", {counts.errors:,} failed" if counts.errors else ""
            lines.append(line)
        return "\n".join(lines)


def count(results: Sequence[ShardResult]) -> SplitCounts:
    """The counts of a split from the results of its shards."""
    outcomes = [outcome for result in results for outcome in result.outcomes]
    return SplitCounts(
        rows=len(outcomes),
        records=sum(outcome.records for outcome in outcomes),
        skipped=sum(outcome.status == SKIPPED for outcome in outcomes),
        errors=sum(outcome.status == FAILED for outcome in outcomes),
        shards=sum(entry.records > 0 for result in results for entry in result.entries),
        bytes=sum(entry.bytes for result in results for entry in result.entries),
    )


def table(results: Sequence[ShardResult], source_fields: Sequence[str], format: str) -> bytes:
    """The CSV of a split: of each row its shard, first record in the store (or file), and what became of it."""
    text, base, before = io.StringIO(), 0, {}
    for entry in itertools.chain.from_iterable(result.entries for result in results):
        before[entry.number], base = base, base + (entry.records if format == "store" else 0)
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*_COLUMNS, *(f"source_{name}" for name in source_fields)])
    name = tfrecord_file if format == "tfrecord" else shard_file
    for outcome in itertools.chain.from_iterable(result.outcomes for result in results):
        place = ["", "", 0]
        if outcome.shard is not None:
            place = [name(outcome.shard), before[outcome.shard] + outcome.first, outcome.records]
        cells = outcome.cells or [""] * len(source_fields)
        line = "" if outcome.line is None else outcome.line
        # Errors may quote what no file holds, such as lone surrogates.
        detail = outcome.detail.encode(errors="replace").decode()
        lines.writerow([outcome.number, line, *place, outcome.status, detail, *cells])
    return text.getvalue().encode(errors="replace")


def write_config(folder: Folder, config: dict[str, Any]) -> None:
    """Write the configuration of a build into its folder."""
    folder.put(CONFIG, json.dumps({"kseq_build": VERSION, **config}, indent=1, ensure_ascii=False).encode() + b"\n")


def read_config(data: bytes, where: str) -> dict[str, Any]:
    """The configuration in a file's bytes.

    Raises:
        BuildError: it is none that this kseq knows.
    """
    try:
        config = json.loads(data)
        if config["kseq_build"] != VERSION:
            raise BuildError(f"kseq_build must be {VERSION}; received {config['kseq_build']!r}", where)
        missing = {"record", "schema", "source", "arguments", "checksums"} - set(config)
        if missing:
            raise BuildError(f"{sorted(missing)} must be there", where)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BuildError(f"it is no configuration of a build: {error!r}", where) from None
    return config
