"""`kseq draw`."""

import argparse
import pathlib

from ..show import graph_svg, timeline_svg
from .arguments import Commands
from .models import ModelError, add_arguments, load_model


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "draw",
        help="draw which inputs an output needs, or the layers of a model",
        description="Draws the timeline of a model as SVG: the past and future inputs that an output needs, blocks and "
        "latency; or, by --graph, its layers.",
    )
    add_arguments(parser)
    parser.add_argument("--graph", action="store_true", help="the layers and what each reads, in place of the timeline")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.svg|-", help="- is standard output")
    return parser


def run(args: argparse.Namespace) -> int:
    try:
        picture = (graph_svg if args.graph else timeline_svg)(load_model(args))
    except (TypeError, ValueError) as error:  # a SpecError, too, says all that is to say
        if type(error) in (TypeError, ValueError):
            raise ModelError(error) from error
        raise
    if args.output == "-":
        print(picture)
    else:
        pathlib.Path(args.output).write_text(picture, encoding="utf-8")
    return 0
