"""Mean and variance of the valid steps of a sequence: of all of them, and of those so far.

Both subtract what values have in common before they square anything: where a mean is ten thousand times the deviation,
float32 knows the mean to one part of a thousand of a deviation, and nothing of the difference of two mean squares.
"""

from typing import Any

from keras import ops

from ...padding import valid_so_far
from ...sequence import Sequence


def centred(x: Sequence, axes: Any) -> Any:
    """Deviations of x, zero at invalid steps, from its mean along axes, of which time is one; and the variance."""
    there = None if x.mask is None else ops.cast(x.expanded_mask(), x.values.dtype)

    def mean(values):
        found = ops.mean(values if there is None else values * there, axis=axes, keepdims=True)
        return found if there is None else found / ops.maximum(ops.mean(there, axis=1, keepdims=True), _TINY)

    y = x.values - mean(x.values)
    y = y - mean(y)  # what rounding left in the mean
    return y, mean(ops.square(y))


#: Below the share of valid steps in any sequence that has one.
_TINY = 1e-12


def seen_so_far(x: Sequence, axes: Any, state: Any, cumulative: bool) -> Any:
    """Deviations of x [B, T, ...] from the mean of all valid steps up to each, and the variance of these steps.

    Means are relative to that of the first valid step, and variances are added up of increments that are no differences
    of large numbers, as in Welford's method. They are sums over time, of all steps at once.

    Args:
        x: values, zero at invalid steps.
        axes: over which one mean is taken at a step; not batch, nor time.
        state: `steps` [B], int32; and `first`, `mean` and `variance`, [B, 1, ...] with 1 along the axes.
        cumulative: whether a step deviates from the mean of its own time, or from that of all steps.

    Returns:
        deviations [B, T, ...], variances [B, T, ...] with 1 along the axes, and the state after the last step.
    """
    steps, first, start, variance = (state[name] for name in ("steps", "first", "mean", "variance"))
    mask = x.with_mask().mask
    valid, count = ops.cast(mask, "int32"), steps[:, None] + valid_so_far(mask)  # [B, T]
    begins = ops.cast(ops.logical_and(valid > 0, count == 1), "int32")
    # Outputs do not depend on what is subtracted first: there is no gradient of it.
    of_first_step = ops.sum(ops.stop_gradient(x.values) * _wide(begins, x.values), axis=1, keepdims=True)
    first = first + ops.mean(of_first_step, axis=axes, keepdims=True)
    y = x.values - first
    own = ops.mean(y, axis=axes, keepdims=True)
    own_variance = ops.mean(ops.square(y - own), axis=axes, keepdims=True)
    number, there = _wide(ops.maximum(count, 1), own), _wide(valid, own)
    before = ops.cast(ops.reshape(steps, (-1, *[1] * (len(own.shape) - 1))), own.dtype)
    mean = start + ops.cumsum((own - start) * there, axis=1) / number
    previous = ops.concatenate([start, mean[:, :-1]], axis=1)
    squares = own_variance + (own - mean) * (own - (mean if cumulative else previous))
    variance = variance * (before / number) + ops.cumsum(squares * there, axis=1) / number
    last = {"first": first, "mean": mean[:, -1:], "variance": variance[:, -1:], "steps": count[:, -1]}
    return y - mean, variance, last


def _wide(x, like):
    """Numbers [B, T] as floats, to be broadcast to values."""
    for _ in range(len(like.shape) - 2):
        x = ops.expand_dims(x, -1)
    return ops.cast(x, like.dtype)
