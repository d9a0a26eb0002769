"""The padded lengths of batches: few, so that a model compiles few times, and placed where they waste least."""

from __future__ import annotations

import fractions
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kseq.arguments import as_integer

from ..errors import RecordError

if TYPE_CHECKING:
    from .layout import BatchLayout
    from .lengths import RowLengths
    from .options import Options

_CANDIDATES = 512
MOST = 16  # shapes, where nobody says how many
# A shape is compiled once, which takes as long as some epochs of this many padded steps, or of this share of them.
_PRICE, _SHARE = 50_000, 0.01


def bounds_of(options: Options, layout: BatchLayout, lengths: RowLengths) -> tuple[int, ...] | None:
    """The padded lengths of the leading sequence, ascending; None for that of the longest of each batch.

    Raises:
        ValueError: options that contradict each other.
        RecordError: a record that is longer than the longest, if it is not truncated.
    """
    leader = layout.leader
    if leader is None:
        return None
    given = given_bounds(options, leader)
    if given is None:
        if options.pack:
            raise ValueError('pack needs one padded length; received pad_to="max"')
        if options.max_tokens is not None:
            record = lengths.first_longer(options.max_tokens // options.multiple_of * options.multiple_of)
            if record is not None:
                longest = int(lengths.of(np.array([record]))[0])
                raise ValueError(f"max_tokens must hold the longest row, {longest}; received {options.max_tokens}")
        return None
    bounds = given or _chosen(options, lengths)
    if given and options.truncate is None:
        record = lengths.first_longer(bounds[-1])
        if record is not None:
            raise RecordError(
                f"the length must be at most {bounds[-1]}, to which is padded (or pass truncate); "
                f"received {int(lengths.of(np.array([record]))[0])}",
                record,
                leader,
            )
    if options.pack and len(bounds) > 1:
        raise ValueError(f"pack needs one padded length; received {bounds}")
    if options.max_tokens is not None and bounds[-1] > options.max_tokens:
        raise ValueError(f"max_tokens must hold the longest row, {bounds[-1]}; received {options.max_tokens}")
    return tuple(bounds)


def given_bounds(options: Options, leader: str | None) -> list[int] | None:
    """The padded lengths of the leading sequence that the options name: ascending; [] if none, None for "max"."""
    given = options.pad_to.get(leader) if isinstance(options.pad_to, dict) else options.pad_to
    if given is None or (isinstance(given, str) and given == "max"):
        return [] if given is None else None
    given = given if isinstance(given, (list, tuple)) else [given]
    multiple = options.multiple_of
    bounds = sorted({-(-as_integer("pad_to", bound, 1) // multiple) * multiple for bound in given})
    if not bounds:
        raise ValueError("pad_to needs a length; received an empty list")
    return bounds


def _chosen(options, lengths):
    counts, multiple = lengths.counts(), options.multiple_of
    up = -(-np.arange(len(counts)) // multiple) * multiple
    counts = np.bincount(up, counts).astype(np.int64)
    if options.pack:
        return [max(int(np.flatnonzero(counts)[-1]), 1)]
    most, price = options.max_shapes or MOST, 0
    if options.max_shapes is None:
        price = max(_PRICE, _SHARE * int(counts @ np.arange(len(counts))))
    bounds = choose_bounds(counts, most, price).tolist()
    return list(dict.fromkeys(max(bound, multiple) for bound in bounds))


def choose_bounds(counts: ArrayLike, most: int, price: float = 0) -> NDArray[np.int64]:
    """The `most` or fewer lengths to pad to that waste the fewest steps: int64, ascending; the last is the longest.

    Exact for up to 512 different lengths; more are first reduced to quantiles.

    Args:
        counts: integers [L + 1], how many records have each length.
        most: the number of bounds.
        price: padded steps that every bound must save, on the whole, to be worth its shape.

    Example:
        >>> choose_bounds(np.bincount([1, 2, 2, 9, 10]), 2)
        array([ 2, 10])
    """
    counts = np.asarray(counts, np.int64)
    lengths = np.flatnonzero(counts)
    if not len(lengths):
        return np.zeros(1, np.int64)
    ends = np.cumsum(counts[lengths])
    if len(lengths) > _CANDIDATES:
        kept = np.unique(np.searchsorted(ends, np.linspace(0, ends[-1], _CANDIDATES + 1)[1:]))
        kept = np.union1d(np.minimum(kept, len(lengths) - 1), [len(lengths) - 1])
        lengths, ends = lengths[kept], ends[kept]
    # least[j]: the fewest padded steps if the records up to candidate j are padded to at most k bounds, the last of
    # them j; before[k][j] the bound before it.
    least, before, costs = lengths * ends, [], []
    while len(before) + 1 < min(most, len(lengths)):
        costs.append(least[-1] + price * len(costs))
        steps = least[:, None] + lengths[None, :] * (ends[None, :] - ends[:, None])
        steps[np.tril_indices(len(lengths), -1)] = np.iinfo(np.int64).max
        before.append(np.argmin(steps, axis=0))
        least = np.min(steps, axis=0)
    costs.append(least[-1] + price * len(costs))
    chosen = [len(lengths) - 1]
    for previous in reversed(before[: int(np.argmin(costs)) if price else len(before)]):
        chosen.append(previous[chosen[-1]])
    return lengths[np.unique(chosen)]


def choose_ratio(leader: NDArray[Any], follower: NDArray[Any]) -> tuple[int, int]:
    """The ratio (numerator, denominator) of two padded lengths that wastes the fewest cells of both.

    Where a follower is longer than the ratio allows its leader is padded further.

    Args:
        leader: integers [N], lengths.
        follower: integers [N], lengths.

    Example:
        >>> choose_ratio(np.array([10, 20]), np.array([5, 10]))
        (1, 2)
    """
    ratios = np.unique(np.quantile(follower / np.maximum(leader, 1), [0.5, 0.75, 0.9, 0.95, 0.98, 1]))
    best = None
    for ratio in ratios[ratios > 0]:
        pair = float(ratio).as_integer_ratio() if ratio >= 1 / 4096 else (1, 4096)
        pair = _coarse(pair)
        cells = (np.maximum(leader, leader_length(follower, pair)) * (1 + pair[0] / pair[1])).sum()
        if best is None or cells < best[0]:
            best = cells, pair
    return (1, 1) if best is None else best[1]


def leader_length(follower: NDArray[Any], ratio: tuple[int, int]) -> NDArray[Any]:
    """The least length of the leader at which the follower's padded length, `ceil(length * ratio)`, is long enough."""
    numerator, denominator = ratio
    return np.where(follower > 0, (follower - 1) * denominator // numerator + 1, 0)


def follower_length(leader: int, ratio: tuple[int, int]) -> int:
    """The follower's padded length at a padded length of the leader."""
    return -(-leader * ratio[0] // ratio[1])


def _coarse(pair):
    """A ratio of small numbers that is not smaller."""
    exact = fractions.Fraction(*pair)
    near = exact.limit_denominator(64)
    if near < exact:
        near = fractions.Fraction(-(-exact.numerator * 64 // exact.denominator), 64)
    return near.numerator, near.denominator
