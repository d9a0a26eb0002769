"""The plugins whose layers a saved model names."""

import json
import zipfile

import keras

from ..annotations import AnyPath
from ..printable import printable
from ..spec import catalog
from .arguments import CommandError

_LARGEST = 64 << 20  # bytes of a configuration


def load_plugins(path: AnyPath) -> None:
    """Load the installed plugins of the layers that a `.keras` file names, so that Keras finds them.

    A plugin is an entry point of the group `kseq.layers`; only those of exactly the names in the file are imported.

    Raises:
        CommandError: a plugin that cannot be imported, or does not give the layer.
    """
    for name in sorted(_registered_names(path)):
        if keras.saving.get_registered_object(name) is None:
            try:
                catalog.find(name.replace(">", "."))
            except catalog.PluginError as error:
                raise CommandError(f"{path}: {printable(str(error))}") from error


def _registered_names(path: AnyPath) -> set[str]:
    """The names under which classes in a file are registered: `package>Class`."""
    try:
        with zipfile.ZipFile(path) as file:
            if file.getinfo("config.json").file_size > _LARGEST:
                return set()
            config = json.loads(file.read("config.json"))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile):
        return set()  # Keras says what is wrong with it
    found, rest = set(), [config]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            name = node.get("registered_name")
            if isinstance(name, str) and name.count(">") == 1:
                found.add(name)
            rest += node.values()
        elif isinstance(node, list):
            rest += node
    return found
