"""`kseq show`."""

import argparse
import json

from ..show import summary, summary_rows
from .arguments import Commands
from .models import add_arguments, load_model
from .whole import parts_of


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "show",
        help="show the layers of a model with their timing",
        description="Prints the table of a model's layers: sizes, timing, and the state that each stream needs; of an "
        "autoencoder a table for the encoder and for the decoder.",
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    model = load_model(args)
    parts = parts_of(model)
    if parts and args.json:
        rows = {name: summary_rows(layer) for name, layer in parts.items()}
        print(json.dumps({"type": type(model).__name__, "parameters": model.count_params(), **rows}))
    elif parts:
        for name, layer in parts.items():
            print(f"{name}:")
            summary(layer)
        print(f"{type(model).__name__}: {model.count_params()} parameters in all")
    elif args.json:
        print(json.dumps(summary_rows(model)))
    else:
        summary(model)
    return 0
