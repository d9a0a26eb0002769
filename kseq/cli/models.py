"""Models that commands are given: saved by Keras, or written as a spec."""

import argparse
import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import keras

import kseq

from ..annotations import AnyPath
from ..keras_errors import unframed
from ..model_graph import in_words
from ..spec import Limits, SpecError, load_spec, shipped
from ..spec.errors import did_you_mean
from ..spec.node import DEFAULT_LIMITS
from ..spec.reader import SUFFIXES as _SPECS
from ..spec.reader import read_value
from .arguments import CommandError, not_there
from .plugins import load_plugins

_SAVED, _WEIGHTS = ".keras", ".weights.h5"
_LIMITS = tuple(field.name for field in dataclasses.fields(Limits))


class ModelError(CommandError):
    """A file that gives no model, or a model that does not do what is asked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of commands that take a saved model or a spec."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a saved model (.keras; loaded in safe mode, so that nothing in it is run as code), a spec (.yaml, .yml, "
        ".json), or a shipped spec's name",
    )
    parser.add_argument(
        "--vars", type=variable, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="of a spec"
    )
    parser.add_argument(
        "--set",
        type=variable,
        nargs="+",
        action="extend",
        default=[],
        metavar="LAYER.ARGUMENT=VALUE",
        help="an argument of a spec's layer, by the layer's name",
    )
    parser.add_argument(
        "--limit",
        type=_limit,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=NUMBER",
        help=f"how large a spec may be: {', '.join(_LIMITS)}",
    )
    add_import(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """The argument for modules that register layers."""
    parser.add_argument(
        "--import",
        type=_imported,
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE",
        help="modules to import first: those that register layers of your own",
    )


def _imported(name):
    sys.path.insert(0, "")  # as `python -m` has it
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise argparse.ArgumentTypeError(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove("")


def load_model(args: argparse.Namespace, compile: bool = False) -> keras.Model:
    """The model of a command's arguments, as `load` gives it."""
    return load(args.model, dict(args.vars), compile, set=dict(args.set), limits=Limits(**dict(args.limit)))


def load(
    path: AnyPath,
    variables: Mapping[str, Any] | None = None,
    compile: bool = False,
    set: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> keras.Model:
    """The model of a `.keras` file, or of a spec (`.yaml`, `.yml`, `.json`, a shipped one's name) with its variables.

    Saved models are loaded in Keras's safe mode: a file must not bring code with it. Most commands have no use for the
    optimizer and the losses of a `.keras` file: `compile` loads them.

    Raises:
        OSError: a file that cannot be opened.
        SpecError: a spec with errors.
        ModelError: another kind of file, a file that gives no model, or variables for what is not a spec.
    """
    path = shipped().get(str(path), pathlib.Path(path))
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise not_there(path, shipped(), "no such file, and no shipped spec of this name") from None
    if path.suffix in _SPECS:
        return load_spec(path, variables, set=set, limits=limits)
    if path.suffix != _SAVED:
        wanted = ", ".join((_SAVED, *_SPECS))
        raise ModelError(f"{path}: a model is a file of the kinds {wanted}; received {path.suffix or 'no suffix'}")
    for what, given in (("variables", variables), ("arguments of layers", set)):
        if given:
            raise ModelError(f"{path}: {what} are for specs ({', '.join(_SPECS)}); received {', '.join(given)}")
    if start != b"PK\3\4":
        raise ModelError(f"{path}: not a Keras file, which is a zip archive; it starts with {start!r}")
    load_plugins(path)
    try:
        return keras.models.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # Keras, zipfile, json and h5py each raise their own on what they cannot read
        reason = f"{type(error).__name__}: {_line(error)}"
        raise ModelError(f"{path}: cannot be loaded in safe mode, as kseq loads models: {reason}") from error


def is_spec(path: AnyPath) -> bool:
    """Whether a command's model is a spec: a file of one, or the name of a shipped one."""
    return str(path) in shipped() or pathlib.Path(path).suffix in _SPECS


def load_trained(args: argparse.Namespace) -> keras.Model:
    """The model of a command's arguments with trained weights: a `.keras` file, or a spec with a file of weights.

    Raises:
        OSError: a file that cannot be opened.
        SpecError: a spec with errors.
        ModelError: as for `load`, a spec without weights, or weights of another model.
    """
    path, weights = args.model, args.weights
    if not is_spec(path):
        if weights:
            raise ModelError(f"{path}: --weights is for specs; a saved model has its own")
        return load_model(args)
    if not weights:
        raise ModelError(
            f"{path}: a spec has no trained weights; give them by --weights FILE{_WEIGHTS}, as `model.save_weights` "
            f"writes it, or give a model that `kseq train` or `model.save` has saved"
        )
    if not weights.endswith((_WEIGHTS, _SAVED)):
        raise ModelError(f"{weights}: weights are a file of the kind {_WEIGHTS} or {_SAVED}")
    with open(weights, "rb"):  # before a model is built: Keras says of every file but that it cannot be read
        model = load_model(args)
    try:
        model.load_weights(weights)
    except Exception as error:  # Keras, zipfile and h5py each raise their own on what they cannot read
        raise ModelError(
            f"{weights}: no weights of {in_words(model)}: {type(error).__name__}: {_line(error)}"
        ) from error
    return model


def open_stream(model: Any, batch_size: int = 1) -> kseq.Stream:
    """A stream of a model.

    Raises:
        ModelError: a model that cannot stream, with the reasons, or whose channels are not all known.
    """
    try:
        stream = kseq.Stream(model, batch_size)
    except (TypeError, ValueError) as error:
        raise ModelError(_line(error)) from error
    if not all(stream.spec.shape):  # None or 0
        raise ModelError(
            f"{in_words(model)} cannot stream: its input must have known channels; it has {stream.spec.shape}"
        )
    return stream


def variable(text: str) -> tuple[str, Any]:
    """NAME=VALUE with the value read as YAML, or an error that argparse prints."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE; received {text!r}")
    try:
        return name, read_value(value)
    except SpecError:
        raise argparse.ArgumentTypeError(f"the value must be YAML; received {text!r}") from None


def _limit(text: str) -> tuple[str, int]:
    """NAME=NUMBER of a limit, or an error that argparse prints."""
    name, number = variable(text)
    if name not in _LIMITS:
        hint = did_you_mean(name, _LIMITS) or f"limits are {', '.join(_LIMITS)}"
        raise argparse.ArgumentTypeError(f"unknown limit {name!r}; {hint}")
    if isinstance(number, float) and number.is_integer():
        number = int(number)  # as in 1e9
    if type(number) is not int or number < 0:
        raise argparse.ArgumentTypeError(f"a limit is a whole number; received {text!r}")
    return name, number


def _line(error):
    """One line of an error, which Keras words over many."""
    text = " ".join(unframed(error).split())
    return text if len(text) <= 500 else f"{text[:500]}..."
