"""What all conditioning shares: how a conditioning is projected, and how it is combined with the input."""

import math
from collections.abc import Iterable
from typing import Any, Literal, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ...arguments import as_size, check_choice
from ...sequence import SequenceSpec
from ..base import SequenceLayer
from ..float64 import product

Combination = Literal["add", "concat", "concat_before", "mul", "affine", "affine_shift", "affine_scale"]
Projection = Literal["identity", "linear", "linear_affine"]
# By combination the projections that it takes, of which the first is the default.
_PROJECTIONS = dict.fromkeys(("add", "concat", "concat_before", "mul"), ("linear", "identity")) | {
    "affine": ("linear_affine",),
    "affine_shift": ("linear",),
    "affine_scale": ("linear",),
}


class ConditioningOptions(LayerOptions, total=False):
    """The options that all conditioning shares; `ConditionedLayer` explains them."""

    projection_channel_shape: tuple[int, ...] | None
    affine_scale_offset: float
    use_bias: bool
    kernel_initializer: InitializerLike
    bias_initializer: InitializerLike
    kernel_regularizer: RegularizerLike
    bias_regularizer: RegularizerLike
    kernel_constraint: ConstraintLike
    bias_constraint: ConstraintLike


class ConditionedLayer(SequenceLayer):
    """A layer that combines its input with a conditioning, which is projected first.

    Channels that differ in shape are broadcast, from the last axis on. A subclass calls `set_modes` in its constructor
    and `build_projection` when it is built, and in its call what `projected` and `combined` give.

    Args:
        projection_channel_shape: channel shape of a linear projection, by default the input's.
        affine_scale_offset: what is added to a scale.
        use_bias: whether a linear projection has a bias.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras. The kernel [inputs, outputs] has all channels of the conditioning, and of what it is projected
            to, as one axis, last axis fastest; "zeros" lets an affine layer begin as the identity.
    """

    takes_complex = False

    combination: str
    projection: str
    projection_channel_shape: tuple[int, ...] | None
    kernel: Any = None
    bias: Any = None

    def __init__(
        self,
        projection_channel_shape: tuple[int, ...] | None = None,
        affine_scale_offset: float = 1.0,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if projection_channel_shape is not None:
            sizes = projection_channel_shape
            if isinstance(sizes, str) or not isinstance(sizes, Iterable):
                raise ValueError(f"`projection_channel_shape` must be a tuple of sizes; received {sizes!r}")
            self.projection_channel_shape = tuple(as_size("projection_channel_shape", size) for size in sizes)

    def set_modes(self, combination: str, projection: str | None) -> None:
        """Check and keep how the conditioning is combined, and how projected: by default linearly."""
        check_choice("combination", combination, _PROJECTIONS)
        fits = _PROJECTIONS[combination]
        if projection is not None and projection not in fits:
            raise ValueError(
                f"the combination {combination!r} takes the projection {' or '.join(map(repr, fits))}; received "
                f"{projection!r}"
            )
        self.combination, self.projection = combination, projection or fits[0]
        if self.projection == "identity" and self.projection_channel_shape is not None:
            shape = self.projection_channel_shape
            raise ValueError(f"nothing is projected by the identity; received projection_channel_shape={shape}")

    # Shapes.

    def build_projection(self, channels: Any, conditioning: Any) -> None:
        """Add the weights, for channel shapes of the input and of the conditioning."""
        self._given_shape = tuple(conditioning)
        shape = self._projected_shape(tuple(channels))
        self._combined_shape(tuple(channels))  # or they do not fit
        if self.projection != "identity":
            self.kernel = self.add_parameter("kernel", (math.prod(self._given_shape), math.prod(shape)))
            self.bias = self.add_parameter("bias", shape) if self.use_bias else None

    def _projected_shape(self, channels):
        """The conditioning's channel shape after its projection, scale and shift on an axis before it."""
        if self.projection == "identity":
            if not hasattr(self, "_given_shape"):
                raise ValueError(
                    f"{self._named} has outputs of a shape that follows from its conditioning's, which it knows once "
                    "it is built"
                )
            return self._given_shape
        shape = channels if self.projection_channel_shape is None else self.projection_channel_shape
        return (2, *shape) if self.combination == "affine" else shape

    def _combined_shape(self, channels):
        other = self._projected_shape(channels)
        other = other[1:] if self.combination == "affine" else other
        try:
            if not self.combination.startswith("concat"):
                return np.broadcast_shapes(channels, other)
            if not channels or not other:
                raise ValueError("both need a last axis")
            return (*np.broadcast_shapes(channels[:-1], other[:-1]), channels[-1] + other[-1])
        except ValueError:
            raise ValueError(
                f"{self._named} cannot combine channels {channels} with those of its conditioning, {other}, by "
                f"{self.combination!r}: shapes must broadcast from the last axis on, but for the last one of a "
                "concatenation, which both must have"
            ) from None

    def conditioned_spec(self, spec: SequenceSpec) -> SequenceSpec:
        """The output's channel shape and dtype, for those of the input."""
        self._check_floats(spec.dtype)
        return self.cast_spec(SequenceSpec(self._combined_shape(tuple(spec.shape)), spec.dtype))

    def _check_floats(self, dtype):
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(f"{self._named} takes floats; received {dtype}")

    # Values.

    def projected(self, values: Any) -> Any:
        """A conditioning [B, S, ...], projected, with all its channels as one axis: [B, S, N]."""
        flat = ops.reshape(ops.cast(values, self.compute_dtype), (*ops.shape(values)[:2], math.prod(self._given_shape)))
        if self.kernel is None:
            return flat
        y = product(flat, self.weight(self.kernel))
        return y if self.bias is None else y + ops.reshape(self.weight(self.bias), (-1,))

    def combined(self, x: Any, conditioning: Any) -> Any:
        """The input [B, T, ...] combined with what `projected` gave of its steps, [B, T, N], or of all, [B, 1, N]."""
        self._check_floats(keras.backend.standardize_dtype(x.dtype))
        channels = tuple(x.shape[2:])
        shape = self._projected_shape(channels)
        c = ops.reshape(conditioning, (*ops.shape(conditioning)[:2], *shape))
        if self.combination == "affine":
            scale, shift = (self._aligned(x, c[:, :, i])[1] for i in (0, 1))
            x = self._aligned(x, c[:, :, 0])[0]
            return x * (scale + self.affine_scale_offset) + shift
        x, c = self._aligned(x, c)
        if self.combination == "mul":
            return x * c
        if self.combination == "affine_scale":
            return x * (c + self.affine_scale_offset)
        if self.combination in ("add", "affine_shift"):
            return x + c
        own = (*ops.shape(x)[:2], *self._combined_shape(channels)[:-1])
        both = [ops.broadcast_to(part, (*own, part.shape[-1])) for part in (x, c)]
        return ops.concatenate(both if self.combination == "concat" else both[::-1], axis=-1)

    def _aligned(self, *arrays):
        """Arrays [B, T, ...] of equally many axes: channels are aligned from the last one on."""
        rank = max(len(array.shape) for array in arrays)
        found = []
        for array in arrays:
            for _ in range(rank - len(array.shape)):
                array = ops.expand_dims(array, 2)
            found.append(array)
        return found
