"""The reference's convolutions, pooling and resampling."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import numpy as np
from reference import (
    _HINTS,
    _TYPES,
    DEVIATIONS,
    Layout,
    Plan,
    _function,
    _options,
    _own_policy,
    _policy,
    _reference,
    _Unsupported,
)

_CONVOLUTIONS = "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D"
_POOLING = tuple(f"{kind}Pooling{n}D" for kind in ("Max", "Min", "Average") for n in (1, 2, 3))
# The kernels of Keras are flipped, with the output's channels before the input's.
_TRANSPOSED = Layout(
    lambda kernel: np.swapaxes(np.flip(kernel, tuple(range(kernel.ndim - 2))), -1, -2),
    lambda kernel: np.flip(np.swapaxes(kernel, -1, -2), tuple(range(kernel.ndim - 2))),
)


def _time(value):
    """Of an option of several axes that of time."""
    return value[0] if isinstance(value, (list, tuple)) else value


def _time_padding(config):
    return config.get("padding", config.get("time_padding", "valid"))


def _is_pool_of_all(name, config):
    return name in _POOLING and _time_padding(config) == "causal_valid"


def _is_same_as_a_pair(name, config):
    """Whether `same` is another thing in Keras: there its padding depends on the length, and averages leave it out."""
    differs = name.startswith("Average") or _time(config.get("strides", 1)) > 1
    return name in (*_CONVOLUTIONS, *_POOLING) and _time_padding(config) == "same" and differs


def _has_holes(name, config):
    return name.endswith("DTranspose") and np.max(config.get("dilation_rate", 1)) > 1


DEVIATIONS += [
    # What the reference refuses to step kseq steps.
    (_is_pool_of_all, ("supports_step",)),
    (_is_same_as_a_pair, ("supports_step", "input_latency", "output_latency")),
    # The reference takes inputs that fall between taps for a part of the receptive field.
    (_has_holes, ("receptive_field", "receptive_field_per_step")),
    # What fills the last block is no latency here, of no layer.
    (lambda name, config: name == "Downsample1D", ("input_latency",)),
]


def _pair(padding, differs, size, dilation):
    """The reference's padding in kseq's words, of one axis: a pair where `same` is another thing in Keras."""
    if padding != "same" or not differs:
        return tuple(padding) if isinstance(padding, (list, tuple)) else padding
    reach = (size - 1) * dilation
    return reach // 2, reach - reach // 2


def _padding(name, options, size):
    """`padding` and `spatial_padding` in the place of the reference's."""
    spatial = options.pop("spatial_padding", None)
    if "time_padding" in options:
        options["padding"] = options.pop("time_padding")
    rank = int(name.removesuffix("Transpose")[-2])
    each = [
        tuple(v) if isinstance(v, (list, tuple)) else (v,) * rank
        for v in (options[size], options["strides"], options["dilation_rate"])
    ]
    sizes, strides, dilations = each
    forward = not name.endswith("Transpose")
    differs = [forward and (name.startswith("Average") or stride > 1) for stride in strides]
    options["padding"] = _pair(options["padding"], differs[0], sizes[0], dilations[0])
    if rank == 2:
        spatial = (spatial,)
    if rank > 1:
        spatial = tuple(map(_pair, spatial, differs[1:], sizes[1:], dilations[1:]))
        options["spatial_padding"] = spatial[0] if rank == 2 else spatial


def _paddings(name):
    """The options of padding, with their defaults."""
    if name.removesuffix("Transpose").endswith("1D"):
        return {"padding": "valid"}
    return {"time_padding": "valid", "spatial_padding": ("same", "same") if "3D" in name else "same"}


def _convolution(config, spec, name, **more):
    # An array factory quantises.
    supported = {"kernel_size": None, "strides": 1, "dilation_rate": 1, "use_bias": True, "activation": None}
    supported |= {"use_weight_norm": False, "kernel_constraint": None} | _paddings(name) | more | _TYPES
    options = _options(config, supported, array_factory=None, **_HINTS)
    options["activation"] = _function(options["activation"])
    _padding(name, options, "kernel_size")
    constraint = options.pop("kernel_constraint")
    scale = "scale"
    if constraint is not None:
        if constraint.get("weightnorm") != "L2WeightNormalization":
            raise _Unsupported(f"kernel_constraint={constraint!r}")
        _options(constraint.get("config", {}), {}, epsilon=1e-12, param_dtype=_TYPES["param_dtype"])
        options["use_weight_norm"], scale = True, "kernel_constraint/scale"
    dtype = _policy(options, spec)
    options = {k: v for k, v in options.items() if k not in _TYPES}
    # An initialiser of zeros is the cheapest: the weights are replaced.
    zeros = "depthwise_initializer" if "Depthwise" in name else "kernel_initializer"
    layer = getattr(kseq, name)(**options, **{zeros: "zeros"}, dtype=dtype)
    return layer, Plan({"kernel": "kernel", "bias": "bias", "scale": scale})


@_reference("Conv1D", "Conv2D", "Conv3D")
def _forward(config, spec, name):
    return _convolution(config, spec, name, filters=None, groups=1)


@_reference("DepthwiseConv1D")
def _depthwise(config, spec, name):
    return _convolution(config, spec, name, depth_multiplier=1)


@_reference("Conv1DTranspose", "Conv2DTranspose")
def _transposed(config, spec, name):
    layer, plan = _convolution(config, spec, name, filters=None, groups=1)
    plan.layouts["kernel"] = _TRANSPOSED
    return layer, plan


@_reference(*_POOLING)
def _pooling(config, spec, name):
    supported = {"pool_size": None, "strides": 1, "dilation_rate": 1} | _paddings(name)
    if name.startswith("Average"):
        supported["masked_average"] = False
    options = _options(config, supported)
    _padding(name, options, "pool_size")
    return getattr(kseq, name)(**options, dtype=_own_policy(spec)), Plan()
