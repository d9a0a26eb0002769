"""Conditioning of the reference: by a constant that is a sequence or an array, or by one that streams."""

import numpy as np
from adapters_attention import BesideSource
from reference import _HINTS, _TYPES, CONSTANTS, Plan, _options, _policy, _reference

import kseq


@_reference("Conditioning")
def _conditioning(config, spec, name):
    arguments, source, _ = _arguments(config, spec)
    # Where the reference takes the constant along with the input all of it is known when a stream begins.
    constant = CONSTANTS.get()[source]
    per_step = isinstance(constant, tuple)
    layer = kseq.Conditioning(source=source, per_step=per_step, positions="all", **arguments)  # it counts all steps
    shape = np.shape(constant[0] if per_step else constant)
    layer.build((None, None, *spec.shape), context_shape={source: shape})
    return layer, Plan(_NAMES)


@_reference("Conditioning", alone=True)
def _conditioning_alone(config, spec, name):
    arguments, source, streaming = _arguments(config, spec)
    if not streaming:
        return _conditioning(config, spec, name)
    layer = kseq.SynchronousConditioning(**arguments)
    return layer, Plan(_NAMES, implementation=type("BesideSource", (BesideSource,), {"source": source}))


_NAMES = {"kernel": "dense/kernel", "bias": "dense/bias"}


def _arguments(config, spec):
    own = {
        "conditioning_name": None,
        "projection": None,
        "combination": None,
        "projection_channel_shape": None,
        "affine_scale_offset": 1.0,
        "streaming": False,
    }
    options = _options(config, own | _TYPES, **_HINTS)
    shape = options["projection_channel_shape"]
    projection = options["projection"]["projection_mode"].lower()
    arguments = {
        "combination": options["combination"]["combination_mode"].lower(),
        "projection": projection,
        # Of the identity the reference ignores it.
        "projection_channel_shape": None if shape is None or projection == "identity" else tuple(shape),
        "affine_scale_offset": options["affine_scale_offset"],
        "kernel_initializer": "zeros",
        "dtype": _policy(options, spec, preserves_type=projection == "identity"),
    }
    return arguments, options["conditioning_name"], options["streaming"]
