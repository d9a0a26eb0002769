"""Whole models on the command line: what of them is shown, and the command's errors for their data."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from ..layers import SequenceLayer
from ..models import SequenceAutoencoder
from .arguments import CommandError
from .models import ModelError


def parts_of(model: Any) -> dict[str, SequenceLayer]:
    """The layers of a whole model that a table can show, by name; none of another model."""
    if not isinstance(model, SequenceAutoencoder):
        return {}
    chain = getattr(model.decoder, "chain", None)
    return {"encoder": model.encoder} | ({} if chain is None else {"decoder": chain})


def autoencoder_of(model: Any, args: argparse.Namespace) -> SequenceAutoencoder:
    """A model that is an autoencoder.

    Raises:
        ModelError: another.
    """
    if not isinstance(model, SequenceAutoencoder):
        raise ModelError(f"{args.model}: must be a SequenceAutoencoder; received a {type(model).__name__}")
    return model


@contextlib.contextmanager
def saying(path: str) -> Iterator[None]:
    """What is wrong with data within it, as the command's error, with the file's name."""
    try:
        yield
    except CommandError:
        raise
    except (ValueError, TypeError) as error:
        raise CommandError(f"{path}: {' '.join(str(error).split())}") from error
