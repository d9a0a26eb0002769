"""What Keras divides a loss by, which depends on the model: the steps of the mask that its output carries, or all."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from .weighting import BatchReader

if TYPE_CHECKING:
    from .layout import BatchLayout
    from .options import Options


class KnownModel:
    """The model for which Keras asks for batches, and how those are to be weighted for it.

    Args:
        layout: the `BatchLayout` of the batches.
        options: their `Options`.

    Attributes:
        reader: Keras as a `BatchReader`.
    """

    def __init__(self, layout: BatchLayout, options: Options) -> None:
        self._layout, self._scale, self._model = layout, options.scale_weights, None
        self.reader: BatchReader = BatchReader(True, options.scaled)

    def asks(self, look: Callable[[], Any]) -> None:
        """Keras begins an epoch. `look` gives inputs of the model."""
        model = asking_model()
        known = model is None or (self._model is not None and self._model() is model)
        if known or self._layout.targets is None or not self._layout.targets.ragged:
            return
        self._model = weakref.ref(model)
        carried = carries_mask(model, look())
        if not carried:
            warn_of_metrics(model)
        if self._scale is None:
            self.reader = BatchReader(True, not carried)


def asking_model() -> keras.Model | None:
    """The model whose `fit`, `evaluate` or `predict` is asking for data; None if none is.

    Keras does not tell a data set for whom it is read.
    """
    frame = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, keras.Model):
            return found
        frame = frame.f_back
    return None


class MaskLook(keras.layers.Layer):
    """Notes whether what it is called with carries Keras's mask."""

    supports_masking: bool

    def __init__(self, found: set[bool]) -> None:
        super().__init__()
        self.supports_masking, self._note = True, found.add

    def call(self, inputs: Any, mask: Any = None) -> Any:
        self._note(mask is not None)
        return inputs


class OutputLook(keras.layers.Layer):
    """Looks at the outputs of a model, which is not a part of it."""

    def __init__(self, model: Any, found: set[bool]) -> None:
        super().__init__()
        self._model, self._look = (lambda inputs: model(inputs, training=False)), MaskLook(found)

    def call(self, inputs: Any) -> list[Any]:
        return [self._look(output) for output in keras.tree.flatten(self._model(inputs))]


def carries_mask(model: Any, inputs: Any) -> bool:
    """Whether an output of a model carries Keras's mask, by whose steps Keras's losses and metrics then divide.

    Nothing is computed.

    Args:
        model: a model; one that is not built is built as Keras does it.
        inputs: arrays such as it is given.
    """

    def spec(array):
        kind = "string" if array.dtype == object else keras.backend.standardize_dtype(array.dtype)
        return keras.KerasTensor(array.shape, kind)

    found = set()
    OutputLook(model, found).compute_output_spec(keras.tree.map_structure(spec, inputs))
    return True in found


def warn_of_metrics(model: Any) -> None:
    """Warn of metrics that Keras gives neither mask nor weights: they count padded steps."""
    if model.compiled and (model.get_compile_config() or {}).get("metrics"):
        warnings.warn(
            "metrics count padded steps, since the model's outputs carry no mask: pass them to compile as "
            "weighted_metrics",
            stacklevel=2,
        )
