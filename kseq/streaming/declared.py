"""Subclassed models that say that their `call` can be read: what is made of layers and `keras.ops` alone."""

from typing import Any

import keras

from ..model_graph import in_words, is_graph
from ..obstacles import NotStreamable, Obstacle
from ..registry import Class

_TRACEABLE: set[type] = set()


def traceable(cls: Class) -> Class:
    """Declare that a class of Keras models computes by its layers and `keras.ops` alone, so that its models stream.

    Its `call` is read once, on symbols, with `training` as it is by default: a chain of layers, or whatever a
    functional model may be, without branches that depend on values. A subclass with a `call` of its own declares itself
    anew.

    Args:
        cls: a class of subclassed models of one input.

    Returns:
        The class.

    Raises:
        TypeError: something else.

    Example:
        >>> import kseq, keras, numpy as np
        >>> @kseq.traceable
        ... class Chain(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.first, self.second = keras.layers.Conv1D(4, 3, padding="same"), keras.layers.Dense(2)
        ...     def call(self, x):
        ...         return self.second(self.first(x))
        >>> model = Chain()
        >>> y = model(np.zeros((1, 5, 3), "float32"))  # which builds it
        >>> kseq.Stream(model).push(np.zeros((3, 3), "float32")).shape
        (2, 2)
    """
    given: Any = cls
    if not (isinstance(given, type) and issubclass(given, keras.Model)):
        raise TypeError(f"what is declared is a class of Keras models; received {given!r}")
    _TRACEABLE.add(given)
    return cls


def as_graph(model: Any) -> Any:
    """A model that has a graph: the model itself, or a functional one of the layers of a declared one.

    Raises:
        ValueError: a declared model that is not built.
        NotStreamable: one whose `call` cannot be read on symbols.
    """
    if is_graph(model) or not _is_declared(model):
        return model
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if shape is None:
        raise ValueError(f"{in_words(model)} must be built before it can stream: call it, or its `build` with a shape")
    # Batch and time are whatever they are.
    x = keras.Input((None, *shape[2:]), name=f"{model.name}_input", dtype=model.input_dtype)
    try:
        return keras.Model(x, model.call(x), name=model.name)
    except Exception as error:  # whatever it does with a symbol
        reason = f"its call cannot be read on symbols: {str(error).strip().partition(chr(10))[0]}"
        row = Obstacle(model.name, type(model).__name__, reason, "layers and keras.ops alone")
        raise NotStreamable(f"{in_words(model)} cannot stream: {row}", [row]) from None


def _is_declared(model) -> bool:
    for cls in type(model).__mro__:
        if cls in _TRACEABLE:
            return True
        if "call" in vars(cls):
            return False
    return False
