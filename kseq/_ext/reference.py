"""What every kernel does, in NumPy: the oracle of the tests, and the fallback where nothing was compiled.

Arguments have been checked by `kseq.ragged` and `kseq.masks`. Masks and `fill` come in as bytes (uint8), lengths as
int64. The kernels that read rows return the number of the first row that they refuse, and then write nothing, or -1.
"""

import numpy as np


def row_lengths(rows, lengths):
    """Write the time of each of a tuple of arrays [T_i, ...] to `lengths` [B].

    Refuses a row that is no C-contiguous array of rank >= 1, or whose trailing shape or dtype is not the first row's.
    """
    for i, row in enumerate(rows):
        if not _plain(row) or row.shape[1:] != rows[0].shape[1:] or row.dtype != rows[0].dtype:
            return i
        lengths[i] = row.shape[0]
    return -1


def pad_rows(rows, out, mask, fill, left, cut_left):
    """Write a tuple of arrays to `out` [B, T, ...] and `mask` [B, T], at the right end if `left` is padded.

    A row longer than T loses its beginning if `cut_left`, else its end. `fill` holds the bytes of the padding value.
    Refuses what `row_lengths` refuses, a row that does not fit `out`, and one that shares memory with it or the mask.
    """
    for i, row in enumerate(rows):
        if not _plain(row) or row.shape[1:] != out.shape[2:] or row.dtype != out.dtype:
            return i
        if np.may_share_memory(row, out) or np.may_share_memory(row, mask):
            return i
    _pad(rows, out, mask, fill, left, cut_left)
    return -1


def pad_spans(values, starts, lengths, out, mask, fill, left, cut_left):
    """As `pad_rows` for the rows `values[start : start + length]`; refuses a row that does not lie inside `values`."""
    bad = _outside(values, starts, lengths)
    if bad < 0:
        _pad(_spans(values, starts, lengths), out, mask, fill, left, cut_left)
    return bad


def copy_spans(values, starts, lengths, out):
    """Write the rows `values[start : start + length]` one after the other to `out`, which they fill exactly."""
    bad = _outside(values, starts, lengths)
    if bad < 0 and len(starts):
        np.concatenate(_spans(values, starts, lengths), out=out)
    return bad


def compact(values, mask, out):
    """Write the steps of `values` [B, T, ...] where `mask` [B, T] holds one after the other to `out`."""
    out[:] = values[mask != 0]


def lengths_to_mask(lengths, out):
    """Write 1 to the first `lengths[b]` steps of row b of `out` [B, T], and 0 to the others."""
    out[:] = np.arange(out.shape[1]) < lengths[:, None]


def mask_to_lengths(mask, out):
    """Write the number of valid steps in each row of `mask` [B, T] to `out` [B]."""
    out[:] = np.count_nonzero(mask, axis=1)


def window(mask, out, left, kernel_size, strides, dilation_rate, any_valid, before, after):
    """Write to `out` [B, U] whether all taps of each window over `mask` [B, T] are valid, or `any_valid`.

    Output u has its first tap at input `u * strides - left`. In the `all` form taps before the row count as `before`
    and taps after it as `after`; in the `any` form both are invalid.
    """
    first = np.arange(out.shape[1]) * strides - left
    last = first + (kernel_size - 1) * dilation_rate
    good = _all_wanted((mask != 0) != any_valid, first, last, dilation_rate)
    if any_valid:
        out[:] = ~good
    else:
        out[:] = good & ((first >= 0) | before) & ((last < mask.shape[1]) | after)


def transposed_window(mask, out, left, kernel_size, strides, dilation_rate):
    """Write to `out` [B, U] whether all inputs in `mask` [B, T] that meet each output of a transposed window are valid.

    Output n meets input `(n - left + tap * dilation_rate) / strides` at every tap for which that is whole.
    """
    common = np.gcd(strides, dilation_rate)
    period, gap = strides // common, dilation_rate // common
    taps = np.arange(min(period, kernel_size))
    first_tap = np.full(strides, kernel_size)
    first_tap[taps * dilation_rate % strides] = taps
    output = np.arange(out.shape[1])
    tap = first_tap[(left - output) % strides]
    first = (output - left + tap * dilation_rate) // strides
    last = first + (kernel_size - 1 - tap) // period * gap
    out[:] = _all_wanted(mask != 0, first, last, gap) | (tap >= kernel_size)


def _plain(row):
    return isinstance(row, np.ndarray) and row.ndim > 0 and row.flags.c_contiguous and not row.dtype.hasobject


def _outside(values, starts, lengths):
    bad = np.flatnonzero((starts < 0) | (lengths < 0) | (starts > len(values)) | (lengths > len(values) - starts))
    return int(bad[0]) if len(bad) else -1


def _spans(values, starts, lengths):
    return [values[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]


def _pad(rows, out, mask, fill, left, cut_left):
    target = out.shape[1]
    out[...] = fill.view(out.dtype)[0]
    mask[...] = 0
    for i, row in enumerate(rows):
        steps = min(len(row), target)
        at = slice(target - steps, target) if left else slice(0, steps)
        out[i, at] = row[len(row) - steps :] if cut_left else row[:steps]
        mask[i, at] = 1


def _all_wanted(wanted, first, last, gap):
    """Whether the taps `first`, `first + gap`, ..., `last` [U] that lie inside the rows of `wanted` [B, T] all hold."""
    batch, steps = wanted.shape
    if steps == 0 or len(first) == 0:
        return np.ones((batch, len(first)), bool)
    # The last unwanted step at or before each step, a multiple of `gap` away: a running maximum down each column.
    columns = min(gap, steps)
    never = np.iinfo(np.int64).min
    unwanted = np.full((batch, -(-steps // columns) * columns), never)
    unwanted[:, :steps] = np.where(wanted, never, np.arange(steps))
    unwanted = np.maximum.accumulate(unwanted.reshape(batch, -1, columns), axis=1).reshape(batch, -1)
    inside = np.where(last < steps, last, first + (steps - 1 - first) // gap * gap)
    empty = (inside < 0) | (first >= steps)
    return empty | (unwanted[:, np.clip(inside, 0, steps - 1)] < first)
