"""`MaskedDense`: one dense layer over all steps of a row, of which an output sees those up to its own."""

from typing import Any, Unpack

import numpy as np
from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example
from ..counting import Counted
from ..stepwise import mixing_activation
from .numbered import FEW, NumberedLayer, StepPlaces


@register
class MaskedDense(NumberedLayer):
    """Sum over all steps up to its own of a matrix product with each, a matrix a pair.  [B, T, C] -> [B, T, units].

    Output step `t` is `b[t]` and the sum over `s <= t` of `x[s] @ kernel[s, t]`: a dense layer over the whole row whose
    weights from later to earlier steps are masked. Mask: unchanged; steps are counted by valid ones, and what is
    invalid adds nothing. Timing: none, a step depends on all `num_steps - 1` before it. State: the steps so far and the
    position of the next one.
    Source: google/sequence-layers, `MaskedDense`; the masks are those of Germain et al., 2015, "MADE".

    Args:
        units: output channels.
        num_steps: steps that a row may have; a valid one beyond them is an error.
        activation, use_bias, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: as in Keras.
        kernel_initializer: as in Keras; it sees the inputs and the outputs of all steps.
        positions: `"valid"` counts valid steps, `"all"` all steps from the first valid one on.

    Raises:
        ValueError: sizes below 1, or more steps than `num_steps`: where values are not known, while a call is traced,
            outputs beyond them are NaN.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MaskedDense(5, num_steps=8)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    input_rank: int | None = 3

    units: int
    kernel: Any
    bias: Any

    def __init__(
        self,
        units: int,
        num_steps: int,
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "lecun_normal",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        positions: Counted = "valid",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.units = as_size("units", units)
        self.check_steps_and_positions()

    def build(self, input_shape: Shape) -> None:
        steps, channels = self.num_steps, input_shape[-1]

        def initial(shape: Any, dtype: Any = None) -> Any:
            found = self.kernel_initializer((steps * channels, steps * self.units), dtype=dtype)
            return ops.transpose(ops.reshape(found, (steps, channels, steps, self.units)), (0, 2, 1, 3))

        self.kernel = self.add_parameter("kernel", (steps, steps, channels, self.units), initializer=initial)
        self.bias = self.add_parameter("bias", (steps, self.units)) if self.use_bias else None

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.units,), self.compute_dtype)

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((1 - self.num_steps, 0),))

    @property
    def step_obstacle(self) -> str | None:
        return mixing_activation(self)

    def memory(self, batch_size: Any, input_spec: SequenceSpec) -> dict[str, Any]:
        return {"steps": ops.zeros((batch_size, self.num_steps, *input_spec.shape), dtype=self.compute_dtype)}

    def call_numbered(self, x: Sequence, places: StepPlaces, state: Any) -> tuple[Any, Any]:
        steps, filled = places.to_slots(ops.cast(x.values, self.compute_dtype))
        if state is not None:
            steps = ops.where(filled, steps, state["steps"])
        time = x.values.shape[1]
        if state is not None and isinstance(time, int) and time <= FEW:
            # Of each step the matrices that lead to it, [steps, B, T, C, units], and which of the steps are before it.
            own = self.weight(ops.take(self.kernel, places.index, axis=1))
            earlier = ops.arange(0, self.num_steps, dtype="int32") <= places.index[:, :, None]
            y = ops.einsum("bsc,bts,sbtcd->btd", steps, ops.cast(earlier, self.compute_dtype), own)
        else:
            earlier = np.triu(np.ones((self.num_steps, self.num_steps), "float32"))[:, :, None, None]  # s <= t
            kernel = self.weight(self.kernel) * ops.cast(earlier, self.compute_dtype)
            y = places.from_slots(ops.einsum("bsc,stcd->btd", steps, kernel))
        if self.bias is not None:
            y = y + self.weight(ops.take(self.bias, places.index, axis=0))
        return self.activation(y), {"steps": steps}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"units": 2, "num_steps": 14, "activation": "tanh"}),
            Example({"units": 2, "num_steps": 40, "use_bias": False, "positions": "all"}, (3, 9, 2)),
        ]
