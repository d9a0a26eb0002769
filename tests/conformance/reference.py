"""Builds kseq layers from the conformance corpus's descriptions of google/sequence-layers layers.

`build(node, weights, case)` returns an object with `layer`, `initial_state`, `step`, `properties` and `grads` (NumPy
in, NumPy out), or raises `NotImplementedError` with the reason where kseq has no such layer or option. An option that
only changes how the reference computes (a block size, a ring buffer, rematerialisation) is accepted and has no effect.
"""

import contextvars
import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
from keras import ops

from kseq.testing import transforms


def build(node, weights, case) -> "Implementation | Late":
    """The kseq layer for a node, with the reference's weights."""
    spec = kseq.SequenceSpec(tuple(case["input"]["channel_shape"]), case["input"]["dtype"])
    if _has(node, lambda name, config: name == "Conditioning"):
        return Late(node, spec, weights)
    layer, plan = _make(node, spec, _MAKERS_ALONE)
    return _finish(layer, plan, spec, weights, node, _shapes(layer, plan, spec, weights, case))


def _finish(layer, plan, spec, weights, node, shapes):
    """The implementation of a layer that is built and has the reference's weights."""
    if not layer.built:
        layer.build(**shapes)
    bound = list(plan.bind(layer, "params", ()))
    unset = {id(v) for v in layer.trainable_variables} - {id(w.variable) for w in bound}
    if unset or {w.path for w in bound} != set(weights):
        raise ValueError(f"weights do not match: the reference has {sorted(weights)}, kseq {[w.path for w in bound]}")
    for weight in bound:
        weight.variable.assign(
            np.reshape(weight.layout.ours(weights[weight.path][weight.index]), weight.variable.shape)
        )
    return plan.implementation(layer, spec, bound, weights, node)


def _shapes(layer, plan, spec, weights, case):
    """What a layer is built for: sources are context, or a second input, and ids an input without channels."""
    of_sources = getattr(plan, "of_sources", None)
    x, length = (4, 8, *spec.shape), (4, 8)
    # What reads a source by alignments gives its channels; no array says how many they are.
    channels = of_sources(weights) if of_sources else list(case["output"]["channel_shape"][-1:])
    if layer.context_names:
        channels = channels * len(layer.context_names) if len(channels) == 1 else channels
        shapes = {name: (*length, size) for name, size in zip(layer.context_names, channels, strict=True)}
        return {"input_shape": x, "context_shape": shapes}
    if layer.num_inputs == 1:
        return {"input_shape": x}
    return {"input_shape": [x, (*length, *channels) if of_sources else length]}


#: The constants of a case by name: NumPy arrays, or pairs with a mask.
CONSTANTS: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("constants")


class Late:
    """An implementation that is made once constants are there: nothing else says of what shape they are."""

    def __init__(self, node, spec, weights):
        self._node, self._spec, self._weights, self._made = node, spec, weights, None

    def _of(self, constants):
        if self._made is None:
            CONSTANTS.set(constants)
            layer, plan = _make(self._node, self._spec, _MAKERS_ALONE)
            given = {name: np.shape(x[0] if isinstance(x, tuple) else x) for name, x in constants.items()}
            shapes: dict[str, Any] = {"input_shape": (4, 8, *self._spec.shape)}
            if layer.num_inputs > 1:
                shapes["input_shape"] = [shapes["input_shape"], *given.values()]
            if layer.context_names:
                shapes["context_shape"] = {name: given[name] for name in layer.context_names}
            self._made = _finish(layer, plan, self._spec, self._weights, self._node, shapes)
        return self._made

    def layer(self, values, mask, constants):
        return self._of(constants).layer(values, mask, constants)

    def initial_state(self, batch, channel_shape, dtype, constants):
        return self._of(constants).initial_state(batch, channel_shape, dtype, constants)

    def step(self, values, mask, state, constants):
        return self._of(constants).step(values, mask, state, constants)

    def properties(self):
        if self._made is None:
            raise ValueError("the properties of a layer are known once it was called with its constants")
        return self._made.properties()

    def grads(self, values, mask, constants, cotangent):
        return self._of(constants).grads(values, mask, constants, cotangent)


class Implementation:
    """A kseq layer behind the interface of the replay; `layer` and `step` are compiled once per shape."""

    def __init__(self, layer, spec, bound, weights, node):
        self._layer, self._spec, self._bound, self._weights, self._node = layer, spec, bound, weights, node
        self._whole = transforms.jit(self._call)
        self._chunk = transforms.jit(self._step)

    def layer(self, values, mask, constants):
        more = self._more(constants, values.shape[1])
        return tuple(ops.convert_to_numpy(part) for part in self._whole(values, mask, more))

    def initial_state(self, batch, channel_shape, dtype, constants):
        spec = kseq.SequenceSpec(tuple(channel_shape), dtype)
        return self._layer.initial_state(batch, spec, **self._more(constants, 0))

    def step(self, values, mask, state, constants):
        y, y_mask, state = self._chunk(values, mask, state)
        return ops.convert_to_numpy(y), ops.convert_to_numpy(y_mask), state

    def properties(self):
        timing = self._layer.timing
        found = {
            "supports_step": self._layer.supports_step,
            "block_size": timing.block_size,
            "output_ratio": str(timing.ratio),
            "input_latency": timing.input_latency,
            "output_latency": timing.output_latency,
            "receptive_field": _interval(timing.receptive_field),
            "receptive_field_per_step": {
                str(phase): _interval(field) for phase, field in enumerate(timing.receptive_field_per_step)
            },
        }
        for condition, names in DEVIATIONS:
            if _has(self._node, condition):
                found = {name: value for name, value in found.items() if name not in names}
        return found

    def grads(self, values, mask, constants, cotangent):
        """Gradients of sum(y * cotangent), the input's zero at invalid steps."""
        variables = [weight.variable for weight in self._bound]

        more = self._more(constants, values.shape[1])

        def loss(values):
            y = self._run(values, mask, more).values
            return ops.sum(ops.cast(y, "float32") * ops.convert_to_tensor(cotangent, dtype="float32")), ()

        floats = np.issubdtype(values.dtype, np.floating)
        run = transforms.value_and_gradients(loss, variables, of_values=floats)
        _, _, of_values, found = run(values, [ops.convert_to_numpy(v) for v in variables])
        if floats:
            of_values = ops.convert_to_numpy(of_values)
            of_values = np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), of_values, 0)
        found = [ops.convert_to_numpy(gradient) for gradient in found]
        gradients = {path: np.zeros(np.shape(stored), "float32") for path, stored in self._weights.items()}
        for weight, gradient in zip(self._bound, found, strict=True):
            part = gradients[weight.path][weight.index]
            gradients[weight.path][weight.index] = np.reshape(weight.layout.theirs(gradient), part.shape)
        return of_values, gradients

    def _given(self, values, mask):
        # bfloat16 arrives as float32.
        return kseq.Sequence(ops.cast(values, self._spec.dtype), ops.convert_to_tensor(mask))

    def _more(self, constants, steps):
        """Of the reference's constants those that the layer reads as context; what flows along is an input."""
        read = {name: constants[name] for name in self._layer.context_names}
        parts = {name: x if isinstance(x, tuple) else (x, None) for name, x in read.items()}
        return {"context": {name: kseq.Sequence(*part) for name, part in parts.items()}} if parts else {}

    def _run(self, values, mask, more):
        return self._layer(self._given(values, mask), **more)

    def _call(self, values, mask, more):
        return _readable(self._run(values, mask, more))

    def _step(self, values, mask, state):
        y, state = self._layer.step(self._given(values, mask), state)
        return *_readable(y), state


def _readable(y):
    y = y.with_mask()
    narrow = keras.backend.standardize_dtype(y.values.dtype) == "bfloat16"
    return ops.cast(y.values, "float32") if narrow else y.values, y.mask


def _interval(field):
    return None if field is None else [{-math.inf: "-inf", math.inf: "inf"}.get(end, end) for end in field]


def _has(node, condition):
    """Whether a node, or one within it, meets a condition of its layer's name and configuration."""
    if isinstance(node, (list, tuple)):
        return any(_has(part, condition) for part in node)
    if not isinstance(node, dict):
        return False
    return (isinstance(node.get("layer"), str) and condition(node["layer"], node.get("config", {}))) or _has(
        list(node.values()), condition
    )


#: Deliberate deviations: a condition of a node's layer and configuration, and the properties that then differ.
DEVIATIONS: list[tuple[Callable[[str, dict], bool], tuple[str, ...]]] = []


# How a layer's variables come from the reference's arrays: each is a part of one array, reshaped.


class Layout(NamedTuple):
    """How an array of the reference's is laid out here, and back, but for its shape."""

    ours: Callable
    theirs: Callable


SAME = Layout(lambda array: array, lambda array: array)


class Weight(NamedTuple):
    """A variable and the part of the reference's array that it holds."""

    variable: keras.Variable
    path: str
    index: tuple
    layout: Layout = SAME


@dataclasses.dataclass
class Plan:
    """Where the variables of a layer, and of its children, are in the reference's tree."""

    #: Variable name to path, or to (path, index).
    names: dict[str, str | tuple[str, tuple]] = dataclasses.field(default_factory=dict)
    #: (path, index, how to find the child, the child's plan).
    children: list[tuple[str, tuple, Callable, "Plan"]] = dataclasses.field(default_factory=list)
    #: Variable name to layout, where it is another.
    layouts: dict[str, Layout] = dataclasses.field(default_factory=dict)
    #: Variable name to path, of those that the reference has among its statistics rather than its parameters.
    statistics: dict[str, str] = dataclasses.field(default_factory=dict)
    #: What stands between the replay and the layer, where the layer is all there is.
    implementation: type = Implementation

    #: From the reference's arrays the channels of each source; by default those of the output.
    of_sources: Callable | None = None

    def bind(self, layer, path, index):
        """The `Weight`s of a layer that is built."""
        variables = {v.name: v for v in layer.weights} if self.names or self.statistics else {}
        for name, place in self.names.items():
            if name in variables:
                suffix, part = (place, ()) if isinstance(place, str) else place
                yield Weight(variables[name], f"{path}/{suffix}", index + part, self.layouts.get(name, SAME))
        for name, suffix in self.statistics.items():
            yield Weight(variables[name], f"{path.replace('params', 'batch_stats', 1)}/{suffix}", index)
        for suffix, part, find, plan in self.children:
            yield from plan.bind(find(layer), f"{path}/{suffix}", index + part)


# Nodes.

_MAKERS: dict[str, Callable] = {}
#: Of layers that are made in another way where they are all there is.
_MAKERS_ALONE: dict[str, Callable] = {}


def _reference(*names, alone=False):
    """Register `make(config, spec, name) -> (layer, Plan)` for layers of the reference, within others or alone."""

    def register(make):
        (_MAKERS_ALONE if alone else _MAKERS).update(dict.fromkeys(names, make))
        return make

    return register


def _make(node, spec, first=()):
    name = node["layer"]
    make = first[name] if name in first else _MAKERS.get(name)
    if make is None:
        raise NotImplementedError(f"{name}: no such layer")
    try:
        return make(node["config"], spec, name)
    except _Unsupported as error:
        raise NotImplementedError(f"{name}: {error}") from None


class _Unsupported(Exception):
    """An option that kseq does not have."""


def _options(config, supported, **only):
    """A node's options with their defaults.

    Args:
        config: the node's configuration.
        supported: name to default of the options that the caller maps.
        only: name to the one value with which kseq agrees.
    """
    found = dict(supported)
    for name, value in config.items():
        if name == "name" or name.endswith(("_init", "_sharding")):
            continue  # the weights are given, and names are the reference's own
        if name in supported:
            found[name] = value
        elif name not in only or value != only[name]:
            raise _Unsupported(f"{name}={value!r}")
    return found


# `precision` and `guard_against_excess_precision` instruct the reference's compiler.
_HINTS = {"precision": None}
_FACTORIES = {"einsum_factory": None, "quantization_provider": None}
_TYPES = {"param_dtype": {"dtype": "float32"}, "compute_dtype": None}


def _policy(options, spec, preserves_type=False) -> str:
    """The Keras policy of a layer with weights; `preserves_type` is one that computes in its input's type."""
    param, compute = (_dtype(options.get(name)) for name in ("param_dtype", "compute_dtype"))
    given = spec.dtype if keras.backend.is_float_dtype(spec.dtype) else param
    if compute is None:
        compute = given if preserves_type else _promote(given, param)
    if param == "float32" and compute in ("bfloat16", "float16"):
        return f"mixed_{compute}"
    if _promote(param, compute) != compute:
        raise _Unsupported(f"param_dtype={param} with compute_dtype={compute}")
    return compute  # where weights are stored narrower, storing them wider changes no value


def _dtype(value):
    return value["dtype"] if isinstance(value, dict) else value


def _promote(a, b):
    return a if a == b else "float64" if "float64" in (a, b) else "float32"


def _own_policy(spec) -> str:
    """The policy of a layer without weights: the type of its input."""
    return spec.dtype if keras.backend.is_float_dtype(spec.dtype) else "float32"


# Functions.


@keras.saving.register_keras_serializable("conformance")
class Function:
    """A function of channels with fixed options, which Keras can serialise as `kseq.Repeat` needs."""

    def __init__(self, name, **options):
        self.name, self.options = name, options

    def __call__(self, x):
        return _FUNCTIONS[self.name](x, **self.options)

    def get_config(self):
        return {"name": self.name} | self.options

    @classmethod
    def from_config(cls, config):
        return cls(**config)


_FUNCTIONS = {
    "gelu_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "square": ops.square,
    "add_one": lambda x: x + 1,
    "reverse_channels": lambda x: ops.flip(x, axis=-1),
    "hard_tanh": lambda x: ops.clip(x, -1, 1),
}


def _function(value):
    """An activation: Keras's own where it has it, because kseq knows the derivatives of some."""
    if value is None:
        return None
    if "fn" not in value:
        raise _Unsupported(f"activation {value!r}")
    name = value["fn"]
    if name in ("relu", "tanh", "sigmoid", "swish", "softplus"):
        return name
    if name not in _FUNCTIONS:
        raise _Unsupported(f"activation {name!r}")
    return Function(name)


# Layers with weights. An initialiser of zeros is the cheapest: the weights are replaced.


@_reference("LSTM")
def _lstm(config, spec, name):
    functions = {"activation": {"fn": "tanh"}, "recurrent_activation": {"fn": "sigmoid"}}
    options = _options(config, {"units": None, "use_bias": True} | functions | _TYPES, **_HINTS)
    layer = kseq.LSTM(
        options["units"],
        activation=_function(options["activation"]),
        recurrent_activation=_function(options["recurrent_activation"]),
        use_bias=options["use_bias"],
        kernel_initializer="zeros",
        recurrent_initializer="zeros",
        dtype=_policy(options, spec),
    )
    return layer, Plan({"kernel": "kernel/kernel", "recurrent_kernel": "recurrent_kernel/kernel", "bias": "bias"})
