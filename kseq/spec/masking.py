"""How masks pass the layers of a spec: some take sequences, and around the others the masks are led and joined."""

import functools
from collections.abc import Iterable
from typing import Any

from keras import ops


def takes_sequences(layer: Any) -> bool:
    """Whether a layer takes values with their mask; other layers are given the values alone."""
    return hasattr(layer, "step")


def join(masks: Iterable[Any]) -> Any:
    """The mask of what a layer makes of several inputs, which is valid where all are; `None` of no masks."""
    masks = list(dict.fromkeys(masks))
    return functools.reduce(ops.logical_and, masks) if masks else None
