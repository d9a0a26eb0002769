"""Layers of signal processing: frames of a signal, their spectra, and back."""

from .fourier import FFT as FFT
from .fourier import IFFT as IFFT
from .fourier import IRFFT as IRFFT
from .fourier import RDFT as RDFT
from .fourier import RFFT as RFFT
from .framing import Frame as Frame
from .framing import OverlapAdd as OverlapAdd
from .mel import LinearToMelSpectrogram as LinearToMelSpectrogram
from .stft import STFT as STFT
from .stft import InverseSTFT as InverseSTFT
from .stft import Spectrogram as Spectrogram
from .windowing import ApplyWindow as ApplyWindow
