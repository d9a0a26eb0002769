"""Adapter of Keras's spectral normalisation: in a stream it is the layer that it normalises."""

import inspect
from typing import Any

import keras

from ...layers.base import SequenceLayer
from ...layers.combinators import Serial
from ...registry import adapter_of, adapts
from .call_site import ANYWHERE, CallSite
from .operation import Operation


@adapts(keras.layers.SpectralNormalization)
def spectral_normalization(
    layer: Any, specs: Any, training: bool = False, site: CallSite = ANYWHERE, **options: Any
) -> Any:
    """The layer within, of kseq or one that has an adapter, whose kernel has been normalised while training."""
    if training:
        raise ValueError("called with training=True it changes its kernel")
    inner = layer.layer
    if not keras.backend.is_float_dtype(specs.dtype):
        raise ValueError(f"it gives {specs.dtype}, the dtype of its input, where {type(inner).__name__} gives floats")
    if not isinstance(inner, SequenceLayer):
        adapter = adapter_of(inner)
        if adapter is None:
            raise ValueError(f"the layer within, {inner.name} ({type(inner).__name__}), has no streaming form")
        if "site" in inspect.signature(adapter).parameters:
            options["site"] = site
        inner = adapter(inner, specs, **options)
    if inner.output_spec(specs).dtype == layer.compute_dtype:
        return inner
    # It gives its own dtype, whatever the layer within computes in.
    identity = keras.layers.Identity(dtype=layer.compute_dtype)
    made = Serial([inner, Operation.of(identity, inner.output_spec(specs))])
    made.reads_every_step = inner.reads_every_step
    return made
