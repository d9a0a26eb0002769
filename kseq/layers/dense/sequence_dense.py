"""`SequenceDense`: a dense layer of its own for each step."""

from typing import Any, Unpack

from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..counting import Counted
from ..stepwise import mixing_activation
from .numbered import FEW, NumberedLayer, StepPlaces


@register
class SequenceDense(NumberedLayer):
    """Matrix product over the channels, with a matrix of its own for each step of a row.  [B, T, C] -> [B, T, units].

    Mask: unchanged; which step of its row a step is is counted in valid steps. Timing: none, but that an output depends
    on how many valid steps came before. State: the position of the next step.
    Source: google/sequence-layers, `SequenceDense`.

    Args:
        units: output channels.
        num_steps: steps that a row may have; a valid one beyond them is an error.
        activation, use_bias, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: as in Keras.
        kernel_initializer: as in Keras; it sees the inputs of one step, and the outputs of all.
        positions: `"valid"` counts valid steps, `"all"` all steps from the first valid one on.

    Raises:
        ValueError: sizes below 1, or more steps than `num_steps`: where values are not known, while a call is traced,
            outputs beyond them are NaN.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SequenceDense(5, num_steps=8)(np.zeros((1, 7, 4), "float32")).shape
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
            found = self.kernel_initializer((channels, steps * self.units), dtype=dtype)
            return ops.transpose(ops.reshape(found, (channels, steps, self.units)), (1, 0, 2))

        self.kernel = self.add_parameter("kernel", (steps, channels, self.units), initializer=initial)
        self.bias = self.add_parameter("bias", (steps, self.units)) if self.use_bias else None

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.units,), self.compute_dtype)

    @property
    def step_obstacle(self) -> str | None:
        return mixing_activation(self)

    def call_numbered(self, x: Sequence, places: StepPlaces, state: Any) -> tuple[Any, Any]:
        values, time = x.values, x.values.shape[1]
        if places.same_in_all_rows:
            own = self.weight(ops.take(self.kernel, places.index[0], axis=0))
            y = ops.einsum("btc,tcd->btd", values, own)
        elif state is not None and isinstance(time, int) and time <= FEW:
            own = self.weight(ops.take(self.kernel, places.index, axis=0))
            y = ops.einsum("btc,btcd->btd", values, own)
        else:
            slots, _ = places.to_slots(values)
            y = places.from_slots(ops.einsum("bsc,scd->bsd", slots, self.weight(self.kernel)))
        if self.bias is not None:
            y = y + self.weight(ops.take(self.bias, places.index, axis=0))
        return self.activation(y), {}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"units": 2, "num_steps": 14, "activation": "tanh"}),
            Example({"units": 2, "num_steps": 40, "use_bias": False, "positions": "all"}),
        ]
