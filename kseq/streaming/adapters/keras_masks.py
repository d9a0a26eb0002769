"""Keras's masks: which rule a layer follows, and the masks that Keras puts on tensors."""

import enum
from typing import Any

import keras
from keras import ops


class MaskRule(enum.Enum):
    """What becomes of Keras's mask in a layer or operation."""

    PASSES = "the mask of the first input"
    LOSES = "none"
    OWN = "what its `compute_mask` says"


def mask_rule_of(operation: Any) -> MaskRule:
    """Keras's rule for the mask of a layer or operation."""
    if isinstance(operation, keras.layers.SpectralNormalization):
        # It gives the very tensor that the layer within gives, with its mask, unless it casts it.
        casts = operation.layer.compute_dtype != operation.compute_dtype
        return MaskRule.LOSES if casts else mask_rule_of(operation.layer)
    if not isinstance(operation, keras.layers.Layer) or not operation.supports_masking:
        return MaskRule.LOSES
    passes = type(operation).compute_mask is keras.layers.Layer.compute_mask
    return MaskRule.PASSES if passes else MaskRule.OWN


class MaskOf(keras.layers.Layer):
    """Gives the mask that Keras has put on a tensor, or `None`."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        return mask

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None


class WithMask(keras.layers.Layer):
    """Gives a tensor on which Keras's mask is another: a copy, so that the tensor itself stays as it is."""

    def __init__(self) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        return ops.copy(x)
