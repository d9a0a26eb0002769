"""kseq: write an ordinary Keras model, train it on whole sequences, stream it block by block with the same numbers."""

import importlib
import typing

from . import backend
from .lazy import after_import, lazy_names
from .version import __version__ as __version__

backend.choose()

# Every public name and the module that it is taken from, on first use: `import kseq` loads neither Keras nor a backend.
_PUBLIC = {
    "backend": "backend",
    "conversion": "conversion",
    "data": "data",
    "datasets": "datasets",
    "generation": "generation",
    "doctor": "doctor",
    "layers": "layers",
    "masks": "masks",
    "models": "models",
    "padding": "padding",
    "ragged": "ragged",
    "registry": "registry",
    "show": "show",
    "spec": "spec",
    "streaming": "streaming",
    "testing": "testing",
    "timing": "timing",
    "window": "window",
    "Activation": "layers",
    "AveragePooling1D": "layers",
    "Autoregressive": "layers",
    "Bidirectional": "layers",
    "Blockwise": "layers",
    "CheckpointGradient": "layers",
    "Conv1D": "layers",
    "Delay": "layers",
    "Dense": "layers",
    "DepthwiseConv1D": "layers",
    "DeterministicDropout": "layers",
    "Dropout": "layers",
    "Embedding": "layers",
    "GRU": "layers",
    "RNN": "layers",
    "ConvLSTM1D": "layers",
    "ConvLSTM2D": "layers",
    "ZoneoutCell": "layers",
    "GaussianDropout": "layers",
    "GaussianNoise": "layers",
    "LSTM": "layers",
    "MinGRU": "layers",
    "MinLSTM": "layers",
    "RGLRU": "layers",
    "S4D": "layers",
    "S5": "layers",
    "LayerNormalization": "layers",
    "AdditiveAttention": "layers",
    "DynamicConvolutionAttention": "layers",
    "GmmAttention": "layers",
    "LocalSelfAttention": "layers",
    "SelfAttention": "layers",
    "CrossAttention": "layers",
    "SynchronousAttention": "layers",
    "LocationSensitiveAttention": "layers",
    "Lookahead": "layers",
    "MaxPooling1D": "layers",
    "Noise": "layers",
    "Parallel": "layers",
    "ParallelChannels": "layers",
    "RMSNormalization": "layers",
    "Repeat": "layers",
    "Residual": "layers",
    "SequenceLayer": "layers",
    "Serial": "layers",
    "SimpleRNN": "layers",
    "Skip": "layers",
    "SpatialDropout1D": "layers",
    "TransposedWindowedLayer": "layers",
    "WindowedLayer": "layers",
    "AddTimingSignal": "layers",
    "ConcatPositionEmbedding": "layers",
    "ConcatTimingSignal": "layers",
    "RotaryEmbedding": "layers",
    "BatchNormalization": "layers",
    "GroupNormalization": "layers",
    "InstanceNormalization": "layers",
    "L2Normalize": "layers",
    "DenseShaped": "layers",
    "EinsumDense": "layers",
    "EmbeddingTranspose": "layers",
    "ReversibleEmbedding": "layers",
    "MaskedDense": "layers",
    "SequenceDense": "layers",
    "SequenceEmbedding": "layers",
    "Conditioning": "layers",
    "FiLM": "layers",
    "NoiseConditioning": "layers",
    "StyleTokens": "layers",
    "SynchronousConditioning": "layers",
    "UpsampleConditioning": "layers",
    "AveragePooling2D": "layers",
    "AveragePooling3D": "layers",
    "Conv2D": "layers",
    "Conv3D": "layers",
    "DepthwiseConv2D": "layers",
    "NormalizedDepthwiseConv1D": "layers",
    "MaxPooling2D": "layers",
    "MaxPooling3D": "layers",
    "MinPooling1D": "layers",
    "MinPooling2D": "layers",
    "MinPooling3D": "layers",
    "SeparableConv1D": "layers",
    "SeparableConv2D": "layers",
    "Conv1DTranspose": "layers",
    "Conv2DTranspose": "layers",
    "Conv3DTranspose": "layers",
    "Resample": "layers",
    "Downsample1D": "layers",
    "SqueezeTime": "layers",
    "UnsqueezeTime": "layers",
    "UpSampling1D": "layers",
    "UpSampling2D": "layers",
    "UpSampling3D": "layers",
    "SincFilter1D": "layers",
    "SincFilter1DTranspose": "layers",
    "ApplyWindow": "layers",
    "FFT": "layers",
    "Frame": "layers",
    "IFFT": "layers",
    "IRFFT": "layers",
    "InverseSTFT": "layers",
    "LinearToMelSpectrogram": "layers",
    "OverlapAdd": "layers",
    "RDFT": "layers",
    "RFFT": "layers",
    "STFT": "layers",
    "Spectrogram": "layers",
    "Abs": "layers",
    "Affine": "layers",
    "ApplySharding": "layers",
    "Argmax": "layers",
    "AssertChannelSpec": "layers",
    "Cast": "layers",
    "CheckpointName": "layers",
    "Clip": "layers",
    "ELU": "layers",
    "EinopsRearrange": "layers",
    "Emit": "layers",
    "Exp": "layers",
    "ExpandDims": "layers",
    "Flatten": "layers",
    "GELU": "layers",
    "GatedLinearUnit": "layers",
    "GatedTanhUnit": "layers",
    "GatedUnit": "layers",
    "GlobalEinopsRearrange": "layers",
    "GlobalReshape": "layers",
    "GradientClipping": "layers",
    "Identity": "layers",
    "Lambda": "layers",
    "LeakyReLU": "layers",
    "Log": "layers",
    "Logging": "layers",
    "MaskInvalid": "layers",
    "Max": "layers",
    "Mean": "layers",
    "Min": "layers",
    "Modulo": "layers",
    "MoveAxis": "layers",
    "OneHot": "layers",
    "OptimizationBarrier": "layers",
    "PReLU": "layers",
    "Power": "layers",
    "ReLU": "layers",
    "Reshape": "layers",
    "ReverseSequence": "layers",
    "Scale": "layers",
    "Sigmoid": "layers",
    "Slice": "layers",
    "Snake": "layers",
    "Softmax": "layers",
    "Softplus": "layers",
    "Squeeze": "layers",
    "StopGradient": "layers",
    "Sum": "layers",
    "SwapAxes": "layers",
    "Swish": "layers",
    "Tanh": "layers",
    "Translate": "layers",
    "Transpose": "layers",
    "emitting": "layers",
    "AlibiPosition": "layers",
    "RotaryPosition": "layers",
    "ShawPosition": "layers",
    "T5Position": "layers",
    "TransformerXLPosition": "layers",
    "Position": "layers",
    "Sampling": "generation",
    "generate": "generation",
    "generate_steps": "generation",
    "convert": "conversion",
    "NotStreamable": "obstacles",
    "Ragged": "ragged",
    "flatten": "ragged",
    "pad": "ragged",
    "unpad": "ragged",
    "adapts": "registry",
    "register": "registry",
    "register_factory": "registry",
    "register_position": "registry",
    "registered_layers": "registry",
    "Sequence": "sequence",
    "SequenceSpec": "sequence",
    "summary": "show",
    "SpecError": "spec",
    "dump_spec": "spec",
    "load_spec": "spec",
    "load_spec_text": "spec",
    "StepFunction": "streaming",
    "at_horizon": "streaming",
    "Stream": "streaming",
    "pointwise": "streaming",
    "streamable": "streaming",
    "traceable": "streaming",
    "Timing": "timing",
    "Window": "window",
    "Mamba2": "layers",
    "Retention": "layers",
    "GatedLinearAttention": "layers",
    "GatedDeltaNet": "layers",
    "MLSTM": "layers",
}

if typing.TYPE_CHECKING:
    from . import backend as backend
    from . import conversion as conversion
    from . import data as data
    from . import datasets as datasets
    from . import doctor as doctor
    from . import generation as generation
    from . import layers as layers
    from . import masks as masks
    from . import models as models
    from . import padding as padding
    from . import ragged as ragged
    from . import registry as registry
    from . import show as show
    from . import spec as spec
    from . import streaming as streaming
    from . import testing as testing
    from . import timing as timing
    from . import window as window
    from .conversion import convert as convert
    from .generation import Sampling as Sampling
    from .generation import generate as generate
    from .generation import generate_steps as generate_steps
    from .layers import ELU as ELU
    from .layers import FFT as FFT
    from .layers import GELU as GELU
    from .layers import GRU as GRU
    from .layers import IFFT as IFFT
    from .layers import IRFFT as IRFFT
    from .layers import LSTM as LSTM
    from .layers import MLSTM as MLSTM
    from .layers import RDFT as RDFT
    from .layers import RFFT as RFFT
    from .layers import RGLRU as RGLRU
    from .layers import RNN as RNN
    from .layers import S4D as S4D
    from .layers import S5 as S5
    from .layers import STFT as STFT
    from .layers import Abs as Abs
    from .layers import Activation as Activation
    from .layers import AdditiveAttention as AdditiveAttention
    from .layers import AddTimingSignal as AddTimingSignal
    from .layers import Affine as Affine
    from .layers import AlibiPosition as AlibiPosition
    from .layers import ApplySharding as ApplySharding
    from .layers import ApplyWindow as ApplyWindow
    from .layers import Argmax as Argmax
    from .layers import AssertChannelSpec as AssertChannelSpec
    from .layers import Autoregressive as Autoregressive
    from .layers import AveragePooling1D as AveragePooling1D
    from .layers import AveragePooling2D as AveragePooling2D
    from .layers import AveragePooling3D as AveragePooling3D
    from .layers import BatchNormalization as BatchNormalization
    from .layers import Bidirectional as Bidirectional
    from .layers import Blockwise as Blockwise
    from .layers import Cast as Cast
    from .layers import CheckpointGradient as CheckpointGradient
    from .layers import CheckpointName as CheckpointName
    from .layers import Clip as Clip
    from .layers import ConcatPositionEmbedding as ConcatPositionEmbedding
    from .layers import ConcatTimingSignal as ConcatTimingSignal
    from .layers import Conditioning as Conditioning
    from .layers import Conv1D as Conv1D
    from .layers import Conv1DTranspose as Conv1DTranspose
    from .layers import Conv2D as Conv2D
    from .layers import Conv2DTranspose as Conv2DTranspose
    from .layers import Conv3D as Conv3D
    from .layers import Conv3DTranspose as Conv3DTranspose
    from .layers import ConvLSTM1D as ConvLSTM1D
    from .layers import ConvLSTM2D as ConvLSTM2D
    from .layers import CrossAttention as CrossAttention
    from .layers import Delay as Delay
    from .layers import Dense as Dense
    from .layers import DenseShaped as DenseShaped
    from .layers import DepthwiseConv1D as DepthwiseConv1D
    from .layers import DepthwiseConv2D as DepthwiseConv2D
    from .layers import DeterministicDropout as DeterministicDropout
    from .layers import Downsample1D as Downsample1D
    from .layers import Dropout as Dropout
    from .layers import DynamicConvolutionAttention as DynamicConvolutionAttention
    from .layers import EinopsRearrange as EinopsRearrange
    from .layers import EinsumDense as EinsumDense
    from .layers import Embedding as Embedding
    from .layers import EmbeddingTranspose as EmbeddingTranspose
    from .layers import Emit as Emit
    from .layers import Exp as Exp
    from .layers import ExpandDims as ExpandDims
    from .layers import FiLM as FiLM
    from .layers import Flatten as Flatten
    from .layers import Frame as Frame
    from .layers import GatedDeltaNet as GatedDeltaNet
    from .layers import GatedLinearAttention as GatedLinearAttention
    from .layers import GatedLinearUnit as GatedLinearUnit
    from .layers import GatedTanhUnit as GatedTanhUnit
    from .layers import GatedUnit as GatedUnit
    from .layers import GaussianDropout as GaussianDropout
    from .layers import GaussianNoise as GaussianNoise
    from .layers import GlobalEinopsRearrange as GlobalEinopsRearrange
    from .layers import GlobalReshape as GlobalReshape
    from .layers import GmmAttention as GmmAttention
    from .layers import GradientClipping as GradientClipping
    from .layers import GroupNormalization as GroupNormalization
    from .layers import Identity as Identity
    from .layers import InstanceNormalization as InstanceNormalization
    from .layers import InverseSTFT as InverseSTFT
    from .layers import L2Normalize as L2Normalize
    from .layers import Lambda as Lambda
    from .layers import LayerNormalization as LayerNormalization
    from .layers import LeakyReLU as LeakyReLU
    from .layers import LinearToMelSpectrogram as LinearToMelSpectrogram
    from .layers import LocalSelfAttention as LocalSelfAttention
    from .layers import LocationSensitiveAttention as LocationSensitiveAttention
    from .layers import Log as Log
    from .layers import Logging as Logging
    from .layers import Lookahead as Lookahead
    from .layers import Mamba2 as Mamba2
    from .layers import MaskedDense as MaskedDense
    from .layers import MaskInvalid as MaskInvalid
    from .layers import Max as Max
    from .layers import MaxPooling1D as MaxPooling1D
    from .layers import MaxPooling2D as MaxPooling2D
    from .layers import MaxPooling3D as MaxPooling3D
    from .layers import Mean as Mean
    from .layers import Min as Min
    from .layers import MinGRU as MinGRU
    from .layers import MinLSTM as MinLSTM
    from .layers import MinPooling1D as MinPooling1D
    from .layers import MinPooling2D as MinPooling2D
    from .layers import MinPooling3D as MinPooling3D
    from .layers import Modulo as Modulo
    from .layers import MoveAxis as MoveAxis
    from .layers import Noise as Noise
    from .layers import NoiseConditioning as NoiseConditioning
    from .layers import NormalizedDepthwiseConv1D as NormalizedDepthwiseConv1D
    from .layers import OneHot as OneHot
    from .layers import OptimizationBarrier as OptimizationBarrier
    from .layers import OverlapAdd as OverlapAdd
    from .layers import Parallel as Parallel
    from .layers import ParallelChannels as ParallelChannels
    from .layers import Position as Position
    from .layers import Power as Power
    from .layers import PReLU as PReLU
    from .layers import ReLU as ReLU
    from .layers import Repeat as Repeat
    from .layers import Resample as Resample
    from .layers import Reshape as Reshape
    from .layers import Residual as Residual
    from .layers import Retention as Retention
    from .layers import ReverseSequence as ReverseSequence
    from .layers import ReversibleEmbedding as ReversibleEmbedding
    from .layers import RMSNormalization as RMSNormalization
    from .layers import RotaryEmbedding as RotaryEmbedding
    from .layers import RotaryPosition as RotaryPosition
    from .layers import Scale as Scale
    from .layers import SelfAttention as SelfAttention
    from .layers import SeparableConv1D as SeparableConv1D
    from .layers import SeparableConv2D as SeparableConv2D
    from .layers import SequenceDense as SequenceDense
    from .layers import SequenceEmbedding as SequenceEmbedding
    from .layers import SequenceLayer as SequenceLayer
    from .layers import Serial as Serial
    from .layers import ShawPosition as ShawPosition
    from .layers import Sigmoid as Sigmoid
    from .layers import SimpleRNN as SimpleRNN
    from .layers import SincFilter1D as SincFilter1D
    from .layers import SincFilter1DTranspose as SincFilter1DTranspose
    from .layers import Skip as Skip
    from .layers import Slice as Slice
    from .layers import Snake as Snake
    from .layers import Softmax as Softmax
    from .layers import Softplus as Softplus
    from .layers import SpatialDropout1D as SpatialDropout1D
    from .layers import Spectrogram as Spectrogram
    from .layers import Squeeze as Squeeze
    from .layers import SqueezeTime as SqueezeTime
    from .layers import StopGradient as StopGradient
    from .layers import StyleTokens as StyleTokens
    from .layers import Sum as Sum
    from .layers import SwapAxes as SwapAxes
    from .layers import Swish as Swish
    from .layers import SynchronousAttention as SynchronousAttention
    from .layers import SynchronousConditioning as SynchronousConditioning
    from .layers import T5Position as T5Position
    from .layers import Tanh as Tanh
    from .layers import TransformerXLPosition as TransformerXLPosition
    from .layers import Translate as Translate
    from .layers import Transpose as Transpose
    from .layers import TransposedWindowedLayer as TransposedWindowedLayer
    from .layers import UnsqueezeTime as UnsqueezeTime
    from .layers import UpsampleConditioning as UpsampleConditioning
    from .layers import UpSampling1D as UpSampling1D
    from .layers import UpSampling2D as UpSampling2D
    from .layers import UpSampling3D as UpSampling3D
    from .layers import WindowedLayer as WindowedLayer
    from .layers import ZoneoutCell as ZoneoutCell
    from .layers import emitting as emitting
    from .obstacles import NotStreamable as NotStreamable
    from .ragged import Ragged as Ragged
    from .ragged import flatten as flatten
    from .ragged import pad as pad
    from .ragged import unpad as unpad
    from .registry import adapts as adapts
    from .registry import register as register
    from .registry import register_factory as register_factory
    from .registry import register_position as register_position
    from .registry import registered_layers as registered_layers
    from .sequence import Sequence as Sequence
    from .sequence import SequenceSpec as SequenceSpec
    from .show import summary as summary
    from .spec import SpecError as SpecError
    from .spec import dump_spec as dump_spec
    from .spec import load_spec as load_spec
    from .spec import load_spec_text as load_spec_text
    from .streaming import StepFunction as StepFunction
    from .streaming import Stream as Stream
    from .streaming import at_horizon as at_horizon
    from .streaming import pointwise as pointwise
    from .streaming import streamable as streamable
    from .streaming import traceable as traceable
    from .timing import Timing as Timing
    from .window import Window as Window
else:
    __all__ = sorted(_PUBLIC)
    __getattr__, __dir__ = lazy_names(__name__, _PUBLIC)

# Keras loads kseq's layers and models by their registered names: they are there wherever Keras is.
after_import("kseq.layers", lambda: importlib.import_module("kseq.models"))
after_import("keras", lambda: importlib.import_module("kseq.layers"))
