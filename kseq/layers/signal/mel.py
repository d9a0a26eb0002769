"""Frequencies put together to mel bands."""

import functools
from typing import Any, Unpack

import numpy as np
from keras import ops
from numpy.typing import NDArray

from ...annotations import LayerOptions
from ...arguments import as_size, check_table
from ...registry import register
from ...sequence import SequenceSpec
from ..base import Example
from ..stepwise import StepwiseLayer
from .spectra import product


@register
class LinearToMelSpectrogram(StepwiseLayer):
    """Sums of the bins of a spectrum under triangles of equal width in mel.  [B, T, ..., bins] -> [B, T, ..., mels].

    The spectrum is one of magnitudes or powers, from zero to half of the rate, as `STFT` and `Spectrogram` give it; not
    of logarithms. Mel is that of HTK, 1127 ln(1 + f / 700); the bin at zero counts nowhere. Mask: unchanged. Timing:
    none.

    Args:
        num_mel_bins: triangles.
        sample_rate: of the signal, in hertz.
        lower_edge_hertz: where the first triangle begins.
        upper_edge_hertz: where the last one ends, at most half of the rate.

    Raises:
        ValueError: no triangle, or edges that are not in order from 0 to half of the rate.
        TypeError: complex values.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.LinearToMelSpectrogram(80, 16000, 80, 7600)(np.ones((1, 10, 257), "float32")).shape
        (1, 10, 80)
    """

    num_mel_bins: int

    takes_complex = False

    def __init__(
        self,
        num_mel_bins: int,
        sample_rate: float,
        lower_edge_hertz: float,
        upper_edge_hertz: float,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.num_mel_bins = as_size("num_mel_bins", num_mel_bins)
        if not 0 <= lower_edge_hertz < upper_edge_hertz <= sample_rate / 2:
            raise ValueError(
                "`lower_edge_hertz` and `upper_edge_hertz` must be in order, from 0 to half of `sample_rate`; "
                f"received {lower_edge_hertz}, {upper_edge_hertz} and {sample_rate}"
            )

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape = self.cast_spec(input_spec).shape
        if not shape:
            raise ValueError(f"{type(self).__name__} needs an axis of bins; received channel shape ()")
        return SequenceSpec((*shape[:-1], self.num_mel_bins), self.compute_dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        matrix = mel_matrix(
            values.shape[-1], self.num_mel_bins, self.sample_rate, self.lower_edge_hertz, self.upper_edge_hertz
        )
        return product(ops.cast(values, self.compute_dtype), matrix)

    @classmethod
    def examples(cls) -> list[Example]:
        edges = {"sample_rate": 8000.0, "lower_edge_hertz": 100.0, "upper_edge_hertz": 3800.0}
        return [Example({"num_mel_bins": 2} | edges, (4, 12, 9)), Example({"num_mel_bins": 3} | edges, (4, 12, 9))]


@functools.lru_cache(maxsize=32)
def mel_matrix(bins: int, mels: int, sample_rate: float, lower: float, upper: float) -> NDArray[np.float64]:
    """Weight of every bin, of evenly spaced frequencies from zero to half of the rate, in every band: [bins, mels]."""

    def mel(hertz):
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    check_table("matrix of bins and bands", bins, mels, most=2**27)
    edges = np.linspace(mel(lower), mel(upper), mels + 2)
    width = edges[1] - edges[0]
    place = mel(np.linspace(0, sample_rate / 2, bins))[:, None]
    found = np.maximum(0, 1 - np.abs(place - edges[1:-1]) / width)
    found[0] = 0
    return found
