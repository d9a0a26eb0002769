"""`Autoregressive` against a loop that feeds back, and with teacher forcing against itself."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import check_layer

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.1, "tensorflow": 0.1}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 8, 3)).astype("float32")
HOLES = RNG.random((3, 8)) < 0.7
HOLES[0, :2], HOLES[2] = False, False


def array(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (kseq.GRU(4), kseq.Dense(2)),
        lambda: (kseq.Conv1D(2, 3, padding="causal"), kseq.GRU(2)),
        lambda: (kseq.Conv1D(2, 4, strides=4, padding="causal"), kseq.Conv1D(3, 2, padding="causal")),
        lambda: (kseq.Conv1D(2, 2, strides=2, padding="causal"), kseq.UpSampling1D(2)),
        lambda: (kseq.Dense(2), kseq.Serial([kseq.Conv1D(2, 2, strides=2, padding="causal"), kseq.UpSampling1D(2)])),
    ],
)
def test_the_contract_with_a_feedback_layer(make):
    check_layer(kseq.Autoregressive(*make()), X.shape)


def test_what_is_fed_back():
    layer = kseq.Autoregressive(kseq.Dense(2), kseq.Dense(1))
    y = array(layer(X))
    (kernel, bias), (back, back_bias) = layer.layer.get_weights(), layer.feedback_layer.get_weights()
    fed = np.zeros((3, 1))
    for t in range(X.shape[1]):
        wanted = np.concatenate([X[:, t], fed], axis=-1) @ kernel + bias
        np.testing.assert_allclose(y[:, t], wanted, atol=1e-5)
        fed = wanted @ back + back_bias


def test_each_of_fewer_outputs_is_read_several_times():
    layer = kseq.Autoregressive(kseq.Conv1D(2, 2, strides=2, padding="reverse_causal"))
    y = array(layer(X))
    kernel, bias = layer.layer.get_weights()
    fed = np.zeros((3, 2))
    for u in range(4):
        pair = np.concatenate([X[:, 2 * u : 2 * u + 2], np.stack([fed, fed], axis=1)], axis=-1)
        fed = np.einsum("btc,tcd->bd", pair, kernel) + bias
        np.testing.assert_allclose(y[:, u], fed, atol=1e-5)


@pytest.mark.parametrize("mask", [None, HOLES], ids=["all", "holes"])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: (kseq.GRU(4), kseq.Dense(2)),
        lambda: (kseq.Conv1D(4, 3, padding="causal"), kseq.GRU(2)),
        lambda: (kseq.Dense(4), kseq.Serial([kseq.Conv1D(2, 2, strides=2, padding="causal"), kseq.UpSampling1D(2)])),
    ],
)
def test_forced_by_its_own_outputs_it_gives_them(layers, mask):
    layers = layers()
    free, forced = kseq.Autoregressive(*layers), kseq.Autoregressive(*layers, teacher_forcing=True)
    x = kseq.Sequence(X, mask)
    y = free(x)
    wanted = array(y.mask_invalid().values)
    target = kseq.Sequence(array(y.values), None if mask is None else np.ones_like(mask))
    np.testing.assert_allclose(array(forced((x, target)).mask_invalid().values), wanted, atol=1e-5)
    state, made = forced.initial_state(3, (x.spec, target.spec)), []
    for start, stop in ((0, 2), (2, 4), (4, 8)):
        chunk = tuple(part.slice_time(start, stop) for part in (x, target))
        part, state = forced.step(chunk, state)
        made.append(array(part.mask_invalid().values))
    np.testing.assert_allclose(np.concatenate(made, axis=1), wanted, atol=1e-5)


def test_it_trains_with_the_target_and_streams_without(tmp_path):
    keras.utils.set_random_seed(0)
    layers = kseq.GRU(4), kseq.Dense(2)
    x, target = keras.Input((None, 3)), keras.Input((None, 4))
    model = keras.Model([x, target], kseq.Autoregressive(*layers, teacher_forcing=True)([x, target]))
    model.compile("adam", "mse")
    wanted = np.ones((3, 8, 4), "float32")
    before = [w.copy() for w in model.get_weights()]
    model.fit([X, wanted], wanted, verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    free = kseq.Autoregressive(*layers)
    whole = array(free(X[:1]))
    stream = kseq.Stream(free)
    made = np.concatenate([stream.push(X[:1, :3]), stream.push(X[:1, 3:])], axis=1)
    np.testing.assert_allclose(made, whole, atol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(array(loaded([X, wanted])), array(model([X, wanted])), atol=1e-6)


def test_what_is_refused():
    gru = kseq.GRU(4)
    for error, words, make in [
        (TypeError, "`layer` must be a kseq layer", lambda: kseq.Autoregressive(keras.layers.Dense(2))),
        (TypeError, "`feedback_layer` must be a kseq layer", lambda: kseq.Autoregressive(gru, len)),
        (ValueError, "looks ahead", lambda: kseq.Autoregressive(kseq.Conv1D(2, 3, padding="reverse_causal"))),
        (ValueError, "ratio of at most 1; .* has 2", lambda: kseq.Autoregressive(kseq.UpSampling1D(2))),
        (ValueError, "it would feed back 2: give", lambda: kseq.Autoregressive(gru, kseq.UpSampling1D(2))),
        (
            ValueError,
            "ratio of 1 with `teacher_forcing`; .* has 1/2",
            lambda: kseq.Autoregressive(kseq.Conv1D(2, 2, strides=2), teacher_forcing=True),
        ),
        (ValueError, "do not follow from those of its input", lambda: kseq.Autoregressive(kseq.ReLU())(X)),
        (
            ValueError,
            "along the last axis",
            lambda: kseq.Autoregressive(kseq.EinsumDense("btc,cde->btde", (None, 2, 3)))(X),
        ),
        (kseq.NotStreamable, "the layer cannot|cannot make", lambda: kseq.Autoregressive(kseq.Bidirectional(gru))(X)),
    ]:
        with pytest.raises(error, match=words):
            make()
    layer = kseq.Autoregressive(kseq.GRU(4))
    _, state = layer(X, return_state=True)
    with pytest.raises(ValueError, match="keeps nothing of what it fed back"):
        layer.rollback(state, 1)


def test_a_cell_of_keras_is_fed_back_again_after_it_was_saved(tmp_path):
    cells = [keras.layers.GRUCell(3), keras.layers.SimpleRNNCell(2)]
    model = keras.Sequential([keras.Input((None, 3)), kseq.Autoregressive(kseq.RNN(cells))])
    wanted = array(model(X))
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(array(keras.models.load_model(tmp_path / "m.keras")(X)), wanted, atol=1e-6)
    pushed = kseq.Stream(model, 3).push(X)
    np.testing.assert_allclose(pushed, wanted, atol=1e-6)
