"""A model whose attention looks ahead by one of the horizons that it was trained with."""

from typing import Any, TypeVar

import keras

from ..layers.base import SequenceLayer

Model = TypeVar("Model", bound=keras.layers.Layer)
_ARGUMENT = "max_future_horizon"


def at_horizon(model: Model, max_future_horizon: int) -> Model:
    """A copy of a model, with its weights, in which layers of several `max_future_horizon`s have one of them.

    So a model that was trained with several streams at each of their latencies.

    Args:
        model: a kseq layer or a Keras model that is made again by its configuration, and is built.
        max_future_horizon: one of the horizons of every layer that has several.

    Raises:
        ValueError: no layer with several horizons, or one without this one; a model that is not built.
        TypeError: no layer or model.

    Example:
        >>> import kseq, keras
        >>> layer = kseq.SelfAttention(2, 4, max_past_horizon=8, max_future_horizon=[0, 4])
        >>> model = keras.Sequential([keras.Input((None, 3)), layer])
        >>> kseq.Stream(model).timing.output_latency, kseq.Stream(kseq.at_horizon(model, 0)).timing.output_latency
        (4, 0)
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"expected a kseq layer or a Keras model; received {model!r} of type {type(model).__name__}")
    if not model.built:
        raise ValueError(f"{model.name} ({type(model).__name__}) is not built, and has no weights yet")
    found: list[list[int]] = []
    config = _with_horizon(model.get_config(), max_future_horizon, found)
    if not found:
        raise ValueError(f"{model.name} ({type(model).__name__}) has no layer of several `{_ARGUMENT}`s")
    missing = [choices for choices in found if max_future_horizon not in choices]
    if missing:
        raise ValueError(f"`{_ARGUMENT}` must be one of {missing[0]}; received {max_future_horizon!r}")
    other = type(model).from_config(config)
    if isinstance(model, SequenceLayer):
        other.build_from_config(model.get_build_config())
    other.set_weights(model.get_weights())
    return other


def _with_horizon(config: Any, chosen: int, found: list[list[int]]) -> Any:
    """A configuration with the chosen one of several horizons; what there is to choose from is noted in `found`."""
    if isinstance(config, dict):
        choices = config.get(_ARGUMENT)
        if isinstance(choices, list):
            found.append(choices)
            config = config | {_ARGUMENT: chosen}
        return {name: _with_horizon(value, chosen, found) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_horizon(value, chosen, found) for value in config)
    return config
