"""`kseq layers`."""

import argparse
import json
import sys
from typing import Any

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..layers import SequenceLayer
from ..printable import printable
from ..spec import catalog
from ..spec.errors import did_you_mean
from .arguments import Commands
from .models import ModelError


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "layers",
        help="list the layers that specs can name, or describe one",
        description="Lists the types of layers that specs can name; with a name: its arguments, documentation, and the "
        "timing of its examples.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.name is None:
        found = [{"name": name, "summary": _summary(name)} for name in sorted(catalog.type_names())]
    else:
        found = describe(args.name)
    if args.json:
        print(json.dumps(found))
    elif args.name is None:
        _print_table(found)
    else:
        _print_one(found)
    for sentence in catalog.misnamed_plugins():
        print(f"kseq: {printable(sentence)}", file=sys.stderr)
    return 0


def _summary(name):
    found = catalog.find_loaded(name)
    return found.summary if found else "a plugin, which is loaded when a spec names it"


def describe(name: str) -> dict[str, Any]:
    """What there is to know of a layer type: arguments, documentation, and the timing of its examples.

    Raises:
        ModelError: no such type.
    """
    try:
        type_ = catalog.find(name)
    except catalog.PluginError as error:
        raise ModelError(error) from error
    if type_ is None:
        hint = did_you_mean(name, catalog.type_names()) or "`kseq layers` lists all"
        raise ModelError(f"unknown layer type {name!r}; {hint}")
    arguments = [
        {
            "name": argument.name,
            "takes": argument.kind.wanted,
            "required": argument.required,
            "default": argument.default if isinstance(argument.default, (int, float, str)) else None,
            "description": type_.describe(argument.name),
        }
        for argument in type_.arguments.values()
    ]
    # A layer that has none of its own inherits one without arguments, with which it may not even be made.
    own = any("examples" in vars(cls) for cls in type_.described.__mro__ if cls is not SequenceLayer)
    examples = type_.described.examples() if own else []
    timings = [_timing(type_.described(**example.config)) for example in examples]
    return {"name": type_.name, "arguments": arguments, "doc": type_.doc, "examples": timings}


def _timing(layer):
    timing = layer.timing
    config = {k: v for k, v in layer.get_config().items() if isinstance(v, (int, float, str)) and k != "name"}
    return {
        "arguments": config,
        "streams": layer.supports_step,
        "obstacle": layer.step_obstacle,
        "block": timing.block_size,
        "ratio": str(timing.ratio),
        "input_latency": timing.input_latency,
        "output_latency": timing.output_latency,
    }


def _print_table(rows):
    table = Table("layer", "what", box=HORIZONTALS, pad_edge=False)
    for row in rows:
        table.add_row(Text(row["name"]), Text(row["summary"]))
    Console().print(table)


def _print_one(found):
    console = Console(highlight=False)
    signature = ", ".join(a["name"] if a["required"] else f"{a['name']}={a['default']!r}" for a in found["arguments"])
    console.print(Text(printable(f"{found['name']}({signature})")), style="bold")
    console.print(Text(printable(f"\n{found['doc']}\n")), soft_wrap=True)
    for example in found["examples"]:
        if example["streams"]:
            facts = (
                f"block {example['block']}, ratio {example['ratio']}, "
                f"latency in / out {example['input_latency']} / {example['output_latency']}"
            )
        else:
            facts = f"does not stream: {example['obstacle']}"
        arguments = ", ".join(f"{k}={v!r}" for k, v in example["arguments"].items())
        console.print(Text(printable(f"{arguments}: {facts}")))
