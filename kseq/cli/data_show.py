"""`kseq data info` and `kseq data head`."""

import json
import re
import warnings
from typing import Any

import numpy as np

from ..annotations import AnyPath
from .arguments import CommandError, Commands, positive_int, say

_BINS, _WIDTH, _TEXT = 12, 40, 60
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def add_parsers(actions: Commands) -> None:
    info = actions.add_parser(
        "info",
        help="say what a store holds",
        description="Prints records, bytes, shards, fields, metadata, splits and lengths of a store.",
    )
    info.set_defaults(action=_info, prog=info.prog)
    head = actions.add_parser(
        "head", help="print the first records of a store", description="Prints the first records of a store."
    )
    head.set_defaults(action=_head, prog=head.prog)
    for parser in (info, head):
        parser.add_argument("path", metavar="STORE", help="folder or URL of a store")
    info.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    head.add_argument("-n", type=positive_int, default=5, metavar="N", help="records; default: %(default)s")
    head.add_argument(
        "--json", action="store_true", help="print one JSON object a record, with all values; bytes as base64"
    )


def _info(args) -> int:
    found = describe(args.path)
    if args.json:
        print(json.dumps(found))
    else:
        _print_info(found)
    return 0


def describe(path: AnyPath) -> dict[str, Any]:
    """What there is to say of a store without reading its records; the keys are those of `kseq data info --json`."""
    from .. import data
    from ..data.errors import IncompleteStoreWarning
    from ..data.store.folder import open_folder
    from ..data.store.manifest import read_manifest

    manifest = read_manifest(open_folder(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteStoreWarning)  # `complete` says it
        store = data.open(path)
    return {
        "path": str(path),
        "records": len(store),
        "bytes": sum(shard.bytes + 4 * shard.records * bool(shard.lengths_xxh3) for shard in manifest.shards),
        "shards": len(manifest.shards),
        "schema": manifest.schema.to_json(),
        "metadata": manifest.metadata,
        "splits": {name: len(split) for name, split in store.splits.items()},
        "generation": manifest.generation,
        "complete": manifest.complete,
        "content_hash": manifest.content_hash,
        "lengths": None if manifest.schema.main is None else _lengths(np.asarray(store.lengths)),
    }


def _lengths(lengths):
    if not len(lengths):
        return {"steps": 0, "shortest": 0, "longest": 0, "mean": 0.0, "median": 0.0, "histogram": []}
    low, high = int(lengths.min()), int(lengths.max())
    step = max(1, -(-(high - low + 1) // _BINS))
    counts = np.bincount((lengths - low) // step)
    return {
        "steps": int(lengths.sum(dtype=np.int64)),
        "shortest": low,
        "longest": high,
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "histogram": [
            {"from": low + step * n, "to": low + step * (n + 1) - 1, "records": int(count)}
            for n, count in enumerate(counts)
        ],
    }


def _print_info(found):
    from ..data import Schema

    state = "complete" if found["complete"] else "incomplete: its writer did not finish"
    say(f"{found['path']}: {state}, commit {found['generation']}")
    say(f"  {found['records']:,} records, {found['bytes']:,} bytes in {found['shards']:,} shards")
    say("fields")
    schema = Schema.from_json(found["schema"])
    for name, field in schema.items():
        say(f"  {name}: {field}{'  (main sequence)' if name == schema.main else ''}")
    say(f"metadata: {', '.join(found['metadata']) or 'none'}")
    say(f"splits: {', '.join(f'{name} {count:,}' for name, count in found['splits'].items()) or 'none'}")
    lengths = found["lengths"]
    if lengths is None:
        return
    say(
        f"lengths: {lengths['shortest']:,} to {lengths['longest']:,}, mean {lengths['mean']:,.1f}, "
        f"median {lengths['median']:,.1f}, {lengths['steps']:,} steps in all"
    )
    most = max((bin["records"] for bin in lengths["histogram"]), default=1)
    labels = [
        f"{bin['from']:,}" + (f" to {bin['to']:,}" if bin["to"] > bin["from"] else "") for bin in lengths["histogram"]
    ]
    wide = max(map(len, labels), default=0)
    for label, bin in zip(labels, lengths["histogram"], strict=True):
        say(f"  {label:>{wide}} {bar(bin['records'] / most, _WIDTH)} {bin['records']:,}")


def bar(share: float, width: int) -> str:
    """A bar of block characters, `width` long where the share is 1.

    Example:
        >>> bar(0.5, 4)
        '██'
    """
    whole, rest = divmod(round(share * width * 8), 8)
    return "█" * whole + _EIGHTHS[rest].strip()


def _head(args) -> int:
    from .. import data

    store = data.open(args.path)
    for number in range(min(args.n, len(store))):
        record = store[number]
        if args.json:
            print(_as_json(record, store.schema))
            continue
        say(f"record {number}")
        for name, value in record.items():
            say(f"  {name}: {_short(value)}")
    return 0


def _as_json(record, schema):
    from ..data.formats.cells import to_json

    try:
        return json.dumps({name: to_json(value, schema[name]) for name, value in record.items()})
    except TypeError as error:
        raise CommandError(f"a record has values for which JSON has no form: {error}") from None


def _short(value):
    """A value on one line."""
    if isinstance(value, np.ndarray) and value.ndim:
        numbers = np.array2string(value, threshold=8, edgeitems=3, precision=4, separator=", ")
        text = re.sub(r"\[ +", "[", " ".join(numbers.split()))
        return f"{value.dtype} {list(value.shape)} {text if len(text) <= 2 * _TEXT else text[: 2 * _TEXT] + '...'}"
    if isinstance(value, (str, bytes)):
        text = repr(value[: _TEXT + 1])
        return f"{text} ... ({len(value)} in all)" if len(value) > _TEXT + 1 else text
    return str(value)
