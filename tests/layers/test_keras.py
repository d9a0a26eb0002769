"""kseq layers as Keras layers: weights, masks, saving, training, and bad input."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops

import kseq

X = np.random.default_rng(0).normal(size=(2, 7, 4)).astype("float32")
RECURRENT = {"return_sequences": True}
TWINS = {
    "Conv1D": (kseq.Conv1D(3, 3, strides=2), keras.layers.Conv1D(3, 3, strides=2, padding="causal")),
    "dilated": (
        kseq.Conv1D(4, 2, dilation_rate=3, groups=2),
        keras.layers.Conv1D(4, 2, padding="causal", dilation_rate=3, groups=2),
    ),
    "same": (kseq.Conv1D(3, 3, padding="same"), keras.layers.Conv1D(3, 3, padding="same")),
    "DepthwiseConv1D": (
        kseq.DepthwiseConv1D(3, padding="valid", depth_multiplier=2),
        keras.layers.DepthwiseConv1D(3, depth_multiplier=2),
    ),
    "Dense": (kseq.Dense(3, activation="relu"), keras.layers.Dense(3, activation="relu")),
    "LSTM": (kseq.LSTM(3), keras.layers.LSTM(3, **RECURRENT)),
    "GRU": (kseq.GRU(3), keras.layers.GRU(3, **RECURRENT)),
    "LayerNormalization": (kseq.LayerNormalization(), keras.layers.LayerNormalization()),
    "RMSNormalization": (kseq.RMSNormalization(), keras.layers.RMSNormalization()),
    "MaxPooling1D": (kseq.MaxPooling1D(2, padding="valid"), keras.layers.MaxPooling1D(2)),
    "AveragePooling1D": (kseq.AveragePooling1D(3, 2, padding="valid"), keras.layers.AveragePooling1D(3, 2)),
}


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("name", TWINS)
def test_the_weights_of_the_keras_layer_give_its_outputs(name):
    ours, theirs = TWINS[name]
    expected = theirs(X)
    ours.build(X.shape)
    ours.set_weights([w + 0.1 for w in theirs.get_weights()])
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(numpy(ours(X)), numpy(theirs(X)), atol=1e-5)
    assert tuple(ours.compute_output_shape(X.shape)) == tuple(expected.shape)


def test_embedding_takes_the_weights_of_keras():
    ours, theirs = kseq.Embedding(5, 3), keras.layers.Embedding(5, 3)
    x = np.array([[0, 4, 2]], "int32")
    theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_array_equal(numpy(ours(x)), numpy(theirs(x)))


def test_attention_takes_the_weights_of_keras():
    theirs = keras.layers.MultiHeadAttention(2, 3)
    ours = kseq.LocalSelfAttention(2, 3, max_past_horizon=6)
    expected = theirs(X, X, use_causal_mask=True)
    ours.build(X.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(X)), numpy(expected), atol=1e-5)


def test_attention_in_blocks_equals_attention_at_once():
    """Long inputs attend block by block; a window of all heads and both horizons, over a mask with holes."""
    layer = kseq.LocalSelfAttention(2, 2, max_past_horizon=5, max_future_horizon=3, rope_wavelength=50.0)
    x = np.random.default_rng(1).normal(size=(2, 70, 4)).astype("float32")
    mask = np.random.default_rng(2).random((2, 70)) < 0.8
    whole = layer(kseq.Sequence(x, mask)).mask_invalid()
    state, parts = layer.initial_state(2, kseq.SequenceSpec((4,))), []
    padded = kseq.Sequence(x, mask).pad_time(0, 5)
    for start in range(0, 75, 15):  # too short for blocks
        y, state = layer.step(padded.slice_time(start, start + 15), state)
        parts.append(y)
    streamed = kseq.Sequence.concatenate(parts).slice_time(3, 73).mask_invalid()
    np.testing.assert_allclose(numpy(streamed.values), numpy(whole.values), atol=1e-5)


def test_masks_go_through_a_keras_model_and_into_its_loss():
    model = keras.Sequential(
        [
            keras.Input((None, 4)),
            keras.layers.Masking(),
            kseq.Conv1D(4, 3, padding="reverse_causal"),
            kseq.Residual([kseq.GRU(4)]),
            kseq.Conv1D(3, 3, strides=2),
        ]
    )
    model.compile("adam", "mse")
    x, target = X.copy(), np.zeros((2, 4, 3), "float32")
    x[1, 3:] = 0
    assert kseq.masks.output_lengths([7, 3], model).tolist() == [4, 2]
    valid = numpy(model(x))[np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)]
    # Keras averages the loss over the batch and time, with the mask as weights.
    np.testing.assert_allclose(model.evaluate(x, target, verbose=0), (valid**2).mean(-1).mean(), rtol=1e-4)


def big_model():
    x = keras.Input((None, 4))
    block = kseq.Residual([kseq.RMSNormalization(), kseq.LocalSelfAttention(2, 2, 3, rope_wavelength=9.0)])
    y = kseq.Repeat(block, 2)(keras.layers.Masking()(x))
    y = kseq.Parallel([kseq.LSTM(3), kseq.DepthwiseConv1D(2)], combination="concat")(y)
    y = kseq.MaxPooling1D(2)(kseq.Dropout(0.1)(kseq.Activation("gelu")(y)))
    return keras.Model(x, keras.layers.Dense(2)(kseq.LayerNormalization()(y)))


def test_a_model_trains_saves_and_loads(tmp_path):
    model = big_model()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    history = model.fit(X, np.ones((2, 4, 2)), epochs=30, verbose=0).history["loss"]
    assert min(history[-3:]) < 0.8 * history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(X)), numpy(model(X)))


def test_a_functional_model_of_sequences_saves_and_loads(tmp_path):
    given = kseq.Sequence(keras.Input((None, 4)), keras.Input((None,), dtype="bool"))
    hidden = kseq.Conv1D(3, 3, padding="causal_valid")(given)
    model = keras.Model(given, kseq.GRU(2)(hidden))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = kseq.Sequence.from_lengths(X, [7, 4])
    for found, wanted in zip(loaded([*x]), model(x), strict=True):
        np.testing.assert_array_equal(numpy(found), numpy(wanted))


def test_batches_of_unequal_length_train():
    """Time is unknown to the graph where a generator feeds it."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X[:, : 4 + 2 * i], np.ones((2, 2 + i, 2))

    model = big_model()
    model.compile("sgd", "mse")
    model.fit(Batches(), verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_half_precision(policy):
    layer = kseq.Serial([kseq.Conv1D(3, 3, dtype=policy), kseq.GRU(3, dtype=policy), kseq.Dense(2, dtype=policy)])
    y = layer(X)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert layer.output_spec(kseq.SequenceSpec((4,))).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kseq.Conv1D(2, 3)(X[:, :, 0]), ValueError, r"takes values of rank 3; received shape \(2, 7\)"),
        (lambda: kseq.GRU(2)(kseq.Sequence(X[0])), ValueError, r"takes values of rank 3; received shape \(7, 4\)"),
        (lambda: kseq.GRU(2)(kseq.Sequence(X, np.ones((2, 7)))), TypeError, "mask must be bool; received float64"),
        (lambda: kseq.GRU(2)(kseq.Sequence(X, np.ones((2, 6), bool))), ValueError, r"\(2, 7\); received \(2, 6\)"),
        (lambda: kseq.GRU(2)((X, None, None)), ValueError, r"a pair \(values, mask\); received 3 parts"),
        (lambda: step(kseq.Conv1D(2, 2, strides=2), X[:, :3]), ValueError, "blocks of 2.*multiple of it; received 3"),
        (lambda: step(kseq.Conv1D(2, 2, padding="same"), X), ValueError, "cannot step: padding 'same'"),
        (lambda: step(kseq.Dense(2), X, channels=3), ValueError, r"built for channel shape \(3,\); received \(4,\)"),
        (lambda: kseq.Conv1D(0, 3), ValueError, "`filters` must be an integer of at least 1; received 0"),
        (lambda: kseq.Conv1D(3, 3, groups=2), ValueError, r"`filters` \(=3\) must be divisible by `groups` \(=2\)"),
        (lambda: kseq.Conv1D(3, 3, padding="full"), ValueError, "padding must be one of .*; received 'full'"),
        (lambda: kseq.Dropout(2), ValueError, "from 0 to 1; received 2"),
        (lambda: kseq.Delay(-1), ValueError, "at least 0; received -1"),
        (lambda: kseq.Embedding(3, 2)(X), TypeError, "takes integers; received float32"),
        (lambda: kseq.LayerNormalization(axis=1)(X), ValueError, "must name channel axes .*; received 1"),
        (lambda: kseq.LocalSelfAttention(1, 3, 2, rope_wavelength=9.0)(X), ValueError, "must be even; received 3"),
        (
            lambda: kseq.Serial([keras.layers.Dense(2)]),
            TypeError,
            r"`layers\[0\]` must be a kseq layer; received <Dense",
        ),
        (lambda: kseq.Parallel(combination="sum"), ValueError, "one of stack, .*; received 'sum'"),
    ],
)
def test_bad_input_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def step(layer, x, channels=4):
    layer.build((None, None, channels))
    return layer.step(kseq.Sequence(x), layer.initial_state(2, kseq.SequenceSpec((channels,))))


@pytest.mark.parametrize("name", ["LSTM", "GRU", "Conv1D", "DepthwiseConv1D", "MaxPooling1D", "LocalSelfAttention"])
def test_signatures_name_every_argument(name):
    cls = getattr(kseq, name)
    parameters = inspect.signature(cls).parameters
    layer = cls.from_config(cls(**cls.examples()[0].config).get_config())
    common = keras.layers.Layer().get_config().keys()
    assert set(layer.get_config()) - common == set(parameters) - {"kwargs"}


def test_sizes_are_integers_of_any_kind():
    layer = kseq.Conv1D(np.int64(8), np.int32(3), strides=(2,))
    assert layer(X).shape == (2, 4, 8)
    assert json.loads(json.dumps(layer.get_config()))["filters"] == 8
    assert kseq.LocalSelfAttention(np.int8(1), np.int64(2), max_past_horizon=np.uint8(0)).key_dim == 2
    for wrong in (True, 2.0, "2", np.float32(2), None):
        with pytest.raises(ValueError, match="`filters` must be an integer of at least 1; received"):
            kseq.Conv1D(wrong, 3)


def test_the_channels_that_a_layer_was_built_for():
    layer = kseq.Serial([kseq.Dense(3), kseq.Dropout(0.5)])
    assert layer.channel_shape is None
    layer(X)
    assert layer.channel_shape == layer.layers[0].channel_shape == (4,)
    layer.layers[1](np.ones((1, 2, 9), "float32"))  # what has no weights takes any
    with pytest.raises(ValueError, match=r"built for channel shape \(4,\); received \(5,\)"):
        layer(np.ones((1, 2, 5), "float32"))


def test_weights_follow_the_arguments_of_their_names():
    layer = kseq.Conv1D(2, 2, kernel_initializer="ones", bias_constraint="non_neg", kernel_regularizer="l2")
    layer(X)
    assert numpy(layer.kernel).min() == 1
    assert layer.kernel.regularizer is layer.kernel_regularizer is not None
    assert isinstance(layer.bias.constraint, keras.constraints.NonNeg)


def test_every_repeat_draws_weights_of_its_own():
    seeded = {"kernel_initializer": keras.initializers.GlorotUniform(seed=3)}
    inner = kseq.Repeat([kseq.Dense(4, **seeded), kseq.Dropout(0.5, seed=1)], 2)
    layer = kseq.Repeat([kseq.Residual([inner])], 3)
    layer(X)
    again = kseq.Repeat.from_config(layer.get_config())
    again(X)
    kernels = [numpy(w) for w in layer.weights if w.name == "kernel"]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 6
    for kernel, same in zip(kernels, (w for w in again.weights if w.name == "kernel"), strict=True):
        np.testing.assert_array_equal(kernel, numpy(same))
    assert layer.get_config() == again.get_config()
    drops = [w for w in layer.variables if w.path.endswith("seed_generator_state")]
    assert len({numpy(w).tobytes() for w in drops}) == len(drops) == 6
