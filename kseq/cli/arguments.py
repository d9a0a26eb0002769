"""What commands share: the error that ends one, and types of arguments."""

import argparse
import difflib
import os
from collections.abc import Collection
from typing import IO, TypeAlias

from ..annotations import AnyPath
from ..printable import printable

# What `add_parser` of a command is given, for which argparse has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class CommandError(ValueError):
    """Why a command cannot do what it was asked; it prints this and exits with 1."""


def not_there(path: AnyPath, names: Collection[str] = (), what: str = "no such file or folder") -> CommandError:
    """The error for a path where nothing is, with what lies beside it, or is known by name, and is nearly called so."""
    folder, name = os.path.split(str(path).rstrip("/"))
    beside = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    near = difflib.get_close_matches(name, [*names, *beside[:_MOST]], n=1)
    where = "" if not folder or not near or near[0] in names else f"{folder}/"
    return CommandError(f"{path}: {what}" + (f"; did you mean {where + near[0]!r}?" if near else ""))


_MOST = 2000  # files that names are compared with


def positive_int(text: str) -> int:
    """An integer of at least 1, or an error that argparse prints."""
    number = int(text)  # argparse words the error where it is no number
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return number


def positive_float(text: str) -> float:
    """A number above 0, or an error that argparse prints."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0; received {text}")
    return number


def say(text: object, file: IO[str] | None = None) -> None:
    """Print text with names from files in it, which must not command the terminal."""
    print(printable(text), file=file)
