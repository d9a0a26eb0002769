"""Constructor arguments and weights by convention: a layer names them in its signature, and nowhere else."""

import functools
import inspect
import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras

from ..registry import former_arguments
from ..signature import KERAS_SUFFIXES, constructor_arguments
from .position_scheme import get_position

# Keras's modules are named after them: `keras.initializers` and so on.
_LOOK_UP = {suffix: getattr(keras, f"{suffix}s").get for suffix in KERAS_SUFFIXES} | {"position": get_position}


class Only(NamedTuple):
    """What an argument of Keras's may be where only one of its meanings streams, and what to use for the others."""

    values: tuple[Any, ...]
    instead: str


# What it is mixed into.
_Layer = keras.layers.Layer if TYPE_CHECKING else object


class Parameters(_Layer):
    """Keeps constructor arguments, gives the configuration that follows from them, and adds weights by name.

    Every named argument of `__init__` (and, where it takes `**kwargs`, of its parents') is an attribute of the same
    name: `keep(locals())` in the constructor makes it one, looked up where the last word of its name says what it is
    (`kernel_initializer`, by Keras; `position`). Values that Keras can serialise round trip: numbers, text, tuples,
    activations, initialisers, regularisers, constraints, positions, layers.
    """

    #: Arguments of Keras's that a layer takes with some values alone, which are what it does anyway: no part of the
    #: signature, of specs or of the configuration. The first of the values is an attribute.
    fixed_arguments: ClassVar[dict[str, Only]] = {}

    def __init__(self, **kwargs: Any) -> None:
        for name, (values, instead) in self.fixed_arguments.items():
            given = kwargs.pop(name, values[0])
            if not any(type(given) is type(value) and given == value for value in values):
                alone = " or ".join(map(repr, values))
                raise ValueError(
                    f"{type(self).__name__} takes `{name}` as {alone}; received {reprlib.repr(given)}: {instead}"
                )
        super().__init__(**kwargs)
        for name, (values, _) in self.fixed_arguments.items():
            if not hasattr(type(self), name):  # as `weights` is something else in a layer
                setattr(self, name, values[0])

    def keep(self, given: dict[str, Any]) -> None:
        """Keep a constructor's arguments as attributes.

        Args:
            given: the constructor's `locals()`, or some arguments by name.
        """
        for name in _constructor_arguments(type(self)):
            if name in given:
                setattr(self, name, _LOOK_UP.get(name.rpartition("_")[2], _as_it_is)(given[name]))

    def add_parameter(self, name: str, shape: Iterable[int], like: str | None = None, **options: Any) -> Any:
        """Add a weight with the initialiser, regulariser and constraint of its name.

        Args:
            name: of the weight: `kernel` has `kernel_initializer`, `kernel_regularizer` and `kernel_constraint`.
            shape: of the weight.
            like: what to read in the place of `name` in those three.
            options: of Keras's `add_weight`, instead of those.
        """
        of_name: dict[str, Any] = {
            kind: getattr(self, f"{like or name}_{kind}", None) for kind in ("initializer", "regularizer", "constraint")
        }
        return self.add_weight(name=name, shape=tuple(shape), **(of_name | options))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in _constructor_arguments(type(self)):
            value = getattr(self, name)
            serialize = (
                keras.activations.serialize if inspect.isfunction(value) else keras.saving.serialize_keras_object
            )
            config[name] = serialize(value)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer of a configuration; that of Keras's layer of the same name is one, where it means the same.

        Raises:
            ValueError: an argument of Keras's that the layer does not have, or not with this value.
        """
        names, renamed = _constructor_arguments(cls), former_arguments(cls)
        config = {renamed.get(k, k): v for k, v in config.items()}
        for name, default in _defaults_of_keras(cls.__name__).items():
            if name in config and name not in names and name not in cls.fixed_arguments:
                value = config.pop(name)
                if value != default:
                    raise ValueError(
                        f"kseq's {cls.__name__} has no `{name}`: the configuration must have {default!r}, which is the "
                        f"default of keras.layers.{cls.__name__}; received {reprlib.repr(value)}"
                    )
        try:
            return super().from_config({k: _deserialize(v) if k in names else v for k, v in config.items()})
        except TypeError as error:  # around what the constructor said Keras puts all of the configuration
            raise (error.__context__ or error) from None


@functools.cache
def _defaults_of_keras(name):
    """Arguments with defaults of the Keras layer of a name, but for those of every layer; none if there is none."""
    layer = getattr(keras.layers, name, None)
    found = constructor_arguments(layer, until=(keras.layers.Layer,)).values() if layer else ()
    common = inspect.signature(keras.layers.Layer.__init__).parameters
    return {each.name: each.default for each in found if each.default is not each.empty and each.name not in common}


def _as_it_is(value):
    return value


def _deserialize(value):
    # Activations by name stay text: the constructor looks them up.
    return keras.saving.deserialize_keras_object(value) if isinstance(value, (dict, list, tuple)) else value


def _constructor_arguments(cls):
    return constructor_arguments(cls, until=(Parameters,))
