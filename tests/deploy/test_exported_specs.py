"""Every shipped spec in every format that this backend writes, streamed where no model is; and one stream, going on."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from exported_formats import HERE, file_of, needs
from keras import ops
from small_specs import SMALL

import kseq
from kseq.spec import shipped

TODAYS = {"jax": 0.1, "tensorflow": 0.1, "torch": 0.3}
TIME = 16

# What a program without Keras does with a file.
STREAMED = """
import sys, numpy as np
from kseq.runtime import ExportedStream
stream, x = ExportedStream(sys.argv[1]), np.load(sys.argv[2])
np.save(sys.argv[3], np.concatenate([stream.push(x[:, :5]), stream.push(x[:, 5:]), stream.flush()], axis=1))
print(*sys.modules)
"""


def run(code, *arguments, **environment):
    """What a program prints, run in a process of its own."""
    root = pathlib.Path(kseq.__file__).parent.parent
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def values_for(model):
    """Random values of a model's input, for two rows."""
    random, values = np.random.default_rng(0), model.inputs[0]
    shape = (2, TIME, *values.shape[2:])
    return (
        random.integers(0, 16, shape).astype("int32")
        if "int" in values.dtype
        else random.normal(size=shape).astype("f")
    )


def test_all_are_tested():
    assert shipped().keys() == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("format", HERE)
def test_a_shipped_spec_streams_from_a_file(name, format, tmp_path):
    needs(format)
    model = kseq.load_spec(shipped()[name], vars=SMALL[name])
    x = values_for(model)
    given = [x, np.ones((2, TIME), bool)] if len(model.inputs) == 2 else x
    path, inputs, outputs = file_of(tmp_path, format), tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(inputs, x)
    kseq.export(model, path, format, batch_size=2)
    loaded = set(run(STREAMED, path, inputs, outputs).split())
    if format in ("litert", "onnx"):  # tensorflow loads Keras by itself
        assert not loaded & {"keras", "jax", "tensorflow", "torch", "kseq.layers", "kseq.streaming"}
    wanted = ops.convert_to_numpy(model(given, training=False))
    np.testing.assert_allclose(np.load(outputs), wanted, atol=1e-4 * max(1, abs(wanted).max()))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="it begins on jax")
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_a_stream_begun_on_jax_goes_on_from_its_bytes(format, tmp_path):
    needs(format)
    model = kseq.load_spec(shipped()["character_lstm"], vars=SMALL["character_lstm"])
    x = values_for(model)
    stream = kseq.Stream(model, batch_size=2)
    before = stream.push(x[:, :7])
    saved = stream.save()
    path = file_of(tmp_path, format)
    kseq.export(model, path, batch_size=2)
    (tmp_path / "saved").write_bytes(saved)
    np.save(tmp_path / "x.npy", x[:, 7:])
    code = """
import sys, numpy as np
from kseq.runtime import ExportedStream
folder = sys.argv[2]
stream = ExportedStream.load(sys.argv[1], open(f"{folder}/saved", "rb").read())
x = np.load(f"{folder}/x.npy")
np.save(f"{folder}/y.npy", np.concatenate([stream.push(x[:, :3]), stream.push(x[:, 3:6])], axis=1))
open(f"{folder}/saved", "wb").write(stream.save())
print(*sys.modules)
"""
    assert "keras" not in run(code, path, tmp_path).split()
    back = kseq.Stream.load(model, (tmp_path / "saved").read_bytes())
    made = [before, np.load(tmp_path / "y.npy"), back.push(x[:, 13:])]
    np.testing.assert_allclose(np.concatenate(made, axis=1), ops.convert_to_numpy(model(x)), atol=1e-4)
