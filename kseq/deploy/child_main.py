"""`python -m kseq.deploy.child_main FOLDER`: the process of a backend that writes a file for another."""

import json
import os
import pathlib
import sys
import threading
import zipfile
from typing import Any

import keras

from ..keras_errors import unframed
from ..runtime import packed
from ..runtime.manifest import Manifest
from .child import ANSWER, ASKED, JOB, MODEL, unflat
from .custom import Unguarded, import_main, register
from .entry import Choices, written
from .functions import function_of


def main(folder: pathlib.Path) -> None:
    """Do what a job asks for, and leave what became of it: what is known of the file, or the text of an error."""
    try:
        answer: dict[str, Any] = {"golden_error": _write(folder).golden_error}
    except Exception as error:
        kinds = [cls.__name__ for cls in type(error).__mro__]
        kind = next((k for k in kinds if k in ("ValueError", "TypeError", "ImportError", "OSError")), kinds[0])
        text = unframed(error).strip()
        known = isinstance(error, (ValueError, TypeError, ImportError, OSError))
        known = known or isinstance(error, Unguarded)
        answer = {"error": [kind, text if known else f"{type(error).__name__}: {text}"]}
    (folder / ANSWER).write_text(json.dumps(answer))


def _write(folder):
    header, arrays = packed.unpack(JOB, (folder / ASKED).read_bytes())
    manifest = Manifest.from_bytes(arrays["manifest"].tobytes())
    _say("loading the model")
    _configure(header["keras"])
    model = _model(folder, header, arrays)
    _say("tracing")
    function = function_of(model, manifest)
    _say(f"writing {manifest.format}")
    choices = header["choices"]
    choices = Choices(**{**choices, "calibration": unflat(choices["calibration"], arrays)})
    return written(function, manifest, pathlib.Path(header["target"]), choices)


def _configure(settings):
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    keras.config.set_dtype_policy(settings["dtype_policy"])


def _model(folder, header, arrays) -> Any:
    problems = _import_custom(folder, header)
    try:
        if header["layer"] is None:
            return keras.saving.load_model(folder / MODEL, compile=False, safe_mode=False)
        layer: Any = keras.saving.deserialize_keras_object(header["layer"], safe_mode=False)
        _assign(layer.variables, [a for name, a in arrays.items() if name.startswith("variables/")])
        return layer
    except Exception as error:
        hint = "".join(f"\n- {problem}" for problem in problems)
        if hint:
            hint = f"\nwhat could not be imported there (put it into a module that can be):{hint}"
        raise ValueError(
            f"the model cannot be loaded under {keras.backend.backend()}, which writes this format: "
            f"{type(error).__name__}: {unframed(error).strip()}{hint}"
        ) from error


def _import_custom(folder, header):
    """Import the modules that the model may need; what of them is not to be had."""
    main, problems = header["main"], []
    uses_main = any(module == "__main__" for _, module, *_ in header["objects"]) or '"__main__"' in _config(
        folder, header
    )
    if uses_main and main is None:
        problems.append("the main module is no file, as in a notebook or an interactive session")
    elif uses_main:
        sys.argv = header["argv"]  # a script reads its own
        try:
            import_main(main)
        except Unguarded:
            raise
        except (Exception, SystemExit) as error:
            problems.append(f"{main[1]}: {type(error).__name__}: {error}")
    objects = header["objects"]
    return problems + register(objects if main else [row for row in objects if row[1] != "__main__"])


def _config(folder, header):
    if header["layer"] is not None:
        return json.dumps(header["layer"])
    with zipfile.ZipFile(folder / MODEL) as file:
        return file.read("config.json").decode()


def _assign(variables, values):
    if [tuple(v.shape) for v in variables] != [v.shape for v in values]:
        raise ValueError("it has other variables")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _say(stage):
    print(stage, flush=True)


def _end_with_parent():
    """End this process when the pipe to it is closed: by the one that it works for, or with it."""

    def wait():
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    main(pathlib.Path(sys.argv[1]))
