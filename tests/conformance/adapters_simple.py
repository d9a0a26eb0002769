"""The reference's pointwise, reducing, reshaping and utility layers (its family `simple`)."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
from reference import _TYPES, DEVIATIONS, Plan, _dtype, _function, _options, _own_policy, _policy, _reference

REQUIRED = None  # what no default stands for
# By the reference's name: ours, and of each option its default and what it is called here.
_LAYERS = {
    "Abs": ("Abs", {}),
    "Add": ("Translate", {"shift": (REQUIRED, "shift")}),
    "ApplySharding": ("ApplySharding", {}),
    "Argmax": ("Argmax", {}),
    "CheckpointName": ("CheckpointName", {"checkpoint_name": (REQUIRED, "checkpoint_name")}),
    "EinopsRearrange": (
        "EinopsRearrange",
        {"pattern": (REQUIRED, "pattern"), "axes_lengths": (None, "axes_lengths")},
    ),
    "Downsample1D": ("Downsample1D", {"rate": (REQUIRED, "rate")}),
    "Elu": ("ELU", {"alpha": (1.0, "alpha")}),
    "Emit": ("Emit", {}),
    "Exp": ("Exp", {}),
    "ExpandDims": ("ExpandDims", {"axis": (REQUIRED, "axis")}),
    "Flatten": ("Flatten", {}),
    "GatedLinearUnit": ("GatedLinearUnit", {}),
    "GatedTanhUnit": ("GatedTanhUnit", {}),
    "Gelu": ("GELU", {"approximate": (True, "approximate")}),
    "GlobalEinopsRearrange": (
        "GlobalEinopsRearrange",
        {
            "pattern": (REQUIRED, "pattern"),
            "axes_lengths": (None, "axes_lengths"),
            "ceil_mode": (False, "ceil_mode"),
        },
    ),
    "GlobalReshape": ("GlobalReshape", {"output_shape": (REQUIRED, "output_shape")}),
    "GradientClipping": ("GradientClipping", {"clip_value": (REQUIRED, "clip_value")}),
    "Identity": ("Identity", {}),
    "LeakyRelu": ("LeakyReLU", {"negative_slope": (0.01, "negative_slope")}),
    "Log": ("Log", {}),
    "Logging": ("Logging", {"prefix": ("", "prefix"), "dump_tensors": (False, "dump_tensors")}),
    "MaskInvalid": ("MaskInvalid", {}),
    "Max": ("Max", {"axis": (-1, "axis"), "keepdims": (False, "keepdims")}),
    "Maximum": ("Clip", {"maximum": (REQUIRED, "minimum")}),
    "Mean": ("Mean", {"axis": (-1, "axis"), "keepdims": (False, "keepdims")}),
    "Min": ("Min", {"axis": (-1, "axis"), "keepdims": (False, "keepdims")}),
    "Minimum": ("Clip", {"minimum": (REQUIRED, "maximum")}),
    "Mod": ("Modulo", {"divisor": (REQUIRED, "divisor")}),
    "MoveAxis": ("MoveAxis", {"source": (REQUIRED, "source"), "destination": (REQUIRED, "destination")}),
    "NamedEmit": ("Emit", {"emit_name": (REQUIRED, "emit_name")}),
    "OptimizationBarrier": ("OptimizationBarrier", {"apply_to_mask": (False, "apply_to_mask")}),
    "Power": ("Power", {"power": (1.0, "power")}),
    "Relu": ("ReLU", {}),
    "Reshape": ("Reshape", {"output_shape": (REQUIRED, "output_shape")}),
    "Scale": ("Scale", {"scale": (REQUIRED, "scale")}),
    "Sigmoid": ("Sigmoid", {}),
    "Slice": ("Slice", {"slices": (REQUIRED, "slices")}),
    "Softmax": ("Softmax", {"axis": (-1, "axis")}),
    "Softplus": ("Softplus", {}),
    "Squeeze": ("Squeeze", {"axis": (None, "axis")}),
    "StopGradient": ("StopGradient", {}),
    "Sum": ("Sum", {"axis": (-1, "axis"), "keepdims": (False, "keepdims")}),
    "SwapAxes": ("SwapAxes", {"axis1": (REQUIRED, "axis1"), "axis2": (REQUIRED, "axis2")}),
    "Swish": ("Swish", {}),
    "Tanh": ("Tanh", {}),
    "Transpose": ("Transpose", {"axes": (None, "axes")}),
    "Upsample1D": ("UpSampling1D", {"rate": (REQUIRED, "size")}),
    "Upsample2D": ("UpSampling2D", {"rate": (REQUIRED, "size")}),
}


@_reference(*_LAYERS)
def _simple(config, spec, name):
    ours, supported = _LAYERS[name]
    options = _options(config, {option: default for option, (default, _) in supported.items()})
    given = {supported[option][1]: _plain(value) for option, value in options.items()}
    return getattr(kseq, ours)(**given, dtype=_own_policy(spec)), Plan()


def _plain(value):
    return value["array"] if isinstance(value, dict) and "array" in value else value


@_reference("Cast")
def _cast(config, spec, name):
    return kseq.Cast(dtype=_dtype(_options(config, {"dtype": REQUIRED})["dtype"])), Plan()


@_reference("OneHot")
def _one_hot(config, spec, name):
    options = _options(config, {"depth": REQUIRED, "compute_dtype": "float32"})
    return kseq.OneHot(options["depth"], dtype=_dtype(options["compute_dtype"])), Plan()


@_reference("GatedUnit")
def _gated_unit(config, spec, name):
    options = _options(config, {"feature_activation": None, "gate_activation": None})
    return kseq.GatedUnit(*map(_function, options.values()), dtype=_own_policy(spec)), Plan()


@_reference("Lambda")
def _lambda(config, spec, name):
    options = _options(config, {"fn": REQUIRED, "mask_required": True}, sequence_input=False, expected_input_spec=None)
    layer = kseq.Lambda(_function(options["fn"]), options["mask_required"], dtype=_own_policy(spec))
    return layer, Plan()


# With weights, whose initialisers do not matter.


@_reference("PRelu")
def _prelu(config, spec, name):
    options = _options(config, {"param_dtype": _TYPES["param_dtype"]})
    shared = tuple(range(1, 2 + len(spec.shape)))  # the reference has one slope
    layer = kseq.PReLU(shared_axes=shared, dtype=_policy(options, spec, preserves_type=True))
    return layer, Plan({"alpha": "negative_slope"})


@_reference("Snake")
def _snake(config, spec, name):
    options = _options(config, {"separate_beta": REQUIRED, "param_dtype": _TYPES["param_dtype"]})
    layer = kseq.Snake(options["separate_beta"], dtype=_policy(options, spec))
    return layer, Plan({"alpha": "alpha_log", "beta": "beta_log"})


@_reference("Affine")
def _affine(config, spec, name):
    supported = {"shape": None, "use_scale": True, "use_bias": True, "param_dtype": _TYPES["param_dtype"]}
    options = _options(config, supported)
    layer = kseq.Affine(
        tuple(options["shape"] or ()), options["use_scale"], options["use_bias"], dtype=_policy(options, spec)
    )
    return layer, Plan({"scale": "scale", "bias": "bias"})


def _rearranges_time(name, config):
    return name in ("GlobalReshape", "GlobalEinopsRearrange")


# The reference says that they keep the length and see every step, whatever they do.
DEVIATIONS.append((_rearranges_time, ("block_size", "output_ratio", "receptive_field", "receptive_field_per_step")))
