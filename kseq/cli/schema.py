"""`kseq schema`."""

import argparse
import json
import pathlib

from ..spec import json_schema
from .arguments import Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "schema",
        help="print the JSON schema of specs, for editors",
        description="Prints the JSON schema of specs, for completion and checks in editors. Save it beside your specs "
        "and begin them with: # yaml-language-server: $schema=./kseq.schema.json",
    )
    parser.add_argument("-o", "--output", metavar="FILE.json", help="by default standard output")
    return parser


def run(args: argparse.Namespace) -> int:
    text = json.dumps(json_schema(), indent=1)
    if args.output:
        pathlib.Path(args.output).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0
