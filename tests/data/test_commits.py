"""Many commits, many shards: what they cost, how they are joined, and what is left when that is killed."""

import contextlib
import json
import os
import resource
import subprocess
import warnings

import numpy as np
import pytest

from kseq import data
from kseq.data import Field, Writer, compact, errors, repair, verify
from kseq.data.store.folder import Folder
from kseq.data.store.manifest import COMMITS, COMPACTING, NAME

SCHEMA = {"tokens": Field("int32", (None,)), "text": Field("string", optional=True), "frame": Field("float32", (2,))}


def record(n):
    return {"tokens": np.arange(n % 4) + n, "text": f"text {n}" if n % 3 else None, "frame": np.full(2, n, "float32")}


def assert_records(path, count, complete=True):
    with contextlib.nullcontext() if complete else pytest.warns(errors.IncompleteStoreWarning):
        store = data.open(path, verify=True)
    for n, found in enumerate(store):
        assert found["tokens"].tolist() == record(n)["tokens"].tolist()
        assert (found["text"], found["frame"][0]) == (record(n)["text"], n)
    assert len(store) == count and store.lengths.tolist() == [n % 4 for n in range(count)]


def committed(path, count, **options):
    """A writer that has made as many commits of one record."""
    writer = Writer(path, SCHEMA, **options)
    for n in range(count):
        writer.write(record(n))
        writer.commit()
    return writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def test_a_commit_replaces_no_manifest(path):
    writer = committed(path, 1)
    before = (path / NAME).read_bytes()
    sizes = []
    for n in range(1, 9):
        writer.write(record(n))
        writer.commit()
        sizes.append((path / COMMITS).stat().st_size)
    assert (path / NAME).read_bytes() == before
    assert max(np.diff(sizes)) <= min(np.diff(sizes)) + 12  # of numbers with more digits
    assert_records(path, 9, complete=False)
    writer.close()
    assert not (path / COMMITS).exists() and len(json.loads((path / NAME).read_bytes())["shards"]) == 9
    assert_records(path, 9)


def test_every_bit_of_the_commits_counts_and_a_torn_line_does_not(path):
    committed(path, 3).abort()
    whole = (path / COMMITS).read_bytes()
    for place in range(0, len(whole) * 8, 5):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        (path / COMMITS).write_bytes(changed)
        with pytest.raises(errors.ManifestError, match=COMMITS):
            data.store.manifest.read_manifest(Folder(path))
    ((file, _),) = verify(path).problems
    assert file == COMMITS
    first = whole.index(b"\n") + 1
    for size in range(0, len(whole), 3):
        (path / COMMITS).write_bytes(whole[:size])
        if size not in (first - 1, len(whole) - 1):
            assert data.store.manifest.read_manifest(Folder(path)).records == 1 + (size >= first)
    (path / COMMITS).write_bytes(whole)
    assert_records(path, 3, complete=False)
    with Writer(path, append=True) as writer:
        for n in range(3, 6):
            writer.write(record(n))
            writer.commit()
    assert_records(path, 6)
    assert not verify(path).leftovers


def test_commits_that_another_manifest_has_are_passed_over(path):
    committed(path, 4).abort()
    lines = (path / COMMITS).read_bytes()
    repair(path)
    (path / COMMITS).write_bytes(lines)  # as if that had been killed before it removed them
    assert_records(path, 4)
    assert [file for file, _ in verify(path).leftovers] == [COMMITS]
    with Writer(path, append=True) as writer:
        writer.write(record(4))
        writer.commit()
        assert_records(path, 5, complete=False)
    assert_records(path, 5)


def test_a_commit_that_the_disk_refuses_is_none(path, monkeypatch):
    writer = committed(path, 2)

    def refuse(handle):
        raise OSError(28, "No space left on device")

    writer.write(record(2))
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "append", lambda self, *args: refuse(None))
        with pytest.raises(OSError, match="No space"):
            writer.commit()
    assert_records(path, 2, complete=False)
    writer.close()
    assert_records(path, 3)


def test_more_shards_than_files_may_be_open(path):
    committed(path, 40).close()
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    if not used:
        pytest.skip("it is not known how many files are open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 25, most))  # the threads that read shards have some
    try:
        store = data.open(path)
        assert len(os.listdir("/proc/self/fd")) <= used + 1
        assert store.lengths.tolist() == [n % 4 for n in range(40)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    assert_records(path, 40)


@pytest.mark.parametrize("shard_bytes", [1, 6000, 1 << 20])
def test_compacting(path, shard_bytes):
    committed(path, 9, metadata={"of": "a test"}).close()
    data.set_metadata(path, splits={"train": [[3, 7]]})
    opened = data.open(path)
    shards = compact(path, shard_bytes=shard_bytes)
    assert shards == (9 if shard_bytes == 1 else 1 if shard_bytes > 6000 else shards) and 1 <= shards <= 9
    assert len([name for name in os.listdir(path) if name.startswith("shard-")]) == shards
    assert_records(path, 9)
    assert not verify(path).leftovers
    store = data.open(path)
    assert store.metadata == {"of": "a test"} and len(store.splits["train"]) == 4
    assert opened[8]["text"] == "text 8"  # what was mapped stays
    assert compact(path, shard_bytes=shard_bytes) <= shards  # the joined ones are smaller
    with Writer(path, append=True) as writer:
        for n in range(9, 11):
            writer.write(record(n))
            writer.commit()
    assert compact(path) == 1
    assert_records(path, 11)


def test_compacting_what_is_damaged(path):
    committed(path, 5).close()
    file = path / "shard-00003.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = sorted(os.listdir(path))
    with pytest.raises(errors.ShardError, match=r"shard-00003.arrow: .*checksum"):
        compact(path)
    assert sorted(os.listdir(path)) == before


class Killed(BaseException):
    pass


def test_compacting_that_is_killed_anywhere_loses_and_doubles_nothing(path, monkeypatch):
    """At every change of the folder: the store opens, and after `repair` it is whole."""
    done, at = False, 0
    while not done:
        at += 1
        folder = path / str(at)
        committed(folder, 6).close()
        left = [at]

        def dies(real, left=left):
            def call(*args):
                left[0] -= 1
                if left[0] <= 0:
                    raise Killed
                return real(*args)

            return call

        with monkeypatch.context() as patch:
            for name in ("put", "publish", "remove"):
                patch.setattr(Folder, name, dies(getattr(Folder, name)))
            try:
                compact(folder, shard_bytes=6000)
                done = True
            except Killed:
                pass
        assert_records(folder, 6)
        if not done:
            if any(name == COMPACTING for name in os.listdir(folder)):
                with pytest.raises(errors.UnsealedShardError):
                    Writer(folder, append=True)
            repair(folder)
            assert_records(folder, 6)
            assert not verify(folder).leftovers
    assert at > 6


def test_links_at_temporary_names_are_not_followed(path, tmp_path):
    committed(path, 1).close()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    names = [f"{NAME}.tmp", "shard-00001.arrow.tmp", "lengths-00001.u32.tmp", COMMITS]
    for name in names:
        (path / name).symlink_to(victim)
        data.set_metadata(path, {"a": name})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert data.open(path).metadata == {"a": name}
        with contextlib.suppress(errors.UnsealedShardError):
            committed_to = Writer(path, append=True)
            committed_to.write(record(len(data.open(path))))
            committed_to.commit()
            committed_to.close()
        (path / name).unlink(missing_ok=True)
        assert victim.read_bytes() == b"precious"


def test_a_build_does_not_grow_behind_a_link(tmp_path):
    @data.record
    class R:
        x: int

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"")
    (tmp_path / ".corpus.building").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.StoreExistsError, match="there is a link where the build is to grow"):
        data.build(tmp_path / "corpus", R, [{"x": 1}], progress=False)
    assert os.listdir(tmp_path / "precious") == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a disk")
def test_a_disk_that_is_read_only(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        committed(disk / "store", 3).close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for change in (
            lambda: data.set_metadata(disk / "store", {"a": 1}),
            lambda: compact(disk / "store"),
            lambda: committed(disk / "store", 1, append=True),
            lambda: committed(disk / "other", 1),
        ):
            with pytest.raises(errors.StoreWriteError, match=f"{disk}.*Read-only file system"):
                change()
        assert repair(disk / "store").records == 3  # there is nothing to do
        assert_records(disk / "store", 3)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
