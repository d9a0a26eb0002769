"""`kseq data`: stores of records made, converted, looked at, repaired and made compact."""

import argparse
import contextlib
import gc
import json
from collections.abc import Iterator

from . import data_build, data_convert, data_show
from .arguments import Commands, positive_int


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "data",
        help="build, convert, inspect, verify, repair and compact stores of records",
        description="Works on stores of records (`kseq.data`) and on files of other formats.",
    )
    parser.set_defaults(data_parser=parser, action=None)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (data_convert, data_show, data_build):
        module.add_parsers(actions)
    _add_upkeep(actions)
    return parser


def run(args: argparse.Namespace) -> int:
    if args.action is None:
        args.data_parser.print_help()
        return 2
    with _no_calls_of_the_collector():
        return args.action(args)


@contextlib.contextmanager
def _no_calls_of_the_collector() -> Iterator[None]:
    """Leave out what others have the garbage collector call, where much of the time goes: a Ctrl-C in it is lost."""
    kept, gc.callbacks[:] = gc.callbacks[:], []
    try:
        yield
    finally:
        gc.callbacks.extend(kept)


def _add_upkeep(actions):
    for name, action, what in (
        ("verify", _verify, "compare a store with its checksums; exits with 1 if anything is wrong"),
        ("repair", _repair, "recover what a killed writer has left; damaged records are not restored"),
        ("compact", _compact, "join small shards, of which many commits make many; records stay as they are"),
    ):
        parser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        parser.set_defaults(action=action, prog=parser.prog)
        parser.add_argument("path", metavar="STORE", help="folder or URL of a store")
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        if action is _repair:
            parser.add_argument("--discard", action="store_true", help="remove what was left instead")
        elif action is _compact:
            parser.add_argument(
                "--shard-bytes", type=positive_int, metavar="N", help="bytes of a shard at most; default: 256 MB"
            )
        else:
            parser.add_argument("--deep", action="store_true", help="also read every record, one by one")
            parser.add_argument("--against", metavar="OTHER", help="also compare every record with those of a store")


def _verify(args) -> int:
    from .. import data

    report = data.verify(args.path, deep=args.deep, against=args.against)
    print(json.dumps(report.to_json()) if args.json else report)
    return 0 if report.ok else 1


def _repair(args) -> int:
    from .. import data

    report = data.repair(args.path, discard=args.discard)
    print(json.dumps(report.to_json()) if args.json else report)
    return 0


def _compact(args) -> int:
    from .. import data
    from ..data.store.folder import open_folder
    from ..data.store.manifest import read_manifest

    before = len(read_manifest(open_folder(args.path)).shards)
    options = {} if args.shard_bytes is None else {"shard_bytes": args.shard_bytes}
    shards = data.compact(args.path, **options)
    if args.json:
        print(json.dumps({"path": args.path, "shards_before": before, "shards": shards}))
    else:
        print(f"{args.path}: {before:,} shards, {shards:,} now")
    return 0
