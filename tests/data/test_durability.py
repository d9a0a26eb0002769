"""What is left when a writer is killed, and when bits change on the disk."""

import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pyarrow as pa
import pytest

from kseq import data
from kseq.data import Field, Writer, errors, repair, verify
from kseq.data.store import writer
from kseq.data.store.folder import Folder
from kseq.data.store.manifest import read_manifest

SCHEMA = {"tokens": Field("int32", (None,)), "text": Field("string", optional=True), "label": Field("int64")}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def record(n):
    return {
        "tokens": np.arange(n % 7 * 3, dtype=np.int32) + n,
        "text": None if n % 3 == 0 else f"text {n}",
        "label": np.int64(n),
    }


def assert_records(store, first=0):
    for n, found in enumerate(store, first):
        wanted = record(n)
        assert found["tokens"].tolist() == wanted["tokens"].tolist()
        assert (found["text"], int(found["label"])) == (wanted["text"], n)
    assert store.lengths.tolist() == [n % 7 * 3 for n in range(first, first + len(store))]


def open_quietly(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.IncompleteStoreWarning)
        return data.open(path)


def write(path, count, first=0, **options):
    with Writer(path, SCHEMA, **options) as out:
        for n in range(first, first + count):
            out.write(record(n))


# A writer that is killed. It starts other processes by forking itself, which is many times faster than starting Python,
# and imports no Keras: the store needs none.

SERVER = """
    import os, signal, sys, time, types
    package = types.ModuleType("kseq")  # the package without its layers
    package.__path__, package.__version__ = [sys.argv[1] + "/kseq"], "0"
    sys.modules["kseq"] = package
    import numpy as np
    from kseq.data import Field, Writer
    from kseq.data.store import writer
    from test_durability_records import SCHEMA, record
    writer.CHUNK_BYTES = 2000

    def write(path, append, shard_rows):
        with Writer(path, None if append else SCHEMA, append=append, shard_rows=shard_rows) as out:
            n = out.records
            while True:
                out.write(record(n))
                n += 1
                if n % 400 == 0:
                    out.commit()

    for line in sys.stdin:
        path, append, shard_rows, seconds = line.split()
        child = os.fork()
        if child == 0:
            write(path, append == "1", int(shard_rows))
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs a writer and kills it."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    folder = tmp_path_factory.mktemp("server")
    mine = pathlib.Path(__file__).read_text()
    parts = [mine[mine.index(a) : mine.index(b)] for a, b in (("SCHEMA = ", "ROOT = "), ("def record", "def assert_"))]
    imports = "import numpy as np\nfrom kseq.data import Field\n"
    (folder / "test_durability_records.py").write_text(imports + "\n".join(parts))
    command = [sys.executable, "-c", textwrap.dedent(SERVER), str(ROOT)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:

        def run(path, append, shard_rows, seconds):
            server.stdin.write(f"{path} {int(append)} {shard_rows} {seconds}\n")
            server.stdin.flush()
            assert server.stdout.readline().strip() == str(int(signal.SIGKILL))

        yield run
    assert server.returncode == 0


def kill_once(killed, path, rng, counts):
    """Write, kill, open, repair, append."""
    appended = rng.random() < 0.5
    if appended:
        write(path, 150, shard_rows=60)
    killed(path, appended, rng.choice([30, 300, 10**6]), rng.choice([0.005, 0.02, 0.06]) * rng.random())
    committed = 0
    if (path / "manifest.json").exists():
        store = open_quietly(path)
        assert_records(store)  # whatever was committed is there
        committed = len(store)
        assert verify(path).ok
    else:
        assert not appended
        with pytest.raises(errors.StoreNotFoundError):
            data.open(path)
    assert committed >= (150 if appended else 0)
    chunks = whole_chunks(path)
    leftover = any(name.startswith("shard-") for name in unknown_files(path))
    if leftover and committed:
        with pytest.raises(errors.UnsealedShardError):
            Writer(path, append=True)
    discard = rng.random() < 0.2
    try:
        report = repair(path, discard=discard)
    except errors.StoreNotFoundError:  # killed before anything was written
        assert not committed and not leftover
        shutil.rmtree(path, ignore_errors=True)
        write(path, 1)
        report = None
    if report is not None:
        recovered = sum(found.records for found in report.recovered)
        assert recovered == (0 if discard else chunks)
        assert report.records == committed + recovered
        counts["recovered"] += recovered
        counts["discarded"] += chunks if discard else 0
        if not committed + recovered:
            assert not unknown_files(path)
            shutil.rmtree(path)
            write(path, 1)
        store = data.open(path, verify=True)  # complete: no warning
        assert len(store) == max(committed + recovered, 1)
        assert_records(store)
        assert not verify(path).leftovers
        again = repair(path)
        assert (again.recovered, again.removed, again.records) == ((), (), len(store))
    rows = len(data.open(path))
    with Writer(path, append=True) as out:
        for n in range(rows, rows + 20):
            out.write(record(n))
    assert_records(data.open(path))
    counts["points"] += 1
    counts["committed"] += committed
    counts["with a leftover"] += leftover
    counts["without a manifest"] += not committed


def unknown_files(path):
    """Files that no manifest names, or all where there is none."""
    if not path.exists():
        return []
    if not (path / "manifest.json").exists():
        return os.listdir(path)
    return [file for file, _ in verify(path).leftovers]


def whole_chunks(path):
    """Records in the whole chunks of a shard that is not committed, found without `repair`: Arrow's own framing."""
    rows = 0
    for name in unknown_files(path):
        if name.startswith("shard-") and (path / name).stat().st_size > 8:
            try:
                for batch in pa.ipc.open_stream((path / name).read_bytes()[8:]):
                    rows += batch.num_rows
            except (pa.ArrowInvalid, OSError):
                pass  # cut off within a chunk
    return rows


def kill_often(killed, tmp_path, points):
    rng = random.Random(points)
    counts = dict.fromkeys(
        ["points", "committed", "recovered", "discarded", "with a leftover", "without a manifest"], 0
    )
    for n in range(5 * points):  # on a busy machine, until a writer has come far enough
        if n >= points and counts["committed"] and counts["recovered"]:
            break
        kill_once(killed, tmp_path / str(n), rng, counts)
        shutil.rmtree(tmp_path / str(n))
    print(counts)
    return counts


def test_a_killed_writer_loses_no_commit(killed, tmp_path):
    counts = kill_often(killed, tmp_path, 12)
    assert counts["committed"] and counts["recovered"]


@pytest.mark.slow
def test_a_writer_killed_often_loses_no_commit(killed, tmp_path):
    counts = kill_often(killed, tmp_path, 200)
    assert counts["committed"] > 10_000 and counts["recovered"] > 1000 and counts["with a leftover"] > 20


# Every state in between, made by hand


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(writer, "CHUNK_BYTES", 600)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def sealed(path, small_chunks):
    """A store of three shards, of which the manifest names one; gives the manifest that names all."""
    write(path, 40)
    before = (path / "manifest.json").read_bytes()
    with Writer(path, append=True, shard_rows=30) as out:
        for n in range(40, 100):
            out.write(record(n))
    after = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(before)
    return after


def test_sealed_shards_are_adopted(path, sealed):
    (path / "lengths-00001.u32").unlink()
    (path / "lengths-00002.u32").write_bytes(bytes(120))
    (path / "manifest.json.tmp").write_bytes(b"{")
    report = repair(path)
    assert [(found.file, found.records) for found in report.recovered] == [
        ("shard-00001.arrow", 30),
        ("shard-00002.arrow", 30),
    ]
    assert report.removed == ("manifest.json.tmp",) and report.records == 100
    store = data.open(path, verify=True)
    assert_records(store)
    assert json.loads((path / "manifest.json").read_bytes())["shards"] == json.loads(sealed)["shards"]


def test_leftovers_are_discarded(path, sealed):
    report = repair(path, discard=True)
    assert report.recovered == () and report.records == 40
    kinds = ("shard-0000{}.arrow", "lengths-0000{}.u32")
    assert set(report.removed) == {kind.format(n) for n in (1, 2) for kind in kinds}
    assert sorted(os.listdir(path)) == ["lengths-00000.u32", "manifest.json", "shard-00000.arrow"]


@pytest.mark.parametrize("size", [0, 5, 8, 100, 1000, 3000, -200, -8, -1, None])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_unsealed_shards_of_any_length(path, small_chunks, size, with_manifest):
    """Cut anywhere, or complete but not yet renamed."""
    if with_manifest:
        write(path, 40)
        with Writer(path, append=True) as out:
            for n in range(40, 140):
                out.write(record(n))
        shard, first = path / "shard-00001.arrow", 40
    else:
        write(path, 100)
        shard, first = path / "shard-00000.arrow", 0
    data_ = shard.read_bytes()
    shard.with_name(shard.name + ".tmp").write_bytes(data_[:size])
    shard.unlink()
    if with_manifest:
        old = read_manifest(Folder(path))
        old = dataclasses.replace(old, shards=old.shards[:1], complete=False)
        (path / "manifest.json").write_bytes(old.to_bytes())
    else:
        (path / "manifest.json").unlink()
    wanted = whole_chunks(path)
    report = repair(path)
    assert [found.records for found in report.recovered] == [wanted] and report.records == first + wanted
    assert wanted == 100 if size in (None, -1, -8, -200) else wanted < 100
    if report.records:
        store = data.open(path, verify=True)
        assert len(store) == report.records
        assert_records(store)
        assert not verify(path).leftovers
    else:
        assert os.listdir(path) == []
    if wanted == 100:  # all of it: the same file
        assert shard.read_bytes() == data_


def test_a_repair_that_is_killed_can_be_run_again(path, small_chunks, monkeypatch):
    """At every step that changes the folder."""
    write(path, 40)
    shutil.copytree(path, path.with_name("whole"))
    tmp = path.with_name("tmp")
    with Writer(tmp, SCHEMA) as out:
        for n in range(40, 140):
            out.write(record(n))
    shutil.copy(tmp / "shard-00000.arrow", path / "shard-00001.arrow.tmp")
    size = (path / "shard-00001.arrow.tmp").stat().st_size
    os.truncate(path / "shard-00001.arrow.tmp", size - 900)
    (path / "manifest.json.tmp").write_bytes(b"")
    wanted, start = whole_chunks(path), path.with_name("start")
    assert 0 < wanted < 100
    os.rename(path, start)

    class Killed(BaseException):
        pass

    steps, finished = 0, False
    real = {name: getattr(os, name) for name in ("replace", "fsync", "unlink")}
    while not finished:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(start, path)
        left = [steps]

        def step(name, *arguments, left=left, **options):
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return real[name](*arguments, **options)

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, lambda *a, name=name, step=step, **o: step(name, *a, **o))
            try:
                repair(path)
                finished = True
            except Killed:
                pass
        report = repair(path)
        assert report.records == 40 + wanted
        assert_records(data.open(path, verify=True))
        assert not verify(path).leftovers
        steps += 1
    assert steps > 8


def test_repair_of_what_is_whole_or_is_no_store(path, tmp_path):
    write(path, 10)
    before = {file: (path / file).read_bytes() for file in os.listdir(path)}
    report = repair(path)
    assert (report.recovered, report.rebuilt, report.removed, report.records) == ((), (), (), 10)
    assert before == {file: (path / file).read_bytes() for file in os.listdir(path)}
    assert "10 records now" in str(report) and report.to_json()["records"] == 10
    for nothing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(errors.StoreNotFoundError):
            repair(nothing)
        with pytest.raises(errors.StoreNotFoundError):
            verify(nothing)
    (path / "notes.txt").write_text("mine")
    assert repair(path).removed == () and (path / "notes.txt").exists()
    assert verify(path).leftovers == (("notes.txt", "an unknown file, which is no part of the store"),)
    with Writer(path, append=True), pytest.raises(errors.StoreLockedError):
        repair(path)


def test_repair_of_damage(path, small_chunks):
    write(path, 60, shard_rows=20)
    (path / "lengths-00001.u32").unlink()
    (path / "lengths-00002.u32").write_bytes(bytes(80))
    report = repair(path)
    assert report.rebuilt == ("lengths-00001.u32", "lengths-00002.u32")
    assert verify(path).ok and "computed again" in str(report)
    shard = path / "shard-00001.arrow"
    flip(shard, random.Random(0).randrange(8 * shard.stat().st_size))
    for discard in (False, True):
        with pytest.raises(
            errors.ShardError, match=r"shard-00001.arrow: .* restore it from a copy or build the store again"
        ):
            repair(path, discard=discard)
    flip(path / "manifest.json", 999)
    with pytest.raises(errors.ManifestError):
        repair(path)


def test_repair_of_an_unsealed_shard_of_other_fields(path):
    write(path, 10)
    other = path.with_name("other")
    with Writer(other, {"label": "int64"}) as out:
        out.write({"label": 1})
    shutil.copy(other / "shard-00000.arrow", path / "shard-00001.arrow.tmp")
    for _ in range(2):  # nothing is lost by trying
        with pytest.raises(errors.ShardError, match="field 0"):
            repair(path)
    assert len(open_quietly(path)) == 10
    assert len(repair(path, discard=True).removed) == 1
    (other / "manifest.json").unlink()
    shard = (other / "shard-00000.arrow").read_bytes()
    (other / "shard-00000.arrow").write_bytes(shard.replace(b'"int64"', b'"intt4"'))
    with pytest.raises(errors.ShardError, match="the schema in the shard is damaged"):
        repair(other)


def test_repair_of_unsealed_shards_with_flipped_bits(path, small_chunks):
    """The chunks before the damage are recovered, or all of them where a value has changed; never a crash."""
    paths, rng = [], random.Random(0)
    for n in range(30):
        paths.append(str(path.with_name(f"store{n}")))
        write(paths[-1], 100)
        folder = pathlib.Path(paths[-1])
        shard = (folder / "shard-00000.arrow").rename(folder / "shard-00000.arrow.tmp")
        (folder / "manifest.json").unlink()
        flip(shard, rng.randrange(8 * shard.stat().st_size))
    found = run_apart(f"""
        from kseq.data import errors, repair
        for path in {paths!r}:
            try:
                print("report", repair(path).records)
            except errors.StoreError as error:
                print(type(error).__name__, 0)
    """)
    kinds = [line.split()[0] for line in found.splitlines()]
    assert len(kinds) == 30 and set(kinds) <= {"report", "ShardError"}
    for folder, line in zip(paths, found.splitlines(), strict=True):
        records = int(line.split()[1])
        assert not records or len(data.open(folder, verify=True)) == records <= 100


# Bits that flip


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def run_apart(code):
    """Run code in a process of its own, which must not die of a signal; returns what it prints."""
    start = f"""
        import sys, types, faulthandler
        package = types.ModuleType("kseq")
        package.__path__, package.__version__ = [{str(ROOT / "kseq")!r}], "0"
        sys.modules["kseq"] = package
    """
    code = textwrap.dedent(start) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


READ_ALL = """
    from kseq.data import errors, open, verify

    def read(path):
        try:
            store = open(path)
            for name in store.schema:
                store.column(name)
            list(store), store.lengths
            return "read"
        except (errors.DataError, ValueError) as error:
            return type(error).__name__
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A store of two shards."""
    path = tmp_path_factory.mktemp("example") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_BYTES", 700)
        write(path, 90, shard_rows=50, metadata={"of": "flips"})
    return path


def flips(path, count, seed):
    """Bits of a store: some of every file, the others anywhere."""
    rng = random.Random(seed)
    files = sorted(path.iterdir())
    sizes = [file.stat().st_size for file in files]
    chosen = [n % len(files) if n < 2 * len(files) else rng.choices(range(len(files)), sizes)[0] for n in range(count)]
    return [(files[n].name, rng.randrange(8 * sizes[n])) for n in chosen]


def check_flips(example, path, count, seed):
    shutil.copytree(example, path)
    damaged = flips(path, count, seed)
    for file, bit in damaged:
        flip(path / file, bit)
        report = verify(path)
        assert not report.ok and report.problems[0][0] == file, (file, bit, report)
        kind = errors.ManifestError if file == "manifest.json" else errors.ShardError
        with pytest.raises(kind, match=file):
            report.raise_first()
        with pytest.raises(kind, match=file):
            data.open(path, verify=True)
        flip(path / file, bit)
    assert verify(path).ok
    # Opened without comparing checksums: an error that is named, or values that differ, but no crash.
    found = run_apart(
        READ_ALL
        + f"""
    def flip(file, bit):
        content = bytearray(file.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        file.unlink()  # what is mapped stays as it was
        file.write_bytes(content)

    import pathlib
    path = pathlib.Path({str(path)!r})
    for file, bit in {damaged!r}:
        flip(path / file, bit)
        print(file, read(path))
        flip(path / file, bit)
    """
    )
    assert len(found.splitlines()) == count
    return len(damaged)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_flipped_bit_is_found(example, tmp_path, seed):
    assert check_flips(example, tmp_path / "store", 20, seed) == 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_every_one_of_many_flipped_bits_is_found(example, tmp_path, seed):
    assert check_flips(example, tmp_path / "store", 1000, 100 + seed) == 1000


def test_reports_read_well(example, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(example, path)
    done = []
    report = verify(path, progress=lambda *step: done.append(step))
    total = sum(file.stat().st_size for file in path.iterdir()) - (path / "manifest.json").stat().st_size
    assert report.ok and report.records == 90 and report.bytes == total
    assert [file for _, _, file in done] == ["shard-00000.arrow", "shard-00001.arrow"] and done[-1][:2] == (
        total,
        total,
    )
    assert str(report) == f"{path}: whole; 90 records, {total} bytes compared"
    report.raise_first()
    os.truncate(path / "shard-00001.arrow", 100)
    (path / "lengths-00000.u32").unlink()
    report = verify(path)
    assert "2 problems" in str(report) and "must have" in str(report) and "missing" in str(report)
    assert report.to_json()["problems"][0][0] == "lengths-00000.u32" and report.to_json()["ok"] is False


def test_verifying_while_a_writer_is_at_work(path):
    write(path, 20)
    with Writer(path, append=True) as out:
        out.write(record(20))
        report = verify(path)
        assert report.ok and [file for file, _ in report.leftovers] == ["shard-00001.arrow.tmp"]
        assert len(data.open(path, verify=True)) == 20
    assert not verify(path).leftovers


def test_remote_stores(tmp_path, monkeypatch):
    """Behind a cache, which is never taken for a store that was written anew."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("KSEQ_CACHE", str(tmp_path / "cache"))
    url, system = "memory://kseq-durability/store", fsspec.filesystem("memory")
    write(url, 40)
    assert verify(url).ok and not verify(url).leftovers
    before = system.cat_file("/kseq-durability/store/manifest.json")
    write(url, 10, first=40, append=True)
    system.pipe_file("/kseq-durability/store/manifest.json", before)
    assert len(verify(url).leftovers) == 2
    with pytest.raises(errors.UnsealedShardError):
        Writer(url, append=True)
    assert repair(url).records == 50
    store = data.open(url, verify=True)
    assert len(store) == 50
    assert_records(store)
    system.rm("/kseq-durability/store", recursive=True)
    write(url, 40, first=7)  # files of other values
    assert_records(data.open(url, verify=True), first=7)
    damaged = bytearray(system.cat_file("/kseq-durability/store/shard-00000.arrow"))
    damaged[500] ^= 1
    system.pipe_file("/kseq-durability/store/shard-00000.arrow", bytes(damaged))
    shutil.rmtree(tmp_path / "cache")
    assert [file for file, _ in verify(url).problems] == ["shard-00000.arrow"]


def test_the_lock_of_a_killed_writer_is_in_nobodys_way(tmp_path):
    path = tmp_path / "store"
    path.mkdir()
    (path / "writer.lock").touch()
    with Writer(path, SCHEMA) as out:
        assert (path / "writer.lock").exists()
        out.write(record(0))
    assert not (path / "writer.lock").exists()  # a store is as small as it was
    (path / "writer.lock").touch()
    assert verify(path).leftovers == () and repair(path).removed == ()
    with Writer(path, append=True) as out:
        assert out.write(record(1)) == 1
