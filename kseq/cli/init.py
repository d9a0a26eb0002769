"""`kseq init`."""

import argparse
import pathlib

from ..spec import shipped
from ..spec.errors import did_you_mean
from .arguments import CommandError, Commands, say


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "init",
        help="copy a shipped spec, to start from",
        description="Copies a spec that comes with kseq, to start a model of your own from.",
    )
    parser.add_argument("name", metavar="NAME", help=", ".join(shipped()))
    parser.add_argument("path", metavar="FILE.yaml", help="where to; a file that is there is left as it is")
    return parser


def run(args: argparse.Namespace) -> int:
    source = shipped().get(args.name)
    if source is None:
        hint = did_you_mean(args.name, shipped()) or f"there are {', '.join(shipped())}"
        raise CommandError(f"no shipped spec has the name {args.name!r}; {hint}")
    path = pathlib.Path(args.path)
    if path.suffix not in (".yaml", ".yml"):
        raise CommandError(f"a spec is copied to a file of the kind .yaml or .yml; received {args.path}")
    text = source.read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CommandError(f"{args.path}: is there already") from None
    say(f"{args.path}: a copy of {args.name}; `kseq check {args.path}` says what is wrong with it as you change it")
    return 0
