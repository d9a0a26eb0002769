"""Types that a spec may name: registered layers and factories, Keras's own that stream, and installed plugins."""

import dataclasses
import inspect
import re
from importlib import metadata
from typing import Any

import keras

from .. import registry
from ..signature import constructor_arguments, summary
from .kinds import Kind
from .parameters import kind_of

ENTRY_POINTS = "kseq.layers"
# Keras's own layers that have a namesake here are named with this in front.
KERAS = "keras."
_COMMON = ("name", "dtype", "trainable", "activity_regularizer")


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a type: what it takes, and whether it must be given."""

    name: str
    kind: Kind
    required: bool
    default: Any = None


@dataclasses.dataclass(frozen=True)
class Type:
    """Something that a spec can make by name.

    Attributes:
        name: as it stands in a spec.
        make: called with the arguments.
        described: the class that has the docstring and the signature.
        arguments: by name.
        former: new names of arguments by former names.
    """

    name: str
    make: Any
    described: type
    arguments: dict[str, Argument]
    former: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def doc(self) -> str:
        """The docstring, or nothing."""
        return inspect.getdoc(self.described) or ""

    @property
    def summary(self) -> str:
        """The first sentence of the docstring, without the shapes that follow it."""
        return summary(self.described)

    def describe(self, argument: str) -> str | None:
        """What the docstring's `Args` say of an argument."""
        found = re.search(
            rf"^    {re.escape(argument)}: ((?:.*\n?)(?:^        .*\n?)*)", self._args_section, re.MULTILINE
        )
        return " ".join(found[1].split()) if found else None

    @property
    def _args_section(self):
        found = re.search(r"^Arg(?:ument)?s:\n((?:^(?:    .*)?\n?)*)", self.doc, re.MULTILINE)
        return found[1] if found else ""


def find(name: str) -> Type | None:
    """The type of a name, or `None`; a name with a namespace is also looked up among installed plugins.

    Raises:
        PluginError: the plugin that has the name cannot be imported, or does not register it.
    """
    found = find_loaded(name)
    if found is None and not name.startswith(KERAS) and len(name) <= _LONGEST_NAME:
        found = _plugin(name)
    return found


class PluginError(Exception):
    """An installed plugin that does not give the layer that it promises."""


def type_names() -> list[str]:
    """All names that `find` knows, plugins that are not loaded yet included."""
    own = layers_in_specs()
    stock = [KERAS + name if name in own else name for name in registry.stock_layers()]
    plugins = [entry.name for entry in metadata.entry_points(group=ENTRY_POINTS) if _has_namespace(entry)]
    others = *registry.registered_factories(), *registry.registered_models()
    return list(dict.fromkeys([*own, *others, *stock, *plugins]))


def layers_in_specs() -> dict[str, type]:
    """Every registered layer that a spec may name, by name."""
    return {name: cls for name, cls in registry.registered_layers().items() if _is_data(cls)}


def _is_data(cls) -> bool:
    return getattr(cls, "in_specs", True)


def misnamed_plugins() -> list[str]:
    """What is wrong with the names of installed plugins, a sentence each."""
    return [_misnamed(entry) for entry in metadata.entry_points(group=ENTRY_POINTS) if not _has_namespace(entry)]


def _has_namespace(entry):
    return "." in entry.name.strip(".")


def _misnamed(entry):
    return (
        f"the plugin {entry.name!r} ({entry.value}) is not used, for its name lacks a namespace: name the entry point "
        f"'your_package.{entry.name}', as the layer is registered"
    )


def name_of(cls: type[Any]) -> str | None:
    """The name of a layer class in specs, or `None` where it has none."""
    name = registry.registered_name(cls) if _is_data(cls) else None
    if name is None and registry.stock_layers().get(cls.__name__) is cls:
        name = KERAS + cls.__name__ if cls.__name__ in layers_in_specs() else cls.__name__
    return name


def object_type(cls: type[Any]) -> Type:
    """The type of an object of Keras's beside layers: an initialiser, an optimizer, ..."""
    return _type(cls.__name__, cls, cls, constructor_arguments(cls))


def find_loaded(name: str) -> Type | None:
    """The type of a name, or `None`, without a look at plugins."""
    name = registry.current_name(name)
    factory = registry.registered_factories().get(name)
    if factory is not None:
        return _type(name, factory, factory.configuration, constructor_arguments(factory.configuration))
    model = registry.registered_models().get(name)
    if model is not None:
        own = constructor_arguments(model, until=(keras.Model,))
        common = {k: v for k, v in constructor_arguments(keras.layers.Layer).items() if k in ("name", "dtype")}
        return _type(name, model, model, own | common)
    cls = layers_in_specs().get(name) or registry.stock_layers().get(name.removeprefix(KERAS))
    if cls is None:
        return None
    arguments = constructor_arguments(cls, until=(keras.layers.Layer,))
    common = {k: v for k, v in constructor_arguments(keras.layers.Layer).items() if k in _COMMON}
    return _type(name, cls, cls, arguments | common, registry.former_arguments(cls))


def _type(name, make, described, parameters, former=None):
    arguments = {
        p.name: Argument(p.name, kind_of(p), p.default is p.empty, None if p.default is p.empty else p.default)
        for p in parameters.values()
    }
    return Type(name, make, described, arguments, former or {})


def _plugin(name):
    # Only the plugin of exactly this name is imported: a file cannot choose among modules.
    for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
        if not _has_namespace(entry):
            raise PluginError(_misnamed(entry))
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"the plugin of {name!r} ({entry.value}) cannot be imported: {error!r}") from error
        found = find_loaded(name)
        if found is None:
            raise PluginError(
                f"the plugin of {name!r} ({entry.value}) does not register it; use kseq.register({name!r})"
            )
        return found
    return None


_LONGEST_NAME = 200
