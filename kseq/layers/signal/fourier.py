"""Fourier transforms of an axis of channels, at every step."""

import functools
from typing import Any, Unpack

import numpy as np
from keras import ops

from ...annotations import LayerOptions
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import SequenceSpec
from ..axes import channel_axes
from ..base import Example
from ..complex_values import complex_dtype, joined, real_dtype, split
from ..stepwise import StepwiseLayer
from .axes import along
from .spectra import (
    FFT_PADDINGS,
    MODES,
    FFTPadding,
    SpectrumMode,
    as_optional_size,
    bins_of,
    by_matrix,
    dft_matrix,
    fitted,
    given,
    in_real_dtype,
    inverse,
    spectrum_dtype,
    spectrum_shape,
    transformed,
)


class Transform(StepwiseLayer):
    """What transforms of an axis of channels share: the axis, and how its length changes."""

    axis: int
    padding: str

    def check_arguments(self) -> None:
        for name in ("fft_length", "frame_length"):
            if hasattr(self, name):
                setattr(self, name, as_optional_size(name, getattr(self, name)))
        check_choice("padding", self.padding, FFT_PADDINGS)

    def output_size(self, size: int) -> int:
        """Length of the axis, of one of `size`."""
        raise NotImplementedError

    def output_dtype(self) -> str:
        """The dtype of the outputs."""
        return complex_dtype(self.compute_dtype)

    def transform(self, x: Any) -> Any:
        """The transform of the last axis."""
        raise NotImplementedError

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape = list(self.cast_spec(input_spec).shape)
        (axis,) = channel_axes(self.axis, len(shape) + 2)
        shape[axis - 2] = self.output_size(shape[axis - 2])
        return SequenceSpec(tuple(shape), self.output_dtype())

    def call_values(self, values: Any, training: bool = False) -> Any:
        (axis,) = channel_axes(self.axis, len(values.shape))
        return along(axis, self.transform, values)


class Forward(Transform):
    """The constructor of transforms to frequencies."""

    def __init__(
        self,
        fft_length: int | None = None,
        axis: int = -1,
        padding: FFTPadding = "right",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()


class Inverse(Transform):
    """The constructor of transforms from frequencies."""

    def __init__(
        self,
        fft_length: int | None = None,
        frame_length: int | None = None,
        axis: int = -1,
        padding: FFTPadding = "right",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    def output_size(self, size: int) -> int:
        return self.frame_length or self.transform_length(size)

    def transform_length(self, size: int) -> int:
        """Length of the transform, of `size` frequencies."""
        raise NotImplementedError


@register
class FFT(Forward):
    """Discrete Fourier transform of an axis of channels.  [B, T, ..., N, ...] -> [B, T, ..., fft_length, ...], complex.

    Computed in float32 at least; real and complex values are taken. Mask: unchanged. Timing: none.

    Args:
        fft_length: frequencies, by default N: the axis is padded with zeros, or cut, to this length.
        axis: of the channels, counted with batch 0 and time 1.
        padding: `right`, or `center` where half of what is added or cut off is before.

    Raises:
        ValueError: an axis that is not one of the channels, a length below 1 or another padding.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.FFT()(np.ones((1, 1, 2), "float32"))).tolist()
        [[[(2+0j), 0j]]]
    """

    def output_size(self, size: int) -> int:
        return self.fft_length or size

    def transform(self, x: Any) -> Any:
        return joined(*ops.fft(split(fitted(x, self.output_size(x.shape[-1]), self.padding), _floats(self))))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"fft_length": 5, "axis": 2, "padding": "center"}, (4, 12, 3, 2), "complex64"),
            Example({}, (4, 12, 3, 2), "complex64"),
        ]


@register
class IFFT(Inverse):
    """Inverse of `FFT`.  [B, T, ..., N, ...] -> [B, T, ..., frame_length, ...], complex.

    Computed in float32 at least. Mask: unchanged. Timing: none.

    Args:
        fft_length: of the transform, by default N: the frequencies are padded with zeros, or cut, at their end.
        frame_length: by default `fft_length`: the transform is padded with zeros, or cut, to this length.
        axis: of the channels, counted with batch 0 and time 1.
        padding: `right`, or `center` where half of what is added or cut off is before.

    Raises:
        ValueError: as in `FFT`.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.IFFT()(np.ones((1, 1, 2), "complex64"))).tolist()
        [[[(1+0j), 0j]]]
    """

    def transform_length(self, size: int) -> int:
        return self.fft_length or size

    def transform(self, x: Any) -> Any:
        length = self.transform_length(x.shape[-1])
        real, imaginary = split(fitted(x, length, "right"), _floats(self))
        # The inverse is the transform of the conjugate, conjugated.
        real, imaginary = ops.fft((real, -imaginary))
        return fitted(joined(real / length, -imaginary / length), self.output_size(x.shape[-1]), self.padding)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"fft_length": 4, "frame_length": 3}, dtype="complex64"),
            Example({"fft_length": 2, "padding": "center"}, dtype="complex64"),
        ]


@register
class RFFT(Forward):
    """Discrete Fourier transform of real values.  [B, T, ..., N, ...] -> [B, T, ..., fft_length // 2 + 1, ...].

    Complex; of all frequencies those from zero to half of the rate, of which the others are the conjugates. Computed in
    float32 at least. Mask: unchanged. Timing: none.

    Args:
        fft_length: of the transform, by default N: the axis is padded with zeros, or cut, to this length.
        axis: of the channels, counted with batch 0 and time 1.
        padding: `right`, or `center` where half of what is added or cut off is before.

    Raises:
        ValueError: as in `FFT`.
        TypeError: complex values.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.RFFT()(np.ones((1, 1, 2), "float32"))).tolist()
        [[[(2+0j), 0j]]]
    """

    takes_complex = False

    def output_size(self, size: int) -> int:
        return bins_of(self.fft_length or size)

    def transform(self, x: Any) -> Any:
        x = fitted(in_real_dtype(x, self), self.fft_length or x.shape[-1], self.padding)
        return joined(*transformed(x, x.shape[-1]))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"fft_length": 2, "padding": "center"}), Example({"fft_length": 4})]


@register
class IRFFT(Inverse):
    """Inverse of `RFFT`.  [B, T, ..., N, ...] -> [B, T, ..., frame_length, ...], real.

    Computed in float32 at least. Mask: unchanged. Timing: none.

    Args:
        fft_length: of the transform, by default 2 * (N - 1): frequencies are padded with zeros, or cut, at their end.
        frame_length: by default `fft_length`: the transform is padded with zeros, or cut, to this length.
        axis: of the channels, counted with batch 0 and time 1.
        padding: `right`, or `center` where half of what is added or cut off is before.

    Raises:
        ValueError: as in `FFT`, or one frequency where no `fft_length` is given.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.IRFFT()(np.ones((1, 1, 2), "complex64"))).tolist()
        [[[1.0, 0.0]]]
    """

    def output_dtype(self) -> str:
        return self.compute_dtype

    def transform_length(self, size: int) -> int:
        length = self.fft_length or 2 * (size - 1)
        if not length:
            raise ValueError(f"{type(self).__name__} needs `fft_length` where there is one frequency; received None")
        return length

    def transform(self, x: Any) -> Any:
        length = self.transform_length(x.shape[-1])
        y = inverse(*split(fitted(x, bins_of(length), "right"), _floats(self)), length)
        return ops.cast(fitted(y, self.output_size(x.shape[-1]), self.padding), self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"fft_length": 5, "frame_length": 3, "padding": "center"}, dtype="complex64"),
            Example({}, dtype="complex64"),
        ]


@register
class RDFT(Transform):
    """`RFFT` of the last axis as a product with a matrix.  [B, T, ..., N] -> [B, T, ..., dft_length // 2 + 1].

    For where there is no other transform, as in LiteRT, which has no complex numbers either: there `mode` is one of
    the real ones. Computed in float32 at least. Mask: unchanged. Timing: none.

    Args:
        dft_length: of the transform: the axis is padded with zeros, or cut, to this length.
        padding: `right`, or `center` where half of what is added or cut off is before.
        mode: as in `STFT`.

    Raises:
        ValueError: a length below 1, another padding or mode.
        TypeError: complex values.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.RDFT(2, mode="magnitude")(np.ones((1, 1, 2), "float32"))).round(3).tolist()
        [[[2.0, 0.0]]]
    """

    dft_length: int

    axis = -1
    takes_complex = False

    def __init__(
        self,
        dft_length: int,
        padding: FFTPadding = "right",
        mode: SpectrumMode = "complex",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.dft_length = as_size("dft_length", dft_length)
        check_choice("mode", mode, MODES)
        self.check_arguments()

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = super().output_spec(input_spec)
        return SequenceSpec(spectrum_shape(shape, self.mode), dtype)

    def output_dtype(self) -> str:
        return spectrum_dtype(self.mode, self.compute_dtype)

    def output_size(self, size: int) -> int:
        return bins_of(self.dft_length)

    def transform(self, x: Any) -> Any:
        x = in_real_dtype(x, self)
        real, imaginary = by_matrix(x, _matrix(x.shape[-1], self.dft_length, self.padding))
        return given(real, imaginary, self.mode, self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"dft_length": 4, "mode": "magnitude"}),
            Example({"dft_length": 3}),
            Example({"dft_length": 5, "mode": "real_imag", "padding": "center"}),
        ]


@functools.lru_cache(maxsize=32)
def _matrix(size, dft_length, padding):
    return dft_matrix(np.ones(size), dft_length, padding)


def _floats(layer):
    return real_dtype(layer.compute_dtype)
