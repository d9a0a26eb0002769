"""Normalisations of the reference."""

import math

import numpy as np
from reference import _TYPES, Implementation, Plan, _options, _own_policy, _policy, _reference

import kseq

# How the reference computes: kseq's statistics are in float32 at least, and of deviations from the mean.
_COMPUTATION = {
    "guard_against_excess_precision": False,
    "reductions_in_at_least_fp32": True,
    "use_fast_variance": True,
}
_SCALED = {"use_scale": True, "param_dtype": _TYPES["param_dtype"]} | _COMPUTATION


def _common(options, spec):
    found = {"axis": _axis(options["axis"]), "epsilon": options["epsilon"], "scale": options["use_scale"]}
    if "use_bias" in options:
        found["center"] = options["use_bias"]
    return found | {"dtype": _policy(options, spec, preserves_type=True)}


def _axis(axis):
    return axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis


@_reference("LayerNormalization")
def _layer_normalization(config, spec, name):
    options = _options(config, {"axis": -1, "epsilon": 1e-6, "use_bias": True} | _SCALED)
    return kseq.LayerNormalization(**_common(options, spec)), Plan({"gamma": "scale", "beta": "bias"})


@_reference("RMSNormalization")
def _rms_normalization(config, spec, name):
    options = _options(config, {"axis": -1, "epsilon": 1e-6} | _SCALED)
    return kseq.RMSNormalization(**_common(options, spec)), Plan({"scale": "scale"})


@_reference("L2Normalize")
def _l2_normalize(config, spec, name):
    options = _options(config, {"axis": -1, "epsilon": 1e-12} | _COMPUTATION)
    return kseq.L2Normalize(options["axis"], options["epsilon"], dtype=_own_policy(spec)), Plan()


@_reference("BatchNormalization")
def _batch_normalization(config, spec, name):
    own = {"axis": -1, "epsilon": 1e-3, "use_bias": True, "momentum": 0.99}
    options = _options(config, own | _SCALED)
    layer = kseq.BatchNormalization(momentum=options["momentum"], **_common(options, spec))
    statistics = {"moving_mean": "BatchNorm_0/mean", "moving_variance": "BatchNorm_0/var"}
    return layer, Plan({"gamma": "BatchNorm_0/scale", "beta": "BatchNorm_0/bias"}, statistics=statistics)


class StoppedAtNoVariance(Implementation):
    """The reference has no gradient of steps at which the variance is zero, though later outputs depend on them."""

    def grads(self, values, mask, constants, cotangent):
        of_values, of_weights = super().grads(values, mask, constants, cotangent)
        is_first = mask & (np.cumsum(mask, axis=1) == 1)
        return np.where(is_first.reshape(mask.shape + (1,) * (values.ndim - 2)), 0, of_values), of_weights


@_reference("GroupNormalization")
def _group_normalization(config, spec, name):
    own = {"num_groups": None, "axis": -1, "epsilon": 1e-6, "cumulative": False, "use_bias": True}
    options = _options(config, own | _SCALED)
    statistics = "cumulative" if options["cumulative"] else "sequence"
    layer = kseq.GroupNormalization(options["num_groups"], statistics=statistics, **_common(options, spec))
    stopped = options["cumulative"] and math.prod(spec.shape) == options["num_groups"]
    implementation = StoppedAtNoVariance if stopped else Implementation
    return layer, Plan({"gamma": "scale", "beta": "bias"}, implementation=implementation)
