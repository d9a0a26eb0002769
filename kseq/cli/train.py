"""`kseq train`."""

import argparse
import json
import pathlib
import time
from typing import Any

from .arguments import CommandError, Commands, positive_int, say
from .models import add_arguments, load_model

_SUFFIX = ".keras"


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "train",
        help="train a model of a spec on a store of records",
        description="Trains a model on a store of records (`kseq data` makes them) and saves it. The spec's `compile` "
        "says how; padded steps have no weight.",
    )
    add_arguments(parser)
    parser.add_argument("--data", required=True, metavar="STORE", help="folder or URL of the store to train on")
    parser.add_argument("--validation", metavar="STORE", help="a store to validate on after every epoch")
    parser.add_argument(
        "--inputs", nargs="+", metavar="FIELD", help="fields for the model's inputs; default: the main sequence"
    )
    parser.add_argument(
        "--targets",
        nargs="+",
        required=True,
        metavar="FIELD[+N]",
        help="fields for the model's outputs; with +N what comes N steps later, as in `tokens+1`",
    )
    parser.add_argument("--out", required=True, metavar=f"FILE{_SUFFIX}", help="where the trained model is saved")
    parser.add_argument("--epochs", type=positive_int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive_int, default=32, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--max-shapes", type=positive_int, metavar="N", help="padded lengths; default: as many as are worth compiling"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and order; default: %(default)s")
    parser.add_argument(
        "--backup", metavar="FOLDER", help="save training here after every epoch, and go on from there if it is there"
    )
    parser.add_argument("--backup-every", type=positive_int, metavar="N", help="save after every N batches instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    results = _train(args)
    if args.json:
        print(json.dumps(results, allow_nan=False))
    else:
        last = ", ".join(f"{name} {_shown(values[-1])}" for name, values in results["history"].items() if values)
        say(f"{results['epochs']} epochs of {results['steps_per_epoch']} steps in {results['seconds']:.1f} s; {last}")
        say(f"useful cells {results['efficiency']:.3f} in {results['shapes']} shapes; saved as {results['path']}")
    return 0


def _train(args: argparse.Namespace) -> dict[str, Any]:
    import keras

    from .. import data
    from ..models import SequenceAutoencoder
    from .fitting import Interruption, check_data, fit

    out = pathlib.Path(args.out)
    if out.suffix != _SUFFIX:
        raise CommandError(f"--out must be a file of the kind {_SUFFIX}; received {args.out}")
    if args.backup_every and not args.backup:
        raise CommandError("--backup-every needs --backup, the folder to save to")
    keras.utils.set_random_seed(args.seed)
    model = load_model(args, compile=True)
    if not model.compiled:
        raise CommandError(f"{args.model}: the model must say how it is trained: give the spec a `compile`")
    if isinstance(model, SequenceAutoencoder):
        from .train_pairs import train_pairs

        out.parent.mkdir(parents=True, exist_ok=True)
        return train_pairs(model, args, out)
    _check_names(model, args.model)
    # Before training: a folder that cannot be made should not cost hours.
    out.parent.mkdir(parents=True, exist_ok=True)

    batches = _batches(args, model, args.data, shuffle=True)
    validation = args.validation and _batches(args, model, args.validation, shuffle=False)
    for path, given in ((args.data, batches), (args.validation, validation)):
        if given:
            check_data(model, given, path)
    backup = args.backup and data.BackupAndRestore(args.backup, batches, args.backup_every or "epoch")
    interruption = Interruption(backup or None)  # after the backup, so that it finds what that has counted
    report, started = batches.report(), time.perf_counter()
    if not args.json:
        _say_shapes(report)
    history = fit(
        model,
        batches,
        args,
        interruption,
        f"the same command goes on from the backup in {args.backup}",
        validation_data=validation,
        callbacks=[backup, interruption] if backup else [interruption],
        shuffle=False,  # the plan has shuffled
    )
    model.save(out)
    return {
        "model": args.model,
        "path": str(out),
        "records": report.records,
        "epochs": args.epochs,
        "steps_per_epoch": report.steps,
        "efficiency": report.efficiency,
        "shapes": len(report.shapes),
        "seconds": time.perf_counter() - started,
        "backend": keras.backend.backend(),
        "history": {name: [_finite(value) for value in values] for name, values in history.items()},
    }


def _shown(value):
    return "not finite" if value is None else f"{value:.4g}"


def _say_shapes(report):
    lengths = sorted({length for _, length in report.shapes})
    many = f"{len(report.shapes)} shapes, the first epoch compiles each" if len(report.shapes) > 1 else "1 shape"
    say(f"{report.records} records in {report.steps} batches an epoch, of {', '.join(map(str, lengths))} steps: {many}")


def _check_names(model, path):
    """Refuses names that Keras would write to the terminal as they are: of outputs, and in what was compiled."""
    names = [*model.output_names, *_texts(model.output), *_texts(model.get_compile_config())]
    wrong = [name for name in names if not name.isprintable()]
    if wrong:
        raise CommandError(f"{path}: names that are shown while training must be printable; received {wrong[0]!a}")


def _texts(value):
    if isinstance(value, (dict, list, tuple)):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value


def _batches(args, model, path, shuffle):
    from .. import data
    from ..data.batches.structure import field_of

    store = data.open(path)
    inputs = args.inputs or ([store.schema.main] if store.schema.main else [])
    targets = [_shifted(text, store.schema) for text in args.targets]
    unknown = [name for name in [*inputs, *map(field_of, targets)] if name not in store.schema]
    if unknown or not inputs:
        raise CommandError(
            f"{path}: --inputs and --targets must name fields among {list(store.schema)}; "
            f"received {unknown or 'no inputs'}"
        )
    sequences = sum(store.schema[name].ragged for name in inputs)
    # A model may take the mask of each sequence as an input after it (`mask: true` in a spec).
    wanted = {len(inputs): None, len(inputs) + sequences: "inputs"}
    if len(model.inputs) not in wanted:
        raise CommandError(
            f"{args.model}: a model of {len(model.inputs)} inputs needs as many fields, or fields and a mask "
            f"for each sequence; received {inputs}"
        )
    masks = wanted[len(model.inputs)]
    single = len(inputs) == 1 and masks is None
    return store.batches(
        batch_size=args.batch_size,
        inputs=inputs[0] if single else inputs,
        targets=targets[0] if len(targets) == 1 else targets,
        masks=masks,
        shuffle=shuffle,
        seed=args.seed,
        max_shapes=args.max_shapes,
    )


def _shifted(text, schema):
    """A field, or of `field+N` what comes N steps later; a field of that very name comes first."""
    from .. import data

    name, plus, steps = text.rpartition("+")
    if text in schema or not plus or not steps.isdecimal() or not int(steps):
        return text
    return data.shift(name, int(steps))


def _finite(value):
    """A number as JSON has it: none for what is not finite."""
    value = float(value)
    return value if abs(value) < float("inf") else None
