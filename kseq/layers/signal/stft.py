"""Short-time Fourier transforms, each one layer over windows, and back."""

from typing import Any, Literal, Unpack

import keras
import numpy as np
from keras import ops

from ... import padding as rules
from ...annotations import LayerOptions
from ...arguments import check_choice
from ...hints import is_exporting
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..complex_values import real_dtype, split
from .axes import along
from .framing import FramingLayer, OverlapLayer, OverlapPadding
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
    used,
)
from .window_functions import WindowFunction, standard, window_values


class WeightedFrames:
    """The arguments of transforms of frames: the length of the transform, and the window function over a frame."""

    frame_length: int
    fft_length: Any
    fft_padding: str
    window_function: WindowFunction

    def set_weights_of_frames(self) -> None:
        """Check the arguments, and find the weights of a frame's steps: zero where they are cut off."""
        self.fft_length = as_optional_size("fft_length", self.fft_length) or self.frame_length
        check_choice("fft_padding", self.fft_padding, FFT_PADDINGS)
        self.window_function = standard(self.window_function)
        self._weights = window_values(self.window_function, self.frame_length)
        self._weights = self._weights * used(self.frame_length, self.fft_length, self.fft_padding)

    @property
    def counted_taps(self) -> Any:
        """Steps of a frame that count."""
        return np.flatnonzero(self._weights).tolist()


class SpectralLayer(WeightedFrames, FramingLayer):
    """What short-time transforms share; they differ in what they give of a spectrum."""

    takes_complex = False
    mode: SpectrumMode
    use_dft_matrix: bool

    def check_arguments(self) -> None:
        self.set_frames()
        self.set_weights_of_frames()
        check_choice("mode", self.mode, MODES)
        self._matrix = self._as_matrix() if self.use_dft_matrix else None

    def _as_matrix(self):
        return dft_matrix(self._weights, self.fft_length, self.fft_padding)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape = spectrum_shape((bins_of(self.fft_length), *self.cast_spec(input_spec).shape), self.mode)
        return SequenceSpec(shape, spectrum_dtype(self.mode, self.compute_dtype))

    def call_windows(self, x: Sequence) -> Any:
        frames = rules.frames(in_real_dtype(x.values, self), self.window)
        real, imaginary = along(2, self._transform, frames)
        return given(real, imaginary, self.mode, self.compute_dtype)

    def _transform(self, frames):
        if self._matrix is not None or is_exporting():  # few runtimes have a transform, of few lengths
            return by_matrix(frames, self._as_matrix() if self._matrix is None else self._matrix)
        weighted = frames * ops.convert_to_tensor(self._weights, dtype=frames.dtype)
        return ops.rfft(fitted(weighted, self.fft_length, self.fft_padding), self.fft_length)


@register
class STFT(SpectralLayer):
    """Short-time Fourier transform of a signal.  [B, T, ...] -> [B, ceil(T / frame_step), fft_length // 2 + 1, ...].

    Each frame is weighted by the window function and transformed, in float32 at least; channels are transformed one by
    one. Mask, timing and padding are those of `Frame`: by default frame `t` begins at step `t * frame_step`, and a
    stream has a latency of `frame_length - 1` steps; with `causal` it ends there, and there is none. The receptive
    field is what the window function leaves of the frame. Complex numbers are those of `scipy.signal.stft`, but for its
    scale, and of `keras.ops.stft`.

    Args:
        frame_length, frame_step, padding: as in `Frame`.
        fft_length: of the transform, by default `frame_length`; frames are padded with zeros, or cut, to it.
        window_function: as in `ApplyWindow`.
        fft_padding: `right`, or `center` where half of what is added to a frame or cut off is before.
        mode: `complex`; `magnitude`; `power`, its square; or `real_imag`, both parts on a last axis of two. All but
            the first in the compute dtype.
        use_dft_matrix: whether to multiply by a matrix, for where there is no fast transform, as in LiteRT.

    Raises:
        ValueError: sizes below 1, an unknown padding, window function or mode.
        TypeError: complex values.
        ImportError: a window function of scipy's, where scipy is not installed.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.STFT(400, 160, 512)(np.zeros((1, 16000), "float32")).shape
        (1, 100, 257)
    """

    def __init__(
        self,
        frame_length: int,
        frame_step: int,
        fft_length: int | None = None,
        window_function: WindowFunction = "hann",
        padding: Padding = "reverse_causal_valid",
        fft_padding: FFTPadding = "right",
        mode: SpectrumMode = "complex",
        use_dft_matrix: bool = False,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"frame_length": 4, "frame_step": 2}, (4, 12)),
            Example({"frame_length": 3, "frame_step": 1, "padding": "causal", "use_dft_matrix": True}, (4, 12, 2)),
        ]


@register
class Spectrogram(SpectralLayer):
    """Magnitudes of a signal's `STFT`.  [B, T, ...] -> [B, ceil(T / frame_step), fft_length // 2 + 1, ...].

    In the compute dtype. Mask and timing are those of `STFT`.

    Args:
        frame_length, frame_step, fft_length, window_function, padding, fft_padding, use_dft_matrix: as in `STFT`.

    Raises:
        ValueError, TypeError, ImportError: as in `STFT`.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Spectrogram(4, 2, window_function=None)(np.ones((1, 4), "float32")))[0, 0].tolist()
        [4.0, 0.0, 0.0]
    """

    mode: SpectrumMode = "magnitude"

    def __init__(
        self,
        frame_length: int,
        frame_step: int,
        fft_length: int | None = None,
        window_function: WindowFunction = "hann",
        padding: Padding = "reverse_causal_valid",
        fft_padding: FFTPadding = "right",
        use_dft_matrix: bool = False,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"frame_length": 4, "frame_step": 2, "fft_length": 3, "window_function": "hamming"}, (4, 12)),
            Example({"frame_length": 3, "frame_step": 3, "padding": "causal", "use_dft_matrix": True}, (4, 12)),
        ]


@register
class InverseSTFT(WeightedFrames, OverlapLayer):
    """A signal of its `STFT`.  [B, T, fft_length // 2 + 1, ...] -> [B, T * frame_step, ...], real.

    Each spectrum is transformed back, in float32 at least, weighted by the window function, and added to those that it
    overlaps with. The signal comes back where as many frames cover it as overlap, if the window function is
    `("inverse_stft", frame_step, forward)`, `forward` being that of the `STFT`, whose zeros leave a step to another
    frame. Mask and timing are those of `OverlapAdd`.

    Args:
        frame_length, frame_step, padding: as in `OverlapAdd`.
        fft_length: of the transform, by default `frame_length`; it is padded with zeros, or cut, to `frame_length`.
        window_function: as in `ApplyWindow`.
        fft_padding: `right`, or `center` where half of what was added to a frame or cut off is before.
        mode: `complex`, of which real values are spectra too; or `real_imag`, both parts on a last axis of two, for
            where there are no complex numbers, as in LiteRT and ONNX.

    Raises:
        ValueError: as in `OverlapAdd`, another window function or mode, or spectra of another shape.
        TypeError: complex values in mode `real_imag`.
        ImportError: a window function of scipy's, where scipy is not installed.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.arange(12, dtype="float32")[None]
        >>> y = kseq.InverseSTFT(4, 2, window_function=("inverse_stft", 2))(kseq.STFT(4, 2)(x))
        >>> np.asarray(y)[0, 2:10].round(3).tolist()
        [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """

    def __init__(
        self,
        frame_length: int,
        frame_step: int,
        fft_length: int | None = None,
        window_function: WindowFunction = "hann",
        padding: OverlapPadding = "causal",
        fft_padding: FFTPadding = "right",
        mode: Literal["complex", "real_imag"] = "complex",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_frames()
        self.set_weights_of_frames()
        check_choice("mode", mode, ("complex", "real_imag"))
        self.takes_complex = mode == "complex"

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape = self.cast_spec(input_spec).shape
        self._check_bins(shape)
        return SequenceSpec(shape[1:] if self.takes_complex else shape[1:-1], self.compute_dtype)

    def _check_bins(self, shape):
        bins, parts = bins_of(self.fft_length), () if self.takes_complex else (2,)
        if shape[:1] != (bins,) or shape[max(1, len(shape) - len(parts)) :] != parts:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) takes spectra of fft_length // 2 + 1 = {bins} bins, channels of "
                f"shape ({', '.join(map(str, (bins, '...', *parts)))}); received channel shape {shape}"
            )

    def call_taps(self, x: Sequence) -> Any:
        self._check_bins(tuple(x.values.shape[2:]))
        return along(2, self._transform, x.values)

    def _transform(self, spectra):
        frames = inverse(*self._parts(spectra), self.fft_length)
        weighted = fitted(frames, self.frame_length, self.fft_padding)
        weighted = weighted * ops.convert_to_tensor(self._weights, dtype=keras.backend.standardize_dtype(frames.dtype))
        return ops.cast(weighted, self.compute_dtype)

    def _parts(self, spectra):
        """Real and imaginary part, of spectra on the last axis."""
        dtype = real_dtype(self.compute_dtype)
        if self.mode == "complex":
            return split(spectra, dtype)
        spectra = ops.cast(spectra, dtype)
        return spectra[..., 0, :], spectra[..., 1, :]

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"frame_length": 4, "frame_step": 2, "fft_length": 5}, dtype="complex64"),
            Example(
                {"frame_length": 4, "frame_step": 3, "fft_length": 4, "padding": "valid", "window_function": None},
                (4, 6, 3),
                "complex64",
            ),
            Example({"frame_length": 3, "frame_step": 2, "fft_length": 4, "mode": "real_imag"}, (4, 6, 3, 2)),
        ]
