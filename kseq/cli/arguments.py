"""What commands share: the error that ends one, and types of arguments."""

import argparse

from ..printable import printable


class CommandError(ValueError):
    """Why a command cannot do what it was asked; it prints this and exits with 1."""


def positive_int(text) -> int:
    """An integer of at least 1, or an error that argparse prints."""
    number = int(text)  # argparse words the error where it is no number
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return number


def say(text, file=None):
    """Print text with names from files in it, which must not command the terminal."""
    print(printable(text), file=file)
