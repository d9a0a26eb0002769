"""Layers that repeat or leave out steps, or fold them into channels and back."""

from typing import Any, ClassVar, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import LayerOptions, WindowOptions
from ...arguments import as_size, as_sizes, check_fields, each_axis
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ...window import Padding
from ..base import Example
from ..parameters import Only
from ..stepwise import StepwiseLayer
from ..windows import OfWindow, WindowedLayer


class _Repeating(StepwiseLayer):
    """What layers share that repeat every step, and places of space: the constructor, and what follows from `size`."""

    #: Axes that are repeated: time, and those of space.
    size_rank = 1
    fixed_arguments: ClassVar[dict[str, Only]] = OfWindow.fixed_arguments

    def __init__(self, size: int | tuple[int, ...] = 2, **kwargs: Unpack[WindowOptions]) -> None:
        super().__init__(**kwargs)
        self.size: Any = as_sizes("size", size, self.size_rank)
        check_fields(self._sizes[0])

    @property
    def _sizes(self) -> tuple[int, ...]:
        return each_axis(self.size)

    @property
    def timing(self) -> Timing:
        return Timing(ratio=self._sizes[0], receptive_field_per_step=((0, 0),) * self._sizes[0])

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        space = self._sizes[1:]
        if len(shape) < len(space):
            raise ValueError(f"{type(self).__name__} needs {len(space)} axes of space; received channel shape {shape}")
        repeated = (n * times for n, times in zip(shape, space, strict=False))
        return SequenceSpec((*repeated, *shape[len(space) :]), dtype)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        values = x.values
        for axis, times in enumerate(self._sizes, 1):
            values = ops.repeat(values, times, axis=axis) if times > 1 else values
        return Sequence(values, None if x.mask is None else ops.repeat(x.mask, self._sizes[0], axis=1))


@register
class UpSampling1D(_Repeating):
    """Repeats every step.  [B, T, ...] -> [B, T * size, ...].

    Mask: repeated. Timing: `size` outputs for each input.

    Args:
        size: how often.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.UpSampling1D(2)(np.array([[[1.0], [2.0]]], "float32")))[0, :, 0].tolist()
        [1.0, 1.0, 2.0, 2.0]
    """

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"size": 3})]


class _RepeatingSpace(_Repeating):
    """The same, with Keras's argument of how it interpolates."""

    fixed_arguments: ClassVar[dict[str, Only]] = _Repeating.fixed_arguments | {
        "interpolation": Only(("nearest",), "what lies between two steps is not known before the second has come")
    }


@register
class UpSampling2D(_RepeatingSpace):
    """Repeats every step and every place of an axis of space.  [B, T, S, ...] -> [B, T * size[0], S * size[1], ...].

    Mask: repeated. Timing: `size[0]` outputs for each input.

    Args:
        size: how often steps and places, or one number for both.

    Raises:
        ValueError: a size below 1, or values without an axis of space.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.UpSampling2D((1, 2))(np.zeros((1, 7, 5, 3), "float32")).shape
        (1, 7, 10, 3)
    """

    size_rank = 2

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"size": (2, 3)}, (4, 12, 2, 3)), Example({"size": (3, 1)}, (4, 12, 2, 3))]


@register
class UpSampling3D(_RepeatingSpace):
    """Repeats every step and every place of two axes of space.  [B, T, H, W, ...] -> [B, T * size[0], H', W', ...].

    Mask: repeated. Timing: `size[0]` outputs for each input.

    Args:
        size: how often steps and places of both axes, or one number for all.

    Raises:
        ValueError: a size below 1, or values without two axes of space.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.UpSampling3D((1, 2, 2))(np.zeros((1, 7, 5, 5, 3), "float32")).shape
        (1, 7, 10, 10, 3)
    """

    size_rank = 3

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"size": (1, 2, 1)}, (4, 12, 2, 2, 1)), Example({"size": (2, 1, 2)}, (4, 12, 2, 2, 1))]


@register
class Downsample1D(WindowedLayer):
    """Keeps the first of every `rate` steps.  [B, T, ...] -> [B, ceil(T / rate), ...].

    Mask: that of the steps that are kept. Timing: blocks of `rate`, no latency.

    Args:
        rate: steps of which one is kept.

    Raises:
        ValueError: a rate below 1.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.arange(5, dtype="float32").reshape(1, 5, 1)
        >>> np.asarray(kseq.Downsample1D(2)(x))[0, :, 0].tolist()
        [0.0, 2.0, 4.0]
    """

    rate: int
    strides: Any
    dilation_rate: Any
    padding: Padding

    invalid_value: float | None = None

    def __init__(self, rate: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.rate = as_size("rate", rate)
        self.strides, self.dilation_rate, self.padding, self._taps = self.rate, 1, "causal", 1
        self.set_window("_taps")

    def call_windows(self, x: Sequence) -> Any:
        return x.values[:, :: self.rate]

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"rate": 3}), Example({"rate": 2})]


@register
class SqueezeTime(WindowedLayer):
    """Folds `factor` steps into a channel axis in front.  [B, T, ...] -> [B, ceil(T / factor), factor, ...].

    Mask, timing and padding are those of `Conv1D` with as many taps as strides: `causal` gives the steps up to and with
    step `t * factor`, `semicausal` those from there on.  Source: `Squeeze` of google/sequence-layers, whose `causal` is
    `causal_valid`.

    Args:
        factor: steps that are folded into one.
        padding: as in `Conv1D`.

    Raises:
        ValueError: a factor below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.arange(4, dtype="float32").reshape(1, 4, 1)
        >>> np.asarray(kseq.SqueezeTime(2, padding="semicausal")(x))[0, :, :, 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """

    strides: Any
    dilation_rate: Any
    factor: int

    def __init__(self, factor: int, padding: Padding = "causal", **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.strides, self.dilation_rate = factor, 1
        self.set_window("factor")

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        return SequenceSpec((self.factor, *shape), dtype)

    def call_windows(self, x: Sequence) -> Any:
        return rules.frames(x.values, self.window)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"factor": 3, "padding": "semicausal"}), Example({"factor": 2, "padding": "causal_valid"})]


@register
class UnsqueezeTime(StepwiseLayer):
    """Unfolds the first channel axis into steps.  [B, T, factor, ...] -> [B, T * factor, ...].

    Mask: repeated. Timing: `factor` outputs for each input.  Source: `Unsqueeze` of google/sequence-layers.

    Args:
        factor: length of that axis.

    Raises:
        ValueError: a factor below 1, or values whose first channel axis has another length.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.UnsqueezeTime(2)(np.zeros((1, 7, 2, 3), "float32")).shape
        (1, 14, 3)
    """

    factor: int

    def __init__(self, factor: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.factor = as_size("factor", factor)
        check_fields(self.factor)

    @property
    def timing(self) -> Timing:
        return Timing(ratio=self.factor, receptive_field_per_step=((0, 0),) * self.factor)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        if shape[:1] != (self.factor,):
            raise ValueError(f"UnsqueezeTime takes values [B, T, {self.factor}, ...]; received channel shape {shape}")
        return SequenceSpec(shape[1:], dtype)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        batch, time, _, *channels = ops.shape(x.values)
        values = ops.reshape(x.values, (batch, time * self.factor, *channels))
        return Sequence(values, None if x.mask is None else ops.repeat(x.mask, self.factor, axis=1))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"factor": 3}), Example({"factor": 2}, (4, 12, 2))]
