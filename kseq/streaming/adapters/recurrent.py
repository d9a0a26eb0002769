"""Adapters of recurrent layers: of LSTM and GRU kseq's layers with their variables, of all others a loop of their cell.

As in Keras an invalid step leaves the states as they are and gives the output of the step before once more.
"""

import math
from typing import Any

import keras
from keras import ops, tree

from ...layers import recurrent
from ...layers.base import SequenceLayer
from ...registry import adapts
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from .operation import Held
from .refusal import Refusal


class _StockGates(SequenceLayer):
    """What the kseq twins of LSTM and GRU share: the variables of a stock layer's cell."""

    adapted: Any

    def origin(self) -> Any:
        return self.adapted

    @property
    def kernel(self) -> Any:
        return self.adapted.cell.kernel

    @property
    def recurrent_kernel(self) -> Any:
        return self.adapted.cell.recurrent_kernel

    @property
    def bias(self) -> Any:
        return self.adapted.cell.bias

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        y, state = super().call_step(x, state, training=training)
        return y.mask_invalid() if self.adapted.zero_output_for_mask else y, state


class StockLSTM(_StockGates, recurrent.LSTM):
    """Keras's LSTM."""


class StockGRU(_StockGates, recurrent.GRU):
    """Keras's GRU."""


class StockRNN(SequenceLayer):
    """A stock recurrent layer of any cell, or cells.

    State: the states of the cell in its order, and the output of the last valid step.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.adapted = layer
        self._structure = Held(tree.map_structure(lambda _: 0, layer.get_initial_state(1)))
        self.built = True

    def origin(self) -> Any:
        return self.adapted

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),))

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        made = self.adapted.compute_output_shape((1, 1, *input_spec.shape))
        return SequenceSpec(tuple(made[2:]), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: Any, context: Any = None) -> Any:
        dtype, spec = self.adapted.cell.compute_dtype, self.output_spec(input_spec)
        states = tree.flatten(self.adapted.get_initial_state(batch_size))
        return {
            # Copies, for a cell may give one array twice.
            "states": {str(n): ops.copy(ops.cast(s, dtype)) for n, s in enumerate(states)},
            "output": ops.zeros((batch_size, *spec.shape), dtype=spec.dtype),
        }

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        carry = state["output"], tuple(state["states"].values())

        def step(carry, given):
            values, mask = given if x.mask is not None else (given, None)
            carry = self._advance(values, mask, carry)
            return carry, carry  # the TensorFlow backend wants outputs of the carry's structure

        if x.values.shape[1] == 1:
            carry, _ = step(carry, x.values[:, 0] if x.mask is None else (x.values[:, 0], x.mask[:, 0]))
            y = carry[0][:, None]
        else:
            given = _time_first(x.values)
            carry, (y, _) = ops.scan(step, carry, given if x.mask is None else (given, ops.transpose(x.mask)))
            y = _time_first(y)
        made = Sequence(y, x.mask)
        made = made.mask_invalid() if self.adapted.zero_output_for_mask else made
        return made, {"states": dict(zip(state["states"], carry[1], strict=True)), "output": carry[0]}

    def _advance(self, values, mask, carry):
        output, states = carry
        given = tree.pack_sequence_as(self._structure.value, list(states))
        new_output, new_states = self.adapted.cell(values, given)
        new = [ops.cast(new_output, output.dtype), *tree.flatten(new_states)]
        old = [output, *states]
        new = [ops.cast(a, b.dtype) for a, b in zip(new, old, strict=True)]
        if mask is not None:
            new = [ops.where(_wide(mask, a), a, b) for a, b in zip(new, old, strict=True)]
        return new[0], tuple(new[1:])


def _time_first(values):
    return ops.transpose(values, (1, 0, *range(2, len(values.shape))))


def _wide(mask, values):
    return ops.reshape(mask, (-1, *[1] * (len(values.shape) - 1)))


@adapts(keras.layers.LSTM, keras.layers.GRU, in_specs=False)
def gated(layer: Any, specs: Any) -> Any:
    """An LSTM or a GRU."""
    _check(layer)
    cls, more = (StockLSTM, {}) if isinstance(layer, keras.layers.LSTM) else (StockGRU, ("reset_after",))
    names = ("units", "activation", "recurrent_activation", "use_bias", *more)
    made = cls(name=layer.name, dtype=layer.dtype_policy, **{name: getattr(layer, name) for name in names})
    made.adapted, made.built = layer, True
    return made


@adapts(
    keras.layers.RNN,
    keras.layers.SimpleRNN,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
    in_specs=False,
)
def of_cells(layer: Any, specs: Any) -> Any:
    """A recurrent layer of any cell, or cells."""
    _check(layer)
    return StockRNN(layer)


def _check(layer):
    if not layer.return_sequences:
        raise Refusal(
            "it gives its last step alone, and no step of a stream is known to be the last",
            "return_sequences=True, and the last output of the stream",
        )
    if layer.go_backwards:
        raise Refusal("it reads backwards, from an end that a stream does not know", "go_backwards=False")
    if layer.return_state:
        raise Refusal("it gives its states beside its outputs", "return_state=False")
