"""Zoneout of the states of any cell."""

import math
from typing import Any, Unpack

import keras
from keras import ops, tree

from ...annotations import LayerOptions, Shape
from .base import checked_rate
from .cells import zone_out
from .keras_cells import build_cell, call_cell, check_cell, initial_state_of


@keras.saving.register_keras_serializable("kseq")
class ZoneoutCell(keras.layers.Layer):
    """A cell of Keras's whose states keep some of their values while it trains, for `kseq.RNN`.

    [B, ...] and states to the cell's output and states, of which each value is the old one with the given probability;
    where the cell does not train, it is so much of the old one and the rest of the new one. The output is the cell's,
    and so are its weights.  Source: Krueger et al., 2016, "Zoneout: Regularizing RNNs by Randomly Preserving Hidden
    Activations".

    Args:
        cell: what `kseq.RNN` takes.
        rate: fraction of values that stay, from 0 to below 1.
        seed: seed of the random numbers.

    Raises:
        TypeError: something that is no cell.
        ValueError: a rate outside 0 to 1.

    Example:
        >>> import keras, kseq, numpy as np
        >>> cell = kseq.ZoneoutCell(keras.layers.GRUCell(3), 0.1)
        >>> kseq.RNN(cell)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 3)
    """

    def __init__(self, cell: Any, rate: float, seed: int | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        check_cell(cell)
        self.cell, self.rate, self.seed = cell, checked_rate("rate", rate), seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @property
    def state_size(self) -> Any:
        return self.cell.state_size

    @property
    def output_size(self) -> Any:
        return getattr(self.cell, "output_size", None)

    def get_initial_state(self, batch_size: Any = None) -> Any:
        return initial_state_of(self.cell, batch_size)

    def build(self, input_shape: Shape) -> None:
        build_cell(self.cell, input_shape)

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        output, new = call_cell(self.cell, inputs, states, training)
        if not self.rate:
            return output, new
        old = tree.flatten(states)
        zoned = self.rate
        if training:
            shape = (ops.shape(inputs)[0], sum(math.prod(o.shape[1:]) for o in old))
            zoned = keras.random.uniform(shape, seed=self.seed_generator) < self.rate
        return output, tree.pack_sequence_as(new, list(zone_out(old, tree.flatten(new), zoned)))

    def get_config(self) -> dict[str, Any]:
        cell = keras.saving.serialize_keras_object(self.cell)
        return super().get_config() | {"cell": cell, "rate": self.rate, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config | {"cell": keras.saving.deserialize_keras_object(config["cell"])})
