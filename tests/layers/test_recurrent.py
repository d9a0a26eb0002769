"""LSTM and GRU beside Keras's own: gradients of every order and mode, float64, dropout, the form of Cho et al."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.6}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 6, 3)).astype("float32")
# A row that is whole, one of leading invalid steps and holes, one that ends early.
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1], [1, 0, 1, 1, 0, 0]], bool)
KINDS = {
    "LSTM": (kseq.LSTM, keras.layers.LSTM, {}),
    "GRU": (kseq.GRU, keras.layers.GRU, {}),
    "GRU that resets before": (kseq.GRU, keras.layers.GRU, {"reset_after": False}),
    "LSTM of relus without bias": (kseq.LSTM, keras.layers.LSTM, {"activation": "relu", "use_bias": False}),
}


def twins(name, **options):
    """A layer of ours and one of Keras's with the same weights, none of them zero."""
    own, stock, given = KINDS[name]
    ours, theirs = own(2, **given, **options), stock(2, return_sequences=True, **given, **options)
    ours.build(X.shape)
    theirs.build(X.shape)
    theirs.set_weights([w + RNG.normal(size=w.shape) * 0.3 for w in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def valid_outputs(layer, x, mask, **options):
    y = layer(x, mask=None if mask is None else ops.convert_to_tensor(mask), **options)
    return y if mask is None else ops.where(mask[..., None], y, 0.0)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all valid", "masked"])
def test_second_order_gradients_are_those_of_keras(name, mask):
    found = []
    for layer in twins(name):
        fn = transforms.gradients_of_gradients(
            lambda x, layer=layer: ops.sum(valid_outputs(layer, x, mask) ** 2), layer.trainable_variables
        )
        found.append(fn(X, layer.get_weights()))
    for ours, theirs in zip(*found, strict=True):
        assert np.abs(theirs).max() > 1e-2
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


def test_a_gradient_through_single_steps_is_that_of_layer_mode():
    ours, _ = twins("LSTM")

    def stepped(x):
        state, parts = ours.initial_state(3, kseq.SequenceSpec((3,))), []
        for t in range(6):
            y, state = ours.step(kseq.Sequence(x[:, t : t + 1], ops.convert_to_tensor(MASK[:, t : t + 1])), state)
            parts.append(y.mask_invalid().values)
        return ops.sum(ops.concatenate(parts, axis=1) ** 2)

    whole = transforms.gradients_of_gradients(
        lambda x: ops.sum(valid_outputs(ours, x, MASK) ** 2), ours.trainable_variables
    )
    single = transforms.gradients_of_gradients(stepped, ours.trainable_variables)
    for a, b in zip(whole(X, ours.get_weights()), single(X, ours.get_weights()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only jax has forward mode")
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_forward_mode_is_that_of_keras(name):
    import jax

    def derivatives(layer):
        def outputs(x, weights):
            with keras.StatelessScope(list(zip(layer.trainable_variables, weights, strict=True))):
                return valid_outputs(layer, x, MASK)

        def last_of_row(x, mask):
            return layer(x[None], mask=mask[None])[0, -1, 0] ** 2

        def everything(x, weights):
            return (
                jax.jvp(outputs, (x, weights), (x[::-1], [w[::-1] for w in weights])),
                jax.jacfwd(outputs, argnums=(0, 1))(x, weights),
                jax.jacfwd(jax.grad(lambda x: (outputs(x, weights) ** 2).sum()))(x),  # forward over reverse
                jax.vmap(jax.grad(last_of_row))(x, MASK),
            )

        return jax.tree.leaves(transforms.jit(everything, quick=True)(X, layer.get_weights()))

    for ours, theirs in zip(*map(derivatives, twins(name)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRU that resets before"])
def test_float64(name):
    # Keras's tanh on jax and its matmul on torch give float32, in its own layers too.
    tolerance = 1e-12 if keras.backend.backend() == "tensorflow" else 1e-6
    with transforms.float64():
        ours, theirs = twins(name, dtype="float64")
        x = X.astype("float64")
        y, wanted = valid_outputs(ours, x, MASK), valid_outputs(theirs, x, MASK)
        assert keras.backend.standardize_dtype(y.dtype) == "float64"
        np.testing.assert_allclose(ops.convert_to_numpy(y), ops.convert_to_numpy(wanted), rtol=0, atol=tolerance)
        state = ours.initial_state(3, kseq.SequenceSpec((3,), "float64"))
        _, new_state = ours.step(kseq.Sequence(x), state)
        assert {keras.backend.standardize_dtype(s.dtype) for s in new_state.values()} == {"float64"}


def test_weights_without_reset_after_are_those_of_keras_in_steps():
    ours, theirs = twins("GRU that resets before")
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    state, parts = ours.initial_state(3, kseq.SequenceSpec((3,))), []
    for t in range(6):
        y, state = ours.step(kseq.Sequence(X[:, t : t + 1], MASK[:, t : t + 1]), state)
        parts.append(y)
    y = kseq.Sequence.concatenate(parts).mask_invalid().values
    np.testing.assert_allclose(ops.convert_to_numpy(y), ops.convert_to_numpy(valid_outputs(theirs, X, MASK)), atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_dropout_is_that_of_keras(name):
    ours, theirs = twins(name, dropout=0.5, seed=3)
    dropped = [ops.convert_to_numpy(valid_outputs(layer, X, MASK, training=True)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*dropped, atol=1e-6)
    again = ops.convert_to_numpy(valid_outputs(ours, X, MASK, training=True))
    assert np.abs(again - dropped[0]).max() > 1e-2  # other channels in every call
    whole = [ops.convert_to_numpy(valid_outputs(layer, X, MASK)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*whole, atol=1e-6)
    with pytest.raises(ValueError, match="`dropout` must be at least 0 and below 1; received 1"):
        type(ours)(2, dropout=1.0)


def test_what_backends_differentiate_by_themselves_trains_and_is_saved(tmp_path):
    layers = [kseq.GRU(2, reset_after=False, dropout=0.2), kseq.LSTM(2, activation="softsign", dropout=0.2)]
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), *layers])
    model.compile("adam", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(X, np.ones((3, 6, 2)), epochs=1, verbose=0)
    assert all(np.abs(w - old).max() > 0 for w, old in zip(model.get_weights(), before, strict=True) if old.ndim)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(X)), ops.convert_to_numpy(model(X)))
