"""A machine with NumPy and the runtimes alone, on which kseq is installed without what it needs to train."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv

import keras
import numpy as np
import pytest
from exported_formats import file_of, needs

import kseq

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(kseq.__file__).parent
# What kseq's runtime imports besides the standard library, and the runtimes with what they need.
INSTALLED = ("numpy", "xxhash", "onnxruntime", "ai-edge-litert")
# What pip says where there is no network.
OFFLINE = re.compile("NewConnectionError|Max retries|ProxyError|Temporary failure|ConnectTimeout|No matching distrib")

IMPORT = """
import sys, time
before = time.process_time()
import kseq.runtime
print(time.process_time() - before)
heavy = {"keras", "jax", "tensorflow", "torch", "onnxruntime", "ai_edge_litert", "kseq.layers", "kseq.streaming"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
STREAM = """
import importlib.util, sys, numpy as np, kseq
for name in ("keras", "jax", "tensorflow", "torch"):
    assert importlib.util.find_spec(name) is None, name
assert kseq.__file__.startswith(sys.prefix), kseq.__file__
x = np.load("x.npy")
for name in sys.argv[1:]:
    stream = kseq.ExportedStream(name)
    found = [stream.push(x[:, :5])]
    stream = kseq.ExportedStream.load(name, stream.save())
    found += [stream.push(x[:, 5:]), stream.flush()]
    np.save(f"{name}.npy", np.concatenate(found, axis=1))
"""


def run(*command, cwd=None):
    return subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, env=environment(), timeout=580
    )


def environment():
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def succeeded(done):
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment in which this package lies, without its dependencies."""
    folder = tmp_path_factory.mktemp("machine")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = run(*pip, "--python", python, "install", "-q", *INSTALLED)
    if done.returncode and OFFLINE.search(done.stderr):
        pytest.skip(f"packages are not to be had: {done.stderr.strip().splitlines()[-1]}")
    succeeded(done)
    packages = succeeded(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")).strip()
    shutil.copytree(ROOT, pathlib.Path(packages, "kseq"), ignore=shutil.ignore_patterns("__pycache__"))
    return python


def test_its_runtime_is_small_and_soon_there(python, tmp_path):
    times = [float(succeeded(run(python, "-c", IMPORT, cwd=tmp_path))) for _ in range(3)]
    assert min(times) < 0.3, times


def test_it_streams_what_was_exported_elsewhere(python, tmp_path):
    layer = kseq.Serial([kseq.Conv1D(4, 3, padding="reverse_causal"), kseq.GRU(2)])
    layer.build((None, None, 3))
    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    names = []
    for format in ("litert", "onnx"):
        needs(format)
        names.append(file_of(tmp_path, format).name)
        kseq.export(layer, tmp_path / names[-1], format, batch_size=2, block=2)
    succeeded(run(python, "-c", STREAM, *names, cwd=tmp_path))
    for name in names:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), keras.ops.convert_to_numpy(layer(x)), atol=1e-4)
    done = run(python, "-m", "kseq.cli", "stream", names[0], "--input", "x.npy", "--output", "y.npy", cwd=tmp_path)
    assert done.returncode == 1 and "`--batch-size 1`" in done.stderr
