"""Stores that are damaged or cannot be written: each an error that says where, and never other data in silence."""

import contextlib
import dataclasses
import errno
import json
import mmap
import os
import pathlib
import shutil
import subprocess
import warnings

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kseq import data
from kseq.data import Field, Schema, Writer, errors, set_metadata, verify
from kseq.data.store import manifest, shard, writer
from kseq.data.store.folder import Folder

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SCHEMA = {"tokens": Field("int32", (None,)), "text": Field("string"), "label": Field("int64", optional=True)}


def record(n):
    return {"tokens": np.arange(n % 5, dtype=np.int32), "text": f"text {n}", "label": np.int64(n) if n % 3 else None}


def write(path, count=30, schema=SCHEMA, **options):
    with Writer(path, schema, **options) as out:
        for n in range(count):
            out.write(record(n))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    """Three shards of ten records."""
    write(path, shard_rows=10)
    return path


def assert_refused(path, kind, *words, verified=True):
    """The store is refused by `open`, and `verify` reports the same file."""
    with pytest.raises(kind) as caught:
        data.open(path)
    for word in words:
        assert word in str(caught.value)
    if verified:
        report = verify(path)
        assert not report.ok
        assert pathlib.Path(str(caught.value.path)).name in [file for file, _ in report.problems]


def rewrite_manifest(path, change, checksum=True):
    """Change the JSON of a manifest, and make its checksum right."""
    found = json.loads((path / manifest.NAME).read_bytes())
    found = change(found) or found
    if isinstance(found, dict) and checksum:
        found["checksum"] = "0" * 16
    text = json.dumps(found, indent=1).encode()
    if isinstance(found, dict) and checksum:
        text = text.replace(b"0" * 16, xxhash.xxh3_64_hexdigest(text).encode(), 1)
    (path / manifest.NAME).write_bytes(text)


def make_true(path):
    """Make the manifest say the size and checksum of the shards as they are: a lie that no checksum finds."""
    folder = Folder(path)
    old = manifest.read_manifest(folder)
    shards = []
    for entry in old.shards:
        file = path / entry.file
        changed = {"bytes": file.stat().st_size, "xxh3": shard.file_checksum(file)}
        shards.append(dataclasses.replace(entry, **changed))
    (path / manifest.NAME).write_bytes(dataclasses.replace(old, shards=tuple(shards)).to_bytes())


# Files


@pytest.mark.parametrize("size", [0, 1, 100, 1000, -1, -9])
@pytest.mark.parametrize("in_memory", [False, True])
def test_truncated_shards(store, size, in_memory):
    file = store / "shard-00001.arrow"
    content = file.read_bytes()
    file.write_bytes(content[:size])
    assert_refused(store, errors.ShardError, "shard-00001.arrow", f"must have {len(content)} bytes")
    make_true(store)  # were the manifest to agree
    with pytest.raises(errors.ShardError, match=r"shard-00001.arrow: the file is no readable shard"):
        data.open(store, in_memory=in_memory)
    assert [file for file, _ in verify(store).problems] == ["shard-00001.arrow"]


@pytest.mark.parametrize("at", [0, 5, -1, -6])
def test_shards_without_their_magic(store, at):
    file = store / "shard-00002.arrow"
    content = bytearray(file.read_bytes())
    content[at] ^= 255
    file.write_bytes(content)
    assert_refused(store, errors.ShardError, "shard-00002.arrow") if at == -1 else None
    assert verify(store).problems[0][0] == "shard-00002.arrow"


def test_files_that_are_missing_or_something_else(store):
    shutil.copytree(store, store.with_name("copy"))
    (store / "shard-00001.arrow").unlink()
    assert_refused(store, errors.ShardError, "shard-00001.arrow", "missing")
    (store / "shard-00001.arrow").mkdir()
    assert_refused(store, errors.ShardError, "shard-00001.arrow")
    store = store.with_name("copy")
    (store / "lengths-00002.u32").unlink()
    with pytest.raises(errors.ShardError, match=r"lengths-00002.u32: the file is missing"):
        _ = data.open(store).lengths
    (store / "lengths-00002.u32").write_bytes(bytes(4))
    with pytest.raises(errors.ShardError, match=r"lengths-00002.u32: the file must have 40 bytes.* received 4"):
        _ = data.open(store).lengths
    assert [file for file, _ in verify(store).problems] == ["lengths-00002.u32"]
    (store / "manifest.json").unlink()
    (store / "manifest.json").mkdir()
    with pytest.raises(errors.StoreError, match=r"manifest\.json: the file cannot be read"):
        data.open(store)


def test_paths_that_are_no_store(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    for path in (tmp_path, tmp_path / "nothing", file):
        with pytest.raises(errors.StoreNotFoundError, match=path.name):
            data.open(path)
        with pytest.raises(FileNotFoundError):  # what others expect
            data.open(path)
    for path, kind in ((tmp_path, errors.StoreExistsError), (file, errors.StoreError)):
        with pytest.raises(kind, match=path.name):
            Writer(path, SCHEMA)
    for path in (tmp_path, tmp_path / "nothing", file):
        with pytest.raises(errors.StoreNotFoundError, match=path.name):
            Writer(path, append=True)
        with pytest.raises(errors.StoreNotFoundError):
            set_metadata(path, {"a": 1})
    assert file.read_text() == "text" and os.listdir(tmp_path) == ["file"]


def test_a_store_that_is_there_is_not_overwritten(store):
    before = {file.name: file.read_bytes() for file in store.iterdir()}
    with pytest.raises(errors.StoreExistsError, match="a kseq store is here already"):
        Writer(store, SCHEMA)
    assert before == {file.name: file.read_bytes() for file in store.iterdir()}


# Shards that lie


def replace_shard(path, number, fields, count=10):
    """Put a shard of other fields in the place of one, and make the manifest say so."""
    other = path.with_name("other")
    with Writer(other, fields) as out:
        for n in range(count):
            out.write({name: record(n).get(name, 1) for name in fields})
    shutil.copy(other / "shard-00000.arrow", path / f"shard-{number:05d}.arrow")
    make_true(path)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({**SCHEMA, "label": Field("int32", optional=True)}, "label: int32"),
        ({**SCHEMA, "label": Field("int64", store="int8", optional=True)}, "label: int8"),
        ({**SCHEMA, "more": Field("int8")}, "more"),
        ({name: SCHEMA[name] for name in ("text", "tokens", "label")}, "field 0"),
        ({"tokens": SCHEMA["tokens"]}, "received None"),
    ],
)
def test_fields_that_change_between_shards(store, fields, word):
    replace_shard(store, 1, fields)
    assert_refused(store, errors.ShardError, "shard-00001.arrow", word)


def test_dtypes_that_arrow_does_not_tell_apart(path):
    for name, dtype in (("store", "complex64"), ("other", "S8")):
        with Writer(path.with_name(name), {"a": Field(dtype)}) as out:
            out.write({"a": np.zeros((), dtype)})
    shutil.copy(path.with_name("other") / "shard-00000.arrow", path / "shard-00000.arrow")
    make_true(path)
    assert_refused(path, errors.ShardError, "shard-00000.arrow", "complex64", "S8")


def test_shards_of_other_programs_may_say_nothing_of_their_dtypes(path):
    """The fields are compared, and only they."""
    with Writer(path, {"a": Field("complex64")}) as out:
        out.write({"a": 1 + 2j})
    file = path / "shard-00000.arrow"
    table = pa.ipc.open_file(file.read_bytes()).read_all().replace_schema_metadata(None)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    make_true(path)
    assert data.open(path, verify=True)[0]["a"] == 1 + 2j


def test_a_shard_of_fewer_records(store):
    replace_shard(store, 2, SCHEMA, count=9)
    assert_refused(store, errors.ShardError, "shard-00002.arrow", "must hold 10 records", "received 9")


def offsets_in(path, field):
    """Where the offsets of a field lie in a shard of one chunk, and how many there are."""
    file = path / "shard-00001.arrow"
    batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
    offsets = batch.column(field).buffers()[1].to_pybytes()
    return file.read_bytes().index(offsets), len(offsets) // 4


@pytest.mark.parametrize("field", ["tokens", "text"])
@pytest.mark.parametrize("lie", [-1, -(2**31), 2**31 - 1, 10_000])
@pytest.mark.parametrize("row", [0, 4, 10])
def test_offsets_that_lie(store, field, lie, row):
    at, _ = offsets_in(store, field)
    file = store / "shard-00001.arrow"
    content = bytearray(file.read_bytes())
    content[at + 4 * row : at + 4 * row + 4] = np.int32(lie).tobytes()
    file.write_bytes(content)
    make_true(store)
    assert_refused(store, errors.ShardError, "shard-00001.arrow", f"offsets of field '{field}' lie at its record")
    (_, message), *_ = verify(store).problems
    assert (
        f"offsets of field '{field}' lie at its record {max(row - 1, 0) if lie > 0 or row else 0}" in message
        or row == 4
    )


def test_offsets_that_lie_in_bounds_disagree_with_the_lengths(store):
    at, _ = offsets_in(store, "tokens")
    file = store / "shard-00001.arrow"
    content = bytearray(file.read_bytes())
    content[at + 8 : at + 12] = np.int32(0).tobytes()  # the first two records: 0 and 1 steps
    file.write_bytes(content)
    make_true(store)
    ((name, message),) = verify(store).problems
    assert name == "lengths-00001.u32" and "shard's main sequence" in message


def test_texts_that_are_none(store):
    file = store / "shard-00001.arrow"
    file.write_bytes(file.read_bytes().replace(b"text 14", b"te\xff\xfe 14"))
    make_true(store)
    opened = data.open(store)
    with pytest.raises(errors.ShardError, match=r"shard-00001.arrow: .*field 'text' of its record 4"):
        opened[14]
    assert opened[13]["text"] == "text 13"
    ((name, message),) = verify(store).problems
    assert name == "shard-00001.arrow" and "UTF8" in message
    with pytest.raises(errors.ShardError):
        data.open(store, verify=True)


def test_values_that_may_not_be_missing(path):
    with Writer(path, {"a": Field("int64", optional=True)}) as out:
        for n in range(9):
            out.write({"a": n if n != 5 else None})
    file = path / "shard-00000.arrow"
    batch = pa.ipc.open_file(file.read_bytes()).get_batch(0)
    kind = shard.arrow_schema(Schema({"a": Field("int64")}))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, kind) as out:
        out.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=kind))
    rewrite_manifest(path, lambda found: found["schema"]["fields"]["a"].pop("optional") and None, checksum=False)
    content = json.loads((path / manifest.NAME).read_bytes())
    entry = manifest.ShardEntry(**content["shards"][0])
    fixed = manifest.StoreManifest(Schema({"a": Field("int64")}), (entry,), complete=True)
    (path / manifest.NAME).write_bytes(fixed.to_bytes())
    make_true(path)
    ((_, message),) = verify(path).problems
    assert "field 'a' is missing at its record 5" in message


# Manifests


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The bytes of a manifest."""
    path = tmp_path_factory.mktemp("valid") / "store"
    write(path, shard_rows=10, metadata={"of": "fuzz", "deep": [[1, {"a": None}]]})
    set_metadata(path, splits={"train": [[0, 20]], "test": [[20, 30]]})
    return (path / manifest.NAME).read_bytes()


@UNHURRIED
@given(st.data())
def test_changed_manifests_are_refused(valid, data):
    content = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 3))):
        at, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "double"]))
        if how == "flip" and at < len(content):
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            del content[at:]
        elif how == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        elif how == "remove":
            del content[at:end]
        else:
            content[at:at] = content[at:end]
    if bytes(content) == valid:
        manifest.parse_manifest(bytes(content), "here")
        return
    with pytest.raises(errors.ManifestError, match=r"^here: "):
        manifest.parse_manifest(bytes(content), "here")


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("f4,,") | st.just("(,)i4")
)
LEAVES |= st.sampled_from([10**30, -1, 2**31, 2**63, 1e999, "int32", "string", "object", "V0", "U", "finfo", "\ud800"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def places(value, at=()):
    """The ways to everything in a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


@settings(UNHURRIED, max_examples=400)
@given(st.data())
def test_manifests_that_lie_with_a_valid_checksum(valid, data):
    """Only a ManifestError, or a good manifest."""
    found = json.loads(valid)
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from([way for way in places(found) if way]))
        holder = found
        for key in way[:-1]:
            holder = holder[key]
        how = data.draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        if how == "replace":
            holder[way[-1]] = data.draw(VALUES)
        elif how == "remove" or isinstance(holder, list):
            del holder[way[-1]]
        else:
            holder[data.draw(st.text(max_size=5))] = holder.pop(way[-1])
        if not found:
            break
    if "checksum" in found:
        found["checksum"] = "0" * 16
    if data.draw(st.booleans()):  # and a content hash that is that of the lie
        try:
            schema = Schema.from_json(found["schema"])
            shards = [manifest.ShardEntry(**entry) for entry in found["shards"]]
            found["content_hash"] = manifest.content_hash(schema, shards)
        except Exception:
            pass
    text = json.dumps(found, indent=1).encode()
    text = text.replace(b"0" * 16, xxhash.xxh3_64_hexdigest(text).encode(), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's on dtypes of old names
        try:
            good = manifest.parse_manifest(text, "here")
        except errors.ManifestError:
            return
    assert good.records == sum(entry.records for entry in good.shards) >= 0
    assert all(0 <= a <= b <= good.records for ranges in good.splits.values() for a, b in ranges)
    again = manifest.parse_manifest(good.to_bytes(), "here")
    assert repr(again) == repr(good)  # NaN is not equal to itself


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"7", b'"text"', b"\xff", b"{" * 10**5, b"[" * 10**6, b"{}"])
def test_manifests_that_are_none(store, content):
    (store / manifest.NAME).write_bytes(content)
    assert_refused(store, errors.ManifestError, "manifest.json")


def test_manifests_of_the_future(store):
    def change(found):
        found["kseq_store"] = 2

    rewrite_manifest(store, change)
    assert_refused(store, errors.ManifestError, "reads stores of version 1; received 2")


def test_manifests_that_leave_shards_out(store):
    """A content hash says which shards there are."""

    def change(found):
        del found["shards"][2]

    rewrite_manifest(store, change)
    assert_refused(store, errors.ManifestError, "content_hash")


# Records


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"label": 1.5}, "label", "must be int64; received float64"),
        ({"label": "one"}, "label", "must be int64"),
        ({"label": [1, 2]}, "label", "must have shape (); received (2,)"),
        ({"label": 2**63}, "label", "must be"),
        ({"tokens": 3}, "tokens", "must have shape (T,); received ()"),
        ({"tokens": [[1]]}, "tokens", "received (1, 1)"),
        ({"tokens": [[1], [2, 3]]}, "tokens", "no array"),
        ({"tokens": [2**31]}, "tokens", "must be one that int32 holds; received 2147483648"),
        ({"tokens": [1, None]}, "tokens", "must be int32; received object"),
        ({"tokens": np.zeros(2, "f4")}, "tokens", "must be int32; received float32"),
        ({"tokens": None}, "tokens", "missing"),
        ({"text": 5}, "text", "must be string; received int"),
        ({"text": "\udcff"}, "text", "encodable"),
        ({"other": 5}, None, "must have the fields ['tokens', 'text', 'label']; received ['other']"),
    ],
)
@pytest.mark.parametrize("in_batch", [False, True])
def test_records_that_do_not_fit(path, change, field, words, in_batch):
    with Writer(path, SCHEMA) as out:
        for n in range(3):
            out.write(record(n))
        bad = {**record(3), **change}
        with pytest.raises(errors.RecordError) as caught:
            out.write_batch({name: [value] for name, value in bad.items()}) if in_batch else out.write(bad)
        assert words in str(caught.value) and "record 3" in str(caught.value)
        assert (caught.value.record, caught.value.field) == (3, field)
        assert out.write(record(3)) == 3
    assert [found["text"] for found in data.open(path)] == [f"text {n}" for n in range(4)]


def test_records_that_are_none(path):
    with Writer(path, SCHEMA) as out:
        for value in (None, 5, [1], (("tokens", [1]),)):
            with pytest.raises(errors.RecordError, match="record 0: a record must be a dict"):
                out.write(value)
        with pytest.raises(errors.RecordError, match="'tokens': the field is missing"):
            out.write({})
        for columns in (None, {}, [1], {"tokens": [[1]], "text": ["a", "b"], "label": [1]}):
            with pytest.raises(errors.RecordError, match="columns must"):
                out.write_batch(columns)
        out.write(record(0))
    with pytest.raises(ValueError, match="closed"):
        out.write(record(1))
    assert len(data.open(path)) == 1


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "1 to 4096 fields"),
        ({"": "int8"}, "printable text"),
        ({5: "int8"}, "printable text"),
        ({"a": "nothing"}, "field 'a': dtype must be"),
        ({"a": object}, "fixed size"),
        ({"a": ("int8", (None, None))}, "only the first axis"),
        ({"a": ("int8", (0,))}, "sizes must be"),
        ({"a": ("int8", (2**31,))}, "sizes must be"),
        ({"a": ("int8", (float("inf"),))}, "sizes must be"),
        ({"a": ("int8", (float("nan"),))}, "sizes must be"),
        ({"a": ("string", (None,))}, "neither shape"),
        ({"a": "(2,)i4"}, "without a shape"),
    ],
)
def test_schemas_that_are_none(path, schema, words):
    with pytest.raises(errors.SchemaError) as caught:
        Writer(path, schema)
    assert words in str(caught.value)
    assert not path.exists()


def test_stores_narrower_than_they_could_be():
    for dtype, store in (
        ("int32", "int64"),
        ("float32", "int32"),
        ("int8", "uint8"),
        ("string", "int8"),
        ("M8[s]", "int64"),
    ):
        with pytest.raises(errors.SchemaError):
            Field(dtype, store=store)


def test_appending_other_fields(store):
    with pytest.raises(errors.SchemaError, match="store: records of the store have fields"):
        Writer(store, {"tokens": Field("int64", (None,))}, append=True)
    with Writer(store, dict(SCHEMA), append=True) as out:
        out.write(record(30))
    assert len(data.open(store)) == 31


def test_empty_stores(path):
    with pytest.raises(errors.EmptyStoreError, match="store: neither records nor a schema"), Writer(path):
        pass
    assert not path.exists()
    with Writer(path, SCHEMA):
        pass
    empty = data.open(path, verify=True)
    assert (len(empty), list(empty), empty.lengths.tolist(), empty.field_lengths("text").tolist()) == (0, [], [], [])
    assert empty.column("text") == [] and len(empty.column("tokens")) == 0 and empty.column("label").shape == (0,)
    assert [len(part) for part in empty.split(0.5)] == [0, 0] and len(empty[:5]) == 0
    with pytest.raises(IndexError, match="received 0"):
        empty[0]
    with Writer(path, append=True) as out:
        out.write(record(0))
    assert len(data.open(path)) == 1


def test_metadata_that_is_no_json(store):
    for value in ({"a": object()}, {"a": float("nan")}, {5: "a"}, {"a": (1,)}):
        with pytest.raises(ValueError, match="metadata"):
            set_metadata(store, value)
        with pytest.raises(ValueError, match="metadata"):
            Writer(store, append=True, metadata=value)
    for splits in ({"a": [[0, 31]]}, {"a": [[-1, 3]]}, {"a": [[3, 2]]}, {"a": [[0, 1, 2]]}, {"a": 5}):
        with pytest.raises((ValueError, TypeError)):
            set_metadata(store, splits=splits)
    assert data.open(store).metadata == {} and data.open(store).splits == {}
    with Writer(store, append=True) as out:  # the lock is free
        out.write(record(30))


# What the operating system refuses


def test_two_writers_at_once(store, tmp_path):
    with Writer(store, append=True) as first:
        for again in (lambda: Writer(store, append=True), lambda: set_metadata(store, {"a": 1})):
            with pytest.raises(errors.StoreLockedError, match="store: another writer has the store open"):
                again()
        first.write(record(30))
    assert len(data.open(store)) == 31
    new = tmp_path / "new"
    with Writer(new, SCHEMA) as first:
        with pytest.raises((errors.StoreLockedError, errors.StoreExistsError)):
            Writer(new, SCHEMA)
        first.write(record(0))
        with pytest.raises((errors.StoreLockedError, errors.StoreExistsError)):
            Writer(new, SCHEMA)
    assert len(data.open(new)) == 1


def test_a_writer_that_the_lock_did_not_stop(store, monkeypatch):
    """As on a remote store: the generation of the manifest says that another has been there."""
    monkeypatch.setattr(Folder, "lock", lambda self: contextlib.nullcontext())

    def both():
        with Writer(store, append=True) as out:
            set_metadata(store, {"other": True})
            out.write(record(30))

    with pytest.raises(errors.StoreChangedError, match="another writer"):
        both()
    opened = data.open(store, verify=True)
    assert len(opened) == 30 and opened.metadata == {"other": True}


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_after(monkeypatch, calls, target, name):
    """A disk on which `target.name` works so often, and then no longer."""
    real, left = getattr(target, name), [calls]

    def limited(*args, **kwargs):
        left[0] -= 1
        return real(*args, **kwargs) if left[0] >= 0 else no_space()

    monkeypatch.setattr(target, name, limited)


@pytest.mark.parametrize("calls", range(9))
@pytest.mark.parametrize("what", ["sync", "replace", "chunk"])
def test_a_disk_that_is_full(store, monkeypatch, what, calls):
    target, name = {"sync": (os, "fsync"), "replace": (os, "replace"), "chunk": (shard, "encode")}[what]
    with monkeypatch.context() as patch:
        patch.setattr(writer, "CHUNK_BYTES", 200)
        full_after(patch, calls, target, name)
        failure = None
        try:
            with Writer(store, append=True, shard_rows=20) as out:
                for n in range(30, 60):
                    out.write(record(n))
        except errors.StoreWriteError as error:
            failure = error
    if failure is not None:
        assert "No space left on device" in str(failure) and str(store) in str(failure) and isinstance(failure, OSError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.IncompleteStoreWarning)
        opened = data.open(store, verify=True)
    assert len(opened) in ((60,) if failure is None else (30, 50, 60))
    assert [found["text"] for found in opened] == [f"text {n}" for n in range(len(opened))]
    assert not verify(store).leftovers  # nothing that takes space is left
    with Writer(store, append=True) as out:
        out.write(record(len(opened)))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a disk")
@pytest.mark.parametrize("bulk", [False, True])
def test_a_real_disk_that_is_full(tmp_path, bulk):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if done.returncode:
        pytest.skip("a disk cannot be mounted here")
    rows = np.arange(200_000).reshape(50, -1)

    def fill():
        with Writer(disk / "store", {"a": Field("int64", (4000,))}, shard_rows=50) as out:
            for _ in range(90):
                out.write_batch({"a": rows}) if bulk else [out.write({"a": row}) for row in rows]

    try:
        with pytest.raises(errors.StoreWriteError, match="No space left"):
            fill()
        with pytest.warns(errors.IncompleteStoreWarning):
            opened = data.open(disk / "store", verify=True)
        assert len(opened) == 100
        for n, found in enumerate(opened):
            assert np.array_equal(found["a"], rows[n % 50])
        del opened, found
        assert not verify(disk / "store").leftovers
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_no_permission(path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "mkdir", refuse)
        with pytest.raises(errors.StoreWriteError, match="store: Permission denied"):
            Writer(path, SCHEMA)
    write(path)
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", refuse)
        with pytest.raises(errors.StoreError, match=r"manifest.json: the file cannot be read: Permission denied"):
            data.open(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(errors.StoreWriteError, match="store: Permission denied"):
            Writer(path, append=True)
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        with pytest.raises(errors.ShardError, match=r"shard-00000.arrow: .*Permission denied"):
            data.open(path)
    assert len(data.open(path)) == 30


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do everything")
def test_no_permission_from_the_system(path, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(errors.StoreWriteError, match="Permission denied"):
            Writer(path, SCHEMA)
    finally:
        tmp_path.chmod(0o700)
