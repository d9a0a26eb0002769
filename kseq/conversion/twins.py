"""The kseq layer that does what a layer or operation of Keras's does, and how it is called in its place."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from ..doctor.advice import is_stock
from ..keras_errors import unframed
from ..layers.base import SequenceLayer
from ..layers.windows import OfWindow
from ..model_graph import Tensor, tensors
from ..registry import registered_layers

# Layers of ours that share no more than the name, and how it is with those.
_NAMESAKES = {
    "AdditiveAttention": "kseq.AdditiveAttention is another layer: attention to a source that is context",
    "Flatten": "kseq.Flatten keeps time; keras.layers.GlobalAveragePooling1D reads the mask",
    "Lambda": "it holds a function, which may do anything to time; kseq.Lambda takes those of channels",
}
_OPTIONS = {"training", "mask"}  # of a call, which mean the same everywhere
_MERGES = {"Add", "Maximum", "Minimum", "Multiply", "Subtract"}
# fmt: off
_ACTIVATIONS = {
    "Celu": "celu", "Elu": "elu", "Exp": "exponential", "Gelu": "gelu", "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu", "HardTanh": "hard_tanh", "LogSigmoid": "log_sigmoid", "Relu": "relu", "Relu6": "relu6",
    "Selu": "selu", "Sigmoid": "sigmoid", "Silu": "silu", "Softmax": "softmax", "Softplus": "softplus",
    "Softsign": "softsign", "Tanh": "tanh",
}
# fmt: on


class NoTwin(Exception):
    """Why a layer stays as it is."""


@dataclasses.dataclass(frozen=True)
class Twin:
    """A layer in the place of another, or of an operation.

    Attributes:
        layer: it.
        called: makes of the arguments and keywords of a call those of its own.
    """

    layer: Any
    called: Callable[[Any, Any], tuple[Any, Any]]

    @property
    def name(self) -> str:
        package = "kseq" if isinstance(self.layer, SequenceLayer) else "keras.layers"
        return f"{package}.{type(self.layer).__name__}"


def twin_of(operation: Any, calls: list[Any]) -> Twin:
    """The twin of what is called, for all its calls.

    Args:
        operation: the layer or operation.
        calls: a `kseq.model_graph.Call` for each.

    Raises:
        NoTwin: with the reason, where there is none.
    """
    if not isinstance(operation, keras.layers.Layer):
        return _of_operation(operation, calls)
    name = type(operation).__name__
    if not is_stock(operation):
        raise NoTwin("it is no layer of Keras's own")
    if name in ("MultiHeadAttention", "GroupedQueryAttention"):
        return _of_attention(operation, calls)
    if name in _NAMESAKES:
        raise NoTwin(_NAMESAKES[name])
    if name not in registered_layers():
        raise NoTwin("kseq has no layer of its kind")
    for call in calls:
        _check_options(call, _OPTIONS)
        if len(call.arguments) != 1 or not isinstance(call.arguments[0], Tensor):
            raise NoTwin("it is called with something else than one tensor")
    times = {call.arguments[0].shape[1] for call in calls if len(call.arguments[0].shape) > 1}
    kind, config = registered_layers()[name], _config_of(operation)
    return Twin(_streaming(_made(kind, config), config, times), _as_it_is)  # what it gives is compared


def _as_it_is(arguments, keywords):
    return arguments, keywords


def _check_options(call, known):
    other = {key for key, value in call.keywords.items() if value is not None} - known
    if other:
        raise NoTwin(f"it is called with {', '.join(sorted(other))}")


def _config_of(layer):
    config = layer.get_config()
    if isinstance(layer, keras.layers.Reshape):
        config["output_shape"] = config.pop("target_shape")[1:]  # of channels: what becomes of time shows when it runs
    if type(layer).__name__.startswith("AveragePooling"):
        config["masked_average"] = True  # Keras's `same` counts no padding of its own: nor then that of rows
    if isinstance(layer, keras.layers.Bidirectional):
        # Of kseq layers: the half that reads backwards is made of the one that reads forwards.
        halves = {"layer": layer.forward_layer, "backward_layer": layer.backward_layer}
        for role, half in halves.items():
            own = half.get_config() | {"go_backwards": False, "zero_output_for_mask": False}  # of invalid steps alone
            kind = registered_layers().get(type(half).__name__)
            if kind is None:
                raise NoTwin(f"kseq has no layer of the kind of its {role}, {type(half).__name__}")
            config[role] = keras.saving.serialize_keras_object(_made(kind, own))
    return config


def _made(kind, config):
    try:
        return kind.from_config(config)
    except (TypeError, ValueError) as error:
        raise NoTwin(" ".join(unframed(error).split())) from None


def _streaming(made, config, times):
    """The layer with another padding, where it is one that does not stream and another one gives the same.

    Args:
        made: the layer.
        config: its configuration.
        times: the numbers of steps that it is given, with `None` for one that is not known.
    """
    window = made.window if isinstance(made, OfWindow) else None
    if window is None or window.obstacle is None:
        return made
    other = window.streaming(*(times if len(times) == 1 else ()))
    if other is None:
        return made
    of_space = {"spatial_padding": config["padding"]} if made.space else {}
    return _made(type(made), config | of_space | {"padding": other.padding})


# Attention of a sequence to itself.


def _of_attention(layer, calls):
    causal = set()
    for call in calls:
        query, *others = call.arguments
        named = {key: value for key, value in call.keywords.items() if value is not None and not key.endswith("_mask")}
        read = [*others, *(named.pop(key) for key in ("query", "value", "key") if key in named)]
        if not read or any(x is not query for x in read):
            raise NoTwin("it reads two sequences; kseq.CrossAttention reads one that is context")
        explicit = call.keywords.get("attention_mask")
        if explicit is not None or not isinstance(query, Tensor):
            raise NoTwin("it is called with attention_mask; kseq.SelfAttention has horizons")
        causal.add(bool(call.keywords.get("use_causal_mask")))
        other = set(named) - {"use_causal_mask", "training"} - {k for k, v in named.items() if v is False}
        if other:
            raise NoTwin(f"it is called with {', '.join(sorted(other))}")
    if len(causal) > 1:
        raise NoTwin("it is called with and without use_causal_mask")
    config = layer.get_config()
    if config.get("attention_axes") not in ((1,), [1], None, 1):
        raise NoTwin(f"kseq.SelfAttention has no `attention_axes`; received {config['attention_axes']!r}")
    output = config.get("output_shape")
    if isinstance(output, (list, tuple)) and len(output) != 1:
        raise NoTwin(f"kseq.SelfAttention has an output of one axis of channels; received output_shape={output!r}")
    own = {key: config[key] for key in _SHARED if key in config}
    own |= {"num_heads": config.get("num_heads", config.get("num_query_heads"))}
    own |= {"key_dim": config.get("key_dim", config.get("head_dim"))}
    own |= {"output_dim": output[0] if isinstance(output, (list, tuple)) else output}
    window = config.get("sliding_window")
    reach = None if window is None else window - 1
    own |= {"max_past_horizon": reach, "max_future_horizon": 0 if causal == {True} else reach}
    return Twin(_made(registered_layers()["SelfAttention"], own), _of_query)


_SHARED = (
    *("name", "trainable", "dtype", "num_key_value_heads", "value_dim", "dropout", "seed", "use_bias", "use_gate"),
    *("kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer", "activity_regularizer"),
    *("kernel_constraint", "bias_constraint"),
)


def _of_query(arguments, keywords):
    training = keywords.get("training")
    return arguments[:1], {} if training is None else {"training": training}


# Operations, which lose the mask.


def _of_operation(operation, calls):
    name, own = type(operation).__name__, operation.name
    (call,) = calls  # an operation of its own for each call
    given = list(tensors((call.arguments, call.keywords)))
    shapes = [x.shape for x in call.arguments if isinstance(x, Tensor)]
    if (
        name in _MERGES and len(call.arguments) == 2 and len(shapes) == 2 and shapes[0] == shapes[1]
    ):  # broadcast, it has no mask
        return Twin(getattr(keras.layers, name)(name=own), lambda arguments, keywords: ([[*arguments]], {}))
    if name == "Concatenate" and len(given) > 1 and isinstance(operation.axis, int):
        rank = len(given[0].shape)
        if operation.axis % rank > 1:
            made = keras.layers.Concatenate(axis=operation.axis, name=own)
            return Twin(made, lambda arguments, keywords: ([[*arguments[0]]], {}))
    if name in _ACTIVATIONS and len(given) == 1:
        twin = registered_layers()["Activation"](_ACTIVATIONS[name], name=own)
        return Twin(twin, lambda arguments, keywords: (arguments[:1], {}))
    if len(given) == 1 and len(call.arguments) == 2 and name in ("Add", "Multiply"):
        number = next(x for x in call.arguments if x is not given[0])
        if isinstance(number, (int, float)):
            kind = registered_layers()["Translate" if name == "Add" else "Scale"]
            place = [isinstance(x, Tensor) for x in call.arguments].index(True)
            return Twin(kind(number, name=own), lambda arguments, keywords: (arguments[place : place + 1], {}))
    raise NoTwin("no layer is known to do what this operation does")
