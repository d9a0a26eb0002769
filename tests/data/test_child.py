"""The process in which libraries read files that may hang or crash them."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

import child_functions
import numpy as np
import pytest

from kseq.data import formats
from kseq.data.errors import FormatError
from kseq.data.formats import child

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "x").write_bytes(b"data")
    return str(tmp_path / "x")


def test_values_and_errors_come_back(path):
    value, process = child.limited(child_functions.give, path, np.arange(3))
    assert value.tolist() == [0, 1, 2]
    assert process != os.getpid()
    with pytest.raises(ValueError, match="no such thing"):
        child.limited(child_functions.fail, path)
    assert child.limited(child_functions.give, path, None) == (None, process)  # the same one goes on


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (child_functions.hang, (), "x: it is damaged: what reads it takes more than 1 seconds"),
        (child_functions.crash, (), "x: it is damaged: what reads it ends its process with -?[0-9]+"),
        (child_functions.fill, (200 << 20,), "x: it would take more than 67108864 bytes of memory: give max_bytes"),
    ],
)
def test_what_goes_wrong_is_named_and_the_next_is_read(monkeypatch, path, function, arguments, message):
    monkeypatch.setattr(child, "_ROOM", 0)
    monkeypatch.setattr(child, "_COPIES", 2)
    monkeypatch.setattr(child, "SECONDS", 60 if arguments else 1)
    if arguments and not pathlib.Path("/proc/self/statm").exists():
        pytest.skip("the system does not say what a process takes")
    with pytest.raises(FormatError, match=message):
        child.limited(function, path, *arguments)
    assert child.limited(child_functions.give, path, 5)[0] == 5


def test_threads_get_their_own_answers(path):
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda n: child.limited(child_functions.give, path, n)[0], range(40))
        assert list(found) == list(range(40))


def test_a_text_on_which_hdf5_hangs(tmp_path, monkeypatch):
    pytest.importorskip("h5py")
    data = bytearray((GOLDEN / "seqp_missing.hdf5").read_bytes())
    data[data.find(b"GCOL") + 160] = 2  # the number of an object in the heap of texts
    (tmp_path / "x.hdf5").write_bytes(data)
    monkeypatch.setattr(child, "SECONDS", 2)
    with pytest.raises(FormatError, match=r"x\.hdf5: "):
        formats.read(tmp_path / "x.hdf5")
    assert len(list(formats.read(GOLDEN / "seqp_missing.hdf5"))) == 3


SCRIPT = """
import os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[2])
import child_functions
from kseq.data.formats.child import limited

def ask():
    return limited(child_functions.give, sys.argv[1], os.getpid())

first = ask()
forked = os.fork()
if not forked:
    value, process = ask()
    os._exit(0 if value == os.getpid() and process != first[1] else 1)
code = os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])
print(code, ask() == first)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")
def test_a_fork_has_its_own(path):
    command = [sys.executable, "-c", SCRIPT, path, str(pathlib.Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 True\n", "")
