"""What a user asks of batches: every argument once, checked as far as no store is needed for it."""

import dataclasses
import fractions
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from kseq.arguments import as_integer

from .structure import Fields

PadTo = int | Literal["max"] | Sequence[int] | Mapping[str, Any]
LengthRange = Sequence[int]  # the least and the greatest
Ratios = Mapping[str, float | fractions.Fraction]


class BatchesOptions(TypedDict, total=False):
    """The arguments of `Batches` beside the store, which documents them, for what passes them on."""

    batch_size: int | dict[int, int] | None
    max_tokens: int | None
    inputs: Fields | None
    targets: Fields | None
    sample_weights: str | None
    masks: Literal["sequence", "inputs", "lengths"] | None
    shuffle: bool | Literal["block"]
    seed: int
    bucket: bool | None
    pad_to: PadTo | None
    max_shapes: int | None
    pad_value: Any
    side: Literal["right", "left"]
    multiple_of: int | None
    truncate: Literal["left", "right"] | None
    bos: Any
    eos: Any
    drop_remainder: bool
    length_range: LengthRange | Callable[[int], LengthRange] | None
    length_schedule: Callable[[int], LengthRange] | None
    pack: bool
    model: Any
    target_alignment: Literal["frames", "sequence"]
    length_ratios: Ratios | None
    scale_weights: bool | None
    window: int
    block_size: int | None
    blocks_in_flight: int
    prefetch: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `Batches`, which documents them, in the form that everything after it works with.

    Attributes that differ from the arguments:
        rows_at: for each padded length the rows of a batch, where `batch_size` is a dict; `batch_size` is then None.
        length_ratios: as (numerator, denominator).
    """

    batch_size: int | None
    rows_at: dict[int, int] | None
    max_tokens: int | None
    inputs: typing.Any
    targets: typing.Any
    sample_weights: str | None
    masks: str | None
    shuffle: bool | str
    seed: int
    bucket: bool | None
    pad_to: typing.Any
    max_shapes: int | None
    pad_value: typing.Any
    side: str
    multiple_of: int
    truncate: str | None
    bos: typing.Any
    eos: typing.Any
    drop_remainder: bool
    length_range: typing.Any
    length_schedule: typing.Any
    pack: bool
    model: typing.Any
    target_alignment: str
    length_ratios: dict[str, tuple[int, int]]
    scale_weights: bool | None
    window: int
    block_size: int
    blocks_in_flight: int
    prefetch: int

    @property
    def scaled(self) -> bool:
        """Whether weights make up for padded cells, where no model says it: without masks a loss is divided by all."""
        return self.masks is None if self.scale_weights is None else bool(self.scale_weights)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """The options of a dict of arguments.

        Raises:
            ValueError, TypeError: arguments that are wrong or contradict each other.
        """
        found = dict(given)
        for name, choices in _CHOICES.items():
            if found[name] not in choices:
                raise ValueError(f"{name} must be {_either(choices)}; received {found[name]!r}")
        found["multiple_of"] = 1 if found["multiple_of"] is None else found["multiple_of"]
        for name, least in _INTEGERS.items():
            found[name] = as_integer(name, found[name], least)
        for name in ("max_tokens", "max_shapes"):
            found[name] = None if found[name] is None else as_integer(name, found[name], 1)
        for name in ("drop_remainder", "pack"):
            found[name] = bool(found[name])
        size, tokens = found["batch_size"], found["max_tokens"]
        if (size is None) == (tokens is None):
            raise ValueError(f"give one of batch_size and max_tokens; received {size} and {tokens}")
        found["rows_at"] = _rows_at(size) if isinstance(size, dict) else None
        if found["rows_at"]:
            if found["pad_to"] is not None:
                raise ValueError(f"batch_size says what to pad to; received pad_to={found['pad_to']!r}")
            found["batch_size"], found["pad_to"] = None, list(found["rows_at"])
        elif size is not None:
            found["batch_size"] = as_integer("batch_size", size, 1)
        if found["pack"] and found["batch_size"] is None:
            raise ValueError(f"pack needs batch_size, the rows of a batch; received {size or f'max_tokens={tokens}'}")
        if found["pack"] and (found["model"] is not None or found["truncate"] is not None):
            raise ValueError("pack goes with neither model nor truncate")
        if found["pack"] and found["side"] == "left":
            raise ValueError('pack fills rows from their beginning; received side="left"')
        if found["length_range"] is not None and found["length_schedule"] is not None:
            raise ValueError("give one of length_range and length_schedule; received both")
        found["shuffle"] = _shuffle(found["shuffle"])
        found["block_size"] = _block_size(found["block_size"], found["batch_size"])
        ratios = found["length_ratios"] or {}
        found["length_ratios"] = {name: _ratio(name, ratio) for name, ratio in ratios.items()}
        return cls(**found)


_CHOICES = {
    "masks": ("sequence", "inputs", "lengths", None),
    "truncate": (None, "left", "right"),
    "side": ("right", "left"),
    "target_alignment": ("frames", "sequence"),
}
_INTEGERS = {"seed": None, "window": 1, "blocks_in_flight": 1, "prefetch": 0, "multiple_of": 1}


def _either(choices):
    *others, last = [repr(choice).replace("'", '"') for choice in choices]
    return f"{', '.join(others)} or {last}"


def _rows_at(sizes):
    if not sizes:
        raise ValueError("batch_size by padded length needs one; received {}")
    pairs = [
        (as_integer("a padded length", length, 1), as_integer("batch_size", rows, 1)) for length, rows in sizes.items()
    ]
    return dict(sorted(pairs))


def _shuffle(shuffle):
    if isinstance(shuffle, str) and shuffle == "block":
        return shuffle
    if isinstance(shuffle, (bool, np.bool_, int, np.integer)) and shuffle in (0, 1):
        return bool(shuffle)
    raise ValueError(f'shuffle must be True, False or "block"; received {shuffle!r}')


def _block_size(block_size, batch_size):
    rows = batch_size or 64
    if block_size is None:
        return -(-1024 // rows) * rows
    block_size = as_integer("block_size", block_size, 1)
    if batch_size is not None and block_size % batch_size:
        raise ValueError(f"block_size must be a multiple of the batch size, {batch_size}; received {block_size}")
    return block_size


def _ratio(name, given):
    ratio = fractions.Fraction(given).limit_denominator(4096)
    if ratio <= 0:
        raise ValueError(f"length_ratios of {name!r} must be above 0; received {given!r}")
    return ratio.numerator, ratio.denominator
