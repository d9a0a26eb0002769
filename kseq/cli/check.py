"""`kseq check`."""

import argparse
import dataclasses
import json
import sys

from ..spec import SpecError
from .arguments import Commands, say
from .models import add_arguments, load_model


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "check",
        help="say all that is wrong with a spec",
        description="Reads a spec and builds its model. Prints every error with its place and exits with 1 if any.",
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    try:
        model, problems = load_model(args), []
    except SpecError as error:
        model, problems = None, error.problems
        if not args.json:
            say(error, file=sys.stderr)
            say(f"{len(problems)} error{'s' * (len(problems) > 1)}", file=sys.stderr)
    if args.json:
        found = {"ok": model is not None, "problems": [dataclasses.asdict(problem) for problem in problems]}
        if model is not None:
            found |= {"name": model.name, "parameters": model.count_params()}
        print(json.dumps(found))
    elif model is not None:
        say(f"{args.model}: {model.name}, {model.count_params():,} parameters, no errors")
    return 0 if model is not None else 1
