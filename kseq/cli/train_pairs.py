"""`kseq train` of a whole model: pairs of sequences of a store."""

import argparse
import pathlib
import time
from typing import Any

import keras
import numpy as np

from .. import data
from ..models import SequenceAutoencoder
from .arguments import CommandError, say
from .fitting import Interruption, fit
from .whole import saying


def train_pairs(model: SequenceAutoencoder, args: argparse.Namespace, out: pathlib.Path) -> dict[str, Any]:
    """Train an autoencoder on a store and save it.

    Args:
        model: compiled.
        args: of `kseq train`.
        out: where to save.

    Returns:
        What the command prints.

    Raises:
        CommandError: what is wrong with the fields or their records, or arguments that are for other models.
    """
    for name in ("max_shapes", "backup_every"):
        if getattr(args, name):
            raise CommandError(f"--{name.replace('_', '-')} is not for a {type(model).__name__}")
    if len(args.inputs or []) > 1 or len(args.targets) > 1:
        raise CommandError("an autoencoder has one field for --inputs, and one for --targets, which may be the same")
    pairs = _pairs(model, args, args.data, True)
    held = args.validation and _pairs(model, args, args.validation, False)
    backup = [keras.callbacks.BackupAndRestore(args.backup)] if args.backup else []
    interruption, started = Interruption(None), time.perf_counter()
    if not args.json:
        say(f"{len(pairs.inputs)} records in {len(pairs)} batches an epoch")
    with saying(args.data):
        history = fit(
            model,
            pairs,
            args,
            interruption,
            f"the same command goes on from the epoch in {args.backup}",
            validation_data=held or None,
            callbacks=[*backup, interruption],
        )
    model.save(out)
    shapes, useful, cells = pairs.shapes()
    return {
        "model": args.model,
        "path": str(out),
        "records": len(pairs.inputs),
        "epochs": args.epochs,
        "steps_per_epoch": len(pairs),
        "efficiency": useful / cells,
        "shapes": shapes,
        "seconds": time.perf_counter() - started,
        "backend": keras.backend.backend(),
        "history": {name: [_finite(value) for value in values] for name, values in history.items()},
    }


def _pairs(model, args, path, shuffle):
    store = data.open(path)
    inputs = (args.inputs or [store.schema.main])[0]
    (target,) = args.targets
    unknown = [name for name in (inputs, target) if name not in store.schema]
    if unknown:
        raise CommandError(
            f"{path}: --inputs and --targets must name fields among {list(store.schema)}; received {unknown}"
        )
    with saying(path):
        return model.pairs(store, target, args.batch_size, shuffle, field=inputs)


def _finite(value):
    """A number as JSON has it: none for what is not finite."""
    return float(value) if np.isfinite(value) else None
