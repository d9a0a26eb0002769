"""Dense layers by shape and by equation, and embeddings with their way back: weights, ties, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.6}


RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 2, 4)).astype("float32")
IDS = RNG.integers(1, 7, (2, 5)).astype("int32")


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    ("equation", "output_shape", "bias_axes"),
    [
        ("...a,ab->...b", 3, "b"),
        ("...ab,bc->...ac", (2, 3), "ac"),
        ("...ab,abc->...c", (3,), None),
        ("...ab,ac->...bc", (4, 3), "b"),
        ("btac,cd->btad", (None, 2, 3), "d"),
        ("btac,ad->btcd", (None, 4, 3), "cd"),
        ("bta...,ad->btd...", (None, 3), "d"),
    ],
)
def test_equations_are_those_of_keras(equation, output_shape, bias_axes):
    ours, theirs = (
        module.EinsumDense(equation, output_shape, activation="tanh", bias_axes=bias_axes, bias_initializer="ones")
        for module in (kseq, keras.layers)
    )
    wanted = numpy(theirs(X))
    ours.build(X.shape)
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(X)), wanted, atol=1e-6)
    assert ours.compute_output_shape((None, None, 2, 4)) == (None, None, *wanted.shape[2:])
    again = kseq.EinsumDense.from_config(theirs.get_config())
    again.build(X.shape)
    again.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(again(X)), wanted, atol=1e-6)


def test_kernels_of_equations_are_initialised_as_those_of_keras():
    sizes = []
    for module in (kseq, keras.layers):
        layer = module.EinsumDense("...a,abc->...bc", (30, 40), kernel_initializer="glorot_uniform")
        layer.build((2, 5, 50))
        sizes.append(numpy(layer.kernel.value).std())
    np.testing.assert_allclose(*sizes, rtol=0.05)


@pytest.mark.parametrize(
    ("equation", "output_shape", "reason"),
    [
        ("btc,bcd->btd", (None, 3), "'btc,bcd->btd' mixes steps: batch or time is an axis of the weight"),
        ("btc,td->bcd", (None, 3), "mixes steps: batch and time are not the first axes"),
        ("btc,cd->tbd", (None, 3), "mixes steps: batch and time are not the first axes"),
        ("...tc,tcd->...d", (3,), "mixes steps: batch and time are not the first axes"),
        ("bt...,td->bd...", (3,), "mixes steps"),
        ("btt,td->btd", (None, 3), "batch or time is an axis of the weight"),
        ("bt...c,cd->bt...d", (3,), "of a form"),
        ("bc,cd->bd", (3,), "does not fit values of rank 3"),
        ("...c,cd->...d", (), "for each of the axes d"),
        ("btc,cd->btd", (5, 3), "must have None for time"),
        ("...c,cd->...dc", (3, 5), "has 5 for 'c'"),
        ("...c,cd->...d", (None,), "the size of 'd'"),
        ("...c,ce->...d", (3,), "the size of 'e'"),
    ],
)
def test_equations_that_are_refused(equation, output_shape, reason):
    with pytest.raises(ValueError, match=reason):
        kseq.EinsumDense(equation, output_shape).build((2, 5, 4))


def test_a_bias_over_time_is_refused():
    with pytest.raises(ValueError, match="`bias_axes` must name channel axes"):
        kseq.EinsumDense("btc,cd->btd", (None, 3), bias_axes="td").build((2, 5, 4))


def test_the_stock_layer_does_not_stream_where_its_letters_reach_time():
    model = keras.Sequential([keras.Input((5, 4)), keras.layers.EinsumDense("...tc,tc->...c", 4)])
    with pytest.raises(kseq.NotStreamable, match="may mix time"):
        kseq.Stream(model)


@pytest.mark.parametrize(("given", "wanted"), [((4,), (2, 3)), ((2, 4), (3,)), ((2, 4), ()), ((), (3,)), ((), ())])
def test_dense_of_shapes_is_a_product_of_all_channels(given, wanted):
    layer = kseq.DenseShaped(wanted, activation="relu", bias_initializer="ones")
    x = RNG.normal(size=(2, 5, *given)).astype("float32")
    y = numpy(layer(x))
    product = x.reshape(2, 5, -1) @ numpy(layer.kernel.value)
    np.testing.assert_allclose(y, np.maximum(product.reshape(2, 5, *wanted) + 1, 0), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"tie_weights": False}, {"logit_soft_cap": 0.02}])
def test_reversible_embedding_is_that_of_keras(options):
    ours, theirs = (module.ReversibleEmbedding(7, 3, **options) for module in (kseq, keras.layers))
    wanted = numpy(theirs(theirs(IDS), reverse=True))
    ours.build(IDS.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(ours(IDS), reverse=True)), wanted, atol=1e-6)
    assert kseq.ReversibleEmbedding.from_config(theirs.get_config()).tie_weights == theirs.tie_weights


def test_logits_in_another_dtype():
    layer = kseq.ReversibleEmbedding(7, 3, dtype="mixed_bfloat16", reverse_dtype="float32")
    y = layer(layer(IDS), reverse=True)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"


def reversible():
    layer = kseq.ReversibleEmbedding(7, 3, mask_zero=True, name="words")
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, layer(kseq.GRU(3)(layer(ids)), reverse=True))


def reversible_of_keras():
    layer = keras.layers.ReversibleEmbedding(7, 3, name="words")
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, layer(kseq.GRU(3)(layer(ids)), reverse=True))


def transposed():
    layer = kseq.Embedding(7, 3, name="words")
    return keras.Sequential([keras.Input((None,), dtype="int32"), layer, kseq.GRU(3), kseq.EmbeddingTranspose(layer)])


def transposed_of_keras():
    layer = keras.layers.Embedding(7, 3, name="words")
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, kseq.EmbeddingTranspose(layer, use_bias=False)(kseq.GRU(3)(layer(ids))))


@pytest.mark.parametrize("make", [reversible, reversible_of_keras, transposed, transposed_of_keras])
def test_tied_weights_train_stream_and_stay_tied_when_saved(make, tmp_path):
    model = make()
    assert sum(w.shape == (7, 3) for w in model.weights) == 1
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(IDS, np.ones((2, 5, 7)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    whole = model.predict(IDS, verbose=0)
    assert sum(w.shape == (7, 3) for w in loaded.weights) == 1
    for each in (model, loaded):
        stream = kseq.Stream(each)
        streamed = np.concatenate([stream.push(IDS[0, :2]), stream.push(IDS[0, 2:])])
        np.testing.assert_allclose(streamed, whole[0], atol=1e-6)
    loaded.get_layer("words").set_weights([np.zeros((7, 3), "float32")])
    assert np.ptp(loaded.predict(IDS, verbose=0), axis=1).max() == 0  # though the state of the GRU is another


def test_logits_of_an_embedding_in_int8():
    layer = kseq.Embedding(7, 3)
    logits = kseq.EmbeddingTranspose(layer, use_bias=False)
    before = numpy(logits(layer(IDS)))
    layer.quantize("int8")
    np.testing.assert_allclose(numpy(logits(layer(IDS))), before, atol=2e-4)


def test_ties_that_are_refused():
    with pytest.raises(TypeError, match="`embedding` must be an Embedding"):
        kseq.EmbeddingTranspose(kseq.Dense(3))
    with pytest.raises(ValueError, match=r"takes values \[B, T, ..., 3\]; received shape \(2, 5, 4\)"):
        kseq.EmbeddingTranspose(kseq.Embedding(7, 3)).build((2, 5, 4))
    ids = keras.Input((None,), dtype="int32")
    layer = keras.layers.ReversibleEmbedding(7, 3, mask_zero=True)
    with pytest.raises(kseq.NotStreamable, match=r"use kseq\.ReversibleEmbedding"):
        kseq.Stream(keras.Model(ids, kseq.GRU(2)(layer(ids))))
