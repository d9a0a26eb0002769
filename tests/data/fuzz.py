"""Fuzz the readers of the record store by coverage: `pip install atheris`, then

    python tests/data/fuzz.py TARGET -max_total_time=600 -timeout=20 -rss_limit_mb=4096 CORPUS_FOLDER

Any bytes must give records or an error of `kseq.data`, whatever their checksums say. The targets:

- `manifest`: the manifest of a store. Those that are JSON are read a second time with checksums made right.
- `tfrecord`: a TFRecord file, with and without a schema and checksums. The first byte chooses.
- `example`: a message, which the kernel reads as protobuf does, or leaves to it.
- `hdf5`: an HDF5 file of seqp. Another process reads it, so that coverage shows little.
- `array_record`, `csv`, `jsonl`, `hsq`, `npz`, `parquet`: files of these formats.
- `shard`: a shard, opened as `open` does and every record read; scanned and salvaged as `repair` does.

The corpus begins with files that kseq writes.
"""

import contextlib
import itertools
import json
import os
import pathlib
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["kseq.data", "json"]):
    import numpy as np
    import xxhash

    import kseq.data
    from kseq import _ext
    from kseq._ext import reference_example
    from kseq.data import errors, formats
    from kseq.data.formats import child
    from kseq.data.formats.tf import columns, writing
    from kseq.data.store import core, manifest, shard, store
    from kseq.data.store.conversion import convert_record
    from kseq.data.store.folder import Folder
    from kseq.data.store.recovery import _salvaged, batch_columns
    from kseq.data.store.verification import scan

    formats.formats()  # imports them all

child.SECONDS = 5  # less than the fuzzer waits

# Where files are written again and again: in memory, if there is such a place.
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
SCHEMAS = {
    "tokens": {"tokens": ("int32", (None,))},
    "kinds": {
        "tokens": kseq.data.Field("int64", (None,), store="uint8"),
        "frames": kseq.data.Field("float32", (None, 2)),
        "text": kseq.data.Field("string", optional=True),
        "data": "bytes",
        "vector": ("float64", (3,)),
        "flag": kseq.data.Field("bool", optional=True),
    },
}


def records(name, count=5):
    """Small records of a schema."""
    for n in range(count):
        record = {"tokens": np.arange(n, dtype="int32")}
        if name == "kinds":
            record = {"tokens": np.arange(n), "frames": np.ones((n % 3, 2), "f4"), "text": None if n % 2 else "text"}
            record |= {"data": b"data" * n, "vector": np.zeros(3), "flag": None if n == 3 else np.bool_(n % 2)}
        yield record


@contextlib.contextmanager
def file_of(data, suffix):
    """A file that holds these bytes. Each has its own, since shards that are mapped must not change."""
    handle, path = tempfile.mkstemp(suffix, dir=SCRATCH)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)


@contextlib.contextmanager
def stored(name):
    """The folder of a store of small records."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "store")
        with kseq.data.Writer(path, SCHEMAS[name], shard_rows=3) as writer:
            for record in records(name):
                writer.write(record)
        yield path


def written(suffix, schema, rows, metadata=None, **options):
    """The bytes of a file of another format."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "seed" + suffix)
        with formats.write(path, schema, metadata, **options) as sink:
            for record in rows:
                sink.write(record)
        return path.read_bytes()


# Manifests


def fuzz_manifest(data):
    for each in (data, with_checksums(data)):
        try:
            found = manifest.parse_manifest(each, "manifest.json")
        except errors.ManifestError as error:
            str(error).encode(errors="surrogatepass")
            continue
        written = found.to_bytes()
        assert manifest.parse_manifest(written, "again").to_bytes() == written
        repr(found), found.records


def with_checksums(data):
    """The same manifest with checksums that are right, so that what lies behind them is read."""
    zeros = "0" * 16
    try:
        found = json.loads(data)
        found["checksum"] = zeros
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, errors.SchemaError):
            shards = [manifest.ShardEntry(**entry) for entry in found["shards"]]
            found["content_hash"] = manifest.content_hash(kseq.data.Schema.from_json(found["schema"]), shards)
        text = json.dumps(found).encode()
    except (ValueError, TypeError, RecursionError):
        return data
    return text.replace(zeros.encode(), xxhash.xxh3_64_hexdigest(text).encode(), 1)


def manifest_seeds():
    for name in SCHEMAS:
        with stored(name) as path:
            kseq.data.set_metadata(path, {"about": ["a", 1, None]}, {"train": [[0, 3]], "test": [[3, 5]]})
            yield (path / "manifest.json").read_bytes()


# TFRecord

READINGS = [
    {"kind": kind, "schema": SCHEMAS[schema] if schema else None, "verify": verify}
    for kind in ("example", "sequence_example")
    for schema in (None, *SCHEMAS)
    for verify in (False, True)
] + [{"kind": "bytes"}]


def fuzz_tfrecord(data):
    if not data:
        return
    with file_of(data[1:], ".tfrecord") as path, contextlib.suppress(errors.DataError):
        for record in formats.read(path, **READINGS[data[0] % len(READINGS)]):
            repr(record)


def tfrecord_seeds():
    for place, options in enumerate(READINGS):
        schema = {"data": "bytes"} if options["kind"] == "bytes" else options["schema"] or SCHEMAS["kinds"]
        rows = [{"data": b"data"}] if options["kind"] == "bytes" else records("kinds" if len(schema) > 1 else "tokens")
        compression = (None, "GZIP", "ZLIB")[place % 3] if options.get("verify") else None
        yield bytes([place]) + written(".tfrecord", schema, rows, kind=options["kind"], compression=compression)


# Messages


def columns_of(data, name, kind):
    """The columns of two messages, as text, or what is wrong."""
    try:
        found = columns.column_decoder(kseq.data.Schema(SCHEMAS[name]), kind)([data, data])
    except columns.Malformed as error:
        return str(error)
    return repr({name: list(rows) for name, rows in found.items()})


def fuzz_example(data):
    for name, kind in itertools.product(SCHEMAS, ["example", "sequence_example"]):
        with_kernel, kernel = columns_of(data, name, kind), _ext.example_columns
        _ext.example_columns = reference_example.example_columns
        try:
            assert columns_of(data, name, kind) == with_kernel
        finally:
            _ext.example_columns = kernel


def example_seeds():
    for (name, schema), kind in itertools.product(SCHEMAS.items(), ["example", "sequence_example"]):
        encode = writing.encoder(kseq.data.Schema(schema), kind)
        yield from (encode(convert_record(kseq.data.Schema(schema), record)) for record in records(name))


# Other files


def fuzz_files(suffix):
    def fuzz(data):
        with file_of(data, suffix) as path, contextlib.suppress(errors.DataError):
            source = formats.read(path)
            repr((source.schema, source.metadata))
            for record in source:
                repr(record)

    return fuzz


def file_seeds(suffix, metadata=None, **options):
    def seeds():
        for name, schema in SCHEMAS.items():
            if suffix == ".hsq":
                schema = {"vector": ("float64", (3,)), "output": "int32"}
                yield written(suffix, schema, [{"vector": np.zeros(3), "output": n} for n in range(4)], batch_size=2)
            else:
                yield written(suffix, schema, records(name, 3), metadata, **options)

    return seeds


# Shards


class AnyCount(int):
    """What the manifest says of the number of records: whatever the shard has, for who damages one can change both."""

    def __ne__(self, other):
        return False


def fuzz_shard(data):
    if not data:
        return
    name = list(SCHEMAS)[data[0] % len(SCHEMAS)]
    schema = kseq.data.Schema(SCHEMAS[name])
    with file_of(data[1:], ".arrow") as path:
        entry = manifest.ShardEntry(0, AnyCount(), len(data) - 1, "")
        folder = OneFile(path)
        with contextlib.suppress(errors.DataError):
            shard.read_shard(path, path, entry, schema)
            source = core.Snapshot(folder, manifest.StoreManifest(schema, (entry,)), in_memory=bool(data[0] & 128))
            for record in store.whole(core.Core([source], schema)):
                repr(record)
        with contextlib.suppress(errors.ShardError):
            scan(path, path, schema)
        with contextlib.suppress(errors.ShardError):
            for batch, left in _salvaged(pathlib.Path(path), schema, path):
                assert 0 <= left < len(data)
                if batch is not None:
                    batch_columns(batch, schema)


class OneFile(Folder):
    """A folder in which every file is the same."""

    def fetch(self, name, size, checksum=None):
        return self.path


def shard_seeds():
    for place, name in enumerate(SCHEMAS):
        with stored(name) as path:
            for flags in (0, 128):
                yield bytes([place | flags]) + (path / "shard-00000.arrow").read_bytes()


TARGETS = {
    "manifest": (fuzz_manifest, manifest_seeds),
    "tfrecord": (fuzz_tfrecord, tfrecord_seeds),
    "example": (fuzz_example, example_seeds),
    "hdf5": (fuzz_files(".hdf5"), file_seeds(".hdf5", {"about": "a"})),
    "array_record": (fuzz_files(".array_record"), file_seeds(".array_record")),
    "csv": (fuzz_files(".csv"), file_seeds(".csv")),
    "jsonl": (fuzz_files(".jsonl"), file_seeds(".jsonl")),
    "hsq": (fuzz_files(".hsq"), file_seeds(".hsq")),
    "npz": (fuzz_files(".npz"), file_seeds(".npz", {"about": "a"})),
    "parquet": (fuzz_files(".parquet"), file_seeds(".parquet", {"about": "a"})),
    "shard": (fuzz_shard, shard_seeds),
}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"the first argument must be one of {', '.join(TARGETS)}\n\n{__doc__}")
    target, seeds = TARGETS[sys.argv.pop(1)]
    for argument in sys.argv[1:]:
        # Also files may be given, to run them once.
        if not argument.startswith("-") and not os.path.isfile(argument):
            corpus = pathlib.Path(argument)
            corpus.mkdir(parents=True, exist_ok=True)
            for number, seed in enumerate(seeds()):
                (corpus / f"seed{number}").write_bytes(seed)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
