"""Where each row of a stream is: what is known of the steps of a chunk, and the clock after it.

The clock is int32 [B, N]: the slot of a cache that comes next, and the position of the next valid step; where there are
segments also whether there was a valid step, the id of the last one's segment, and the segment's number.
"""

from typing import Any

import numpy as np
from keras import ops

from ...padding import valid_so_far
from ..limits import in_numpy
from .visibility import Steps


def start(batch_size: Any, segments: bool) -> Any:
    """The clock of rows without steps."""
    return ops.zeros((batch_size, 5 if segments else 2), dtype="int32")


def read(clock: Any, time: Any, mask: Any, ids: Any = None) -> tuple[Steps, Any]:
    """What is known of `time` steps, and the clock after them but for its first column, the slot.

    Args:
        clock: int32 [B or 1, N].
        time: steps.
        mask: bool [B, T], or `None` where all are valid.
        ids: int [B, T], of segments: wherever the id of a valid step differs from the one before a segment begins.
            `None` where all steps are of one segment.
    """
    index = ops.arange(0, time, dtype="int32")
    position = clock[:, 1:2]
    if mask is None:
        count, total = index[None, :], time  # valid steps before each
    else:
        # An invalid step has the position of the valid one before it: rotated by it, it is what it would be anywhere.
        count, total = valid_so_far(mask) - 1, ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
    if ids is None:
        return Steps(index, mask, position + count), position + total
    return _in_segments(clock, index, mask, ops.cast(ids, "int32"), count, total)


def check_ids(layer: str, ids: Any, mask: Any = None, clock: Any = None) -> None:
    """Refuse ids of segments that go back, where they have values: none are there while a function is traced.

    Args:
        layer: its name and type, in words.
        ids: int [B, T]; 0 is padding.
        mask: bool [B, T], or `None` where all steps are valid.
        clock: int32 [B, 5] before them, or `None` at the start.

    Raises:
        ValueError: a row's id that is less than one before it.
    """
    found = [None if x is None else in_numpy(x) for x in (ids, mask, clock)]
    if any(x is None and given is not None for x, given in zip(found, (ids, mask, clock), strict=True)):
        return
    ids, mask, clock = found
    least = np.iinfo(ids.dtype).min
    counted = np.where(ids != 0 if mask is None else (ids != 0) & mask, ids, least)
    if clock is not None:
        last = np.where(clock[:, 2] * clock[:, 3] != 0, clock[:, 3], least)
        counted = np.concatenate([last[:, None].astype(ids.dtype), counted], axis=1)
    largest = np.maximum.accumulate(counted, axis=1)
    for row, step in np.argwhere((counted < largest) & (counted != least))[:1]:
        raise ValueError(
            f"the segment ids of {layer} must not go back; received {counted[row, step]} after {largest[row, step]} "
            f"in row {row}"
        )


def _in_segments(clock, index, mask, ids, count, total):
    if mask is None:
        known = ids
    else:
        # The id of the last valid step, or that of the clock before the first one.
        place, seen = _latest(mask)
        known = ops.where(seen > 0, ops.take_along_axis(ids, place, axis=1), clock[:, 3:4])
    before = ops.concatenate([clock[:, 3:4], known[:, :-1]], axis=1)
    begins = known != before
    began = clock[:, 2:3] > 0
    if mask is not None:
        began = ops.logical_or(began, valid_so_far(mask) > 1)
    else:
        began = ops.logical_or(began, index[None, :] > 0)
    begins = ops.logical_and(begins, began)  # before the first valid step there is none to differ from
    place, begun = _latest(begins)
    numbers = clock[:, 4:5] + begun
    # Positions count from where the segment began, or go on where that was before this chunk.
    count = ops.broadcast_to(count, ops.shape(begins))
    position = ops.where(begun > 0, count - ops.take_along_axis(count, place, axis=1), clock[:, 1:2] + count)
    any_valid = ops.cast(ops.logical_or(clock[:, 2:3] > 0, ops.reshape(total, (-1, 1)) > 0), "int32")
    last = position[:, -1:] + 1
    after = ops.concatenate(
        [last, ops.broadcast_to(any_valid, ops.shape(last)), known[:, -1:], numbers[:, -1:]], axis=1
    )
    return Steps(index, mask, position, numbers), after


def _latest(marks):
    """The place of the last mark up to each step, if there is one, and how many there are; each int32 [B, T].

    By sorting: scans lose shapes on tensorflow, where they may not know how many steps there are.
    """
    time = ops.shape(marks)[1]
    places = ops.arange(0, time, dtype="int32")
    order = ops.cast(ops.argsort(ops.where(marks, places, places + time), axis=1), "int32")
    count = valid_so_far(marks)
    return ops.take_along_axis(order, ops.maximum(count - 1, 0), axis=1), count
