"""`kseq data build`."""

import argparse
import importlib
import json
import os
import sys
from typing import Any

from .arguments import CommandError, Commands, positive_int, say
from .models import variable


def add_parsers(actions: Commands) -> None:
    parser = actions.add_parser(
        "build",
        help="build stores of records from a table, split and in parallel",
        description="Builds a store for each split from the rows of a table, with a class of records that a Python "
        "module defines (`kseq.data.record`).",
    )
    parser.set_defaults(action=_build, prog=parser.prog)
    parser.add_argument("path", metavar="OUT", help="folder to make")
    parser.add_argument(
        "--record", required=True, metavar="MODULE:CLASS", help="the class; modules may lie in the current folder"
    )
    parser.add_argument(
        "--source",
        required=True,
        action="append",
        metavar="[SPLIT=]FILE",
        help="CSV, TSV, JSON lines or another format; with SPLIT=, once for each split",
    )
    parser.add_argument(
        "--split",
        type=_share,
        nargs="+",
        action="extend",
        metavar="NAME=SHARE",
        help="default: train=.8 eval=.1 test=.1",
    )
    parser.add_argument("--fold", type=positive_int, metavar="K", help="make K folds instead of splits")
    parser.add_argument("--by", metavar="COLUMN", help="rows of equal values stay in one split")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the splits; default: %(default)s")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="processes; default: 1")
    parser.add_argument("--shard-rows", type=positive_int, metavar="N", help="rows of the source in a shard")
    parser.add_argument("--shard-bytes", type=positive_int, metavar="N", help="bytes after which a shard ends")
    parser.add_argument("--no-header", action="store_true", help="the first line of CSV is a row, not names of columns")
    parser.add_argument("--cast", action="store_true", help="round arrays of wider floats to those of their field")
    parser.add_argument("--overwrite", action="store_true", help="take the place of the build that is there")
    parser.add_argument("--format", choices=("store", "tfrecord"), default="store", help="default: %(default)s")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="default: %(default)s")
    for name, what in (("--arg", "for `load` and `split` of the records"), ("--metadata", "that describes the data")):
        parser.add_argument(
            name, type=variable, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=what
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _build(args) -> int:
    from .. import data

    given = dict(args.arg)
    record, source = _record(args.record), _source(args.source)
    try:
        report = data.build(
            args.path,
            record,
            source,
            splits=None if args.split is None else dict(args.split),
            folds=args.fold,
            seed=args.seed,
            by=args.by,
            workers=args.workers,
            format=args.format,
            on_error=args.on_error,
            overwrite=args.overwrite,
            cast=args.cast,
            header=not args.no_header,
            shard_rows=args.shard_rows,
            shard_bytes=args.shard_bytes,
            metadata=dict(args.metadata) or None,
            progress=not args.json,
            **given,
        )
    except KeyboardInterrupt:
        left = "what was there is as it was" if os.path.lexists(args.path) else "nothing is written there"
        say(f"kseq data build: interrupted; {args.path}: {left}", file=sys.stderr)
        raise
    except data.DataError:
        raise
    except (TypeError, ValueError) as error:  # arguments that do not go together
        raise CommandError(error) from error
    print(json.dumps(report.to_json()) if args.json else report)
    return 0


def _record(text: str) -> Any:
    name, colon, attribute = text.partition(":")
    if not name or not colon or not attribute:
        raise CommandError(f"the record must be MODULE:CLASS; received {text!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script has its own folder there
    try:
        found: Any = importlib.import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise CommandError(f"{text}: {error}") from error
    return found


def _source(texts):
    if len(texts) == 1 and (os.path.exists(texts[0]) or "=" not in texts[0]):
        return texts[0]
    pairs = [text.partition("=") for text in texts]
    sources = {name: path for name, _, path in pairs}
    if not all(equals for _, equals, _ in pairs) or len(sources) < len(pairs):
        raise CommandError(f"several sources must be SPLIT=FILE each, of splits that differ; received {texts}")
    return sources


def _share(text):
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be NAME=SHARE; received {text!r}") from None
