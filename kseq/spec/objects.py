"""The objects that a spec may name beside layers: of Keras a closed table per role, and position schemes."""

import functools
import inspect
import types
from collections.abc import Mapping
from typing import NamedTuple

import keras

from .. import registry
from ..signature import constructor_arguments
from .errors import article


class Role(NamedTuple):
    """What an argument wants: classes by name, text that is looked up later, and other spellings of classes."""

    name: str
    classes: dict[str, type]
    names: frozenset[str]
    spelling: Mapping[str, str] = types.MappingProxyType({})

    @property
    def wanted(self) -> str:
        return f"{article(self.name)} {self.name}"


def role(name: str) -> Role:
    """The role of a name: `initializer`, `activation`, `position`, `optimizer`, `schedule`, `loss`, ..."""
    if name == "position":  # others may register theirs at any time
        classes = registry.registered_positions()
        alone = {key for key, cls in classes.items() if not _needs_arguments(cls)}
        return Role(name, classes, frozenset(alone))
    return _of_keras(name)


@functools.cache
def _of_keras(name):
    if name == "activation":
        return Role(name, {}, _function_names(keras.activations))
    module, base = {
        "initializer": (keras.initializers, keras.initializers.Initializer),
        "regularizer": (keras.regularizers, keras.regularizers.Regularizer),
        "constraint": (keras.constraints, keras.constraints.Constraint),
        "optimizer": (keras.optimizers, keras.optimizers.Optimizer),
        "schedule": (keras.optimizers.schedules, keras.optimizers.schedules.LearningRateSchedule),
        "loss": (keras.losses, keras.losses.Loss),
        "metric": (keras.metrics, keras.metrics.Metric),
    }[name]
    classes = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base and key not in _NOT_BY_VALUE
    }
    names = frozenset() if name == "schedule" else _function_names(module) | set(classes) | _ALIASES.get(name, set())
    spelling = {key.lower(): key for key in classes} if name == "optimizer" else {}
    return Role(name, classes, frozenset({*names, *spelling}), spelling)


def _needs_arguments(cls) -> bool:
    return any(argument.default is argument.empty for argument in constructor_arguments(cls).values())


def _function_names(module) -> frozenset[str]:
    """Public names in lower case: functions, and the other spelling of classes."""
    found = {key for key, value in vars(module).items() if callable(value) and key.islower() and key[0] != "_"}
    return frozenset(found - {"get", "serialize", "deserialize"})


# They wrap other objects or functions, which values cannot describe.
_NOT_BY_VALUE = {"LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "MeanMetricWrapper"}
# Names that Keras looks up but does not export.
_ALIASES = {
    "initializer": {"uniform", "normal", "zero", "one"},
    "loss": {"mse", "mae", "mape", "msle", "bce", "kld"},
    "metric": {"accuracy", "acc", "crossentropy", "ce", "mse", "mae", "mape", "msle", "bce"},
}
