"""Engines of a stream: what is exported for them, kept, and thrown away; an engine that is Keras, and real ones."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from exported_fakes import OfFunction, manifest_of
from sampling import todays

import kseq
from kseq.runtime.manifest import Manifest
from kseq.streaming import engines

TODAYS = {"jax": 0.15, "tensorflow": 0.15}


def network():
    layer = kseq.Serial([kseq.Conv1D(3, 3, padding="reverse_causal"), kseq.GRU(4), kseq.Dense(2)])
    layer.build((None, None, 3))
    return layer


def frames(steps, batch=1):
    return np.random.default_rng(steps).normal(size=(batch, steps, 3)).astype("float32")


def whole(layer, x):
    return keras.ops.convert_to_numpy(layer(x))


@pytest.fixture
def exports(monkeypatch, tmp_path):
    """What was exported, by an export that writes a manifest alone, and for an engine that runs the layer itself."""
    made, layers = [], {}

    def export(source, path, format, masks):
        made.append((format, masks))
        with engines._weights(source):
            layer = source.step.layer
            manifest = manifest_of(layer, source.step.batch_size, masked=masks)
            layers[str(path)] = OfFunction(layer, manifest)
        path.write_bytes(manifest.to_bytes())

    def opened(path):
        return Manifest.from_bytes(path.read_bytes()), layers[str(path)]

    monkeypatch.setenv("KSEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "_export", export)
    monkeypatch.setattr(engines, "open_runner", opened)
    monkeypatch.setattr(engines, "_is_installed", lambda engine: engine == "onnxruntime")
    return made


def test_a_stream_of_an_engine_is_that_of_the_backend(exports):
    layer, x = network(), frames(9, 2)
    stream = kseq.Stream(layer, 2, engine="onnxruntime", dtype="float32")
    assert (stream.engine, exports) == ("onnxruntime", [("onnx", False)])
    for _ in range(2):
        found = np.concatenate([stream.push(x[:, :4]), stream.push(x[:, 4:]), stream.flush()], axis=1)
        np.testing.assert_allclose(found, whole(layer, x), atol=1e-4)
    assert exports == [("onnx", False), ("onnx", True)]  # with masks when the first steps are not there
    kseq.Stream(layer, 2, engine="onnxruntime", dtype="float32").push(x)
    kseq.Stream(layer, 2, engine="onnxruntime").push(x)
    assert len(exports) == 2
    kseq.Stream(layer, 1, engine="onnxruntime").push(x[:1])
    assert len(exports) == 3


def test_rows_masks_and_peek(exports):
    layer, x = network(), frames(8, 2)
    mask = np.random.default_rng(1).random((2, 8)) < 0.7
    stream, other = kseq.Stream(layer, 2, engine="onnxruntime"), kseq.Stream(layer, 2)
    for start, active in ((0, None), (2, np.array([True, False])), (4, None), (6, np.array([False, True]))):
        chunk = kseq.Sequence(x[:, start : start + 2], mask[:, start : start + 2])
        seen = stream.peek(chunk, active)
        for rows in zip(seen, stream.push(chunk, active), other.push(chunk, active), strict=True):
            for again, ours, theirs in zip(*rows, strict=True):
                np.testing.assert_array_equal(again, ours)
                np.testing.assert_allclose(ours, theirs, atol=1e-4)
    stream.copy_rows([1], [0])
    other.copy_rows([1], [0])
    for ours, theirs in zip(stream.flush(), other.flush(), strict=True):
        np.testing.assert_allclose(ours[0][ours[1]], theirs[0][theirs[1]], atol=1e-4)


def test_bytes_go_on_with_another_engine(exports):
    layer, x = network(), frames(9)
    stream = kseq.Stream(layer, engine="onnxruntime")
    y = stream.push(x[:, :5])
    other = kseq.Stream.load(layer, stream.save())
    again = kseq.Stream.load(layer, other.save(), engine="onnxruntime")
    for each in (stream, other, again):
        found = np.concatenate([y, each.push(x[:, 5:]), each.flush()], axis=1)
        np.testing.assert_allclose(found, whole(layer, x), atol=1e-4)
    assert (other.engine, again.engine) == ("xla", "onnxruntime")


def test_weights_are_those_of_the_stream(exports):
    layer, x = network(), frames(6)
    stream, old = kseq.Stream(layer, engine="onnxruntime"), whole(layer, x)
    layer.set_weights([w + 0.5 for w in layer.get_weights()])
    new = whole(layer, x)
    found = np.concatenate([stream.push(x), stream.flush()], axis=1)  # exported only now
    np.testing.assert_allclose(found, old, atol=1e-4)
    np.testing.assert_array_equal(whole(layer, x), new)
    stream.refresh()
    found = np.concatenate([stream.push(x), stream.flush()], axis=1)
    np.testing.assert_allclose(found, new, atol=1e-4)


def test_a_damaged_file_of_the_cache_is_made_anew(exports):
    layer, x = network(), frames(6)
    kseq.Stream(layer, engine="onnxruntime").push(x)
    [path] = engines.cache_folder().iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    y = kseq.Stream(layer, engine="onnxruntime").push(x)
    np.testing.assert_allclose(y, whole(layer, x)[:, :4], atol=1e-4)
    assert len(exports) == 2


def test_a_file_that_gives_other_numbers_is_refused(exports, monkeypatch):
    layer = network()
    made = [np.zeros((1, 1, 2)), np.ones((1, 1), bool)]
    monkeypatch.setattr(OfFunction, "__call__", lambda self, inputs, state: (made, state))
    with pytest.raises(ValueError, match="does not give what the model gives"):
        kseq.Stream(layer, engine="onnxruntime").push(frames(3))
    assert len(exports) == 1


def test_auto_measures_once_and_remembers(exports, monkeypatch):
    layer, x, timed = network(), frames(3), []
    monkeypatch.setattr(engines, "_time", lambda run, source: timed.append(type(run).__name__) or 10 - len(timed))
    stream = kseq.Stream(layer, engine="auto")
    assert stream.engine == "auto"  # not known before the dtype is
    stream.push(x)
    assert (stream.engine, len(timed)) == ("onnxruntime", 2)
    stream = kseq.Stream(layer, engine="auto", dtype="float32")
    assert (stream.engine, len(timed), len(exports)) == ("onnxruntime", 2, 1)
    [path] = engines.cache_folder().glob("*.json")
    assert json.loads(path.read_text())["microseconds"] == {"xla": 9, "onnxruntime": 8}
    path.write_text("{")
    assert kseq.Stream(layer, engine="auto", dtype="float32").engine == "onnxruntime"
    assert len(timed) == 4


def test_auto_goes_on_without_what_does_not_export(exports, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(engines, "_export", refuse)
    layer, x = network(), frames(3)
    monkeypatch.setattr(engines, "_BEFORE", 1)
    stream = kseq.Stream(layer, engine="auto", dtype="float32")
    assert stream.engine == "xla"
    np.testing.assert_allclose(stream.push(x), whole(layer, x)[:, :1], atol=1e-4)
    [path] = engines.cache_folder().glob("*.json")
    assert json.loads(path.read_text())["failed"] == {"onnxruntime": "NotImplementedError: no such operation"}
    with pytest.raises(NotImplementedError, match="no such operation"):
        kseq.Stream(layer, engine="onnxruntime", dtype="float32")


def test_engines_that_are_not_there(exports):
    layer = network()
    with pytest.raises(ImportError, match=r"'litert' is not installed: `pip install 'kseq\[export\]'`"):
        kseq.Stream(layer, engine="litert", dtype="float32")
    with pytest.raises(ValueError, match="`engine` must be one of xla, onnxruntime, litert, auto; received 'tract'"):
        kseq.Stream(layer, engine="tract")


def test_room_and_rollback_are_the_models(exports):
    layer, x = kseq.SelfAttention(1, 4, max_length=6, max_rollback=2), frames(8)
    layer.build((None, None, 3))
    stream = kseq.Stream(layer, engine="onnxruntime")
    y = stream.push(x[:, :5])
    stream.rollback(2)
    np.testing.assert_allclose(stream.push(x[:, 3:5]), y[:, 3:], atol=1e-4)
    with pytest.raises(ValueError, match="takes 1 more step after 5"):
        stream.push(x[:, 5:])
    np.testing.assert_allclose(stream.push(x[:, 5:6]), whole(layer, x[:, :6])[:, 5:], atol=1e-4)


REAL = [pytest.param(name) for name in engines.ENGINES if importlib.util.find_spec(engines.ENGINES[name].package)]


@pytest.mark.parametrize("engine", todays(REAL, of="engines", jax=0.5, tensorflow=0.5))
def test_what_is_installed(engine, monkeypatch, tmp_path):
    monkeypatch.setenv("KSEQ_CACHE", str(tmp_path))
    layer, x = kseq.GRU(4), frames(6)
    layer.build((None, None, 3))
    try:
        stream = kseq.Stream(layer, engine=engine, dtype="float32")
    except ImportError as error:
        pytest.skip(str(error))  # the converter is another package
    np.testing.assert_allclose(stream.push(x), whole(layer, x), atol=1e-4)
    assert stream.engine == engine
