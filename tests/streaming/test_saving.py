"""A stream is saved as bytes, and goes on from them here, in a new process and on another backend."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import kseq
from kseq.runtime import packed
from kseq.runtime import saved as saved_bytes

TODAYS = {"jax": 0.25, "tensorflow": 0.25}
BACKEND = keras.backend.backend()
BATCH = 2


def model_of(units=2):
    x = keras.Input((None, 3))
    y = kseq.Conv1D(4, 3, padding="reverse_causal")(x)
    y = keras.layers.Dropout(0.3)(y, training=True)
    y = kseq.GRU(units)(kseq.GRU(units)(y))  # whose states are alike
    y = kseq.Conv1D(3, 2, strides=2)(kseq.LocalSelfAttention(1, 4, max_past_horizon=3, max_future_horizon=1)(y))
    return keras.Model(x, [kseq.GRU(2)(y), kseq.Dense(1)(y)])


def built(layer, channels=(3,)):
    layer.build((None, None, *channels))
    return layer


def small():
    return built(kseq.Serial([kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)]))


def frames(steps, batch=BATCH, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, steps, 3)).astype("float32")


def same(a, b):
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a.dtype == b.dtype and np.array_equal(a, b)


def calls(rng):
    """What a stream is asked, forever: functions of it."""
    while True:
        x, active = frames(int(rng.choice([0, 1, 2, 3, 5])), seed=rng.integers(99)), rng.random(BATCH) < 0.6
        mask = rng.random(x.shape[:2]) < 0.7
        yield from rng.permutation(
            [
                lambda stream, x=x: stream.push(x),
                lambda stream, x=x: stream.push(x),
                lambda stream, x=x, active=active: stream.push(x, active=active),
                lambda stream, x=x, mask=mask: stream.push(kseq.Sequence(x, mask)),
                lambda stream, active=active: stream.flush(active=active),
                lambda stream: stream.flush(),
            ]
        )


def test_a_stream_goes_on_from_bytes_wherever_it_was_saved():
    model, rng = model_of(), np.random.default_rng(0)
    stream = kseq.Stream(model, BATCH)
    for _, call in zip(range(24), calls(rng), strict=False):
        other = kseq.Stream.load(model, stream.save())
        assert same(call(stream), call(other))
        stream = other


def test_names_that_keras_counts_do_not_matter():
    kseq.GRU(2, name="gru_8")
    for _ in range(12):  # so that one of the two has a name with more digits, which comes before the other's
        model, twin = model_of(), model_of()
        twin.set_weights(model.get_weights())
        stream, x = kseq.Stream(model, BATCH), frames(9)
        stream.push(x[:, :5])
        other = kseq.Stream.load(twin, stream.save())
        assert same(stream.push(x[:, 5:]), other.push(x[:, 5:]))
        if BACKEND != "torch":
            break  # compiling takes long


SCRIPT = """
import sys
import kseq, keras, numpy as np
path = sys.argv[1]
keras.utils.set_random_seed(99)
kseq.GRU(3), kseq.Dense(3)
model = keras.models.load_model(path + ".keras")
x = np.load(path + ".npy")
stream = kseq.Stream.load(model, open(path + ".stream", "rb").read())
parts = [stream.push(x[:, :3]), stream.push(x[:, 3:], active=np.array([True, False])), stream.flush()]
np.savez(path + ".npz", *[np.concatenate([part[n][0] for part in parts]) for n in range(2)])
"""


def deterministic():
    x = keras.Input((None, 3))
    y = kseq.LSTM(4)(kseq.GRU(4)(kseq.Conv1D(4, 3, padding="reverse_causal")(x)))
    y = kseq.Conv1D(3, 2, strides=2)(kseq.LocalSelfAttention(1, 4, max_past_horizon=3, max_future_horizon=1)(y))
    return keras.Model(x, [kseq.GRU(2)(y), kseq.Dense(1)(y)])


@pytest.mark.parametrize("other", ["torch", "jax", "tensorflow"])
def test_a_new_process_goes_on_of_any_backend(other, tmp_path):
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    model, x, path = model_of() if other == BACKEND else deterministic(), frames(10), str(tmp_path / "saved")
    stream = kseq.Stream(model, BATCH)
    stream.push(x[:, :2], active=np.array([True, False]))
    stream.push(x[:, :3])
    model.save(f"{path}.keras")
    np.save(f"{path}.npy", x)
    (tmp_path / "saved.stream").write_bytes(stream.save())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path],
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": other},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = [stream.push(x[:, :3]), stream.push(x[:, 3:], active=np.array([True, False])), stream.flush()]
    with np.load(f"{path}.npz") as found:
        for n in range(2):
            wanted = np.concatenate([part[n][0] for part in parts])
            tolerance = 0 if other == BACKEND else 1e-5
            np.testing.assert_allclose(found[f"arr_{n}"], wanted, atol=tolerance, rtol=tolerance)


def test_what_a_layer_was_told_by_a_chunk_and_a_context_are_kept():
    tokens = built(kseq.Serial([kseq.Embedding(5, 2), kseq.GRU(2)]), ())
    fresh, begun = kseq.Stream(tokens), kseq.Stream(tokens)
    begun.push(np.array([1, 2]))
    for stream in (fresh, begun):
        other = kseq.Stream.load(tokens, stream.save())
        assert other.spec == stream.spec
        np.testing.assert_array_equal(other.push(np.array([3, 4])), stream.push(np.array([3, 4])))
    attention = kseq.CrossAttention(2, 3, source="text")
    attention.build((None, None, 3), context_shape={"text": (None, None, 5)})
    text = kseq.Sequence.from_lengths(np.random.default_rng(0).normal(size=(1, 4, 5)).astype("float32"), [3])
    stream, x = kseq.Stream(attention, context={"text": text}), frames(4, 1)
    stream.push(x)
    other = kseq.Stream.load(attention, stream.save())
    for _ in range(2):
        np.testing.assert_array_equal(other.push(x), stream.push(x))
        for one in (stream, other):
            one.reset()  # begins with the context again


@pytest.mark.parametrize("options", [{"max_length": 16}, {"window": 3}])
def test_what_stock_attention_was_told_is_kept(options):
    x = keras.Input((None, 3))
    model = keras.Model(x, keras.layers.MultiHeadAttention(1, 2)(x, x, use_causal_mask=True))
    stream, given = kseq.Stream(model, **options), frames(12, 1)
    stream.push(given[:, :6])
    other = kseq.Stream.load(model, stream.save())
    np.testing.assert_array_equal(other.push(given[:, 6:]), stream.push(given[:, 6:]))
    assert other.save() == stream.save()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_states_of_other_dtypes(policy):
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("jax has no float64 unless it is told to")
    layer = built(kseq.Serial([kseq.Delay(1, dtype=policy), kseq.GRU(2, dtype=policy)], dtype=policy))
    stream, x = kseq.Stream(layer), frames(4, 1)
    stream.push(x[:, :3])
    other = kseq.Stream.load(layer, stream.save())
    np.testing.assert_array_equal(other.push(x[:, 3:]), stream.push(x[:, 3:]))


def test_other_models_are_refused_with_the_reason():
    layer = small()
    saved = kseq.Stream(layer, BATCH).save()
    others = {
        "its layer 2 is GRU, and that of the model LSTM": [kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.LSTM(2)],
        "its layer 1, Conv1D, has other arguments": [kseq.Conv1D(2, 3), kseq.GRU(2)],
        "it has 2 layers, and the model 1": [kseq.Conv1D(2, 3, padding="reverse_causal")],
        "with other weights": [kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)],
    }
    for reason, layers in others.items():
        with pytest.raises(ValueError, match=reason):
            kseq.Stream.load(built(kseq.Serial(layers)), saved)
    given, three = keras.Input((None, 3)), [kseq.Dense(3) for _ in range(3)]
    first = three[0](given)
    second = three[1](first)
    one, model = (keras.Model(given, [second, three[2](x)]) for x in (first, second))
    saved = kseq.Stream(one).save()
    with pytest.raises(ValueError, match="its layers are connected in another way"):
        kseq.Stream.load(model, saved)
    with pytest.raises(ValueError, match=r"inputs of channels \[\(3,\)\]; received one of channels \[\(4,\)\]"):
        kseq.Stream.load(built(kseq.Dense(2)), kseq.Stream(built(kseq.Dense(2), (4,))).save(), other_weights=True)


def test_other_weights_may_be_let_in():
    layer, x = small(), frames(6, 1)
    stream = kseq.Stream(layer)
    stream.push(x[:, :3])
    saved = stream.save()
    layer.set_weights([w + 0.5 for w in layer.get_weights()])
    with pytest.raises(ValueError, match="`other_weights=True`"):
        kseq.Stream.load(layer, saved)
    other = kseq.Stream.load(layer, saved, other_weights=True)
    assert not np.array_equal(other.push(x[:, 3:]), stream.push(x[:, 3:]))


def test_damaged_bytes_are_refused():
    layer = small()
    saved = kseq.Stream(layer).save()
    rng = np.random.default_rng(0)
    for end in rng.integers(len(saved), size=20):
        with pytest.raises(ValueError, match=r"not a stream that kseq has written|damaged or cut off"):
            kseq.Stream.load(layer, saved[:end])
    for place in rng.integers(len(saved), size=20):
        flipped = bytearray(saved)
        flipped[place] ^= 1 << rng.integers(8)
        with pytest.raises(ValueError, match=r"not a stream that kseq has written|damaged or cut off"):
            kseq.Stream.load(layer, bytes(flipped))
    with pytest.raises(ValueError, match="damaged"):
        kseq.Stream.load(layer, saved + b"\0")
    with pytest.raises(TypeError, match="loaded from bytes; received str"):
        kseq.Stream.load(layer, "saved")


def test_another_version_is_refused(monkeypatch):
    layer = small()
    newer = packed.ByteFormat(b"kseq-stream\n", 99, "stream")
    with monkeypatch.context() as patched:
        patched.setattr(saved_bytes, "_FORMAT", newer)
        saved = kseq.Stream(layer).save()
    with pytest.raises(ValueError, match="must be of version 1; received version 99"):
        kseq.Stream.load(layer, saved)
