"""The mask rules of windows inside a model, in `keras.ops`; those on the host are in `kseq.masks`."""

from fractions import Fraction
from typing import Any

import keras
from keras import ops

from .timing import length_after
from .window import Window


def is_symbol(steps: Any) -> bool:
    """Whether a number of steps is a symbol, as while jax exports: neither a number nor a tensor, nor unknown."""
    return not (steps is None or isinstance(steps, int) or hasattr(steps, "dtype"))


def of_length(x: Any, length: Any) -> Any:
    """`x` [B, U, ...] where U, a symbol, is the same number as `length`, which says it in other terms."""
    if not is_symbol(length) or x.shape[1] == length:
        return x
    # With a step more it is known that there is one to take.
    return ops.take(
        ops.pad(x, [(0, 0), (0, 1), *[(0, 0)] * (len(x.shape) - 2)]), ops.arange(length, dtype="int32"), axis=1
    )


def taps(x: Any, window: Window) -> list[Any]:
    """One strided view of `x` [B, T, ...] per tap, each [B, U, ...], with no padding."""
    last = window.reach
    if is_symbol(x.shape[1]):  # of which slices may have as many lengths as there are taps
        outputs = length_after([(Fraction(1), -last), (Fraction(1, window.stride), 0)], x.shape[1])
        starts = ops.arange(outputs, dtype="int32") * window.stride
        return [ops.take(x, starts + tap, axis=1) for tap in range(0, last + 1, window.dilation)]
    return [x[:, tap : (tap - last) or None : window.stride] for tap in range(0, last + 1, window.dilation)]


def frames(x: Any, window: Window) -> Any:
    """Every window of `x` [B, T, ...] with its taps on an axis of their own, [B, U, size, ...], with no padding."""
    stride, time = window.stride, x.shape[1]
    outputs = max((time - window.span) // stride + 1, 0) if isinstance(time, int) else None
    if window.dilation > 1 or not outputs or window.size <= 2 * -(-window.size // stride):
        return ops.stack(taps(x, window), axis=2)
    # Blocks of a stride, several of which make a window: fewer slices than there are taps.
    blocks = -(-window.size // stride)
    rest = [(0, 0)] * (len(x.shape) - 2)
    steps = (outputs + blocks - 1) * stride
    x = ops.pad(x, [(0, 0), (0, max(steps - time, 0)), *rest])[:, :steps]
    x = ops.reshape(x, (ops.shape(x)[0], outputs + blocks - 1, stride, *x.shape[2:]))
    return ops.concatenate([x[:, n : n + outputs] for n in range(blocks)], axis=2)[:, :, : window.size]


def valid_so_far(mask: Any) -> Any:
    """The number of valid steps of `mask` [..., T] up to and including each, int32.

    On jax in a few additions of all steps: `ops.cumsum` is a window over all of them there, and where the mask was made
    longer, as by upsampling, XLA (jaxlib 0.10) ends the process while it folds the one into the other.
    """
    count, last = ops.cast(mask, "int32"), len(mask.shape) - 1
    if keras.backend.backend() != "jax" or not isinstance(mask.shape[last], int):
        return ops.cumsum(count, axis=last)
    return sums_so_far(count, last)


def sums_so_far(x: Any, axis: int) -> Any:
    """Sums of `x` along an axis of known length up to and including each place, in a few additions of all of them."""
    shift, rest = 1, [(0, 0)] * (len(x.shape) - axis - 1)
    while shift < x.shape[axis]:
        before = x[(*[slice(None)] * axis, slice(None, -shift))]
        x = x + ops.pad(before, [*[(0, 0)] * axis, (shift, 0), *rest])
        shift *= 2
    return x


def started(mask: Any) -> Any:
    """Whether a valid step has been seen, up to and including each step of `mask` [B, T]."""
    return valid_so_far(mask) > 0


def all_taps(padded_mask: Any, window: Window) -> Any:
    """Whether every tap of each window over an already padded mask [B, T] is valid: [B, U] bool."""
    return ops.all(frames(padded_mask, window), axis=2)


def output_mask(mask: Any, window: Window) -> Any:
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
        return ops.any(frames(padded, window), axis=2)
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
