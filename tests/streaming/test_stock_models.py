"""Twenty ordinary models of Keras's layers, trained a little: what they stream is what they predict."""

import pathlib
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops
from stock import streamed

import kseq

sys.path.append(str(pathlib.Path(__file__).parents[2] / "bench"))
from stock_models import MODELS, build

TODAYS = {"jax": 0.1, "tensorflow": 0.1}
STEPS = 24


def trained(model, *shapes):
    """The model after some steps of training on random numbers, and what it is to predict."""
    rng = np.random.default_rng(0)
    given = [rng.normal(size=shape).astype("float32") for shape in shapes]
    given = given[0] if len(given) == 1 else given
    targets = keras.tree.map_structure(lambda y: rng.normal(size=y.shape).astype("float32"), model(given))
    model.compile("adam", "mse")
    model.fit(given, targets, epochs=2, batch_size=2, verbose=0)
    return given


@pytest.mark.filterwarnings("ignore:Layer '.*' .*was passed an input with a mask")
@pytest.mark.parametrize("function", MODELS, ids=lambda function: function.__name__)
def test_what_a_trained_model_streams_is_what_it_predicts(function):
    model = build(function)
    given = trained(model, (4, STEPS, 4))[:2]
    found = streamed(kseq.Stream(model, 2), given, (1, 5, 0, 2))
    np.testing.assert_allclose(found, model.predict(given, verbose=0), atol=1e-4)


def test_masks_that_were_made_longer_are_counted():
    """XLA ended the process where it folded the mask of an upsampling into a cumulative sum."""
    model = build(next(function for function in MODELS if function.__name__ == "vocoder"))
    assert kseq.Stream(model).push(np.zeros((1, 1, 4), "float32")).shape == (1, 0, 1)


def test_several_inputs_and_outputs_by_name():
    a, b = keras.Input((None, 4), name="audio"), keras.Input((None, 3), name="video")
    y = layers.Conv1D(5, 5, padding="same", name="wide")(a)
    joined = layers.Concatenate()([y, layers.GRU(4, return_sequences=True)(b)])
    outputs = {"text": layers.Dense(2)(joined), "rate": layers.MaxPooling1D(2)(y)}
    model = keras.Model({"audio": a, "video": b}, outputs)
    rng = np.random.default_rng(0)
    given = {"audio": rng.normal(size=(1, 10, 4)), "video": rng.normal(size=(1, 10, 3))}
    given = {name: x.astype("float32") for name, x in given.items()}
    wanted = model.predict(given, verbose=0)
    stream = kseq.Stream(model)
    parts = [stream.push({name: x[:, i : i + 3] for name, x in given.items()}) for i in range(0, 10, 3)]
    parts.append(stream.flush())
    for name in outputs:
        found = np.concatenate([part[name] for part in parts], axis=1)
        np.testing.assert_allclose(found, wanted[name], atol=1e-4)


def test_a_decoder_reads_its_encoder_as_context():
    source, target = keras.Input((None, 3), name="source"), keras.Input((None, 4), name="target")
    memory = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(source)
    y = layers.Dense(6)(target)
    y = y + layers.MultiHeadAttention(2, 3)(y, y, use_causal_mask=True)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 3)(y, memory))
    model = keras.Model([source, target], layers.Dense(2)(y))
    known, given = trained(model, (2, 7, 3), (2, 9, 4))
    stream = kseq.Stream(model, 2, context={"source": known})
    found = streamed(stream, given)
    np.testing.assert_allclose(found, model.predict([known, given], verbose=0), atol=1e-4)


BEGUN = {
    "LSTM": lambda: layers.LSTM(3, return_sequences=True),
    "GRU": lambda: layers.GRU(3, return_sequences=True),
    "cells": lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)], return_sequences=True),
}


@pytest.mark.parametrize("name", BEGUN)
def test_a_recurrence_begins_with_the_states_of_an_encoder(name):
    source, target = keras.Input((None, 3), name="source"), keras.Input((None, 4), name="target")
    decoder = BEGUN[name]()
    sizes = {"LSTM": (3, 3), "GRU": (3,), "cells": (3, 2, 2)}[name]
    last = layers.GRU(4)(source)
    states = [layers.Dense(size)(last) for size in sizes]
    given = [states[0], states[1:]] if name == "cells" else states
    model = keras.Model([source, target], layers.Dense(2)(decoder(target, initial_state=given)))
    known, x = trained(model, (2, 7, 3), (2, 9, 4))
    wanted = model.predict([known, x], verbose=0)
    stream = kseq.Stream(model, 2, context={"source": known})
    np.testing.assert_allclose(streamed(stream, x), wanted, atol=1e-4)
    layer = kseq.streamable(model)
    whole = layer(x, context={"source": known})
    np.testing.assert_allclose(ops.convert_to_numpy(whole), wanted, atol=1e-4)


def test_a_recurrence_does_not_begin_with_what_streams():
    source, target = keras.Input((None, 3), name="source"), keras.Input((None, 4), name="target")
    y = layers.GRU(3, name="decoder", return_sequences=True)(target, initial_state=layers.GRU(3)(source))
    model = keras.Model([source, target], [y, layers.GRU(2, return_sequences=True)(source)])
    with pytest.raises(kseq.NotStreamable, match=r"decoder \(GRU\): it is called with tensors by name"):
        kseq.Stream(model)
