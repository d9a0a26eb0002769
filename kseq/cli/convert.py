"""`kseq convert`."""

import argparse
import pathlib

import kseq

from .arguments import CommandError, Commands, say
from .models import ModelError, add_import, load


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "convert",
        help="replace Keras's layers in a saved model by kseq's, with their weights",
        description="Writes a model that gives the same on rows without padding, with kseq's layers in the places of "
        "Keras's, and prints what was replaced, and what was not and why. The optimizer of the new model begins anew.",
    )
    parser.add_argument("model", metavar="MODEL.keras", help="a saved model; loaded in safe mode")
    parser.add_argument("output", metavar="OUT.keras", help="where to write the new model")
    parser.add_argument("--overwrite", action="store_true", help="write over a file that is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_import(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    output = pathlib.Path(args.output)
    if output.suffix != ".keras":
        raise CommandError(
            f"{output}: a saved model is a file of the kind .keras; received {output.suffix or 'no suffix'}"
        )
    if output.exists() and not args.overwrite:
        raise CommandError(f"{output}: there is a file of this name; --overwrite writes over it")
    try:
        model, report = kseq.convert(load(args.model, compile=True), return_report=True)
    except (TypeError, ValueError) as error:
        if isinstance(error, (CommandError, kseq.SpecError)):
            raise
        raise ModelError(f"{args.model}: {error}") from error
    model.save(output)
    if args.json:
        print(report.to_json())
    else:
        say(report)
        say(f"{output}: written")
    return 0
