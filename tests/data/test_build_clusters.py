"""Builds on local clusters of Dask and Ray, of which one worker of two is killed: the same bytes as in one process."""

import os
import pathlib
import signal
import sys
import tempfile
import threading
import time
import traceback

import pytest
from record_classes import Mortal, Slow, files

import kseq.data as kd

pytestmark = [
    pytest.mark.slow,
    # What the clusters do within is theirs; a killed worker leaves sockets behind.
    pytest.mark.filterwarnings("default"),
]
ROWS = [{"name": f"n{row}", "speaker": "a"} for row in range(48)]
OPTIONS = {"splits": {"train": 0.7, "test": 0.3}, "shard_rows": 3}


@pytest.fixture
def expected(tmp_path):
    kd.build(tmp_path / "here", Slow, ROWS, **OPTIONS)
    return files(tmp_path / "here")


@pytest.fixture
def killer(tmp_path, monkeypatch):
    """Kills the worker that first says that it has begun; returns a list with its process id."""
    marks, killed, done = tmp_path / "marks", [], threading.Event()
    marks.mkdir()
    monkeypatch.setenv("KSEQ_TEST_MARKS", str(marks))
    path = [str(pathlib.Path(__file__).parent), str(pathlib.Path(kd.__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]))

    def watch():
        # Not this process, which builds the expected files.
        while not done.is_set():
            found = [int(name) for name in os.listdir(marks) if int(name) != os.getpid()]
            if len(found) == 2 and not killed:
                killed.append(found[0])
                os.kill(found[0], signal.SIGKILL)
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    yield killed
    done.set()
    thread.join()


def check_failure(executor, folder):
    """A record that fails on a worker is named here, and its build leaves nothing."""
    with pytest.raises(kd.BuildError, match="row 7: OSError: cannot read n7") as caught:
        kd.build(folder / "failed", Mortal, ROWS, executor=executor, bad="n7", **OPTIONS)
    assert isinstance(caught.value.__cause__, OSError)
    assert "in load" in "".join(traceback.format_exception(caught.value))
    assert not any("failed" in name for name in os.listdir(folder))


def test_dask(expected, killer, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        kd.build(tmp_path / "there", Slow, ROWS, executor=client.get_executor(), **OPTIONS)
        check_failure(client.get_executor(), tmp_path)
    assert len(killer) == 1
    assert files(tmp_path / "there") == expected


@pytest.fixture
def ray(monkeypatch):
    """Ray with two workers, once those are marked that are to die; `KSEQ_TEST_MARKS` must be set before."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would write a token into the user's folder
    # Not `tmp_path`: names of sockets have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            yield ray
        finally:
            ray.shutdown()


@pytest.mark.parametrize("options", [{}, {"max_retries": 0}])
def test_ray(expected, killer, ray, tmp_path, options):
    with kd.RayExecutor(num_cpus=1, **options) as executor:
        assert list(executor.map(abs, [-1, 2])) == [1, 2]
        kd.build(tmp_path / "there", Slow, ROWS, executor=executor, **OPTIONS)
        check_failure(executor, tmp_path)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(abs, 1)
    assert len(killer) == 1
    assert files(tmp_path / "there") == expected


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"kseq\[ray\]"):
        kd.RayExecutor()
