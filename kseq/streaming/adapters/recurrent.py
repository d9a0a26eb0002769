"""Adapters of recurrent layers: LSTM and GRU with the variables of Keras's, and `RNN` of the cell of any other.

As in Keras an invalid step leaves the states as they are and gives the output of the step before once more.
"""

from typing import Any

import keras

from ...layers import recurrent
from ...registry import adapts
from ...sequence import Sequence
from .adapted import Adapted
from .refusal import Refusal


class _Stock(Adapted):
    """What layers of kseq's in the place of Keras's share: zeros at invalid steps, where they are asked for."""

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        y, state = super().call_step(x, state, training=training)
        return y.mask_invalid() if self.adapted.zero_output_for_mask else y, state


class _StockGates(_Stock):
    """What the kseq twins of LSTM and GRU share: the variables of a stock layer's cell."""

    @property
    def kernel(self) -> Any:
        return self.adapted.cell.kernel

    @property
    def recurrent_kernel(self) -> Any:
        return self.adapted.cell.recurrent_kernel

    @property
    def bias(self) -> Any:
        return self.adapted.cell.bias


class StockLSTM(_StockGates, recurrent.LSTM):
    """Keras's LSTM."""


class StockGRU(_StockGates, recurrent.GRU):
    """Keras's GRU."""


class StockRNN(_Stock, recurrent.RNN):
    """A recurrent layer of Keras's of any cell, or cells."""


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
    made = StockRNN(layer.cell, name=layer.name, dtype=layer.dtype_policy)
    made.adapted = layer
    made.build((1, 1, *specs.shape))
    return made


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
