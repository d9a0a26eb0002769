"""Stock Keras layers and operations that treat every time step by itself, as kseq layers that share their weights."""

import functools

import keras
from keras import ops

from ...layers.base import SequenceLayer
from ...registry import register_stock, registered_layers
from ...sequence import Sequence

_MERGES = (
    keras.layers.Add,
    keras.layers.Subtract,
    keras.layers.Multiply,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
)
_STEPWISE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Embedding,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Normalization,
    keras.layers.RMSNormalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Softmax,
    keras.layers.UnitNormalization,
)
register_stock((*_MERGES, *_STEPWISE, keras.layers.Concatenate, keras.layers.Masking))
# What `x + y`, `keras.ops.relu(x)` and the like put into a functional model; the classes themselves are private.
# fmt: off
_STEPWISE_OPERATIONS = {
    "Absolute", "Add", "Cast", "Clip", "Divide", "Elu", "Exp", "Gelu", "LeakyRelu", "Log", "Maximum", "Minimum",
    "Multiply", "Negative", "Power", "Relu", "Sigmoid", "Silu", "Softplus", "Sqrt", "Square", "Subtract", "Tanh",
    "TrueDivide",
}
# fmt: on


def obstacle(operation, rank) -> str | None:
    """Why a stock layer or operation has no streaming meaning on values of this rank, or `None`."""
    if isinstance(operation, (*_MERGES, keras.layers.Masking)):
        return None
    if isinstance(operation, (keras.layers.Concatenate, *_STEPWISE)):
        axis = getattr(operation, "axis", -1)
        axes = axis if isinstance(axis, (list, tuple)) else (axis,)
        mixed = any(a + rank < 2 if a < 0 else a < 2 for a in axes if a is not None)
        return "its axis is batch or time; use a channel axis" if mixed else None
    if not isinstance(operation, keras.layers.Layer):
        if type(operation).__name__ in _STEPWISE_OPERATIONS:
            return None
        return "this operation may mix time steps; put it into a kseq layer"
    twin = type(operation).__name__
    return f"it has no streaming form; use kseq.{twin}" if twin in registered_layers() else "it has no streaming form"


def joins_masks(operation, tensors) -> bool:
    """Whether an operation is the `and` of the masks of sequences whose values are merged."""
    return type(operation).__name__ == "LogicalAnd" and all(
        isinstance(x, keras.KerasTensor) and x.dtype == "bool" and len(x.shape) == 2 for x in tensors
    )


class Stepwise(SequenceLayer):
    """A stock layer or operation of one or several inputs that keeps time as it is."""

    zeroes_invalid = False

    def __init__(self, operation, **kwargs):
        super().__init__(name=operation.name, **kwargs)
        self.operation = operation
        self.built = True

    def call_many(self, arguments, keywords):
        """Apply the operation to its arguments, a tree with sequences as leaves."""
        found = []

        def values(leaf):
            if isinstance(leaf, Sequence):
                found.append(leaf)
                return leaf.values
            return leaf

        arguments, keywords = map_sequences(values, arguments), map_sequences(values, keywords)
        masks = [x.mask for x in found if x.mask is not None]
        y = self.operation(*arguments, **keywords)
        if isinstance(self.operation, keras.layers.Masking):
            masks.append(ops.any(ops.not_equal(found[0].values, self.operation.mask_value), axis=-1))
        return Sequence(y, functools.reduce(ops.logical_and, masks) if masks else None)


def map_sequences(fn, structure):
    """Apply `fn` to the leaves of nested lists, tuples and dicts, a `Sequence` being a leaf."""
    if isinstance(structure, Sequence):
        return fn(structure)
    if isinstance(structure, dict):
        return {k: map_sequences(fn, v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_sequences(fn, v) for v in structure)
    return fn(structure)
