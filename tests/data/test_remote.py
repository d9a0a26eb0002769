"""Stores behind a URL: written, opened through a local cache, and never taken for others."""

import pickle

import numpy as np
import pytest

import kseq.data as kd
from kseq.data import Field, Writer, errors, set_metadata, verify

fsspec = pytest.importorskip("fsspec")

SCHEMA = {"tokens": Field("int32", (None,)), "label": Field("int64")}
FILES = [f"{kind}-0000{n}.{end}" for kind, end in (("lengths", "u32"), ("shard", "arrow")) for n in range(3)]


def record(n, first=0):
    return {"tokens": np.arange(n % 7, dtype=np.int32) + first, "label": np.int64(n)}


def write(path, count=25, first=0, **options):
    with Writer(path, SCHEMA, shard_rows=10, **options) as out:
        for n in range(count):
            out.write(record(n, first))


def first_tokens(store):
    return [int(found["tokens"][0]) for found in store if len(found["tokens"])]


@pytest.fixture
def url(tmp_path, monkeypatch):
    """A URL of its own for each test, whose default cache is also its own."""
    monkeypatch.setenv("KSEQ_CACHE", str(tmp_path / "default-cache"))
    return f"memory://{tmp_path.name}/store"


@pytest.fixture
def system():
    return fsspec.filesystem("memory")


@pytest.fixture
def calls(monkeypatch, system):
    """The files that are read from the remote system, in the order of the calls."""
    made = []

    def noting(name):
        inner = getattr(type(system), name)

        def call(self, path, *args, **options):
            made.append(path.rsplit("/", 1)[-1])
            return inner(self, path, *args, **options)

        return call

    for name in ("get_file", "cat_file"):
        monkeypatch.setattr(type(system), name, noting(name))
    return made


def at(url, name):
    """A file of a store as the memory file system calls it."""
    return f"{url.removeprefix('memory:/')}/{name}"


def test_writing_and_reading(url, system, tmp_path):
    write(url, metadata={"made": "here"})
    write(tmp_path / "local", metadata={"made": "here"})
    assert [path.rsplit("/", 1)[-1] for path in sorted(system.ls(at(url, ""), detail=False))] == [
        *FILES[:3],
        "manifest.json",
        *FILES[3:],
    ]
    for name in [*FILES, "manifest.json"]:  # the same bytes
        assert system.cat_file(at(url, name)) == (tmp_path / "local" / name).read_bytes()
    store, local = kd.open(url, cache=tmp_path / "cache"), kd.open(tmp_path / "local")
    assert store.content_hash == local.content_hash and store.paths == [url] and store.complete
    assert store.metadata == {"made": "here"}
    np.testing.assert_array_equal(store.lengths, local.lengths)
    for found, wanted in zip(store, local, strict=True):
        np.testing.assert_array_equal(found["tokens"], wanted["tokens"])
        assert found["label"] == wanted["label"]
    assert verify(url).ok and not verify(url).leftovers


@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_batches(url, tmp_path, shuffle):
    write(url)
    write(tmp_path / "local")
    options = {"batch_size": 4, "inputs": "tokens", "targets": "label", "shuffle": shuffle, "seed": 3}
    remote, local = (kd.open(path).batches(**options) for path in (url, tmp_path / "local"))
    assert len(remote) == len(local)
    for (found, *rest), (wanted, *wanted_rest) in zip(remote, local, strict=True):
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.mask, wanted.mask)
        np.testing.assert_array_equal(rest, wanted_rest)


def test_appending_and_metadata(url):
    write(url)
    before = kd.open(url)
    with Writer(url, append=True) as out:
        assert out.write(record(3)) == 25
    set_metadata(url, {"language": "en"}, {"train": [[0, 20]], "test": [[20, 26]]})
    store = kd.open(url, verify=True)
    assert len(store) == 26 and store[-1]["label"] == 3
    assert store.metadata == {"language": "en"} and {n: len(s) for n, s in store.splits.items()} == {
        "train": 20,
        "test": 6,
    }
    assert len(before) == 25 and before.metadata == {}
    assert verify(url).ok


def read(url, **options):
    """A store all of whose shards were needed."""
    store = kd.open(url, **options)
    store.field_lengths("tokens")
    return store


def test_the_cache_is_cleared(url, tmp_path, monkeypatch):
    write(url)
    other = url.replace("/store", "/other")
    write(other, first=100)
    store = read(url)
    read(other)
    held = sum(path.stat().st_size for path in (tmp_path / "default-cache").rglob("*.arrow"))
    assert kd.clear_cache(most_bytes=held) == 0
    assert kd.clear_cache(other) == held // 2 and kd.clear_cache(other) == 0
    assert 0 < kd.clear_cache(most_bytes=held // 2 - 1) < held // 2  # the one shard that was used first
    assert kd.clear_cache() > 0 and not list((tmp_path / "default-cache").rglob("*.arrow"))
    assert store[3]["label"] == 3 and read(url)[3]["label"] == 3
    one = max(path.stat().st_size for path in (tmp_path / "default-cache").rglob("*.arrow"))
    monkeypatch.setenv("KSEQ_CACHE_BYTES", str(one))
    store = kd.open(other)
    for row in range(25):
        assert store[row]["label"] == row
        assert len(list((tmp_path / "default-cache").rglob("*.arrow"))) == 1


def test_files_are_fetched_once(url, tmp_path, calls):
    write(url)
    del calls[:]
    cache = tmp_path / "cache"
    store = kd.open(url, cache=cache)
    assert calls == ["manifest.json"] and len(store) == 25
    assert store[17]["label"] == 17 and calls[1:] == FILES[4:5]  # the shard of the record alone
    assert len(store[12:18]) == 6 and store[12:18][0]["label"] == 12 and calls[1:] == FILES[4:5]
    del calls[:]
    store.field_lengths("tokens")
    assert sorted(calls) == [FILES[3], FILES[5]]
    del calls[:]
    assert len(store.lengths) == 25 and store[7]["label"] == 7 and list(store)
    assert calls == FILES[:3]
    del calls[:]
    again = read(url, cache=cache)
    assert len(again.lengths) == 25 and list(again)
    assert calls == ["manifest.json"]
    with Writer(url, append=True) as out:
        out.write(record(0))
    del calls[:]
    assert len(read(url, cache=cache)) == 26
    assert calls == ["manifest.json", "shard-00003.arrow"]
    kept = sorted(path.name.split("-", 1)[1] for path in cache.rglob("*") if path.is_file())
    assert kept == sorted([*FILES, "shard-00003.arrow"])  # and no part of a file


def test_the_default_cache(url, tmp_path):
    write(url)
    read(url)
    assert len(list((tmp_path / "default-cache").rglob("*.arrow"))) == 3


def write_and_fail(url, count, append=False):
    with Writer(url, None if append else SCHEMA, append=append, shard_rows=10) as out:
        for n in range(count):
            out.write(record(n))
        raise RuntimeError


def test_an_exception_drops_what_is_not_committed(url):
    with pytest.raises(RuntimeError):
        write_and_fail(url, 1)
    with pytest.raises(errors.StoreNotFoundError, match=r"memory://.*no kseq store"):
        kd.open(url)
    write(url)  # nothing is in the way
    with pytest.raises(RuntimeError):
        write_and_fail(url, 15, append=True)
    with pytest.warns(errors.IncompleteStoreWarning, match="memory://"):
        assert len(kd.open(url)) == 35
    assert verify(url).ok and not verify(url).leftovers


@pytest.mark.parametrize("damage", ["missing", "truncated", "longer"])
@pytest.mark.parametrize("name", ["shard-00001.arrow", "lengths-00001.u32"])
def test_files_that_are_missing_or_of_another_size(url, system, tmp_path, damage, name):
    write(url)
    data = system.cat_file(at(url, name))
    system.rm_file(at(url, name))
    if damage != "missing":
        system.pipe_file(at(url, name), data[:-1] if damage == "truncated" else data + b"\0")
    with pytest.raises(errors.ShardError, match=f"{url}/{name}: .*{'missing' if damage == 'missing' else 'bytes'}"):
        _ = read(url).lengths
    assert [file for file, _ in verify(url).problems] == [name]
    assert all(path.name.endswith((".arrow", ".u32")) for path in tmp_path.rglob("*") if path.is_file())
    system.pipe_file(at(url, name), data)
    assert verify(url).ok and len(kd.open(url).lengths) == 25


def test_manifests_that_are_damaged(url, system):
    write(url)
    data = system.cat_file(at(url, "manifest.json"))
    system.pipe_file(at(url, "manifest.json"), data.replace(b'"records": 10', b'"records": 11', 1))
    with pytest.raises(errors.ManifestError, match=f"{url}/manifest.json: the file is damaged"):
        kd.open(url)


def test_a_store_that_was_replaced_by_another_of_the_same_sizes(url, system, tmp_path):
    write(url, first=100)
    old = read(url, cache=tmp_path / "cache")
    begun = kd.open(url)
    pickled, sizes = pickle.dumps(old), [system.size(at(url, name)) for name in FILES]
    system.rm(at(url, ""), recursive=True)
    write(url, first=200)
    assert [system.size(at(url, name)) for name in FILES] == sizes
    assert set(first_tokens(kd.open(url, cache=tmp_path / "cache"))) == {200}
    assert set(first_tokens(old)) == {100}  # what was read is mapped
    with pytest.raises(errors.ShardError, match="checksum"):
        begun[0]
    with pytest.raises(errors.StoreChangedError, match=url):
        pickle.loads(pickled)


def test_a_store_that_is_replaced_while_it_is_opened(url, system, tmp_path, monkeypatch):
    """The shards of the new store are not kept as those of the old one."""
    write(url, first=100)
    other = url.replace("/store", "/other")
    write(other, first=200)
    old = {name: system.cat_file(at(url, name)) for name in [*FILES, "manifest.json"]}
    cat_file = type(system).cat_file

    def replacing(self, path, *args, **options):
        data = cat_file(self, path, *args, **options)
        for name in FILES:
            self.pipe_file(at(url, name), cat_file(self, at(other, name)))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "cat_file", replacing)
        with pytest.raises(errors.ShardError, match=f"{url}/shard-0000.*: .*checksum"):
            read(url, cache=tmp_path / "cache")
    for name, data in old.items():
        system.pipe_file(at(url, name), data)
    assert set(first_tokens(kd.open(url, cache=tmp_path / "cache"))) == {100}


def test_files_that_are_damaged_on_their_way(url, system, tmp_path, monkeypatch):
    write(url)
    get_file = type(system).get_file

    def damaging(self, remote, local, *args, **options):
        get_file(self, remote, local, *args, **options)
        with open(local, "r+b") as file:
            file.seek(600)
            file.write(b"\xff")

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "get_file", damaging)
        with pytest.raises(errors.ShardError, match=f"{url}/shard-0000.*checksum"):
            read(url)
        store = kd.open(url)
        with pytest.raises(errors.ShardError, match="checksum"):
            store[0]
    assert store[0]["label"] == 0 and len(store.column("label")) == 25  # once it is whole
    assert list(kd.open(url, verify=True))


@pytest.mark.parametrize("rows", [1, 10, 12])  # shards that are sealed when the writer is closed, or before
@pytest.mark.parametrize("append", [False, True])
def test_two_writers_at_once(url, append, rows):
    """There are no locks: the second to commit finds that it is, and leaves what the first has committed."""
    if append:
        write(url)
    first, second = (Writer(url, None if append else SCHEMA, append=append, shard_rows=10) for _ in range(2))
    for n in range(rows):
        first.write(record(n))

    def write_second():
        for n in range(rows):
            second.write(record(n, first=50))
        second.close()

    first.close()
    with pytest.raises((errors.StoreChangedError, errors.StoreExistsError), match=f"{url}.*another writer"):
        write_second()
    second.abort()
    store = kd.open(url, verify=True)
    assert [int(found["label"]) for found in store] == [*range(25 * append), *range(rows)]
    assert 50 not in first_tokens(store)
    assert not verify(url).leftovers


def test_two_writers_that_take_turns(url):
    first, second = (Writer(url, SCHEMA) for _ in range(2))
    first.write(record(1))
    second.write(record(2, first=50))
    first.commit()
    first.write(record(3))
    with pytest.raises((errors.StoreChangedError, errors.StoreExistsError)):
        second.commit()
    second.abort()
    first.close()
    assert [int(found["label"]) for found in kd.open(url, verify=True)] == [1, 3]


def test_two_writers_who_say_other_metadata(url):
    write(url)
    with pytest.raises(errors.StoreChangedError, match=url):
        say_twice(url)
    assert kd.open(url, verify=True).metadata == {"other": True}
    assert not verify(url).leftovers


def say_twice(url):
    with Writer(url, append=True) as out:
        out.write(record(0))
        set_metadata(url, {"other": True})


def test_pickles(url, tmp_path):
    write(url)
    store = kd.open(url, cache=tmp_path / "cache")
    for each, rows in ((store, range(25)), (store[5:20:3], range(5, 20, 3))):
        again = pickle.loads(pickle.dumps(each))
        assert [int(found["label"]) for found in again] == list(rows)
        assert again.content_hash == each.content_hash and again.paths == [url]
    assert not (tmp_path / "default-cache").exists()  # the same cache
    with Writer(url, append=True) as out:
        out.write(record(0))
    assert len(pickle.loads(pickle.dumps(store))) == 25  # the store has grown; these are its first records
    batches = pickle.loads(pickle.dumps(store.batches(batch_size=5, inputs="tokens")))
    assert len(list(batches)) == 5


def test_stores_here_and_there_as_one(url, tmp_path):
    write(url)
    write(tmp_path / "local", 5, first=50)
    store = kd.open([url, tmp_path / "local"])
    assert len(store) == 30 and store[26]["tokens"].tolist() == [50]


@kd.record
class Row:
    size: int = kd.source()
    tokens: Field("int32", (None,)) = None

    def load(self):
        self.tokens = np.arange(self.size, dtype=np.int32)


def test_builds(url, tmp_path):
    rows = [{"size": n % 5} for n in range(40)]
    report = kd.build(url, Row, rows, splits={"train": 0.75, "test": 0.25}, shard_rows=8, progress=False)
    kd.build(tmp_path / "local", Row, rows, splits={"train": 0.75, "test": 0.25}, shard_rows=8, progress=False)
    for name, count in (("train", 30), ("test", 10)):
        store = kd.open(f"{url}/{name}", verify=True)
        assert len(store) == count == report.splits[name].records
        assert store.content_hash == kd.open(tmp_path / "local" / name).content_hash
