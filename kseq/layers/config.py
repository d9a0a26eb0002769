"""Configuration by convention: a constructor argument is the attribute of the same name."""

import inspect

import keras

from ..registry import former_arguments
from ..signature import constructor_arguments


class ConfigFromSignature:
    """Derives `get_config` and `from_config` from the signature of the constructor.

    Every named argument of `__init__` (and, where it takes `**kwargs`, of its parents') must be kept as an attribute of
    the same name. Values that Keras can serialise round trip: numbers, text, tuples, activations, initialisers,
    regularisers, constraints, layers.
    """

    def get_config(self):
        config = super().get_config()
        for name in _constructor_arguments(type(self)):
            value = getattr(self, name)
            serialize = (
                keras.activations.serialize if inspect.isfunction(value) else keras.saving.serialize_keras_object
            )
            config[name] = serialize(value)
        return config

    @classmethod
    def from_config(cls, config):
        names, renamed = _constructor_arguments(cls), former_arguments(cls)
        config = {renamed.get(k, k): v for k, v in config.items()}
        return super().from_config({k: _deserialize(v) if k in names else v for k, v in config.items()})


def _deserialize(value):
    # Activations by name stay text: the constructor looks them up.
    return keras.saving.deserialize_keras_object(value) if isinstance(value, (dict, list, tuple)) else value


def _constructor_arguments(cls):
    return constructor_arguments(cls, until=(ConfigFromSignature,))
