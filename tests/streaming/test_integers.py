"""Keras's layers of integers that TensorFlow computes: their streams are compiled as all else is."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from stock import check_streams, model_of

import kseq

pytest.importorskip("tensorflow")  # without which Keras does not make these layers

TODAYS = {"jax": 0.15, "tensorflow": 0.15}
RNG = np.random.default_rng(0)
TOKENS = [7, -3, 100, 5, 2**31 - 1]

LOOKUPS = {
    "one unknown": {},
    "several unknown": {"num_oov_indices": 3},
    "hashed unknown": {"num_oov_indices": 4, "oov_method": "farmhash"},
    "salted unknown": {"num_oov_indices": 4, "oov_method": "farmhash", "salt": [1, 2]},
    "mask": {"mask_token": 0, "num_oov_indices": 2},
    "one-hot": {"output_mode": "one_hot"},
    "one-hot mask": {"output_mode": "one_hot", "mask_token": 0, "num_oov_indices": 2},
    "numbers of places": {"invert": True, "mask_token": -9, "num_oov_indices": 2},
}
HASHES = {
    "few": {"num_bins": 3},
    "many": {"num_bins": 10**6},
    "salt": {"num_bins": 1000, "salt": 1337},
    "two salts": {"num_bins": 1000, "salt": [-1, 2**62]},
    "mask": {"num_bins": 5, "mask_value": 7},
    "one-hot": {"num_bins": 4, "output_mode": "one_hot", "mask_value": 7},
}
CASES = {f"lookup, {name}": lambda o=o: layers.IntegerLookup(vocabulary=TOKENS, **o) for name, o in LOOKUPS.items()}
CASES |= {f"hashing, {name}": lambda o=o: layers.Hashing(**o) for name, o in HASHES.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_stream_gives_what_the_layer_gives_of_the_whole(name):
    one_hot = "one-hot" in name
    model = model_of(lambda x: CASES[name]()(x), (None, 1 if one_hot else 2), "int32")
    x = RNG.choice([*TOKENS, 0, 1, 2, 3, 4, 9, 10, -(2**31), -12, 123456789], (2, 9, 1 if one_hot else 2))
    check_streams(model, x.astype("int32"))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="has no such integers")
@pytest.mark.parametrize("salt", [None, [3, 4]])
def test_integers_of_64_bits(salt):
    x = keras.Input((None,), dtype="int64")
    model = keras.Model(x, layers.Hashing(10**5, salt=salt)(x))
    sizes = 10 ** RNG.integers(0, 18, (2, 40))
    given = RNG.integers(-9, 10, (2, 40)) * sizes + RNG.integers(0, sizes)
    given[0, :4] = [-(2**63), 2**63 - 1, -(2**63) + 1, 0]
    np.testing.assert_array_equal(kseq.Stream(model, 2).push(given), ops.convert_to_numpy(model(given)))


def test_a_vocabulary_that_was_adapted():
    layer = layers.IntegerLookup()
    layer.adapt(np.array([[5, 5, 9, 9, 9, 1]]))
    x = keras.Input((None,), dtype="int32")
    model = keras.Model(x, layers.Embedding(5, 3)(layer(x)))
    check_streams(model, np.array([[1, 9, 2, 5, 5], [9, 0, 1, 1, 4]], "int32"))


REFUSED = {
    "raises": (lambda: layers.IntegerLookup(vocabulary=TOKENS, num_oov_indices=0), 2, "use num_oov_indices=1"),
    "several steps": (lambda: layers.IntegerLookup(vocabulary=TOKENS, output_mode="count"), 2, "several steps"),
    "shape": (lambda: layers.Hashing(3, output_mode="one_hot"), 2, r"use an input \[B, T, 1\]"),
}


@pytest.mark.parametrize(("make", "channels", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_why(make, channels, message):
    with pytest.raises(kseq.NotStreamable, match=message):
        kseq.Stream(model_of(lambda x: make()(x), (None, channels), "int32"))
