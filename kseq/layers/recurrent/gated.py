"""Recurrent layers: LSTM and GRU."""

import functools
import math
from typing import Any, ClassVar, Unpack

import keras
from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RecurrentOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..parameters import Only
from . import cells, scan

# Derivatives of activations as functions of their outputs.
_DERIVATIVES = {
    keras.activations.tanh: lambda y: 1 - y * y,
    keras.activations.sigmoid: lambda y: y * (1 - y),
    keras.activations.linear: ops.ones_like,
    keras.activations.relu: lambda y: ops.cast(y > 0, y.dtype),
}


def _in_float64(function, x):
    # Keras's tanh makes float32 of it on jax.
    return ops.cast(function(x), "float64")


class _Recurrent(SequenceLayer):
    """Weights, state and both modes of a recurrence; a subclass names its cell and the shape of its bias."""

    takes_complex = False

    input_rank: int | None = 3
    kernels: int  # gates with a kernel, in units
    units: int
    seed_generator: Any
    kernel: Any
    recurrent_kernel: Any
    bias: Any
    fixed_arguments: ClassVar[dict[str, Only]] = {
        "recurrent_dropout": Only((0.0, 0), "use `dropout`, of the input"),
        "return_sequences": Only((True,), "take the last step of the output, `y[:, -1]`, or train on every step"),
        "return_state": Only((False,), "`y, state = layer(x, return_state=True)` gives the state"),
        "go_backwards": Only(
            (False,),
            "what reads backwards, as a half of `keras.layers.Bidirectional` does, needs the end first and does not "
            "stream; for whole sequences use `kseq.Bidirectional`, or Keras's layer of this name, which takes the same "
            "weights",
        ),
        "stateful": Only((False,), "the state is a value, of `layer.step(x, state)`, and `kseq.Stream` keeps one"),
        "unroll": Only((False,), "leave it out, the numbers are the same"),
        "zero_output_for_mask": Only((False,), "`mask_invalid` of a `kseq.Sequence` sets invalid steps to zero"),
        "implementation": Only((0, 1, 2), "leave it out, the numbers are the same"),
        "use_cudnn": Only(("auto", False), "leave it out, the numbers are the same"),
    }

    def _make_cell(self, cell_class):
        self.units = as_size("units", self.units)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be at least 0 and below 1; received {self.dropout}")
        self.seed_generator = keras.random.SeedGenerator(self.seed) if self.dropout else None
        functions = self.activation, self.recurrent_activation
        derivatives = tuple(map(_DERIVATIVES.get, functions))
        if self.compute_dtype == "float64":
            functions = tuple(functools.partial(_in_float64, f) for f in functions)
        self._cell = cell_class(self.units, *functions, None if None in derivatives else derivatives)
        if keras.backend.backend() == "tensorflow" and not self._cell.has_gradient:
            self.supports_jit = False  # XLA does not compile the gradient of Keras's scan there

    def build(self, input_shape: Shape) -> None:
        size = self.kernels * self.units
        self.kernel = self.add_parameter("kernel", (input_shape[-1], size))
        self.recurrent_kernel = self.add_parameter(
            "recurrent_kernel", (self.units, size), "recurrent", initializer=self._initialize_recurrent
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_parameter("bias", self._bias_shape, initializer=self._bias_initializer)

    def _initialize_recurrent(self, shape, dtype=None):
        # Orthogonal matrices come from a decomposition that no backend has in half precision.
        wide = dtype if dtype == "float64" else "float32"
        return ops.cast(self.recurrent_initializer(shape, dtype=wide), dtype or wide)

    @property
    def _bias_shape(self) -> Shape:
        return (self.kernels * self.units,)

    @property
    def _bias_initializer(self):
        return self.bias_initializer

    def _matrices(self):
        """Kernel, recurrent kernel, and the biases of the input's product and of the hidden state's, if any."""
        return self.weight(self.kernel), self.weight(self.recurrent_kernel), *self._biases()

    def _biases(self) -> tuple[Any, ...]:
        return () if self.bias is None else (self.weight(self.bias),)

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),))

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.units,), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        shape = (batch_size, self.units)
        return {name: ops.zeros(shape, dtype=self.compute_dtype) for name in self._cell.states}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        if training and self.dropout:
            x = x.apply(self._drop)
        names = self._cell.states
        state = tuple(state[name] for name in names)
        if x.values.shape[1] == 1:
            mask = None if x.mask is None else x.mask[:, 0]
            state = scan.one_step(self._cell, x.values[:, 0], mask, state, self._matrices())
            outputs = state[0][:, None]
        else:
            states = scan.many_steps(self._cell, x.values, x.mask, state, self._matrices())
            outputs, state = states[0], tuple(s[:, -1] for s in states)
        return Sequence(outputs, x.mask), dict(zip(names, state, strict=True))

    def _drop(self, values):
        batch, _, channels = ops.shape(values)
        kept = ops.ones((batch, 1, channels), dtype=values.dtype)  # the same channels at every step
        return values * keras.random.dropout(kept, self.dropout, seed=self.seed_generator)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        state = self.initial_state(ops.shape(x.values)[0], x.spec)
        return self.call_step(x, state, training=training)[0]


@register
class LSTM(_Recurrent):
    """Long short-term memory; gives its output at every step.  [B, T, C] -> [B, T, units].

    Mask: unchanged; an invalid step leaves the state untouched. Timing: none; depends on the whole past. The weights
    are those of `keras.layers.LSTM` (gates in the order input, forget, candidate, output).  Source: Hochreiter and
    Schmidhuber, 1997, "Long Short-Term Memory".

    Args:
        units: size of the hidden state.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        unit_forget_bias: start the forget gate's bias at 1.
        dropout: fraction of the input's channels set to zero while training, the same ones at every step of a call.
        seed: seed of the random numbers.

    Raises:
        ValueError: `units` below 1, `dropout` outside 0 to 1, or another of Keras's arguments with a value that does
            not stream.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.LSTM(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    kernels = 4

    def __init__(
        self,
        units: int,
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
        seed: int | None = None,
        **kwargs: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self._make_cell(cells.LSTMCell)

    @property
    def _bias_initializer(self):
        if not self.unit_forget_bias:
            return self.bias_initializer

        def initializer(shape, dtype=None):
            gates = [self.bias_initializer((self.units,), dtype=dtype) for _ in range(4)]
            gates[1] = ops.ones((self.units,), dtype=dtype)
            return ops.concatenate(gates)

        return initializer

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"units": 3}), Example({"units": 2, "activation": "softsign", "use_bias": False})]


@register
class GRU(_Recurrent):
    """Gated recurrent unit; gives its output at every step.  [B, T, C] -> [B, T, units].

    Mask: unchanged; an invalid step leaves the state untouched. Timing: none; depends on the whole past. The weights
    are those of `keras.layers.GRU` (gates in the order update, reset, candidate; two rows of bias, or one where the
    reset gate comes before the product).  Source: Cho et al., 2014, "Learning Phrase Representations".

    Args:
        units: size of the hidden state.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        dropout: fraction of the input's channels set to zero while training, the same ones at every step of a call.
        seed: seed of the random numbers.
        reset_after: whether the reset gate is applied after the matrix product or, as in the source, before it. The
            latter trains more slowly.

    Raises:
        ValueError: `units` below 1, `dropout` outside 0 to 1, or another of Keras's arguments with a value that does
            not stream.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GRU(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    kernels = 3

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        seed: int | None = None,
        reset_after: bool = True,
        **kwargs: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self._make_cell(cells.GRUCell if reset_after else cells.ResetBeforeGRUCell)

    @property
    def _bias_shape(self):
        return (2, self.kernels * self.units) if self.reset_after else super()._bias_shape

    def _biases(self):
        biases = super()._biases()
        return (biases[0][0], biases[0][1]) if biases and self.reset_after else biases

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"units": 3}), Example({"units": 2, "reset_after": False, "dropout": 0.5, "seed": 1})]
