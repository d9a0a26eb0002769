"""Layers and other objects to the plain data that a spec has for them."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from . import catalog
from .names import snake_case
from .objects import role

_MODULES = {
    "keras.initializers": keras.initializers,
    "keras.regularizers": keras.regularizers,
    "keras.constraints": keras.constraints,
    "keras.optimizers": keras.optimizers,
    "keras.optimizers.schedules": keras.optimizers.schedules,
    "keras.losses": keras.losses,
    "keras.metrics": keras.metrics,
}


class ValueWriter:
    """Writes what Keras has serialised.

    Args:
        problem: called with the place, what is wrong and a hint, where something cannot be written.
    """

    def __init__(self, problem: Callable[..., None]) -> None:
        self.problem: Callable[..., None] = problem

    def type_of(self, serialized: dict[str, Any], where: str) -> catalog.Type | None:
        """The type of a serialised layer, or `None` where a spec cannot name it."""
        registered, name = serialized.get("registered_name"), serialized["class_name"]
        if registered is not None:
            cls = keras.saving.get_registered_object(registered)
        else:
            cls = getattr(keras.layers, name, None) if serialized.get("module") == "keras.layers" else None
        found = None if cls is None else catalog.name_of(cls)
        if found is None:
            hint = "register it with `kseq.register`"
            if str(serialized.get("module")).startswith("keras"):
                hint = "write its layers with kseq.Serial" if name in ("Sequential", "Functional") else "use a layer"
            self.problem(where, f"a spec cannot name the {name}", hint)
            return None
        return catalog.find(found)

    def arguments(self, type_: catalog.Type, config: dict[str, Any], where: str) -> dict[str, Any]:
        """The arguments of a type that have not their defaults."""
        known = {name: config[name] for name in type_.arguments if name in config}
        needed = _needed(type_, known)
        if known.get("dtype") and _policy(known["dtype"]) == keras.config.dtype_policy().name:
            needed.discard("dtype")
        found = {name: self.plain(value, f"{where}.{name}") for name, value in known.items() if name in needed}
        # Layers last: they are the long ones.
        return dict(sorted(found.items(), key=lambda item: (item[0] != "name", _holds_objects(item[1]))))

    def plain(self, value: Any, where: str) -> Any:
        """A serialised value as a spec writes it."""
        if isinstance(value, (list, tuple)):
            return [self.plain(item, where) for item in value]
        if isinstance(value, np.ndarray):
            return self.plain(value.tolist(), where)
        if isinstance(value, str):
            return f"${value}" if value.startswith("$") else value
        if isinstance(value, float):
            return _short(value)
        if not isinstance(value, dict):
            return value
        if value.get("class_name") == "__tuple__":
            return [self.plain(item, where) for item in value["config"]["value"]]
        if "class_name" not in value:
            return {key: self.plain(item, where) for key, item in value.items()}
        if value["class_name"] == "__numpy__":
            return self.plain(value["config"]["value"], where)
        if value["class_name"] == "DTypePolicy":
            return _policy(value)
        return self._object(value, where)

    def _object(self, value, where):
        """A serialised object: a layer, a position scheme, or one of Keras's."""
        name = value["class_name"]
        parent = _MODULES.get(value.get("module") or "")
        if parent is not None and value.get("registered_name") in (None, name) and hasattr(parent, name):
            arguments = self.arguments(catalog.object_type(getattr(parent, name)), value["config"], where)
            if re.fullmatch(rf"({name}|{snake_case(name)}|{name.lower()})(_\d+)?", str(arguments.get("name"))):
                del arguments["name"]  # Keras's own
            return {name: arguments} if arguments or parent is keras.optimizers.schedules else name
        position = _position(value)
        if position is not None:
            arguments = self.arguments(catalog.object_type(role("position").classes[position]), value["config"], where)
            return {position: arguments} if arguments else position
        if name in ("function", "__lambda__") or not isinstance(value.get("config"), dict):
            self.problem(where, "a spec cannot hold a function", "register a layer that calls it")
            return None
        type_ = self.type_of(value, where)
        return None if type_ is None else {type_.name: self.arguments(type_, value["config"], where)}


def _position(value):
    """The name in specs of a serialised position scheme, or `None` for anything else."""
    cls = keras.saving.get_registered_object(value.get("registered_name"))
    return next((name for name, known in role("position").classes.items() if known is cls), None)


def _needed(type_, config) -> set[str]:
    """The names of the arguments that, given alone, make an object of this configuration."""
    needed = {name for name in config if type_.arguments[name].required or name == "name"}
    while True:  # a default may follow from another argument, as the strides of pooling do
        try:
            made = type_.described(**{name: _deserialized(config[name]) for name in needed}).get_config()
        except Exception:  # arguments that make sense only together are all written
            return set(config)
        missing = {name for name in config if name not in needed and not _same(config[name], made.get(name))}
        if not missing:
            return needed
        needed |= missing


def _deserialized(value):
    return keras.saving.deserialize_keras_object(value) if isinstance(value, (dict, list, tuple)) else value


def _holds_objects(value):
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _same(value, default):
    return json.dumps(value, default=repr, sort_keys=True) == json.dumps(default, default=repr, sort_keys=True)


def _policy(value):
    return keras.dtype_policies.get(value).name


def _short(value):
    """The shortest number that is the same in float32, where Keras has been there, or the number itself."""
    if not math.isfinite(value) or float(np.float32(value)) != value:
        return value
    return float(str(np.float32(value)))
