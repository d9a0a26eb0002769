"""The mask rules of windows inside a model, in `keras.ops`; those on the host are in `kseq.masks`."""

from keras import ops

from .window import Window


def taps(x, window: Window) -> list:
    """One strided view of `x` [B, T, ...] per tap, each [B, U, ...], with no padding."""
    last = window.reach
    return [x[:, tap : (tap - last) or None : window.stride] for tap in range(0, last + 1, window.dilation)]


def started(mask):
    """Whether a valid step has been seen, up to and including each step of `mask` [B, T]."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0


def all_taps(padded_mask, window: Window):
    """Whether every tap of each window over an already padded mask [B, T] is valid: [B, U] bool."""
    return ops.all(ops.stack(taps(padded_mask, window), axis=-1), axis=-1)


def output_mask(mask, window: Window):
    """Mask of a window's outputs: `mask` [B, T] bool to [B, U] bool.

    Where steps before the row count as valid (`causal_valid`), so do those before a row's first valid one: leading
    invalid steps are as if absent.
    """
    if window.transposed:
        return _transposed_mask(mask, window)
    own = mask[:, :: window.stride]
    mode = window.mode
    if mode.valid_by == "own":
        return own
    if mode.before_is_valid:
        mask = ops.logical_or(mask, ops.logical_not(started(mask)))
        left, right = window.pads
        padded = ops.pad(mask, ((0, 0), (left, right)), constant_values=True)
        return ops.logical_and(all_taps(padded, window), own)
    padded = ops.pad(mask, ((0, 0), window.pads), constant_values=False)
    if mode.valid_by == "any":
        return ops.any(ops.stack(taps(padded, window), axis=-1), axis=-1)
    return all_taps(padded, window)


def _transposed_mask(mask, window):
    if window.mode.valid_by == "own" or not window.tail:
        return ops.repeat(mask, window.stride, axis=1)
    # An output is valid where every input that adds to it is.
    invalid = ops.pad(ops.logical_not(mask)[:, :, None], ((0, 0), (0, 0), (0, window.stride - 1)))
    batch, time = ops.shape(mask)
    invalid = ops.reshape(invalid, (batch, time * window.stride))
    shifts = range(0, window.reach + 1, window.dilation)
    added = [ops.pad(invalid, ((0, 0), (n, window.reach - n))) for n in shifts]
    length = window.output_length(time)
    return ops.logical_not(ops.any(ops.stack(added, axis=-1), axis=-1))[:, :length]
