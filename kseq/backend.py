"""Which Keras backend `import kseq` uses, and why: the user's choice, or jax where there is none."""

import importlib.util
import json
import os
import pathlib
import sys

from .lazy import before_import

_PACKAGES = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch", "openvino": "openvino"}
_INSTALL = {
    "jax": "pip install jax",
    "tensorflow": "pip install 'kseq[tensorflow]'",
    "torch": "pip install 'kseq[torch]'",
}
_VARIABLE = "the environment variable KERAS_BACKEND"
# What Keras writes on its first import, whatever backend it is told to use.
_WRITTEN_BY_KERAS = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}

_chosen: tuple[str | None, str] = (None, "")


class BackendMissing(ImportError):
    """The backend that was chosen is not installed; says what to do."""


def name() -> str:
    """The Keras backend that is used: `jax`, `tensorflow`, `torch` or `openvino`. Loads neither Keras nor a backend."""
    config = getattr(sys.modules.get("keras"), "config", None)
    return config.backend() if config else os.environ.get("KERAS_BACKEND") or str(_chosen[0])


def reason() -> str:
    """Why it is that one, in words.

    Example:
        >>> import kseq
        >>> print(f"{kseq.backend.name()}: chosen by {kseq.backend.reason()}")  # doctest: +SKIP
        jax: chosen by kseq's default, where nothing else is chosen
    """
    before, why = _chosen
    return why if before in (None, name()) else f"{_VARIABLE}, which was set after the import of kseq"


def choose() -> None:
    """Set `KERAS_BACKEND` to jax unless the user has chosen a backend; must run before Keras is imported.

    A choice is the environment variable, or a `keras.json` whose backend is installed. A file as Keras writes it by
    itself is none: it names tensorflow, and is there from the first import of Keras on. Who wants tensorflow sets the
    variable, or has in the file anything but Keras's defaults: `{"backend": "tensorflow"}` will do.

    A backend that is not installed is told, by a `BackendMissing`, where Keras is imported: what needs no Keras works.
    """
    global _chosen
    if "keras" in sys.modules:
        _chosen = (None, "Keras itself, which was imported before kseq")
        return
    chosen, why = os.environ.get("KERAS_BACKEND"), _VARIABLE
    if not chosen:
        chosen, why = _configured()
        if chosen is None:
            os.environ["KERAS_BACKEND"] = chosen = "jax"
    _chosen = (chosen, why)
    if chosen in _PACKAGES and not _installed(chosen):
        before_import("keras", lambda: _refuse(chosen, why))


def _refuse(chosen, why):
    raise BackendMissing(
        f"the Keras backend {chosen!r}, chosen by {why}, is not installed: run "
        f"`{_INSTALL.get(chosen, f'pip install {chosen}')}` or choose another with KERAS_BACKEND=jax"
    )


def _configured() -> tuple[str | None, str]:
    """The backend that Keras's configuration file chooses, or `None`, and the reason."""
    path, default = _configuration(), "kseq's default, where nothing else is chosen"
    try:
        config = json.loads(path.read_text())
        chosen = config.get("backend")
    except (OSError, ValueError, AttributeError):
        return None, default
    if config == _WRITTEN_BY_KERAS:
        return None, f"{default} ({path} is as Keras writes it by itself)"
    if chosen == "tensorflow" and not _installed("tensorflow"):
        return None, f"{default} that is installed ({path} names tensorflow)"
    return (chosen, f"the file {path}") if chosen else (None, default)


def _configuration() -> pathlib.Path:
    """Where Keras looks for its configuration."""
    if "KERAS_HOME" in os.environ:
        return pathlib.Path(os.environ["KERAS_HOME"], "keras.json")
    home = os.path.expanduser("~")
    return pathlib.Path(home if os.access(home, os.W_OK) else "/tmp", ".keras", "keras.json")


def _installed(backend) -> bool:
    return importlib.util.find_spec(_PACKAGES[backend]) is not None
