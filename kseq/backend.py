"""Which Keras backend `import kseq` uses: the user's choice, or jax where there is none."""

import importlib.util
import json
import os
import pathlib
import sys

_PACKAGES = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch", "openvino": "openvino"}
_INSTALL = {
    "jax": "pip install jax",
    "tensorflow": "pip install 'kseq[tensorflow]'",
    "torch": "pip install 'kseq[torch]'",
}


def choose():
    """Set `KERAS_BACKEND` to jax unless the user has chosen a backend; must run before Keras is imported.

    A choice is the environment variable, or a `keras.json` whose backend is installed. Keras's own first import writes
    a `keras.json` that names tensorflow, so that file alone is no choice where tensorflow is not installed.

    Raises:
        ImportError: the chosen backend is not installed; says what to do.
    """
    if "keras" in sys.modules:
        return
    chosen, where = os.environ.get("KERAS_BACKEND"), "the environment variable KERAS_BACKEND"
    if not chosen:
        chosen, where = _configured()
        if chosen is None or (chosen == "tensorflow" and not _installed("tensorflow")):
            os.environ["KERAS_BACKEND"] = chosen = "jax"
            where = "kseq's default"
    if chosen in _PACKAGES and not _installed(chosen):
        raise ImportError(
            f"the Keras backend {chosen!r}, chosen by {where}, is not installed: run "
            f"`{_INSTALL.get(chosen, f'pip install {chosen}')}` or choose another with KERAS_BACKEND=jax"
        )


def _configured() -> tuple[str | None, str]:
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    path = pathlib.Path(home) / "keras.json"
    try:
        return json.loads(path.read_text()).get("backend"), str(path)
    except (OSError, ValueError, AttributeError):
        return None, str(path)


def _installed(backend) -> bool:
    return importlib.util.find_spec(_PACKAGES[backend]) is not None
