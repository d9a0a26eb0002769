"""Keras's mel spectrogram, which gives time last and reflects both ends of the signal."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from stock import check_streams, model_of, streamed

import kseq

TODAYS = {"jax": 0.1, "tensorflow": 0.1}
RNG = np.random.default_rng(0)
SIZES = {"fft_length": 8, "sequence_stride": 4, "num_mel_bins": 3, "sampling_rate": 800, "min_freq": 0.0}
POWER = {"power_to_db": False}
# What a stream gives of levels is what Keras gives where no level is cut off below the largest one.
LEVELS = {"top_db": float("inf"), "ref_power": 3.0, "min_power": 1e-3}

OPTIONS = {
    "powers": POWER,
    "levels": LEVELS,
    "magnitudes": POWER | {"mag_exp": 1.0},
    "odd": POWER | {"fft_length": 7, "sequence_stride": 3},
    "narrow": POWER | {"sequence_length": 5, "sequence_stride": 2},
    "hamming": POWER | {"window": "hamming"},
    "rectangular": POWER | {"window": None, "sequence_length": 6},
    "far apart": POWER | {"sequence_stride": 19},
    "dense": POWER | {"fft_length": 16, "sequence_stride": 1, "window": "hamming"},
}


def mel(turn=None, **options):
    turn = turn or layers.Permute((2, 1))
    return lambda x: turn(layers.MelSpectrogram(**(SIZES | options))(x))


def signal(steps):
    return RNG.normal(size=(2, steps)).astype("float32")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_stream_gives_what_the_layer_gives_of_the_whole(name):
    model = model_of(mel(**OPTIONS[name]), (None,))
    for steps in (9, 24, 27) if keras.backend.backend() == "torch" else (27,):
        check_streams(model, signal(steps))


TURNS = {
    "transpose": lambda y: ops.transpose(y, (0, 2, 1)),
    "swapaxes": lambda y: ops.swapaxes(y, -1, 1),
    "moveaxis": lambda y: ops.moveaxis(y, 1, 2),
    "two ways": lambda y: ops.moveaxis(y, 2, 1) + layers.Permute((2, 1))(y),
    "what follows": lambda y: layers.LSTM(2, return_sequences=True)(ops.transpose(y, (0, 2, 1))),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_whatever_turns_it(turn):
    check_streams(model_of(mel(turn, **POWER), (None,)), signal(25))


def test_a_frame_waits_for_its_right_half_alone():
    timing = kseq.Stream(model_of(mel(**POWER), (None,))).timing
    assert (timing.block_size, timing.input_latency, timing.output_latency) == (4, 4, 0)
    narrow = kseq.Stream(model_of(mel(sequence_length=4, **POWER), (None,))).timing
    assert narrow.input_latency == 2


def test_rows_of_unequal_length():
    model = model_of(mel(**POWER), (None,))
    x, lengths = signal(29), (14, 29)
    stream = kseq.Stream(model, 2)
    first = stream.push(x[:, :14])
    ended = stream.flush(active=[True, False])
    last = [stream.push(x[:, 14:], active=[False, True]), stream.flush(active=[False, True])]
    found = [np.concatenate([first[0], ended[0]]), np.concatenate([first[1], *(part[1] for part in last)])]
    for row, length in enumerate(lengths):
        wanted = ops.convert_to_numpy(model(x[row : row + 1, :length]))[0]
        np.testing.assert_allclose(found[row], wanted, atol=1e-4)


def test_as_context_it_is_keras_own():
    source, x = keras.Input((None,), name="source"), keras.Input((None, 4))
    model = keras.Model([source, x], layers.MultiHeadAttention(1, 2)(x, mel()(source)))
    given, frames = signal(27), RNG.normal(size=(2, 5, 4)).astype("float32")
    found = streamed(kseq.Stream(model, 2, context={"source": given}), frames)
    np.testing.assert_allclose(found, ops.convert_to_numpy(model([given, frames])), atol=1e-4)


REFUSED = {
    "largest": (mel(), "against the largest of all of the batch; use top_db=float"),
    "time last": (mel(lambda y: y, **POWER), r"time is the last axis.*Permute\(\(2, 1\)\) right after it"),
    "something between": (mel(lambda y: layers.Permute((2, 1))(y * 2.0), **POWER), "time is the last axis"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_why(build, message):
    with pytest.raises(kseq.NotStreamable, match=message):
        kseq.Stream(model_of(build, (None,)))
