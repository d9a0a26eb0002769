"""Adapters of recurrent layers: LSTM and GRU with the variables of Keras's, and `RNN` of the cell of any other.

As in Keras an invalid step leaves the states as they are and gives the output of the step before once more.
"""

from typing import Any

import keras
from keras import ops, tree

from ...layers import recurrent
from ...layers.base import SequenceLayer
from ...model_graph import Call, Tensor
from ...registry import adapts
from ...sequence import Sequence
from .adapted import Adapted
from .refusal import Refusal


def states_of(call: Call) -> dict[str, Any]:
    """The states that a recurrent layer is called with, which are context, by name; nothing where it has none."""
    if not isinstance(call.operation, keras.layers.RNN) or call.keywords.get("initial_state") is None:
        return {}
    given = tree.flatten(call.keywords["initial_state"])
    return {f"state_{i}": x for i, x in enumerate(given)} if all(isinstance(x, Tensor) for x in given) else {}


class _Stock(Adapted):
    """What layers of kseq's in the place of Keras's share: zeros at invalid steps, where they are asked for.

    The states that it begins with may be context.
    """

    def initial_state(self, batch_size: int, input_spec: Any, context: Any = None) -> Any:
        state = super().initial_state(batch_size, input_spec)
        given = self.standardize_context(context)
        known = self.states_in(state)
        found = [
            ops.cast(given[name].values, x.dtype)
            for name, x in zip(self.context_names, tree.flatten(known), strict=False)
        ]
        return self.with_states(state, tree.pack_sequence_as(known, found)) if found else state

    def call_layer(self, x: Sequence, *, training: bool = False, context: Any = None) -> Sequence:
        given = {"context": context} if self.context_names else {}
        return SequenceLayer.call_layer(self, x, training=training, **given)  # no kernels, which begin with zeros

    def states_in(self, state: Any) -> Any:
        """Keras's states, in its order."""
        return tuple(state[name] for name in self.cell.states)

    def with_states(self, state: Any, states: Any) -> Any:
        """The state with others."""
        return dict(zip(self.cell.states, states, strict=True))

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

    def states_in(self, state: Any) -> Any:
        return state["cell"]

    def with_states(self, state: Any, states: Any) -> Any:
        return state | {"cell": states}


@adapts(keras.layers.LSTM, keras.layers.GRU, in_specs=False)
def gated(layer: Any, specs: Any, initial_state: Any = None) -> Any:
    """An LSTM or a GRU."""
    _check(layer)
    cls, more = (StockLSTM, {}) if isinstance(layer, keras.layers.LSTM) else (StockGRU, ("reset_after",))
    names = ("units", "activation", "recurrent_activation", "use_bias", *more)
    made = cls(name=layer.name, dtype=layer.dtype_policy, **{name: getattr(layer, name) for name in names})
    made.adapted, made.built = layer, True
    return _beginning(made, initial_state)


@adapts(
    keras.layers.RNN,
    keras.layers.SimpleRNN,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
    in_specs=False,
)
def of_cells(layer: Any, specs: Any, initial_state: Any = None) -> Any:
    """A recurrent layer of any cell, or cells."""
    _check(layer)
    made = StockRNN(layer.cell, name=layer.name, dtype=layer.dtype_policy)
    made.adapted = layer
    made.build((1, 1, *specs.shape))
    return _beginning(made, initial_state)


def _beginning(made, states):
    """The layer, which begins with these states."""
    given = [] if states is None else tree.flatten(states)
    if not all(isinstance(x, Tensor) for x in given):
        raise Refusal("its `initial_state` is no context", "one that is made of inputs of its own, or none")
    made.context_names = made.static_context = tuple(f"state_{i}" for i in range(len(given)))
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
