"""`kseq demo`."""

import argparse
import json

from .arguments import Commands, positive_int


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "demo",
        help="train on real speech, save, load, and stream the same numbers",
        description="Trains a small causal model on the Japanese Vowels data, saves it, loads it back, and streams "
        "every test utterance frame by frame from the loaded model.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", metavar="DIR", help="where files go; by default a new temporary folder")
    parser.add_argument("--epochs", type=positive_int, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    return parser


def run(args: argparse.Namespace) -> int:
    from . import demo_run  # on use: it loads Keras and the data set

    options = {"out": args.out, "epochs": args.epochs, "seed": args.seed}
    if args.json:
        results = demo_run.run(**options, report=lambda text: None, verbose=0)
        print(json.dumps(results, allow_nan=False))
    else:
        demo_run.run(**options)
    return 0
