"""Masks and lengths on the host: from one to the other, and through windowed layers, timings and models.

A mask [B, T] is bool, True = valid. Everything here is NumPy in and NumPy out; the mask rules inside a model are in
`kseq.padding`.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kseq import _ext
from kseq.arguments import as_integer, as_integers
from kseq.timing import Timing, length_after
from kseq.window import Window

from .window import Padding

if TYPE_CHECKING:
    from kseq.doctor import MaskReport

_TOO_LARGE = 2**60  # steps; well inside the kernels' 64-bit arithmetic


def lengths_to_mask(lengths: ArrayLike, length: int | None = None) -> NDArray[np.bool_]:
    """The mask of right-padded rows: lengths [B] to bool [B, T].

    Args:
        lengths: integers [B], the number of valid steps of each row.
        length: T; the longest length if not given.

    Raises:
        TypeError: lengths that are not integers.
        ValueError: lengths of the wrong rank, negative, or larger than `length`.

    Example:
        >>> lengths_to_mask([2, 0], length=3)
        array([[ True,  True, False],
               [False, False, False]])
    """
    if length is not None:
        length = as_integer("length", length, 0)
    lengths = check_lengths(lengths, length)
    if length is None:
        length = int(lengths.max(initial=0))
    out = np.empty((len(lengths), length), bool)
    _ext.lengths_to_mask(lengths, out.view(np.uint8))
    return out


def mask_to_lengths(mask: ArrayLike) -> NDArray[np.int64]:
    """The number of valid steps in each row: bool [B, T] to int64 [B].

    A mask with holes or padding on the left gives its count of valid steps too, which is not where its row ends.

    Raises:
        TypeError: a mask that is not bool.
        ValueError: a mask of rank other than 2.

    Example:
        >>> mask_to_lengths(np.array([[True, True, False], [False, True, False]]))
        array([2, 1])
    """
    mask = check_mask(mask)
    out = np.empty(len(mask), np.int64)
    _ext.mask_to_lengths(mask.view(np.uint8), out)
    return out


def window_mask(
    mask: ArrayLike,
    kernel_size: int,
    strides: int = 1,
    dilation_rate: int = 1,
    padding: Padding = "valid",
    transpose: bool = False,
) -> NDArray[np.bool_]:
    """The output mask of a windowed layer (convolution, pooling, framing): bool [B, T] to bool [B, U].

    With `same`, `causal`, `reverse_causal`, `semicausal` and explicit padding an output is valid where the input step
    that it belongs to is; with `valid`, `causal_valid` and `reverse_causal_valid` where every tap is (steps before the
    row are valid in `causal_valid` and invalid otherwise); with `semicausal_full` where any tap is. A transposed
    window repeats the mask, save that in `valid` with a kernel longer than the stride every contributing input must be
    valid. Time and memory are linear in T and U whatever the kernel size.

    Args:
        mask: bool [B, T].
        kernel_size: taps of the window.
        strides: input steps per output, or outputs per input step if transposed.
        dilation_rate: steps between taps.
        padding: a mode of `kseq.window.MODES`, or a pair (left, right) that sums to
            `(kernel_size - 1) * dilation_rate`. A transposed window takes `valid`, `same` and `causal`.
        transpose: whether the window is transposed.

    Raises:
        TypeError: a mask that is not bool, sizes that are not integers.
        ValueError: a mask of rank other than 2, sizes below 1, an unknown padding.

    Example:
        >>> window_mask(np.array([[True, True, True, False]]), kernel_size=2, padding="causal_valid")
        array([[ True,  True,  True, False]])
    """
    mask = check_mask(mask)
    kernel_size = as_integer("kernel_size", kernel_size, 1)
    strides = as_integer("strides", strides, 1)
    dilation_rate = as_integer("dilation_rate", dilation_rate, 1)
    window = Window(kernel_size, strides, dilation_rate, padding, transpose)
    steps = mask.shape[1]
    if steps * strides + window.span + strides >= _TOO_LARGE:
        raise ValueError(
            f"a window must span less than 2**60 steps; received kernel_size={kernel_size}, strides={strides}, "
            f"dilation_rate={dilation_rate} over {steps} steps"
        )
    mode, (left, _) = window.mode, window.pads
    if transpose and (mode.valid_by == "own" or not window.tail):
        return np.repeat(mask, strides, axis=1)
    if mode.valid_by == "own":
        return np.ascontiguousarray(mask[:, ::strides])
    out = np.empty((len(mask), window.output_length(steps)), bool)
    given = mask.view(np.uint8), out.view(np.uint8), left, kernel_size, strides, dilation_rate
    if transpose:
        _ext.transposed_window(*given)
    else:
        _ext.window(*given, mode.valid_by == "any", mode.before_is_valid, False)
    return out


@functools.singledispatch
def mask_rule(target: Any) -> Callable[[Any], Any]:
    """The function that a timing, layer or model applies to a mask: bool [B, T] to bool [B, U].

    A rule for a new kind of target is added with `mask_rule.register`.

    Raises:
        TypeError: a target of a kind that has no rule.

    Example:
        >>> mask_rule(Timing(ratio=2))(np.array([[True, False]]))
        array([[ True,  True, False, False]])
    """
    if "keras" in sys.modules:  # else it is no model; models' rules are there once what streams them is imported
        importlib.import_module("kseq.streaming")
        rule = mask_rule.dispatch(type(target))
        if rule is not mask_rule.dispatch(object):
            return rule(target)
    raise TypeError(f"masks go through a kseq.Timing, a kseq layer or a Keras model; received {target!r}")


@mask_rule.register
def _(target: Timing):
    def rule(mask):
        mask = check_mask(mask)
        for ratio, change in target.length_stages:
            output = np.arange(length_after([(ratio, 0)], mask.shape[1]))
            mask = mask[:, output * ratio.denominator // ratio.numerator]  # u belongs to step u // ratio
            # A timing knows how many steps are put in or left out, not which: as if at the start, and valid.
            mask = np.pad(mask, ((0, 0), (max(change, 0), 0)), constant_values=True)[:, max(-change, 0) :]
        return mask

    return rule


def output_lengths(lengths: ArrayLike, target: Any, length: int | None = None) -> Any:
    """The number of valid outputs of each row: lengths [B] of right-padded inputs to int64 [B].

    Args:
        lengths: integers [B], the number of valid input steps of each row.
        target: a `Timing`, which gives its `output_length`, all outputs of a row being taken for valid, or a layer or
            model, whose rule for masks is followed. Of several inputs all have these lengths; of several outputs the
            result is a tuple.
        length: time dimension of the inputs; the longest length if not given.

    Raises:
        TypeError: lengths that are not integers, a target of another kind.
        ValueError: lengths of the wrong rank, negative, or larger than `length`.

    Example:
        >>> from fractions import Fraction
        >>> output_lengths([4, 5, 0], Timing(block_size=2, ratio=Fraction(1, 2)))
        array([2, 3, 0])
    """
    rule = mask_rule(target)
    if not isinstance(target, Timing):
        masks = rule(lengths_to_mask(lengths, length))
        return tuple(map(mask_to_lengths, masks)) if type(masks) is tuple else mask_to_lengths(masks)
    lengths = check_lengths(lengths, None if length is None else as_integer("length", length, 0))
    return target.output_length(lengths)


def check(model: Any, x: Any = None) -> "MaskReport":
    """What is wrong with the masks of a Keras model: every layer that loses the mask or lets padding leak.

    The model is run on two rows of unequal length, each alone and without padding: what they give is the truth. Then
    every layer and operation is called on both rows padded, with the mask that it should have, and with something in
    the padding: what the model leaves there, then 10,000, then NaN. A fault is an output with a time axis and no right
    mask, and a valid output that is not what the row alone gives; in training, too, where that is not random. What is
    right with its mask, and needs one, has a row of its own where none reaches it: masks are made by `Masking` and
    `mask_zero`, come in as inputs, or with `x`. Layers within models are named `model/layer`, also those that a
    subclassed model calls. Nothing of the model changes.

    Args:
        model: a built Keras model.
        x: what the model is called with, if not random rows: arrays [B, T, ...], `kseq.Sequence`s or `kseq.Ragged`s, in
            the structure of its inputs. Its longest row is taken, and a shorter one, or a part of one.

    Returns:
        A `kseq.doctor.MaskReport`: it prints, has a row for each fault, and is true if there is one.

    Raises:
        TypeError: something that is no Keras model or layer.
        ValueError: a model that is not built, or one whose rows cannot be drawn (`x` is needed) or do not fit it.

    Example:
        >>> import kseq, keras
        >>> layers = [keras.layers.Masking(), keras.layers.GroupNormalization(2, name="norm")]
        >>> report = check(keras.Sequential([keras.Input((None, 4)), *layers]))
        >>> for fault in report:
        ...     print(fault.layer, fault.fault, fault.instead)
        norm leak kseq.GroupNormalization
    """
    from kseq.doctor.check import check_masks  # it knows Keras, which masks of arrays need not

    return check_masks(model, x)


def check_mask(mask: ArrayLike, shape: Iterable[int] | None = None) -> NDArray[np.bool_]:
    """Return a mask as a C-contiguous bool array [B, T], of `shape` if given.

    Raises:
        TypeError: a mask that is not bool.
        ValueError: a mask of rank other than 2, or of another shape.

    Example:
        >>> check_mask([[True, False]]).shape
        (1, 2)
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask must be bool; received {mask.dtype}")
    if mask.ndim != 2:
        raise ValueError(f"mask must have shape [B, T]; received shape {mask.shape}")
    if shape is not None and mask.shape != tuple(shape):
        raise ValueError(f"mask must have the batch and time of the values, {tuple(shape)}; received {mask.shape}")
    return np.ascontiguousarray(mask)


def check_lengths(lengths: ArrayLike, limit: int | None = None) -> NDArray[np.int64]:
    """Return lengths as an int64 array [B], none negative, none larger than `limit` if given.

    Raises:
        TypeError: lengths that are not integers.
        ValueError: lengths of rank other than 1, negative, or larger than `limit`.

    Example:
        >>> check_lengths([3, 1], limit=3)
        array([3, 1])
    """
    lengths = as_integers("lengths", lengths)
    bad = np.flatnonzero(lengths < 0)
    if len(bad):
        raise ValueError(f"lengths must not be negative; received lengths[{bad[0]}] = {lengths[bad[0]]}")
    bad = [] if limit is None else np.flatnonzero(lengths > limit)
    if len(bad):
        raise ValueError(f"lengths must be at most {limit}; received lengths[{bad[0]}] = {lengths[bad[0]]}")
    return lengths
