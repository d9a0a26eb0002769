"""Layers with a constant: a number, or an array that is broadcast to the channels."""

from typing import Any, ClassVar, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import ConstantLike, LayerOptions, Shape
from ...registry import register
from ..base import Example
from .base import PointwiseLayer, dtype_of


class ConstantLayer(PointwiseLayer):
    """A function of the values and of constants, which take the dtype of the values.

    Attributes:
        constants: names of the arguments that are constants.
        optional: whether one may be missing, and `None`.
    """

    constants: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[bool] = False

    def keep(self, given: dict[str, Any]) -> None:
        super().keep(given | {name: _plain(self, name, given[name]) for name in self.constants if name in given})

    def output_channels(self, channels: Shape) -> Shape:
        for name in self.constants:
            channels = broadcast_channels(name, np.shape(_array(self, name)), channels)
        return channels

    def output_dtype(self, dtype: str) -> str:
        for name in self.constants:
            self._check_fits(name, dtype)
        return dtype

    def constant(self, name: str, values: Any) -> Any:
        """A constant in the dtype of values that fit it."""
        dtype = dtype_of(values)
        self.output_dtype(dtype)
        self.output_channels(tuple(values.shape[2:]))
        return ops.convert_to_tensor(_array(self, name), dtype=dtype)

    def _check_fits(self, name, dtype):
        """Refuse a constant that integers cannot hold."""
        constant = _array(self, name)
        if dtype == "bool":
            raise TypeError(f"{self.name} ({type(self).__name__}) takes numbers; received bool")
        if not keras.backend.is_int_dtype(dtype) or getattr(self, name) is None:
            return
        limits = np.iinfo(dtype)
        if np.any(constant != np.round(constant)) or np.any(constant < limits.min) or np.any(constant > limits.max):
            raise TypeError(
                f"{self.name} ({type(self).__name__}): `{name}` must be whole numbers from {limits.min} to "
                f"{limits.max} for values of dtype {dtype}; received {getattr(self, name)}"
            )


@register
class Scale(ConstantLayer):
    """Values times a constant.  [B, T, ...] -> [B, T, ...].

    Channels of size one take the size of the constant's. Mask: unchanged. Timing: none.

    Args:
        scale: a number, or an array (or nested lists) that is broadcast to the channels.

    Raises:
        ValueError: a constant that cannot be broadcast to the channels.
        TypeError: a constant that is no number, or that integer values cannot hold.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Scale([1, 10])(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 10.0]]]
    """

    scale: float | list[Any]

    constants: ClassVar[tuple[str, ...]] = ("scale",)
    takes_complex = True
    invalid_value: float | None = None

    def __init__(self, scale: ConstantLike, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def call_values(self, values: Any, training: bool = False) -> Any:
        return ops.multiply(values, self.constant("scale", values))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"scale": [[1.0], [-2.5]]}, (4, 12, 1, 3)), Example({"scale": 2.5}, (4, 12, 1, 3))]


@register
class Translate(ConstantLayer):
    """Values plus a constant.  [B, T, ...] -> [B, T, ...].

    Channels of size one take the size of the constant's. Mask: unchanged. Timing: none.

    Args:
        shift: a number, or an array (or nested lists) that is broadcast to the channels.

    Raises:
        ValueError: a constant that cannot be broadcast to the channels.
        TypeError: a constant that is no number, or that integer values cannot hold.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Translate(0.5)(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.5, 1.5]]]
    """

    shift: float | list[Any]

    constants: ClassVar[tuple[str, ...]] = ("shift",)
    takes_complex = True
    invalid_value: float | None = None

    def __init__(self, shift: ConstantLike, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def call_values(self, values: Any, training: bool = False) -> Any:
        return ops.add(values, self.constant("shift", values))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"shift": [1.0, -1.0, 0.5]}), Example({"shift": -1.5})]


@register
class Modulo(ConstantLayer):
    """The rest of a division by a constant, which has the constant's sign.  [B, T, ...] -> [B, T, ...].

    Integers stay integers. Channels of size one take the size of the constant's. Mask: unchanged. Timing: none.

    Args:
        divisor: a number other than zero, or an array (or nested lists) that is broadcast to the channels.

    Raises:
        ValueError: zero, or a constant that cannot be broadcast to the channels.
        TypeError: a constant that is no number, or that integer values cannot hold.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Modulo(3)(np.array([[5, -1]], "int32"))).tolist()
        [[2, 2]]
    """

    divisor: float | list[Any]

    constants: ClassVar[tuple[str, ...]] = ("divisor",)

    def __init__(self, divisor: ConstantLike, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if not np.all(self.divisor):
            raise ValueError(f"`divisor` must not be zero; received {self.divisor}")

    def call_values(self, values: Any, training: bool = False) -> Any:
        return ops.mod(values, self.constant("divisor", values))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"divisor": [2, 3, -3]}, dtype="int32"), Example({"divisor": 3}, dtype="int32")]


@register
class Clip(ConstantLayer):
    """Values, at least a minimum and at most a maximum.  [B, T, ...] -> [B, T, ...].

    Integers stay integers. Channels of size one take the size of the constants'. Mask: unchanged. Timing: none.

    Args:
        minimum, maximum: a number, an array (or nested lists) that is broadcast to the channels, or `None`.

    Raises:
        ValueError: neither, a minimum above the maximum, or constants that cannot be broadcast to the channels.
        TypeError: a constant that is no number, or that integer values cannot hold.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Clip(minimum=0, maximum=1)(np.array([[-1.0, 2.0]], "float32"))).tolist()
        [[0.0, 1.0]]
    """

    minimum: float | list[Any] | None
    maximum: float | list[Any] | None

    constants: ClassVar[tuple[str, ...]] = ("minimum", "maximum")
    optional = True

    def __init__(
        self, minimum: ConstantLike | None = None, maximum: ConstantLike | None = None, **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if self.minimum is None and self.maximum is None:
            raise ValueError("`minimum` or `maximum` must be given; received None for both")
        if None not in (self.minimum, self.maximum) and np.any(np.greater(*map(np.asarray, self._ends))):
            raise ValueError(f"`minimum` must not be above `maximum`; received {self.minimum} and {self.maximum}")

    @property
    def _ends(self):
        return self.minimum, self.maximum

    def call_values(self, values: Any, training: bool = False) -> Any:
        for name, choose in (("minimum", ops.maximum), ("maximum", ops.minimum)):
            if getattr(self, name) is not None:
                values = choose(values, self.constant(name, values))
        return values

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"minimum": -0.5, "maximum": [0.5, 1.0, 2.0]}), Example({"minimum": 0.0})]


def broadcast_channels(name: str, shape: Shape, channels: Shape) -> Shape:
    """The channel shape of values that are combined with an array, of no more axes than they have.

    Raises:
        ValueError: shapes that do not fit.
    """
    try:
        found = np.broadcast_shapes(tuple(shape), tuple(channels))
    except ValueError:
        found = None
    if found is None or len(found) > len(channels):
        raise ValueError(
            f"`{name}` of shape {tuple(shape)} cannot be broadcast to the channels; received values of channel shape "
            f"{tuple(channels)}"
        )
    return found


def _array(layer, name):
    """A constant as an array of NumPy; zero where there is none."""
    value = getattr(layer, name)
    return np.asarray(0 if value is None else value)


def _plain(layer, name, value):
    """A constant as a number or nested lists, which any configuration can hold."""
    if value is None and layer.optional:
        return None
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value) if hasattr(value, "shape") else value)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(
            f"{type(layer).__name__}: `{name}` must be a number or an array; received {value!r}"
        ) from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{type(layer).__name__}: `{name}` must be real numbers; received {value!r}")
    return array.tolist()
