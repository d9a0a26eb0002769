"""`kseq doctor`."""

import argparse

import kseq

from .arguments import Commands, say
from .models import ModelError, add_arguments, load_model


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "doctor",
        help="say which layers of a model lose the mask or let padding leak",
        description="Runs a model on rows with something in their padding. Prints a line for every layer that loses "
        "the mask or lets padding reach valid steps, with the size of the leak and what to use instead, and exits with "
        "1 if there is any.",
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    model = load_model(args)
    try:
        report = kseq.masks.check(model)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{args.model}: {error}") from error
    if args.json:
        print(report.to_json())
    else:
        say(report)
    return 0 if report.ok else 1
