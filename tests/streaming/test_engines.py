"""Engines of a stream: what is exported for them, kept, and thrown away; an engine that is Keras, and real ones."""

import importlib.util
import json
import threading

import keras
import numpy as np
import pytest
from exported_fakes import OfFunction, manifest_of
from sampling import todays

import kseq
from kseq.runtime.engine_step import EngineStep
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
        made.append((format, masks) if source.precision == "float32" else (format, source.precision))
        with engines._weights(source):
            layer = source.step.layer
            manifest = manifest_of(layer, source.step.batch_size, source.step.block * source.blocks, masks)
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


def test_long_chunks_go_block_by_block_where_that_is_quicker(exports, monkeypatch):
    monkeypatch.setattr(EngineStep, "_least_seconds", lambda self, engine, calls: 1 / calls)
    layer, x = network(), frames(40)
    stream = kseq.Stream(layer, engine="onnxruntime", dtype="float32")
    for _ in range(2):
        found = np.concatenate([stream.push(x), stream.flush()], axis=1)
        np.testing.assert_allclose(found, whole(layer, x), atol=1e-4)
    assert exports == [("onnx", False), ("onnx", False), ("onnx", True)]


def test_long_chunks_run_many_blocks_at_once(exports, monkeypatch):
    monkeypatch.setattr(EngineStep, "_least_seconds", lambda self, engine, calls: calls)
    calls, run = [], OfFunction.__call__

    def counted(self, inputs, state):
        calls.append(inputs[0].shape[1])
        return run(self, inputs, state)

    layer, x = network(), frames(90, 2)
    stream = kseq.Stream(layer, 2, engine="onnxruntime", dtype="float32")
    monkeypatch.setattr(OfFunction, "__call__", counted)
    found = [stream.push(x[:, :15])]
    assert (calls, len(exports)) == ([1] * 15, 1)
    with monkeypatch.context() as patch:
        patch.setattr(engines, "_export", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stream.push(x[:, 15:50])  # and nothing has moved
    calls.clear()
    seen = stream.peek(x[:, 15:50])
    found.append(stream.push(x[:, 15:50]))
    np.testing.assert_array_equal(seen, found[1])
    assert (calls.count(16), exports) == (2 * 2 + 8, [("onnx", False)] * 2)  # eight of the golden data
    saved = stream.save()
    found += [stream.push(x[:, 50:82]), stream.push(x[:, 82:]), stream.flush()]
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole(layer, x), atol=1e-4)
    other = kseq.Stream.load(layer, saved)
    for y in found[2:-1]:
        np.testing.assert_allclose(other.push(x[:, 50:82] if y.shape[1] == 32 else x[:, 82:]), y, atol=1e-4)


def test_precisions(exports):
    layer, x = network(), frames(5)
    stream = kseq.Stream(layer, engine="onnxruntime", precision="int8")
    assert (stream.precision, stream.engine_error) == ("int8", None)  # not known before the dtype is
    stream.push(x)
    assert (exports, stream.engine_error < 1e-5) == ([("onnx", "int8")], True)
    kseq.Stream(layer, engine="onnxruntime").push(x)
    kseq.Stream(layer, engine="onnxruntime", precision="float32").push(x)
    assert exports == [("onnx", "int8"), ("onnx", False)]
    again = kseq.Stream.load(layer, stream.save(), engine="onnxruntime", precision="int8")
    assert (again.precision, len(exports)) == ("int8", 2)
    assert engines.ENGINES["litert"].precisions["int8"] == "int8_dynamic"  # which needs no calibration
    text = repr(again)
    assert "of the Serial: batch_size=1, engine='onnxruntime', precision='int8', engine_error=" in text
    assert "engine='xla', precision='float32', engine_error=0" in repr(kseq.Stream(layer))


def test_precisions_that_there_are_not(exports, monkeypatch):
    layer = network()
    with pytest.raises(ValueError, match=r"'xla' .* received precision='int8', which onnxruntime and litert have"):
        kseq.Stream(layer, precision="int8")
    with pytest.raises(ValueError, match="`precision` must be one of float32, float16, int8; received 'bfloat16'"):
        kseq.Stream(layer, engine="auto", precision="bfloat16")
    monkeypatch.setattr(engines, "_is_installed", lambda engine: False)
    with pytest.raises(ImportError, match="no engine that has weights of int8 is installed"):
        kseq.Stream(layer, engine="auto", precision="int8", dtype="float32")


def test_auto_of_a_precision_is_an_engine_that_has_it(exports, monkeypatch):
    monkeypatch.setattr(engines, "_time", lambda run, source: 5.0)
    stream = kseq.Stream(network(), engine="auto", precision="float16", dtype="float32")
    assert (stream.engine, stream.candidates) == ("onnxruntime", {"onnxruntime": 5.0})
    monkeypatch.setattr(engines, "_export", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match="no engine runs the model with weights of int8: onnxruntime: ZeroDivision"):
        kseq.Stream(network(), engine="auto", precision="int8", dtype="float32")
    stream = kseq.Stream(network(), engine="auto", dtype="float32")
    assert (stream.engine, stream.candidates["onnxruntime"]) == ("xla", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("precision", "off", "passes"), [("int8", 0.1, True), ("int8", 0.3, False), ("float16", 0.1, False)]
)
def test_the_error_is_said_and_bounded(precision, off, passes, exports, monkeypatch):
    run = OfFunction.__call__

    def shifted(self, inputs, state):
        [y, *masks], state = run(self, inputs, state)
        return [y * (1 + off), *masks], state

    monkeypatch.setattr(OfFunction, "__call__", shifted)
    layer = kseq.Dense(2)
    layer.build((None, None, 3))
    if passes:
        stream = kseq.Stream(layer, engine="onnxruntime", precision=precision, dtype="float32")
        assert stream.engine_error == pytest.approx(off, rel=1e-3)
        return
    with pytest.raises(ValueError, match=f"with weights of {precision} it is off by {off}"):
        kseq.Stream(layer, engine="onnxruntime", precision=precision, dtype="float32")


def test_an_engine_that_gives_no_numbers_is_refused(exports, monkeypatch):
    run = OfFunction.__call__

    def none(self, inputs, state):
        made, state = run(self, inputs, state)
        return [made[0] * np.nan, *made[1:]], state

    monkeypatch.setattr(OfFunction, "__call__", none)
    with pytest.raises(ValueError, match="it is off by inf"):
        kseq.Stream(network(), engine="onnxruntime", precision="int8", dtype="float32")


FACTOR = {"is": 2.0}


@keras.saving.register_keras_serializable("test_engines")
def scaled(x):
    return x * FACTOR["is"]


def test_a_function_that_was_edited_is_exported_anew(exports, monkeypatch):
    def made():  # in each process anew, with the same weights
        layer = kseq.Serial([kseq.Dense(2, activation=scaled), kseq.GRU(2)])
        layer.build((None, None, 3))
        layer.set_weights([np.linspace(-1, 1, w.size).reshape(w.shape) for w in layer.get_weights()])
        return layer

    x = frames(3)
    for _ in range(2):
        kseq.Stream(made(), engine="onnxruntime").push(x)
    assert len(exports) == 1
    monkeypatch.setitem(FACTOR, "is", 3.0)
    layer = made()
    found = kseq.Stream(layer, engine="onnxruntime").push(x)
    assert len(exports) == 2
    np.testing.assert_allclose(found, whole(layer, x), atol=1e-4)


@pytest.mark.parametrize("engine", ["onnxruntime", "auto"])
def test_a_cache_that_cannot_be_written(engine, exports, monkeypatch, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    monkeypatch.setenv("KSEQ_CACHE", str(path))
    with pytest.raises(OSError, match=r"file', which cannot be written: .*; the environment variable KSEQ_CACHE names"):
        kseq.Stream(network(), engine=engine, dtype="float32")


def test_a_full_disk_leaves_no_file(exports, monkeypatch):
    def full(self, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines, "_time", lambda run, source: 5.0)
    monkeypatch.setattr(engines.pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match=r"cannot be written: .* No space left"):
        kseq.Stream(network(), engine="auto", dtype="float32")
    assert [path.suffix for path in engines.cache_folder().iterdir()] == [".onnx"]


def test_threads_that_export_older_weights_leave_the_models_alone(exports):
    layer, x = network(), frames(4)
    streams = [kseq.Stream(layer, engine="onnxruntime") for _ in range(3)]
    old = whole(layer, x)
    layer.set_weights([w + 0.5 for w in layer.get_weights()])
    new, found = whole(layer, x), {}
    threads = [threading.Thread(target=lambda n=n, s=s: found.setdefault(n, s.push(x))) for n, s in enumerate(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(3):
        np.testing.assert_allclose(found[n], old[:, :2], atol=1e-4)
    np.testing.assert_array_equal(whole(layer, x), new)


def test_options_are_of_the_key(exports):
    inputs = keras.Input((None, 4))
    outputs = keras.layers.MultiHeadAttention(1, 4)(inputs, inputs, use_causal_mask=True)
    model, x = keras.Model(inputs, outputs), np.ones((1, 6, 4), "float32")
    for most in (4, 8):
        stream = kseq.Stream(model, engine="onnxruntime", max_length=most)
        stream.push(x[:, :4])
        if most == 8:
            stream.push(x[:, 4:])
    assert len(exports) == 2


REAL = [pytest.param(name) for name in engines.ENGINES if importlib.util.find_spec(engines.ENGINES[name].package)]


SLOW = [pytest.param("float32", 36, marks=pytest.mark.slow), pytest.param("int8", 6, marks=pytest.mark.slow)]


@pytest.mark.parametrize("engine", todays(REAL, of="engines", jax=0.5, tensorflow=0.5))
@pytest.mark.parametrize(("precision", "steps"), [("float32", 6), *SLOW])
def test_what_is_installed(engine, precision, steps, monkeypatch, tmp_path):
    monkeypatch.setenv("KSEQ_CACHE", str(tmp_path))
    layer, x = kseq.GRU(8), frames(steps)
    layer.build((None, None, 3))
    try:
        stream = kseq.Stream(layer, engine=engine, precision=precision, dtype="float32")
    except ImportError as error:
        pytest.skip(str(error))  # the converter is another package
    np.testing.assert_allclose(stream.push(x), whole(layer, x), atol=1e-4 if precision == "float32" else 0.1)
    assert stream.engine == engine
