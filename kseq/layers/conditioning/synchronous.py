"""`SynchronousConditioning`: conditioning on what flows along."""

from typing import Any, Unpack

from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..structures import joint_mask
from .base import Combination, ConditionedLayer, ConditioningOptions, Projection


@register
class SynchronousConditioning(ConditionedLayer):
    """Combines each step with that of a conditioning which flows along.  [B, T, ...], [B, T, ...] -> [B, T, ...].

    The second input, as long as the first, is projected and combined with it as in `Conditioning`. Mask: where both
    inputs are valid. Timing: none. To one that comes at a lower rate `UpSampling1D` gives the rate.
    Source: google/sequence-layers, `Conditioning` with `streaming`.

    Args:
        combination, projection, **kwargs: as in `Conditioning`.

    Raises:
        ValueError: a projection that does not go with the combination, channels that do not broadcast, inputs of
            unequal length, or a first input of integers.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.SynchronousConditioning("affine")
        >>> layer([np.zeros((1, 7, 3), "float32"), np.zeros((1, 7, 5), "float32")]).shape
        (1, 7, 3)
    """

    num_inputs = 2

    def __init__(
        self,
        combination: Combination = "add",
        projection: Projection | None = None,
        **kwargs: Unpack[ConditioningOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.set_modes(combination, projection)

    def build(self, input_shape: Any) -> None:
        self.build_projection(input_shape[0][2:], input_shape[1][2:])

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        spec, other = input_spec
        if not self.built:
            self._given_shape = tuple(other.shape)
        return self.conditioned_spec(spec)

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        values, conditioning = x
        return Sequence(self.combined(values.values, self.projected(conditioning.values)), joint_mask(x))

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self.call_layer(x, training=training), state

    @classmethod
    def examples(cls) -> list[Example]:
        return []  # it has several inputs
