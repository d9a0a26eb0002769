"""`kseq show`."""

import argparse
import json

from ..show import summary, summary_rows
from .arguments import Commands
from .models import add_arguments, load_model


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "show",
        help="show the layers of a model with their timing",
        description="Prints the table of a model's layers: sizes, timing, and the state that each stream needs.",
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    model = load_model(args)
    if args.json:
        print(json.dumps(summary_rows(model)))
    else:
        summary(model)
    return 0
