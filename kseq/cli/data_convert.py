"""`kseq data convert`."""

import contextlib
import glob
import inspect
import json
import os
import pathlib
import sys
from typing import Any

from ..annotations import AnyPath
from .arguments import CommandError, Commands, not_there, say
from .models import variable

_STORE = "store"
_OF_WRITER = ("main", "shard_rows", "shard_bytes")


def add_parsers(actions: Commands) -> None:
    parser = actions.add_parser(
        "convert",
        help="convert between stores and files of other formats",
        description="Reads the records of a store, or of files of another format, and writes them as another. By "
        "default a folder with a manifest is a store, as is a destination without a suffix; of others the suffix says "
        "the format.",
    )
    parser.set_defaults(action=_convert, prog=parser.prog)
    parser.add_argument("source", metavar="SRC", help="a store, a file, a folder, or a pattern with *")
    parser.add_argument("destination", metavar="DST", help="store or file to write; it must not be there")
    parser.add_argument("--from", dest="source_format", metavar="FORMAT", help="of SRC; `store` or another")
    parser.add_argument("--to", dest="format", metavar="FORMAT", help="of DST; `store` or another")
    parser.add_argument("--schema", metavar="FILE.json", help="fields of the records, where SRC does not say them")
    for name, what in (("--option", "of the format of SRC"), ("--to-option", "of the format of DST")):
        parser.add_argument(
            name, type=variable, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=what
        )
    parser.add_argument("--no-metadata", action="store_true", help="leave out metadata, for which DST has no place")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _convert(args) -> int:
    try:
        records = convert(
            args.source,
            args.destination,
            args.source_format,
            args.format,
            args.schema,
            dict(args.option),
            dict(args.to_option),
            not args.no_metadata,
        )
    except ImportError as error:  # a package that the format needs; the text says which
        raise CommandError(error) from error
    if args.json:
        print(json.dumps({"source": args.source, "destination": args.destination, "records": records}))
    else:
        say(f"{args.destination}: {records:,} records")
    return 0


def convert(
    source: str,
    target: str,
    source_format: str | None = None,
    format: str | None = None,
    schema: AnyPath | None = None,
    options: dict[str, Any] | None = None,
    to_options: dict[str, Any] | None = None,
    metadata: bool = True,
) -> int:
    """Write the records of a store or of files as another, and return their number.

    Raises:
        DataError: files that cannot be read or written.
        CommandError: options that a format does not have, a schema where there is one.
    """
    from ..data import Schema, Store, Writer
    from ..data.formats import RecordSource

    given = None if schema is None else _read_schema(schema)
    records, found, about, splits = _open(source, source_format or _source_format(source), given, options or {})
    if found is None:
        records = iter(records)
        first = next(records, None)
        if first is None:
            raise CommandError(f"{source}: there are no records, and no schema is known; give --schema")
        found, records = Schema.infer(first), _chain(first, records)
        if found.main is not None:
            say(f"{source}: the main sequence is {found.main!r}; give --schema for another", file=sys.stderr)
    format, count = format or _target_format(target), 0
    with _create(target, format, found, about if metadata else {}, to_options or {}) as sink:
        if isinstance(records, Store) and isinstance(sink, Writer):
            count = len(sink.write_store(records))
        elif isinstance(sink, Writer) and isinstance(records, RecordSource) and (columns := records.columns()):
            count = sum(len(sink.write_batch(part)) for part in columns)
        else:
            for record in records:
                sink.write(record)
                count += 1
    if splits and format == _STORE:
        from ..data import set_metadata

        set_metadata(target, splits=splits)
    return count


def _open(
    source: str, format: str, schema: Any, options: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """The records of a source, their schema or None, metadata, and the ranges of splits."""
    if format == _STORE:
        from .. import data
        from ..data.store.folder import open_folder
        from ..data.store.manifest import read_manifest

        if options or schema is not None:
            raise CommandError(f"{source}: a store is read as it is; give neither --option nor --schema")
        store = data.open(source)
        return store, store.schema, store.metadata, read_manifest(open_folder(source)).splits
    known = _options(format, "read")
    if "vocabulary" in options:
        from ..data.text import Vocabulary

        options["vocabulary"] = Vocabulary.load(options["vocabulary"])
    if schema is not None and "schema" in known:
        options["schema"] = schema
    _check(format, options, known, "--option")
    from ..data import formats

    with _refusing(format):
        found = formats.read(source, format, **options)
    return found, schema or found.schema, dict(found.metadata), {}


def _create(target, format, schema, metadata, options):
    if format == _STORE:
        from ..data import Writer

        _check(format, options, _OF_WRITER, "--to-option")
        with _refusing(format):
            return Writer(target, schema, metadata=metadata, **options)
    from ..data import formats

    _check(format, options, _options(format, "write"), "--to-option")
    with _refusing(format):
        return formats.write(target, schema, metadata, format, **options)


def _options(format, verb):
    """Names of the options that a format has."""
    from ..data import formats

    known = formats.formats()
    if format not in known:
        raise CommandError(f"a format must be one of {[_STORE, *sorted(known)]}; received {format!r}")
    function = getattr(known[format], verb)
    names = [] if function is None else list(inspect.signature(function).parameters)
    return [name for name in names if name not in ("path", "schema", "metadata") or (name, verb) == ("schema", "read")]


def _check(format, options, known, flag):
    wrong = [name for name in options if name not in known]
    if wrong:
        names = ", ".join(name for name in known if name != "schema") or "none"
        raise CommandError(f"{flag} of {format}: known are {names}; received {', '.join(wrong)}")


@contextlib.contextmanager
def _refusing(format):
    """Options with values that a format refuses are the user's error, not ours."""
    from ..data import DataError

    try:
        yield
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        raise CommandError(f"{format}: {error}") from error


def _source_format(source):
    if "://" in source or (pathlib.Path(source) / "manifest.json").is_file():
        return _STORE
    if not glob.has_magic(source) and not os.path.lexists(source):
        raise not_there(source)
    from ..data import formats

    return formats.detect(source).name


def _target_format(target):
    if "://" in target or not os.path.splitext(target.rstrip("/"))[1]:
        return _STORE
    from ..data import formats

    return formats.detect(target).name


def _read_schema(path):
    from ..data import Schema

    try:
        return Schema.from_json(json.loads(pathlib.Path(path).read_bytes()))
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from error


def _chain(first, rest):
    yield first
    yield from rest
