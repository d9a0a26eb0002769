"""Types of arguments that commands share."""

import argparse


def positive_int(text) -> int:
    """An integer of at least 1, or an error that argparse prints."""
    number = int(text)  # argparse words the error where it is no number
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return number
