"""Normalisation over the batch: statistics of valid steps alone."""

import math
from typing import Any, ClassVar, Unpack

from keras import ops

from ...annotations import BatchStatisticsOptions, ConstraintLike, InitializerLike, RegularizerLike, Shape
from ...hints import is_exporting
from ...registry import register
from ...sequence import Sequence
from ..base import Example
from ..parameters import Only
from .base import ChannelNormalization


@register
class BatchNormalization(ChannelNormalization):
    """Zero mean and unit variance of each channel, over batch and time.  [B, T, ...] -> [B, T, ...].

    While training statistics are those of the batch's valid steps, and gradients flow through them: padding, whatever
    it holds, changes neither them nor the moving averages, and a batch without a valid step changes nothing. Otherwise,
    in step mode, and where the layer's `trainable` is false, they are the moving averages. With everything valid
    outputs, moving averages and weights are those of `keras.layers.BatchNormalization`. Statistics are computed in
    float32 at least. Mask: unchanged. Timing: none; a step with `training=True` is refused.
    Source: Ioffe and Szegedy, 2015, "Batch Normalization".

    Args:
        axis: the channel axis that keeps statistics of its own.
        momentum: of the moving averages.
        epsilon: added to the variance.
        center: whether to add a learned bias.
        scale: whether to multiply by a learned scale.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer, beta_regularizer,
            gamma_regularizer, beta_constraint, gamma_constraint: as in Keras.

    Raises:
        ValueError: an axis that is no channel axis, `synchronized=True` or `renorm=True`; a step while training.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.BatchNormalization()
        >>> x = np.array([[[1.0], [3.0], [np.nan]]], "float32")
        >>> y = layer(kseq.Sequence(x, np.array([[True, True, False]])), training=True)
        >>> y.mask_invalid().values.tolist()[0][0][0].__round__(2)
        -1.0
    """

    moving_mean: Any
    moving_variance: Any

    fixed_arguments: ClassVar[dict[str, Only]] = {
        "synchronized": Only((False,), "statistics are those of one replica"),
        "renorm": Only((False,), "there is no batch renormalisation"),
    }

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: InitializerLike = "zeros",
        gamma_initializer: InitializerLike = "ones",
        moving_mean_initializer: InitializerLike = "zeros",
        moving_variance_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None,
        gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None,
        gamma_constraint: ConstraintLike = None,
        **kwargs: Unpack[BatchStatisticsOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def build(self, input_shape: Shape) -> None:
        self.add_scale_and_bias(input_shape)
        shape = self.parameter_shape(input_shape)
        for name in ("moving_mean", "moving_variance"):
            setattr(self, name, self.add_parameter(name, shape, trainable=False, autocast=False))

    @property
    def training_obstacle(self) -> str | None:
        if not self.trainable:
            return None
        return "while training its statistics are those of whole sequences; a step takes its moving averages"

    def standardize(self, x: Sequence) -> Sequence:
        if not is_exporting():
            return super().standardize(x)
        # Zeros at invalid steps would stand between the product before and what is folded into it.
        return super().standardize(Sequence(x.values))._replace(mask=x.mask)

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        if training and self.training_obstacle:
            raise ValueError(f"{self._named} cannot step with training=True: {self.training_obstacle}")
        return self.call_layer(x), state

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        values, rank = self.at_least_float32(x.values), len(x.values.shape)
        moving = [self.at_least_float32(variable) for variable in (self.moving_mean, self.moving_variance)]
        if training and self.trainable:
            mean, variance = self._of_batch(Sequence(values, x.mask), moving)
        else:
            mean, variance = (self.along_axes(statistic, rank) for statistic in moving)
        return Sequence(self.scaled((values + -mean) * ops.rsqrt(variance + self.epsilon)), x.mask)

    def _of_batch(self, x, moving):
        """Mean and variance of the valid steps, to be broadcast to the values; they move the moving averages."""
        (axis,) = self.channel_axes(len(x.values.shape))
        others = tuple(a for a in range(len(x.values.shape)) if a != axis)
        if x.mask is None:
            mean = ops.mean(x.values, axis=others, keepdims=True)
            found = mean, ops.mean(ops.square(x.values - mean), axis=others, keepdims=True)
        else:
            there = ops.cast(x.expanded_mask(), x.values.dtype)
            number = ops.sum(there) * math.prod(x.values.shape[a] for a in others if a > 1)
            mean = ops.sum(x.values, axis=others, keepdims=True) / ops.maximum(number, 1)  # zeros at invalid steps
            squares = ops.square(x.values - mean) * there
            variance = ops.sum(squares, axis=others, keepdims=True) / ops.maximum(number, 1)
            kept = [self.along_axes(statistic, len(x.values.shape)) for statistic in moving]
            found = [ops.where(number > 0, new, old) for new, old in zip((mean, variance), kept, strict=True)]
        for variable, old, new in zip((self.moving_mean, self.moving_variance), moving, found, strict=True):
            new = ops.stop_gradient(ops.reshape(new, old.shape))
            variable.assign(old * self.momentum + new * (1 - self.momentum))
        return found

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"axis": 2, "center": False, "epsilon": 1e-2}, (4, 12, 2, 3))]
