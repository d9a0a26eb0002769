"""Padding modes of windowed layers: amounts, lengths, latencies, and the mask rule inside a model.

A window of `kernel_size` taps, `dilation_rate` apart, moves by `strides` over an input padded by `(left, right)`. The
modes follow google/sequence-layers: `valid`, `same`, `causal`, `causal_valid`, `reverse_causal`,
`reverse_causal_valid`, `semicausal`, `semicausal_full`, and an explicit pair `(left, right)`.
"""

from typing import Literal, get_args

from keras import ops

Mode = Literal[
    "valid",
    "same",
    "causal",
    "causal_valid",
    "reverse_causal",
    "reverse_causal_valid",
    "semicausal",
    "semicausal_full",
]
Padding = Mode | tuple[int, int]
MODES = get_args(Mode)
TRANSPOSE_MODES = ("valid", "same", "causal")
_NOT_STREAMING = ("valid", "same", "semicausal_full")
_WINDOWED_MASK = ("valid", "causal_valid", "reverse_causal_valid", "semicausal_full")


def effective_size(kernel_size: int, dilation_rate: int) -> int:
    """Inputs from the first tap to the last."""
    return (kernel_size - 1) * dilation_rate + 1


def standardize(padding, kernel_size: int, dilation_rate: int):
    """Return a mode's name, or an explicit pair as a tuple.

    Raises:
        ValueError: an unknown mode, or a pair whose sum is not the effective kernel size less one.
    """
    if isinstance(padding, str):
        if padding not in MODES:
            raise ValueError(f"padding must be one of {', '.join(MODES)} or a pair of integers; received {padding!r}")
        return padding
    try:
        left, right = (int(n) for n in padding)
    except (TypeError, ValueError):
        raise ValueError(
            f"padding must be one of {', '.join(MODES)} or a pair of integers; received {padding!r}"
        ) from None
    wanted = effective_size(kernel_size, dilation_rate) - 1
    if left < 0 or right < 0 or left + right != wanted:
        raise ValueError(
            f"explicit padding must be two integers >= 0 that sum to (kernel_size - 1) * dilation_rate = {wanted}; "
            f"received {padding!r}"
        )
    return left, right


def pad_amounts(padding, kernel_size: int, strides: int, dilation_rate: int) -> tuple[int, int]:
    """Steps of padding before and after the input.

    Example:
        >>> pad_amounts("causal", kernel_size=3, strides=1, dilation_rate=2)
        (4, 0)
    """
    padding = standardize(padding, kernel_size, dilation_rate)
    if not isinstance(padding, str):
        return padding
    reach = effective_size(kernel_size, dilation_rate) - 1
    past = max(reach + 1 - strides, 0)
    return {
        "valid": (0, 0),
        "same": (reach // 2, reach - reach // 2),
        "causal": (reach, 0),
        "causal_valid": (reach, 0),
        "reverse_causal": (0, reach),
        "reverse_causal_valid": (0, reach),
        "semicausal": (past, reach - past),
        "semicausal_full": (past, reach),
    }[padding]


def output_length(length: int, padding, kernel_size: int, strides: int, dilation_rate: int) -> int:
    """Outputs for `length` inputs."""
    left, right = pad_amounts(padding, kernel_size, strides, dilation_rate)
    return -(-max(0, length + left + right - effective_size(kernel_size, dilation_rate) + 1) // strides)


def transpose_pad_amounts(padding, kernel_size: int, strides: int, dilation_rate: int) -> tuple[int, int]:
    """Steps of padding before and after the zero-stuffed input of a transposed convolution."""
    size = effective_size(kernel_size, dilation_rate)
    if padding == "valid":
        return size - 1, strides - 1 + max(size - strides, 0)
    if padding == "causal":
        return size - 1, strides - 1
    if padding == "same":
        total = size + strides - 2
        left = size - 1 if strides > size - 1 else -(-total // 2)
        return left, total - left
    raise ValueError(
        f"padding of a transposed window must be one of {', '.join(TRANSPOSE_MODES)}; received {padding!r}"
    )


def transpose_output_length(length: int, padding, kernel_size: int, strides: int, dilation_rate: int) -> int:
    """Outputs of a transposed convolution for `length` inputs."""
    transpose_pad_amounts(padding, kernel_size, strides, dilation_rate)  # refuses unknown modes
    tail = max(effective_size(kernel_size, dilation_rate) - strides, 0) if padding == "valid" else 0
    return length * strides + tail


def streams(padding) -> bool:
    """Whether a window with this padding can run block by block."""
    return not isinstance(padding, str) or padding not in _NOT_STREAMING


def latency(padding, kernel_size: int, strides: int, dilation_rate: int) -> tuple[int, int]:
    """Input and output latency, in steps of the input and of the output."""
    reach = effective_size(kernel_size, dilation_rate) - 1
    if padding == "semicausal_full":
        return reach, 0
    if padding == "semicausal" or not streams(padding):
        return 0, 0
    _, right = pad_amounts(padding, kernel_size, strides, dilation_rate)
    return right, right // strides


def windows(x, kernel_size: int, strides: int, dilation_rate: int) -> list:
    """One strided view of `x` [B, T, ...] per tap, each [B, U, ...], with no padding."""
    last = (kernel_size - 1) * dilation_rate
    return [x[:, tap : (tap - last) or None : strides] for tap in range(0, last + 1, dilation_rate)]


def valid_windows(padded_mask, kernel_size: int, strides: int, dilation_rate: int):
    """Whether every tap of each window over an already padded mask [B, T] is valid: [B, U] bool."""
    return ops.all(ops.stack(windows(padded_mask, kernel_size, strides, dilation_rate), axis=-1), axis=-1)


def started(mask):
    """Whether a valid step has been seen, up to and including each step of `mask` [B, T]."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0


def has_windowed_mask(padding) -> bool:
    """Whether an output is valid by its whole window rather than by the input step that it belongs to."""
    return padding in _WINDOWED_MASK


def output_mask(mask, padding, kernel_size: int, strides: int, dilation_rate: int):
    """Mask of a window's outputs inside a model: `mask` [B, T] bool to [B, U] bool.

    In `causal_valid`, steps before a row's first valid one count as padding, as steps before the row do, so that
    leading invalid steps are as if absent.
    """
    if not has_windowed_mask(padding):
        return mask[:, ::strides]
    left, right = pad_amounts(padding, kernel_size, strides, dilation_rate)
    if padding == "causal_valid":
        before = ops.logical_not(started(mask))
        padded = ops.pad(ops.logical_or(mask, before), ((0, 0), (left, right)), constant_values=True)
        return ops.logical_and(valid_windows(padded, kernel_size, strides, dilation_rate), mask[:, ::strides])
    padded = ops.pad(mask, ((0, 0), (left, right)), constant_values=False)
    if padding == "semicausal_full":
        return ops.any(ops.stack(windows(padded, kernel_size, strides, dilation_rate), axis=-1), axis=-1)
    return valid_windows(padded, kernel_size, strides, dilation_rate)
