"""Recurrent layers of the reference."""

import keras
from keras import ops
from reference import _HINTS, _TYPES, Plan, _options, _policy, _reference

import kseq
from kseq.layers.recurrent.linear_scan import linear_scan


class ScannedAsReal(kseq.RGLRU):
    """What the reference's complex unit does in float32: its scan is that of the real parts, and gives no others.

    It accumulates in the type that `recurrentgemma.scan` chooses, which is real wherever an initial state is given. In
    half precision, where it has complex numbers of its own, it is right.
    """

    def _complex_scan(self, a, summands, initial, mask):
        return [(part, ops.zeros_like(part)) for part in linear_scan(a[0], summands[0], initial[0], mask)]


@_reference("RGLRU")
def _rg_lru(config, spec, name):
    # How it scans changes no number, and the variance is an initialiser's.
    given = {key: value for key, value in config.items() if key not in ("scan_type", "gate_kernel_variance_scale")}
    supported = {"units": None, "num_heads": None, "only_real": True, "min_rad": 0.9}
    options = _options(given, supported | _TYPES, **_HINTS)
    policy = _policy(options, spec)
    wide = not options["only_real"] and keras.DTypePolicy(policy).compute_dtype not in ("bfloat16", "float16")
    layer = (ScannedAsReal if wide else kseq.RGLRU)(
        options["units"],
        num_heads=options["num_heads"],
        only_real=options["only_real"],
        min_rad=options["min_rad"],
        kernel_initializer="zeros",
        dtype=policy,
    )
    gates = {f"{gate}_{part}": f"{gate}/{part}" for gate in ("input_gate", "a_gate") for part in ("kernel", "bias")}
    return layer, Plan({"a_param": "a_param", "a_imag_param": "a_imag_param"} | gates)
