"""Alignments over a context source of the reference."""

from reference import _HINTS, Plan, _options, _policy, _reference

import kseq


@_reference("GmmAttention")
def _gmm_attention(config, spec, name):
    own = {
        "source_name": None,
        "num_heads": None,
        "units_per_head": None,
        "num_components": None,
        "monotonic": None,
        "output_use_bias": True,
        "init_offset_bias": 0.0,
        "init_scale_bias": 0.0,
        "max_offset": -1.0,
    }
    options = _options(config, own, **_HINTS)
    layer = kseq.GmmAttention(
        options["num_heads"],
        options["units_per_head"],
        options["num_components"],
        options["monotonic"],
        **{name: options[name] for name in ("init_offset_bias", "init_scale_bias")},
        max_offset=options["max_offset"] if options["max_offset"] > 0 else None,
        use_bias=options["output_use_bias"],
        source=options["source_name"],
        kernel_initializer="zeros",
        dtype=_policy(options, spec),
    )
    return layer, Plan({"hidden_kernel": "hidden/kernel", "kernel": "output/kernel", "bias": "output/bias"})
