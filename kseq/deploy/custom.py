"""Where the classes and functions of a user are, for a process that has to import them too."""

import importlib
import importlib.util
import os
import runpy
import sys
import types
from typing import Any

import keras

# What a process has without being told.
_OURS = ("keras", "kseq")
_MAIN = "__main__"
# Under which name a script runs that is imported: not as the main module, whose last lines would run too.
_NO_MAIN = "__kseq_main__"

# Set in a process that writes a file for another.
IN_CHILD = "KSEQ_EXPORTS_FOR"


class Unguarded(RuntimeError):
    """The main module exports a model wherever it is imported."""


def refuse_within() -> None:
    """Refuse an export in a process that only imports the main module, to write a file for another.

    Raises:
        Unguarded: with what to do.
    """
    if os.environ.get(IN_CHILD):
        raise Unguarded(
            "the main module exports a model when it is imported, which a process does that writes a file for another "
            "backend: let it export only `if __name__ == '__main__':`"
        )


def main_module() -> tuple[str, str] | None:
    """How to import the main module: `("module", name)` or `("file", path)`; `None` where it has no file."""
    main = sys.modules[_MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != _MAIN and not spec.name.endswith(f".{_MAIN}"):
        return "module", spec.name
    file = getattr(main, "__file__", None)
    return ("file", os.path.abspath(file)) if file and os.path.isfile(file) else None


def registered() -> list[tuple[str, str, str, str | None]]:
    """Of all that a user has registered with Keras the name, the module, the name there, and the module's file."""
    found = []
    for name, item in sorted(keras.saving.get_custom_objects().items()):
        module = getattr(item, "__module__", None)
        if module is None or module.split(".")[0] in _OURS:
            continue
        file = getattr(sys.modules.get(module), "__file__", None)
        qualified = getattr(item, "__qualname__", getattr(item, "__name__", name))
        found.append((name, module, qualified, file and os.path.abspath(file)))
    return found


def import_main(how: tuple[str, str] | None) -> None:
    """Let the main module be what it is in the process that this works for, as far as its definitions go.

    Raises:
        Exception: what its import raises.
    """
    if how is None:
        return
    kind, where = how
    run = runpy.run_module if kind == "module" else runpy.run_path
    module = types.ModuleType(_NO_MAIN)
    vars(module).update(run(where, run_name=_NO_MAIN))
    sys.modules[_MAIN] = sys.modules[_NO_MAIN] = module


def register(objects: list[tuple[str, str, str, str | None]]) -> list[str]:
    """Import what a user has registered elsewhere, and register it here; why something could not be."""
    known, problems = keras.saving.get_custom_objects(), {}
    for name, module, qualified, file in objects:
        if name in known:
            continue
        try:
            item: Any = _imported(module, file)
            for part in qualified.split("."):
                item = getattr(item, part)
            known.setdefault(name, item)
        except Exception as error:
            problems[f"{qualified} of {module}"] = f"{type(error).__name__}: {error}"
    return [f"{what}: {why}" for what, why in problems.items()]


def _imported(module, file):
    """A module by its name or, where that finds nothing, by its file."""
    if module in sys.modules:
        return sys.modules[module]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module or file is None:
            raise
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None and spec.loader is not None
    sys.modules[module] = found = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[module]
        raise
    return found
