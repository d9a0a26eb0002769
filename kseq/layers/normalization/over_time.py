"""Normalisation of groups of channels over time: of whole sequences, or of what has been seen so far."""

import math
from typing import Any, Literal, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example
from .base import ChannelNormalization
from .moments import centred, seen_so_far

#: Over which steps: all valid ones, or those up to each step, with the squared deviations from the mean of each time or
#: from the mean of today.
Statistics = Literal["sequence", "cumulative", "running"]
_STATISTICS = ("sequence", "cumulative", "running")


class NormalizationOverTime(ChannelNormalization):
    """A normalisation of groups of channels over time, in all of one sequence or in what has been seen of it.

    Attributes:
        statistics: over which steps, as the argument of these layers says.
    """

    statistics: Statistics

    takes_any_length = True

    def _set_statistics(self, statistics):
        check_choice("statistics", statistics, _STATISTICS)
        self.statistics = statistics

    def number_of_groups(self, size: int) -> int:
        """Groups of so many channels."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> None:
        (size,) = self.parameter_shape(input_shape)
        self.number_of_groups(size)
        self.add_scale_and_bias(input_shape)

    @property
    def step_obstacle(self) -> str | None:
        return "its statistics are those of the whole sequence" if self.statistics == "sequence" else None

    @property
    def step_remedy(self) -> str | None:
        return f'{type(self).__name__}(statistics="running")'

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, math.inf if self.statistics == "sequence" else 0),))

    # State: the number of valid steps so far [B], and of each group [B, G] the mean of the first valid step, the mean
    # of all relative to it, and their variance.

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        if self.statistics == "sequence":
            return ()
        (axis,) = self.channel_axes(2 + len(input_spec.shape))
        shape = batch_size, self.number_of_groups(input_spec.shape[axis - 2])
        found = {name: ops.zeros(shape, dtype=self.statistics_dtype) for name in ("first", "mean", "variance")}
        return found | {"steps": ops.zeros((batch_size,), dtype="int32")}

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        if self.statistics == "sequence":
            grouped, axes = self._grouped(x)
            y, variance = centred(grouped, (1, *axes))
            return self._normalized(x, y, variance)
        return super().call_layer(x, training=training)

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        grouped, axes = self._grouped(x)
        kept = [1 if a in axes else size for a, size in enumerate(grouped.values.shape)][2:]
        wide = {name: ops.reshape(part, (-1, 1, *kept)) for name, part in state.items() if name != "steps"}
        y, variance, last = seen_so_far(
            grouped, axes, wide | {"steps": state["steps"]}, self.statistics == "cumulative"
        )
        new = {name: ops.reshape(part, ops.shape(state[name])) for name, part in last.items()}
        return self._normalized(x, y, variance), new

    def _grouped(self, x):
        """The values with their axis split into groups and the channels of each, and the other axes of a group."""
        (axis,) = self.channel_axes(len(x.values.shape))
        shape = (*ops.shape(x.values)[:2], *x.values.shape[2:])
        groups = self.number_of_groups(shape[axis])
        values = ops.reshape(
            self.at_least_float32(x.values), (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
        )
        return Sequence(values, x.mask), tuple(a for a in range(2, len(shape) + 1) if a != axis)

    def _normalized(self, x, centred_values, variance):
        y = ops.reshape(centred_values * ops.rsqrt(variance + self.epsilon), ops.shape(x.values))
        return Sequence(self.scaled(y), x.mask).mask_invalid()  # of no statistics yet they would be anything


@register
class GroupNormalization(NormalizationOverTime):
    """Zero mean and unit variance of each group of channels, over time.  [B, T, ...] -> [B, T, ...].

    Statistics, in float32 at least, are those of the valid steps of each sequence, over all channels of a group; other
    channel axes belong to every group. Of what has been seen so far they are right also where the mean is far larger
    than the deviations from it. Mask: unchanged. Timing: none, but the field is all of the past, and of the future too
    for `"sequence"`, which therefore does not step. The weights are those of `keras.layers.GroupNormalization`, as are
    outputs for `"sequence"`.  Source: Wu and He, 2018, "Group Normalization".

    Args:
        groups: groups into which the channels of `axis` are divided, or -1 for one of each channel.
        axis: the channel axis that is divided.
        epsilon: added to the variance.
        center: whether to add a learned bias.
        scale: whether to multiply by a learned scale.
        beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint:
            as in Keras.
        statistics: `"sequence"` for those of all valid steps; `"running"` for mean and variance of the valid steps up
            to each; `"cumulative"` for the same mean, and for the mean of squared deviations of each of these steps
            from the mean of its own time, which other libraries call cumulative.

    Raises:
        ValueError: groups that do not divide the channels, an axis that is no channel axis, other statistics.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.GroupNormalization(groups=1, statistics="running")
        >>> np.asarray(layer(np.array([[[1.0, 3.0], [5.0, 5.0]]], "float32"))).astype(float).round(2).tolist()
        [[[-1.0, 1.0], [0.9, 0.9]]]
    """

    groups: int

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: InitializerLike = "zeros",
        gamma_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None,
        gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None,
        gamma_constraint: ConstraintLike = None,
        statistics: Statistics = "sequence",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if groups != -1:
            self.groups = as_size("groups", groups)
        self._set_statistics(statistics)

    def number_of_groups(self, size: int) -> int:
        groups = size if self.groups == -1 else self.groups
        if size % groups:
            raise ValueError(f"`groups` (={self.groups}) must divide the channels of `axis` {self.axis} (={size})")
        return groups

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"groups": 2, "axis": 2}, (4, 12, 2, 3)),
            Example({"groups": 1, "statistics": "running"}),
            Example({"groups": 2, "statistics": "cumulative", "scale": False}, (4, 12, 3, 4)),
        ]


@register
class InstanceNormalization(NormalizationOverTime):
    """Zero mean and unit variance of each channel, over time.  [B, T, ...] -> [B, T, ...].

    This is `GroupNormalization` with a group for each channel. Mask: unchanged. Timing: none, but the field is all of
    the past, and of the future too for `"sequence"`, which therefore does not step.
    Source: Ulyanov, Vedaldi and Lempitsky, 2016, "Instance Normalization".

    Args:
        axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, statistics: as in `GroupNormalization`.

    Raises:
        ValueError: an axis that is no channel axis, other statistics.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.InstanceNormalization()(np.array([[[1.0], [3.0]]], "float32"))).round(2).tolist()
        [[[-1.0], [1.0]]]
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: InitializerLike = "zeros",
        gamma_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None,
        gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None,
        gamma_constraint: ConstraintLike = None,
        statistics: Statistics = "sequence",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self._set_statistics(statistics)

    def number_of_groups(self, size: int) -> int:
        return size

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"statistics": "running", "epsilon": 1e-1}),
            Example({"statistics": "sequence", "epsilon": 1e-1, "center": False}),
            Example({"statistics": "cumulative", "epsilon": 1e-1, "scale": False}),
        ]
