"""Recurrent layers: LSTM and GRU."""

import math

import keras
from keras import ops

from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer
from . import scan

# Derivatives of activations as functions of their outputs.
_DERIVATIVES = {
    keras.activations.tanh: lambda y: 1 - y * y,
    keras.activations.sigmoid: lambda y: y * (1 - y),
    keras.activations.linear: ops.ones_like,
    keras.activations.relu: lambda y: ops.cast(y > 0, y.dtype),
}


class _Recurrent(SequenceLayer):
    """Weights, state and both modes of a recurrence; a subclass names its cell and the shape of its bias."""

    input_rank = 3
    cell_class: type[scan.GatedCell]
    kernels: int  # gates with a kernel, in units

    def _make_cell(self):
        self.units = as_size("units", self.units)
        derivatives = tuple(_DERIVATIVES.get(f) for f in (self.activation, self.recurrent_activation))
        self._cell = self.cell_class(
            self.units, self.activation, self.recurrent_activation, None if None in derivatives else derivatives
        )

    def build(self, input_shape):
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
    def _bias_shape(self):
        return (self.kernels * self.units,)

    @property
    def _bias_initializer(self):
        return self.bias_initializer

    def _matrices(self):
        """Kernel, recurrent kernel, bias of the input's product and bias of the hidden state's."""
        return self.weight(self.kernel), self.weight(self.recurrent_kernel), *self._biases()

    def _biases(self):
        return None if self.bias is None else self.weight(self.bias), None

    @property
    def timing(self):
        return Timing(receptive_field_per_step=((-math.inf, 0),))

    def output_spec(self, input_spec):
        return SequenceSpec((self.units,), self.compute_dtype)

    def initial_state(self, batch_size, input_spec, context=None):
        shape = (batch_size, self.units)
        return {name: ops.zeros(shape, dtype=self.compute_dtype) for name in self.cell_class.states}

    def call_step(self, x: Sequence, state, *, training=False):
        names = self.cell_class.states
        state = tuple(state[name] for name in names)
        if x.values.shape[1] == 1:
            mask = None if x.mask is None else x.mask[:, 0]
            state = scan.one_step(self._cell, x.values[:, 0], mask, state, *self._matrices())
            outputs = state[0][:, None]
        else:
            states = scan.many_steps(self._cell, x.values, x.mask, state, *self._matrices())
            outputs, state = states[0], tuple(s[:, -1] for s in states)
        return Sequence(outputs, x.mask), dict(zip(names, state, strict=True))

    def call_layer(self, x: Sequence, *, training=False):
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

    Raises:
        ValueError: `units` below 1.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.LSTM(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    cell_class = scan.LSTMCell
    kernels = 4

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.keep(locals())
        self._make_cell()

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
    def examples(cls):
        return [Example({"units": 3}), Example({"units": 2, "activation": "softsign", "use_bias": False})]


@register
class GRU(_Recurrent):
    """Gated recurrent unit; gives its output at every step.  [B, T, C] -> [B, T, units].

    The reset gate is applied after the matrix product, as by default in Keras. Mask: unchanged; an invalid step leaves
    the state untouched. Timing: none; depends on the whole past. The weights are those of `keras.layers.GRU` (gates in
    the order update, reset, candidate; two rows of bias).  Source: Cho et al., 2014, "Learning Phrase Representations".

    Args:
        units: size of the hidden state.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.

    Raises:
        ValueError: `units` below 1.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GRU(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    cell_class = scan.GRUCell
    kernels = 3

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.keep(locals())
        self._make_cell()

    @property
    def _bias_shape(self):
        return (2, self.kernels * self.units)

    def _biases(self):
        if self.bias is None:
            return None, None
        bias = self.weight(self.bias)
        return bias[0], bias[1]

    @classmethod
    def examples(cls):
        return [Example({"units": 3})]
