"""Exported steps as streams: what `kseq.Stream` gives, over any runner, from the file's block and state alone."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

import kseq
from kseq.deploy import entry, traced
from kseq.runtime.ends import PRESENCE, Ends
from kseq.runtime.engine_step import EngineStep
from kseq.runtime.exported import ExportedStream
from kseq.runtime.manifest import Manifest
from kseq.streaming.step import StepFunction

TODAYS = {"jax": 0.15, "tensorflow": 0.15}


class Sums:
    """A runner in NumPy of a moving sum over `size` steps, some of them to come, of every `stride` outputs one."""

    def __init__(self, size, ahead=0, stride=1, masked=False):
        self.size, self.ahead, self.stride, self.masked = size, ahead, stride, masked
        self.calls, self.fails = 0, False

    def state(self, leaves):
        return [[np.array(leaf) for leaf in leaves]]

    def leaves(self, state):
        return [leaf.copy() for leaf in self.unspent(state)]

    def unspent(self, state):
        if not state:
            raise RuntimeError("taken")
        return state[0]

    def __call__(self, inputs, state):
        (*valid, past), (x, *masks) = self.unspent(state), inputs
        assert len(masks) == self.masked
        self.calls += 1
        if self.fails:
            raise RuntimeError("broken off")
        state.clear()  # a call takes it
        time = x.shape[1]
        for mask in masks:
            x = x * mask[..., None]
        joined = np.concatenate([past, x], axis=1)
        windows = [joined[:, i : i + self.size].sum(1) for i in range(0, time, self.stride)]
        valid = [np.concatenate(pair, axis=1) for pair in zip(valid, masks, strict=False)]
        made = [mask[:, :time] for mask in valid or masks]
        return [np.stack(windows, axis=1), *made], [[*[v[:, time:] for v in valid], joined[:, time:].copy()]]


def sums(size, ahead=0, stride=1):
    """The same as a kseq layer."""
    padding = {0: "causal", size - 1: "reverse_causal"}[ahead]
    layer = kseq.Conv1D(3, size, strides=stride, padding=padding, use_bias=False)
    layer.build((None, None, 3))
    layer.set_weights([np.tile(np.eye(3, dtype="float32"), (size, 1, 1))])
    return layer


def manifest_of(layer, batch=1, block=None, masked=False):
    """What `kseq.export` would write of a layer."""
    ends = Ends(layer, "the layer", batch, "float32")
    specs = ends.layer_specs
    step = StepFunction(layer, batch, specs[0] if len(specs) == 1 else specs, block=block)
    function = traced.ExportedFunction(step, masked)
    options = {"max_length": 1024, "window": None}
    found = entry._manifest(function, "onnx", entry.Choices(), ends, options, None)
    return Manifest.from_bytes(found.to_bytes())


class OfFunction:
    """A runner of the exported function itself."""

    def __init__(self, layer, manifest):
        spec = [kseq.SequenceSpec(port.shape, port.dtype) for port in manifest.inputs]
        spec += [PRESENCE] if layer.reads_presence else []
        spec = spec[0] if len(spec) == 1 else tuple(spec)
        step = StepFunction(layer, manifest.batch_size, spec, block=manifest.block)
        self.function, self.count = traced.ExportedFunction(step, manifest.is_masked), len(manifest.state)

    def state(self, leaves):
        return [np.array(leaf) for leaf in leaves]

    def leaves(self, state):
        return [leaf.copy() for leaf in state]

    def __call__(self, inputs, state):
        given = [keras.ops.convert_to_tensor(x) for x in [*inputs, *state]]
        found = [np.array(keras.ops.convert_to_numpy(y)) for y in self.function(*given)]
        cut = len(found) - self.count
        return found[:cut], found[cut:]


def exported(layer, runner=None, masks=None, **options):
    masks = bool(masks) if masks is not None else layer.timing.output_latency > 0 or options.get("block", 1) > 1
    manifest = manifest_of(layer, masked=masks, **options)
    return ExportedStream.of(manifest, EngineStep(manifest, runner or OfFunction(layer, manifest)))


def frames(steps, batch=1, channels=3):
    return np.random.default_rng(steps).normal(size=(batch, steps, channels)).astype("float32")


CUTS = [[1, 4, 0, 3, 2], [10], [5, 5]]


@pytest.mark.parametrize(("size", "ahead"), [(3, 0), (3, 2)])
@pytest.mark.parametrize("block", [1, 4])
def test_a_moving_sum_is_that_of_the_layer(size, ahead, block):
    layer, x = sums(size, ahead), frames(10, 2)
    masked = block > 1 or ahead > 0
    for cuts in CUTS:
        stream = exported(layer, Sums(size, ahead, masked=masked), batch=2, block=block)
        chunks = np.split(x, np.cumsum(cuts)[:-1], axis=1)
        for _ in range(2):  # again after the flush
            found = np.concatenate([*map(stream.push, chunks), stream.flush()], axis=1)
            np.testing.assert_allclose(found, keras.ops.convert_to_numpy(layer(x)), atol=1e-5)


def test_every_second_output():
    layer, x = sums(3, stride=2), frames(9)
    stream = exported(layer, Sums(3, stride=2, masked=False), masks=False)
    assert stream.timing.ratio == kseq.Timing(block_size=2, ratio=1 / 2).ratio
    other = kseq.Stream(layer)
    for part in np.split(x[:, :8], [3, 4], axis=1):
        np.testing.assert_allclose(stream.push(part), other.push(part), atol=1e-5)
    stream.push(x[:, 8:])
    with pytest.raises(ValueError, match="`masks=True`"):
        stream.flush()
    assert stream.pushed == 9  # as it was


def two_inputs():
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    return keras.Model([a, b], keras.layers.Add()([a, b]))


def test_two_inputs_by_their_names():
    model = two_inputs()
    stream = kseq.Stream(model)
    layer = stream.layer
    manifest = manifest_of(layer)
    other = ExportedStream.of(manifest, EngineStep(manifest, OfFunction(layer, manifest)))
    x = {"a": frames(5)[0], "b": frames(6)[0, :5]}
    np.testing.assert_allclose(other.push(x), stream.push(x), atol=1e-6)
    np.testing.assert_allclose(other.push([x["a"], x["b"]]), x["a"] + x["b"], atol=1e-6)
    with pytest.raises(ValueError, match="a chunk must be a list of 2 inputs"):
        other.push(x["a"])


def test_rows_that_wait_keep_their_state():
    layer, x = sums(3, 2), frames(12, 3)
    stream = exported(layer, Sums(3, 2, masked=True), batch=3, block=4)
    other, rng = kseq.Stream(layer, 3), np.random.default_rng(1)
    found, wanted = [[] for _ in range(3)], [[] for _ in range(3)]
    for start in range(0, 12, 3):
        active = rng.random(3) < 0.6
        for into, source in ((found, stream), (wanted, other)):
            for row, y in zip(into, source.push(x[:, start : start + 3], active=active), strict=True):
                row.append(y)
    for each, parts in ((stream, found), (other, wanted)):
        each.copy_rows([0], [2])
        parts[2] = list(parts[0])
        for row, y in zip(parts, each.flush(), strict=True):
            row.append(y)
    for ours, theirs in zip(found, wanted, strict=True):  # when they come out depends on the block
        np.testing.assert_allclose(np.concatenate(ours), np.concatenate(theirs), atol=1e-5)


def test_masks_with_holes():
    layer, x = kseq.GRU(2), frames(8, 2)
    layer.build((None, None, 3))
    mask = np.random.default_rng(0).random((2, 8)) < 0.6
    chunks = [kseq.Sequence(x[:, i : i + 2], mask[:, i : i + 2]) for i in range(0, 8, 2)]
    stream, other = exported(layer, masks=True, batch=2), kseq.Stream(layer, 2)
    for chunk in chunks:
        ours, theirs = stream.push(chunk), other.push(chunk)
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        np.testing.assert_allclose(ours.values[ours.mask], theirs.values[theirs.mask], atol=1e-5)
    with pytest.raises(ValueError, match=r"takes every step as valid.*`masks=True`"):
        exported(layer, masks=False, batch=2).push(chunks[0])
    whole = kseq.Sequence(x, np.ones((2, 8), bool))  # nothing is lost where all is valid
    assert exported(layer, masks=False, batch=2).push(whole).mask.all()


def test_peek_and_what_fails_leave_it_as_it_is():
    layer, x = sums(3), frames(6)
    runner = Sums(3)
    stream = exported(layer, runner)
    y = stream.push(x[:, :2])
    seen = stream.peek(x[:, 2:4])
    np.testing.assert_array_equal(stream.peek(x[:, 2:4]), seen)
    runner.fails = True
    with pytest.raises(RuntimeError, match="broken off"):
        stream.push(x[:, 2:4])
    runner.fails = False
    with pytest.raises(ValueError, match="channels"):
        stream.push(x[:, :, :2])
    with pytest.raises(ValueError, match="keeps the context"):
        stream.push(x, context={"a": x})
    found = np.concatenate([y, stream.push(x[:, 2:4]), stream.push(x[:, 4:])], axis=1)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(layer(x)), atol=1e-5)
    found = stream.push(x)
    found[...] = 0  # the caller's
    assert stream.pushed == 12
    stream.reset()
    np.testing.assert_allclose(stream.push(x[0]), keras.ops.convert_to_numpy(layer(x))[0], atol=1e-5)


def test_it_is_warm_when_it_is_made():
    runner = Sums(3)
    stream = exported(sums(3), runner)
    assert runner.calls > 1
    assert stream.pushed == 0
    np.testing.assert_allclose(stream.push(np.ones((1, 1, 3), "float32")), 1)


def network():
    layers = [kseq.Conv1D(3, 3, padding="reverse_causal"), kseq.GRU(4), kseq.Dense(2)]
    layer = kseq.Serial(layers)
    layer.build((None, None, 3))
    return layer


@pytest.mark.parametrize(("there", "here"), list(itertools.product([None, 1, 4], repeat=2)))
def test_a_stream_goes_on_elsewhere_from_its_bytes(there, here, monkeypatch):
    """`None` is `kseq.Stream`; else an exported step of such a block."""
    layer, x = network(), frames(11, 2)
    monkeypatch.setattr(kseq.runtime.exported, "open_runner", lambda block: opened[block])
    opened = {}
    for block in {there, here} - {None}:
        manifest = manifest_of(layer, 2, block, masked=True)
        opened[block] = manifest, OfFunction(layer, manifest)
    stream = kseq.Stream(layer, 2) if there is None else ExportedStream(there)
    found = [stream.push(x[:, :6])]
    saved = stream.save()
    other = kseq.Stream.load(layer, saved) if here is None else ExportedStream.load(here, saved)
    assert other.pushed == 6
    found += [other.push(x[:, 6:7]), other.push(x[:, 7:]), other.flush()]
    np.testing.assert_allclose(np.concatenate(found, axis=1), keras.ops.convert_to_numpy(layer(x)), atol=1e-5)
    np.testing.assert_allclose(
        other.push(x[:, :9]), kseq.Stream(layer, 2).push(x[:, :9])[:, : 6 if here == 4 else 9], atol=1e-5
    )


def test_rows_apart_go_on_from_bytes(monkeypatch):
    layer, x = network(), frames(11, 2)
    manifest = manifest_of(layer, 2, 4, masked=True)
    monkeypatch.setattr(kseq.runtime.exported, "open_runner", lambda path: (manifest, OfFunction(layer, manifest)))
    stream, active = kseq.Stream(layer, 2), [np.array([True, False]), np.array([True, True])]
    stream.push(x[:, :3], active=active[0])
    other = ExportedStream.load("", stream.save())
    other.push(x[:, 3:5], active=active[1])
    again = kseq.Stream.load(layer, other.save())
    stream.push(x[:, 3:5], active=active[1])
    for ours, theirs in zip(again.flush(), stream.flush(), strict=True):
        ours = ours[-min(len(ours), len(theirs)) :]
        np.testing.assert_allclose(ours, theirs[-len(ours) :], atol=1e-5)


def test_bytes_of_another_stream_are_refused(monkeypatch):
    layer = network()
    manifest = manifest_of(layer)
    monkeypatch.setattr(kseq.runtime.exported, "open_runner", lambda path: (manifest, OfFunction(layer, manifest)))
    with pytest.raises(ValueError, match="another model"):
        ExportedStream.load("", kseq.Stream(sums(3)).save())
    with pytest.raises(ValueError, match="batch of 2, and the file is of 1"):
        ExportedStream.load("", kseq.Stream(layer, 2).save())
    with pytest.raises(ValueError, match="inputs of float32; the stream was one of int32"):
        ExportedStream.load("", kseq.Stream(layer, dtype="int32").save())
    with pytest.raises(ValueError, match="damaged"):
        ExportedStream.load("", kseq.Stream(layer).save()[:-1])
    saved = kseq.Stream(layer).save()
    ExportedStream.load("", saved)
    layer.set_weights([w + 1 for w in layer.get_weights()])
    saved = kseq.Stream(layer).save()
    with pytest.raises(ValueError, match="other weights"):
        ExportedStream.load("", saved)
    ExportedStream.load("", saved, other_weights=True)


def test_a_full_cache_is_no_silent_end():
    layer = kseq.SelfAttention(1, 4, max_length=6)
    layer.build((None, None, 3))
    stream, other, x = exported(layer), kseq.Stream(layer), frames(7)
    np.testing.assert_allclose(stream.push(x[:, :6]), other.push(x[:, :6]), atol=1e-5)
    for full in (stream, other):
        with pytest.raises(ValueError, match=r"takes (0|no) more steps after 6"):
            full.push(x[:, 6:])
    stream.flush()
    assert stream.push(x[:, :6]).shape == (1, 6, stream.output_shape[0])


def test_frames_and_run():
    layer, x = sums(3, 2), frames(10)
    stream = exported(layer, Sums(3, 2, masked=True), block=4)
    blocks = stream.frames(3)
    found = np.concatenate([*[blocks(x[:, i : i + 3]) for i in range(0, 9, 3)], blocks.flush()], axis=1)
    np.testing.assert_allclose(found[:, blocks.delay :], keras.ops.convert_to_numpy(layer(x[:, :9])), atol=1e-5)
    found = np.concatenate(list(stream.run(np.split(x, 2, axis=1))), axis=1)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(layer(x)), atol=1e-5)
    assert stream.latency_seconds(1) == 3 + 2
    with pytest.raises(ValueError, match="at the rate of its model"):
        stream.frames(3, host_rate=2, rate=1)


def test_foreign_and_damaged_files_are_refused(tmp_path):
    for name, data in {"a.onnx": b"", "a.tflite": b"\0\0\0\0TFL3", "a.zip": b"PK\3\4", "b": b"\x80\x04pickle"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises((ValueError, ImportError)):
            ExportedStream(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"no file that `kseq\.export` has written"):
        ExportedStream(tmp_path / "folder")
    with pytest.raises(OSError, match="nothing"):
        ExportedStream(tmp_path / "nothing")


def test_a_manifest_of_whole_sequences_is_no_stream(monkeypatch):
    manifest = dataclasses.replace(manifest_of(sums(3)), mode="layer")
    monkeypatch.setattr(kseq.runtime.exported, "open_runner", lambda path: (manifest, Sums(3)))
    with pytest.raises(ValueError, match="of whole sequences"):
        ExportedStream("whole.onnx")
