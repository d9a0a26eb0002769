"""Processes that are forked while files are written leave them to their parent, however they end."""

import subprocess
import sys
import textwrap

import pytest

from kseq.data import open, verify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")

START = """
import os, sys, warnings
warnings.simplefilter("ignore")
import kseq.data as kd

def child(work):
    process = os.fork()
    if process == 0:
        try:
            work()
        except kd.errors.StoreError as error:
            os._exit(3 if "fork" in str(error) else 4)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

path, schema = sys.argv[1], {"x": ("int32", (None,))}
"""


def run(path, script):
    # In a process of its own: that of the tests has threads, whose locks a fork would copy.
    code = START + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("verb", ["close()", "commit()", "write({'x': [9]})", "write_batch({'x': [[9]]})"])
def test_an_inherited_writer_is_refused_and_changes_nothing(tmp_path, verb):
    script = f"""
    writer = kd.Writer(path, schema)
    writer.write({{"x": [1]}})
    writer.commit()
    writer.write({{"x": [2]}})
    print(child(lambda: writer.{verb}))
    writer.write({{"x": [3]}})
    writer.close()
    """
    assert run(tmp_path / "store", script) == ["3"]
    assert verify(tmp_path / "store").ok
    assert [record["x"].tolist() for record in open(tmp_path / "store")] == [[1], [2], [3]]


@pytest.mark.parametrize("when", ["before the first record", "after a commit", "with records in memory"])
def test_a_child_that_leaves_the_with_leaves_the_store(tmp_path, when):
    script = f"""
    with kd.Writer(path, schema) as writer:
        if {when!r} != "before the first record":
            writer.write({{"x": [1]}})
        if {when!r} == "after a commit":
            writer.commit()
        process = os.fork()
        if process == 0:
            sys.exit(0)
        os.waitpid(process, 0)
        writer.write({{"x": [2]}})
    """
    run(tmp_path / "store", script)
    assert verify(tmp_path / "store").ok and verify(tmp_path / "store").leftovers == ()
    assert open(tmp_path / "store")[-1]["x"].tolist() == [2]


def test_an_inherited_writer_does_not_hold_the_lock(tmp_path):
    script = """
    reading, writing = os.pipe()
    writer = kd.Writer(path, schema)
    writer.write({"x": [1]})
    if os.fork() == 0:
        os.read(reading, 1)
        os._exit(0)
    writer.close()
    kd.Writer(path, append=True).close()
    os.write(writing, b"-")
    """
    run(tmp_path / "store", script)


SINKS = {"hdf5": "h5py", "array_record": "array_record"}  # and the packages that they need


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tfrecord", "npz", "parquet", *SINKS])
def test_a_child_that_leaves_a_sink_leaves_its_file(tmp_path, suffix):
    pytest.importorskip(SINKS.get(suffix, "numpy"))
    script = """
    with kd.formats.write(path, schema) as sink:
        sink.write({"x": [1]})
        process = os.fork()
        if process == 0:
            sys.exit(0)
        os.waitpid(process, 0)
        sink.write({"x": [2]})
    print(*(record["x"][0] for record in kd.formats.read(path)))
    """
    assert run(tmp_path / f"a.{suffix}", script) == ["1", "2"]


@pytest.mark.parametrize("suffix", ["jsonl", "tfrecord", "parquet", *SINKS])
@pytest.mark.parametrize(
    "verb", ["write({'x': [9]})", "close()", "abort()", "__del__() if hasattr(sink, '__del__') else 0"]
)
def test_an_inherited_sink_changes_nothing(tmp_path, suffix, verb):
    pytest.importorskip(SINKS.get(suffix, "numpy"))
    script = f"""
    sink = kd.formats.write(path, schema)
    for n in range(300):
        sink.write({{"x": [n] * 5}})
    print(child(lambda: sink.{verb}))
    for n in range(300, 600):
        sink.write({{"x": [n] * 5}})
    sink.close()
    print(sum(record["x"].tolist() == [n] * 5 for n, record in enumerate(kd.formats.read(path))))
    """
    refused, right = run(tmp_path / f"a.{suffix}", script)
    assert right == "600"
    assert refused == ("4" if "write" in verb else "0")


def test_a_child_that_leaves_a_build_leaves_it(tmp_path):
    script = """
    @kd.record
    class R:
        x: list[int]
        def load(self):
            process = os.fork()
            if process == 0:
                sys.exit(0)
            os.waitpid(process, 0)

    kd.build(path, R, [{"x": [n]} for n in range(10)], progress=False)
    print(len(kd.open(path + "/train")))
    """
    assert run(tmp_path / "build", script) == ["8"]
