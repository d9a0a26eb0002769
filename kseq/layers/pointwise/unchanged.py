"""Layers that leave the numbers as they are, or change no more than their type, what is invalid or the gradient."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import LayerOptions, OtherOptions, Shape
from ...gradients import map_gradient
from ...registry import register
from ..base import Example
from ..complex_values import is_complex
from ..parameters import Parameters
from .base import PointwiseLayer, Unchanged, dtype_of


@register
class Identity(Unchanged):
    """The input as it is.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Identity()(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 1.0]]]
    """


@register
class MaskInvalid(Unchanged):
    """Zeros at invalid steps.  [B, T, ...] -> [B, T, ...].

    Layers of kseq do not need it: what stands at invalid steps never matters to them. It is for what reads the values
    alone. Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> y = kseq.MaskInvalid()(kseq.Sequence(np.ones((1, 2)), np.array([[True, False]])))
        >>> np.asarray(y.values).tolist()
        [[1.0, 0.0]]
    """

    invalid_value: float | None = 0


@register
class Cast(PointwiseLayer):
    """Values in another dtype.  [B, T, ...] -> [B, T, ...].

    Floats become integers by dropping what follows the point, complex numbers become real ones by dropping the
    imaginary part. Mask: unchanged. Timing: none.

    Args:
        dtype: a dtype's name: a float, an integer, "bool" or "complex64"; or a Keras policy, whose compute dtype it is.
            By default that of Keras.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Cast("int32")(np.full((1, 1), -1.5, "float32"))).tolist()
        [[-1]]
    """

    takes_complex = True

    def __init__(self, dtype: Any = None, **kwargs: Unpack[OtherOptions]) -> None:
        if not isinstance(dtype, (str, dict, keras.DTypePolicy, type(None))):
            dtype = keras.backend.standardize_dtype(dtype)
        # Keras itself takes "int8" for a way to quantise weights.
        super().__init__(**kwargs, dtype=keras.DTypePolicy(dtype) if isinstance(dtype, str) else dtype)

    def output_dtype(self, dtype: str) -> str:
        return self.compute_dtype

    def call_values(self, values: Any, training: bool = False) -> Any:
        if is_complex(dtype_of(values)) and not is_complex(self.compute_dtype):
            values = ops.real(values)
        return ops.cast(values, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super(Parameters, self).get_config()  # in which the dtype is

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"dtype": "int32"}), Example({"dtype": "float32"}, dtype="int32")]


@register
class StopGradient(Unchanged):
    """The input, through which no gradient goes back.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.StopGradient()(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 1.0]]]
    """

    def call_values(self, values: Any, training: bool = False) -> Any:
        return ops.stop_gradient(values)

    @classmethod
    def examples(cls) -> list[Example]:
        return []  # its gradient is not that of what it computes


@register
class GradientClipping(Unchanged):
    """The input, each number of whose gradient is clipped.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        clip_value: gradients are from `-clip_value` to `clip_value`.

    Raises:
        ValueError: a `clip_value` that is not above zero.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.GradientClipping(0.1)(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 1.0]]]
    """

    clip_value: float

    def __init__(self, clip_value: float, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if not clip_value > 0:
            raise ValueError(f"`clip_value` must be above zero; received {clip_value}")

    def call_values(self, values: Any, training: bool = False) -> Any:
        if not keras.backend.is_float_dtype(dtype_of(values)):
            return values
        return map_gradient(values, lambda gradient: ops.clip(gradient, -self.clip_value, self.clip_value))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"clip_value": 1e3})]


@register
class AssertChannelSpec(Unchanged):
    """The input, if it has the channels and the dtype that are expected.  [B, T, ...] -> [B, T, ...].

    The dtype is that which the input comes with, before any cast; the layer casts nothing. Mask: unchanged. Timing:
    none.

    Args:
        expected_channel_shape: channel shape, or `None` for any.
        expected_dtype: a dtype's name, or `None` for any.

    Raises:
        ValueError: another channel shape or dtype, when the layer is called or a model is made of it.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.AssertChannelSpec((2,), "float32")(np.ones((1, 7, 2), "float32")).shape
        (1, 7, 2)
    """

    expected_channel_shape: tuple[int, ...] | None
    expected_dtype: str | None

    def __init__(
        self,
        expected_channel_shape: tuple[int, ...] | None = None,
        expected_dtype: str | None = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        self.keep(locals())
        if expected_channel_shape is not None:
            self.expected_channel_shape = tuple(expected_channel_shape)
        if expected_dtype is not None:
            self.expected_dtype = keras.backend.standardize_dtype(expected_dtype)

    def output_channels(self, channels: Shape) -> Shape:
        if self.expected_channel_shape not in (None, tuple(channels)):
            raise ValueError(
                f"{self.name} expects values of channel shape {self.expected_channel_shape}; received {tuple(channels)}"
            )
        return channels

    def check_shapes(self, x: Any) -> None:
        super().check_shapes(x)
        self._check(x.values)

    def call_values(self, values: Any, training: bool = False) -> Any:
        self._check(values)
        return values

    def _check(self, values):
        self.output_channels(tuple(values.shape[2:]))
        if self.expected_dtype not in (None, dtype_of(values)):
            raise ValueError(f"{self.name} expects values of dtype {self.expected_dtype}; received {dtype_of(values)}")

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"expected_channel_shape": (3,), "expected_dtype": "int32"}, dtype="int32"),
            Example({"expected_channel_shape": (3,)}),
        ]
