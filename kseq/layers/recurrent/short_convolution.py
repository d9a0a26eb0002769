"""Convolution of each channel over the last few valid steps, which stands before many recurrences."""

from typing import Any

from keras import ops

from ...padding import valid_so_far


def initial_window(batch_size: int, width: int, channels: int, dtype: str) -> Any:
    """The state before the first step: the steps before the next one, [B, width - 1, C]."""
    return ops.zeros((batch_size, width - 1, channels), dtype=dtype)


def short_convolution(values: Any, mask: Any, window: Any, kernel: Any) -> tuple[Any, Any]:
    """Sums over the last `width` valid steps, and the next state; an invalid step in a hole is as if absent.

    Args:
        values: [B, T, C].
        mask: of valid steps, bool [B, T] or `None`; outputs at others mean nothing.
        window: the state.
        kernel: [width, C], of which the last row is for the step itself.
    """
    if values.shape[1] == 1:
        steps = ops.concatenate([window, values], axis=1)
        y = ops.sum(steps * kernel, axis=1, keepdims=True)
        return y, steps[:, 1:] if mask is None else ops.where(mask[:, :, None], steps[:, 1:], window)
    if mask is None:
        return _over_steps(values, window, kernel)
    time = ops.shape(values)[1]
    steps = ops.arange(0, time, dtype="int32")[None, :]
    order = ops.argsort(ops.where(mask, steps, steps + time), axis=1)  # the valid ones first, one after the other
    count = valid_so_far(mask)
    values = _taken(values, order)
    y, _ = _over_steps(values, window, kernel)
    last = count[:, -1:] + ops.arange(0, kernel.shape[0] - 1, dtype="int32")
    return _taken(y, ops.maximum(count - 1, 0)), _taken(ops.concatenate([window, values], axis=1), last)


def _over_steps(values, window, kernel):
    time, width = ops.shape(values)[1], kernel.shape[0]
    steps = ops.concatenate([window, values], axis=1)
    y = sum((steps[:, i : i + time] * kernel[i] for i in range(1, width)), steps[:, :time] * kernel[0])
    return y, steps[:, time:]


def _taken(values, steps):
    return ops.take_along_axis(values, ops.cast(steps, "int32")[:, :, None], axis=1)
