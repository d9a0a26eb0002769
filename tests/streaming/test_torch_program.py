"""On torch a step that is called often becomes a program of its operations, and gives the same bit for bit."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends compile")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Traced at the third call."""
    from kseq.streaming import torch_step

    monkeypatch.setattr(torch_step, "_OFTEN", 2)


def built(layer, channels=3):
    layer.build((None, None, channels))
    return layer


def programs(stream):
    """For each compiled call whether it is a program."""
    return [function.program is not None for function in stream._step._functions.values()]


def frames(steps, batch=1):
    return np.random.default_rng(steps).normal(size=(batch, steps, 3)).astype("float32")


def conv_and_memory():
    return kseq.Serial([kseq.Conv1D(4, 3, padding="reverse_causal"), kseq.GRU(4), kseq.LSTM(2)])


LAYERS = [
    conv_and_memory,
    lambda: kseq.Residual([kseq.SelfAttention(2, 4, max_past_horizon=4, position="RotaryPosition")]),
    lambda: kseq.Serial([kseq.Conv1D(2, 4, strides=2), kseq.RMSNormalization(), kseq.UpSampling1D(2)]),
    lambda: kseq.Parallel([kseq.Dense(2), kseq.Lookahead(2)], combination="concat"),
    lambda: kseq.Identity(),
]


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("form", ["plain", "masked", "rows"])
def test_a_program_gives_what_the_layers_gave(make, form, monkeypatch):
    layer, rng, x = built(make()), np.random.default_rng(0), frames(24, 2)
    stream, found, wanted = kseq.Stream(layer, 2), [], []
    twin = type(layer).from_config(layer.get_config())
    built(twin).set_weights(layer.get_weights())
    eager = kseq.Stream(twin, 2)
    for t in range(0, 24, 2):
        chunk, options = x[:, t : t + 2], {}
        if form == "masked":
            chunk = kseq.Sequence(chunk, rng.random((2, 2)) < 0.7)
        if form == "rows":
            options["active"] = np.array([t % 3 > 0, t % 5 > 0])
        found.append(stream.push(chunk, **options))
        with monkeypatch.context() as patched:
            patched.setattr("kseq.streaming.torch_step._OFTEN", -1)
            wanted.append(eager.push(chunk, **options))
    assert any(programs(stream)) and not any(programs(eager))
    for y, z in zip(found, wanted, strict=True):
        for a, b in zip(y, z, strict=True):  # rows, or values and masks
            np.testing.assert_array_equal(a, b)


def test_tensors_that_are_no_variables_are_constants():
    x = keras.Input((None, 3))
    model = keras.Model(x, keras.layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(x))
    stream, given = kseq.Stream(model), frames(6)
    found = np.concatenate([stream.push(given[:, t : t + 1]) for t in range(6)], axis=1)
    assert programs(stream) == [True]
    np.testing.assert_allclose(found, model.predict(given, verbose=0), atol=1e-6)


def test_other_weights_go_through_the_same_program():
    layer, x = built(conv_and_memory()), frames(8)
    stream = kseq.Stream(layer)
    for t in range(8):
        stream.push(x[:, t : t + 1])
    assert programs(stream) == [True]
    layer.set_weights([w * 0.5 + 0.1 for w in layer.get_weights()])
    stream.refresh()
    stream.reset()
    y = np.concatenate([stream.push(x[:, t : t + 1]) for t in range(8)], 1)
    assert programs(stream) == [True]
    np.testing.assert_allclose(y, ops.convert_to_numpy(layer(x))[:, :6], atol=1e-5)


def test_outputs_are_the_callers_and_peeks_and_saved_streams_change_nothing():
    layer, x = built(kseq.Serial([kseq.Delay(1), kseq.GRU(3)])), frames(12)
    stream = kseq.Stream(layer)
    for t in range(12):
        chunk = x[:, t : t + 1].copy()
        ahead = stream.peek(chunk)
        other = kseq.Stream.load(layer, stream.save())
        y = stream.push(chunk)
        np.testing.assert_array_equal(ahead, y)
        np.testing.assert_array_equal(other.push(chunk), y)
        y[...], chunk[...] = np.nan, np.nan
        np.testing.assert_array_equal(ahead, ahead)
    assert programs(stream) == [True]


class Looks(kseq.SequenceLayer):
    """Does one thing or another, by what the values are."""

    def call_step(self, x, state, *, training=False):
        return (x.apply(ops.negative) if float(ops.sum(x.values)) > 0 else x), state


class Seen(kseq.SequenceLayer):
    """Shows values to the host."""

    def call_step(self, x, state, *, training=False):
        from kseq.hints import seen_on_host

        seen_on_host(lambda values: TOLD.append(values), x.values)
        return x, state


class Outside(kseq.SequenceLayer):
    """Reads a variable that is no layer's."""

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda values: values * GAIN.value), state


TOLD, GAIN = [], keras.Variable(2.0, name="gain")


def test_what_looks_at_values_stays_as_it_is():
    for layer in (Looks(), Seen(), Outside(), keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])):
        if isinstance(layer, keras.Model):
            x = keras.Input((None, 3))
            layer = keras.Model(x, keras.layers.Dropout(0.5, seed=1)(x, training=True))
        else:
            built(layer)
        stream = kseq.Stream(layer)
        ys = [stream.push(np.full((1, 1, 3), sign, "float32")) for sign in (1, -1, 1, -1, 1)]
        assert not any(programs(stream))
        if isinstance(layer, Looks):
            assert [y[0, 0, 0] for y in ys] == [-1, -1, -1, -1, -1]
        if isinstance(layer, keras.Model):
            assert len({y.tobytes() for y in ys}) > 1
    assert len(TOLD) == 5
    GAIN.assign(3.0)
    assert kseq.Stream(built(Outside())).push(np.ones((1, 3), "float32"))[0, 0] == 3


def test_other_dtypes():
    for policy in ("mixed_bfloat16", "float64"):
        layer = built(kseq.Serial([kseq.Dense(2, dtype=policy), kseq.GRU(2, dtype=policy)], dtype=policy))
        stream, x = kseq.Stream(layer), frames(6)
        ys = [stream.push(x[:, t : t + 1]) for t in range(6)]
        assert programs(stream) == [True]
        stream.reset()
        for t, y in enumerate(ys):
            np.testing.assert_array_equal(stream.push(x[:, t : t + 1]), y)


def test_neither_stream_nor_model_is_kept():
    import gc
    import weakref

    layer = built(conv_and_memory())
    stream = kseq.Stream(layer)
    for _ in range(4):
        stream.push(np.ones((1, 3), "float32"))
    assert programs(stream) == [True]
    found = [weakref.ref(stream), weakref.ref(layer)]
    del stream, layer
    gc.collect()
    assert [ref() for ref in found] == [None, None]
