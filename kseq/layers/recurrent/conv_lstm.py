"""ConvLSTM1D and ConvLSTM2D: LSTMs over axes of space, whose products are convolutions."""

from typing import Any, ClassVar, Literal, Unpack

import keras
from keras import ops

from ...annotations import ActivationLike, ConstraintLike, ConvLSTMOptions, InitializerLike, RegularizerLike, Shape
from ...arguments import as_size, as_sizes, each_axis
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..loops import over_time
from ..parameters import Only
from ..space import SpatialAxis, spatial_axes, spatial_shape
from .base import FIXED, checked_rate, orthogonal_in_float32, with_forget_bias
from .recurrence import Recurrence


class ConvLSTM(Recurrence):
    """What convolutional LSTMs share, which differ in the number of axes of space."""

    input_rank: int | None
    filters: int
    seed_generator: Any
    kernel: Any
    recurrent_kernel: Any
    bias: Any

    rank: int
    fixed_arguments: ClassVar[dict[str, Only]] = FIXED | {
        "data_format": Only(("channels_last", None), "channels are the last axis, as `keras.layers.Permute` makes them")
    }
    kernel_size: Any
    strides: Any
    dilation_rate: Any
    activation: Any
    recurrent_activation: Any
    bias_initializer: Any
    recurrent_initializer: Any
    space: tuple[SpatialAxis, ...]

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: Literal["valid", "same"] = "valid",
        dilation_rate: int | tuple[int, ...] = 1,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Unpack[ConvLSTMOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.input_rank = self.rank + 3
        self.filters = as_size("filters", filters)
        for name in ("kernel_size", "strides", "dilation_rate"):
            setattr(self, name, as_sizes(name, getattr(self, name), self.rank))
        for name in ("dropout", "recurrent_dropout"):
            setattr(self, name, checked_rate(name, getattr(self, name)))
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'; received {padding!r}")
        if max(each_axis(self.strides)) > 1 and max(each_axis(self.dilation_rate)) > 1:
            raise ValueError(
                "one of `strides` and `dilation_rate` must be 1; received "
                f"strides={self.strides} and dilation_rate={self.dilation_rate}"
            )
        sizes = zip(*map(each_axis, (self.kernel_size, self.strides, self.dilation_rate)), strict=True)
        self.space = spatial_axes(sizes, padding)
        noisy = self.dropout or self.recurrent_dropout
        self.seed_generator = keras.random.SeedGenerator(seed) if noisy else None
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA does not compile the gradient of Keras's scan there

    def build(self, input_shape: Shape) -> None:
        if None in input_shape[2:]:
            raise ValueError(f"axes of space and channels must be of known size; received {tuple(input_shape)}")
        spatial_shape(self.space, input_shape[2:-1])
        window, gates = each_axis(self.kernel_size), 4 * self.filters
        self.kernel = self.add_parameter("kernel", (*window, input_shape[-1], gates))
        initialize = orthogonal_in_float32(self.recurrent_initializer)
        self.recurrent_kernel = self.add_parameter(
            "recurrent_kernel", (*window, self.filters, gates), "recurrent", initializer=initialize
        )
        self.bias = None
        if self.use_bias:
            initialize = self.bias_initializer
            if self.unit_forget_bias:
                initialize = with_forget_bias(initialize, self.filters)
            self.bias = self.add_parameter("bias", (gates,), initializer=initialize)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*spatial_shape(self.space, input_spec.shape[:-1]), self.filters), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        shape = (batch_size, *self.output_spec(input_spec).shape)
        return {name: ops.zeros(shape, dtype=self.compute_dtype) for name in ("hidden", "cell")}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        values, kept = x.values, None
        if training and self.dropout:
            values = values * self._kept(values[:, :1], self.dropout)  # the same at every step
        if training and self.recurrent_dropout:
            kept = self._kept(state["hidden"], self.recurrent_dropout)
        from_input = self._from_input(values)
        states = state["hidden"], state["cell"]
        kernel = self.weight(self.recurrent_kernel)
        inputs = (from_input,) if x.mask is None else (from_input, x.mask)
        if values.shape[1] == 1:
            output, states = self._advance(states, tuple(part[:, 0] for part in inputs), kernel, kept)
            outputs = output[:, None]
        else:
            by_time = tuple(ops.moveaxis(part, 1, 0) for part in inputs)
            outputs, states = over_time(
                lambda states, inputs: self._advance(states, inputs, kernel, kept), states, by_time, states[0]
            )
            outputs = ops.moveaxis(outputs, 0, 1)
        return Sequence(outputs, x.mask), dict(zip(("hidden", "cell"), states, strict=True))

    def _from_input(self, values):
        """The input's convolution, of all steps at once: [B, T, *space, C] to [B, T, *space, 4 * filters]."""
        batch, time = ops.shape(values)[:2]
        steps = ops.reshape(values, (-1, *values.shape[2:]))
        y = ops.conv(
            steps,
            self.weight(self.kernel),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        if self.bias is not None:
            y = y + self.weight(self.bias)
        return ops.reshape(y, (batch, time, *y.shape[1:]))

    def _advance(self, states, inputs, kernel, kept):
        (h, c), (from_input, *mask) = states, inputs
        read = h if kept is None else h * kept
        z = from_input + ops.conv(read, kernel, padding="same", data_format="channels_last")
        i, f, g, o = (z[..., n * self.filters : (n + 1) * self.filters] for n in range(4))
        new_c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        new_h = self.recurrent_activation(o) * self.activation(new_c)
        new_c, new_h = ops.cast(new_c, c.dtype), ops.cast(new_h, h.dtype)  # Keras's tanh narrows float64 on jax
        if mask:
            valid = ops.reshape(mask[0], (-1, *[1] * (self.rank + 1)))
            new_h, new_c = ops.where(valid, new_h, h), ops.where(valid, new_c, c)
        return new_h, (new_h, new_c)

    def _kept(self, like, rate):
        return keras.random.dropout(ops.ones_like(like), rate, seed=self.seed_generator)


@register
class ConvLSTM1D(ConvLSTM):
    """Convolutional LSTM over an axis of space.  [B, T, S, C] -> [B, T, S', filters].

    Gates are those of `LSTM`, and in the place of products there are convolutions over space: of the input with the
    strides, the padding and the dilation that are given, of the hidden state as wide as it is. Mask: unchanged; an
    invalid step leaves the state untouched. Timing: none; depends on the whole past. The weights are those of
    `keras.layers.ConvLSTM1D`.  Source: Shi et al., 2015, "Convolutional LSTM Network".

    Args:
        filters: channels of the state and of the output.
        kernel_size, strides, padding, dilation_rate: of the windows over space, as in Keras.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        unit_forget_bias: start the forget gate's bias at 1.
        dropout: fraction of the input's values set to zero while training, the same ones at every step of a call.
        recurrent_dropout: the same of the hidden state before its convolution, for all gates alike.
        seed: seed of the random numbers.

    Raises:
        ValueError: sizes below 1, strides beside a dilation, an axis of space that is too short for one window or whose
            size is not known, a fraction outside 0 to 1, or another of Keras's arguments with a value that does not
            stream.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.ConvLSTM1D(2, 3, padding="same")(np.zeros((1, 5, 8, 3), "float32")).shape
        (1, 5, 8, 2)
    """

    rank = 1

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"filters": 2, "kernel_size": 3, "padding": "same"}, (4, 8, 4, 2)),
            Example({"filters": 2, "kernel_size": 2, "strides": 2, "use_bias": False}, (4, 8, 5, 2)),
        ]


@register
class ConvLSTM2D(ConvLSTM):
    """Convolutional LSTM over two axes of space.  [B, T, H, W, C] -> [B, T, H', W', filters].

    As `ConvLSTM1D`, mask and timing too. The weights are those of `keras.layers.ConvLSTM2D`.  Source: Shi et al., 2015,
    "Convolutional LSTM Network".

    Args:
        filters: channels of the state and of the output.
        kernel_size, strides, padding, dilation_rate: of the windows over space, as in Keras, of each axis or of both.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        unit_forget_bias, dropout, recurrent_dropout, seed: as in `ConvLSTM1D`.

    Raises:
        ValueError: as in `ConvLSTM1D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.ConvLSTM2D(2, 3, strides=2, padding="same")(np.zeros((1, 5, 8, 6, 3), "float32")).shape
        (1, 5, 4, 3, 2)
    """

    rank = 2

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"filters": 2, "kernel_size": (3, 2), "padding": "same"}, (4, 8, 3, 2, 2)),
            Example({"filters": 1, "kernel_size": 2, "dilation_rate": (1, 2)}, (4, 8, 3, 4, 2)),
        ]
