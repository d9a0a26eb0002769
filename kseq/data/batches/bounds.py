"""The padded lengths of batches: few, so that a model compiles few times, and placed where they waste least."""

import numpy as np

_CANDIDATES = 512


def choose_bounds(counts, most) -> np.ndarray:
    """The `most` or fewer lengths to pad to that waste the fewest steps: int64, ascending; the last is the longest.

    Exact for up to 512 different lengths; more are first reduced to quantiles.

    Args:
        counts: integers [L + 1], how many records have each length.
        most: the number of bounds.

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
    least, before = lengths * ends, []
    for _ in range(min(most, len(lengths)) - 1):
        steps = least[:, None] + lengths[None, :] * (ends[None, :] - ends[:, None])
        steps[np.tril_indices(len(lengths), -1)] = np.iinfo(np.int64).max
        before.append(np.argmin(steps, axis=0))
        least = np.min(steps, axis=0)
    chosen = [len(lengths) - 1]
    for previous in reversed(before):
        chosen.append(previous[chosen[-1]])
    return lengths[np.unique(chosen)]


def choose_ratio(leader, follower):
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


def leader_length(follower, ratio):
    """The least length of the leader at which the follower's padded length, `ceil(length * ratio)`, is long enough."""
    numerator, denominator = ratio
    return np.where(follower > 0, (follower - 1) * denominator // numerator + 1, 0)


def follower_length(leader, ratio) -> int:
    """The follower's padded length at a padded length of the leader."""
    return -(-leader * ratio[0] // ratio[1])


def _coarse(pair):
    """A ratio of small numbers that is not smaller."""
    from fractions import Fraction

    exact = Fraction(*pair)
    near = exact.limit_denominator(64)
    if near < exact:
        near = Fraction(-(-exact.numerator * 64 // exact.denominator), 64)
    return near.numerator, near.denominator
