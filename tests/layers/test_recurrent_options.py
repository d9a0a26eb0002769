"""What recurrent layers have beside Keras's: noise within the cell, projection, peepholes, normalisation; kernels."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.recurrent import fused
from kseq.testing import transforms

TODAYS = {"jax": 0.2, "tensorflow": 0.2}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6, 3)).astype("float32")
# A row that is whole, one that ends early, one of leading invalid steps and a hole, one of length zero.
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
PADDED = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool)


def randomize(layer):
    layer.build(X.shape)
    layer.set_weights([w + RNG.normal(size=w.shape) * 0.5 for w in layer.get_weights()])
    return layer


def numpy(x):
    return ops.convert_to_numpy(x)


def called(layer, mask=None, **options):
    return numpy(layer(X, mask=None if mask is None else ops.convert_to_tensor(mask), **options))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalized(x, gamma, beta=0.0):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma + beta


def lstm(layer, x, mask, rate=0.0):
    """An LSTM of everything in NumPy float64."""
    w = {v.name: np.float64(numpy(v)) for v in layer.weights}
    units = layer.units
    h, c = np.zeros((len(x), layer.cell.sizes[0])), np.zeros((len(x), units))
    outputs = []
    for t in range(x.shape[1]):
        from_input, from_hidden = x[:, t] @ w["kernel"], h @ w["recurrent_kernel"]
        if layer.use_layer_norm:
            from_input = normalized(from_input, w["kernel_gamma"])
            from_hidden = normalized(from_hidden, w["recurrent_gamma"])
        i, f, g, o = np.split(from_input + from_hidden + w["bias"], 4, axis=-1)
        if layer.use_peephole:
            i, f = i + w["peephole_kernel"][0] * c, f + w["peephole_kernel"][1] * c
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        if layer.use_peephole:
            o = o + w["peephole_kernel"][2] * new_c
        seen = normalized(new_c, w["cell_gamma"], w["cell_beta"]) if layer.use_layer_norm else new_c
        new_h = sigmoid(o) * np.tanh(seen)
        if layer.projection_units:
            new_h = new_h @ w["projection_kernel"]
        outputs.append(new_h)
        valid = mask[:, t, None]
        h, c = (np.where(valid, rate * a + (1 - rate) * b, a) for a, b in ((h, new_h), (c, new_c)))
    return np.stack(outputs, axis=1)


def gru(layer, x, mask, rate=0.0):
    w = {v.name: np.float64(numpy(v)) for v in layer.weights}
    n = layer.units
    bias = w["bias"] if layer.reset_after else np.stack([w["bias"], np.zeros(3 * n)])
    h, outputs = np.zeros((len(x), n)), []

    def products(v, kernel, gamma):
        y = v @ w[kernel]
        parts = y[:, : 2 * n], y[:, 2 * n :]
        if layer.use_layer_norm:
            parts = [normalized(y, g) for y, g in zip(parts, np.split(w[gamma], [2 * n]), strict=True)]
        return np.concatenate(parts, axis=-1)

    for t in range(x.shape[1]):
        z, r, g = np.split(products(x[:, t], "kernel", "kernel_gamma") + bias[0], 3, axis=-1)
        hz, hr, hg = np.split(products(h, "recurrent_kernel", "recurrent_gamma") + bias[1], 3, axis=-1)
        z, r = sigmoid(z + hz), sigmoid(r + hr)
        if not layer.reset_after:
            hg = products(r * h, "recurrent_kernel", "recurrent_gamma")[:, 2 * n :]
        new = z * h + (1 - z) * np.tanh(g + (r if layer.reset_after else 1) * hg)
        outputs.append(new)
        h = np.where(mask[:, t, None], rate * h + (1 - rate) * new, h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize(
    ("cls", "reference", "options"),
    [
        (kseq.LSTM, lstm, {"projection_units": 2}),
        (kseq.LSTM, lstm, {"use_peephole": True}),
        (kseq.LSTM, lstm, {"use_layer_norm": True, "zoneout": 0.3}),
        (kseq.LSTM, lstm, {"projection_units": 4, "use_peephole": True, "use_layer_norm": True}),
        (kseq.LSTM, lstm, {"zoneout": 0.2}),
        (kseq.GRU, gru, {"use_layer_norm": True}),
        (kseq.GRU, gru, {"use_layer_norm": True, "reset_after": False}),
        (kseq.GRU, gru, {"zoneout": 0.3}),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_numbers(cls, reference, options):
    layer = randomize(cls(3, **options))
    found, wanted = called(layer, MASK), reference(layer, np.float64(X), MASK, layer.zoneout)
    np.testing.assert_allclose(found[MASK], wanted[MASK], atol=5e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_weights_are_those_of_keras(name):
    ours, theirs = getattr(kseq, name)(3), getattr(keras.layers, name)(3, return_sequences=True)
    theirs.build(X.shape)
    randomize(ours)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(called(ours), called(theirs), atol=1e-6)
    mask = MASK.copy()
    mask[:, 0] = True  # Keras's outputs before the first valid step are zeros, as ours, but on tensorflow
    np.testing.assert_allclose(called(ours, mask), called(theirs, mask), atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_gradients_are_those_of_a_plain_scan_in_float64(name):
    with transforms.float64():
        layer = randomize(getattr(kseq, name)(2, dtype="float64"))
        x, found = X.astype("float64"), []
        weights = [numpy(v) for v in layer.trainable_variables]
        for has_own in (True, False):
            if not has_own:
                layer.cell.derivatives = None
            assert layer.cell.has_gradient is has_own

            def loss(x):
                y = layer(kseq.Sequence(x, ops.convert_to_tensor(MASK))).values
                return ops.sum(ops.where(MASK[..., None], y, 0.0) ** 2), ()

            _, _, of_x, of_weights = transforms.value_and_gradients(loss, layer.trainable_variables)(x, weights)
            found.append([numpy(of_x), *map(numpy, of_weights)])
    for own, plain in zip(*found, strict=True):
        assert np.abs(plain).max() > 1e-2 and own.dtype == "float64"
        np.testing.assert_allclose(own, plain, atol=1e-11 * np.abs(plain).max())


@pytest.mark.parametrize("cls", [kseq.LSTM, kseq.GRU, kseq.SimpleRNN])
def test_recurrent_dropout_is_one_choice_for_all_steps_and_leaves_inference_alone(cls):
    layer = randomize(cls(8, recurrent_dropout=0.5, seed=1))
    plain = cls(8)
    plain.build(X.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(called(layer), called(plain), atol=1e-6)
    first, second = (called(layer, training=True) for _ in range(2))
    np.testing.assert_allclose(first[:, 0], called(plain)[:, 0], atol=1e-6)  # the first hidden state is zero
    assert np.abs(first - second).max() > 1e-3
    # The same of a layer whose recurrent kernel is scaled as the mask of a row says: row by row, found by trial.
    kernel = layer.recurrent_kernel
    whole = numpy(kernel)
    row = first[0]
    rows = []
    for choice in range(2**8):
        kept = np.array([choice >> i & 1 for i in range(8)])
        plain.recurrent_kernel.assign(whole * 2.0 * kept[:, None])
        rows.append(np.abs(numpy(plain(X[:1]))[0] - row).max())
        if rows[-1] < 1e-5:
            break
    assert min(rows) < 1e-5


def test_recurrent_dropout_trains_as_a_plain_scan_does():
    layer, found = randomize(kseq.LSTM(3, recurrent_dropout=0.5, dropout=0.2, seed=1)), []
    weights = [numpy(v) for v in layer.trainable_variables]
    seed = numpy(layer.seed_generator.state)
    for _ in range(2):
        layer.seed_generator.state.assign(seed)

        def loss(x):
            y = layer(kseq.Sequence(x, ops.convert_to_tensor(MASK)), training=True).mask_invalid()
            return ops.sum(y.values**2), ()

        if keras.backend.backend() == "jax":
            with keras.StatelessScope([(layer.seed_generator.state, ops.convert_to_tensor(seed))]):
                result = transforms.value_and_gradients(loss, layer.trainable_variables)(X, weights)
        else:
            result = transforms.value_and_gradients(loss, layer.trainable_variables)(X, weights)
        found.append([numpy(result[2]), *map(numpy, result[3])])
        layer.cell.derivatives = None
    for own, plain in zip(*found, strict=True):
        np.testing.assert_allclose(own, plain, atol=1e-5 * np.abs(plain).max())


def test_zoneout_keeps_values_while_training():
    layer = randomize(kseq.GRU(64, zoneout=0.4, seed=2))
    state = {"hidden": ops.ones((4, 64))}
    spec = kseq.Sequence(X[:, :1])
    _, new = layer.call_step(spec, state, training=True)
    stay = (numpy(new["hidden"]) == 1.0).mean()
    assert 0.25 < stay < 0.55
    _, drawn = layer.call_step(spec, state, training=True)
    assert (numpy(new["hidden"]) != numpy(drawn["hidden"])).any()
    _, mean = layer.call_step(spec, state)
    _, raw = layer.call_step(spec, state, training=False)
    np.testing.assert_array_equal(numpy(mean["hidden"]), numpy(raw["hidden"]))


@pytest.fixture
def kernels(monkeypatch):
    """Let layers believe that the device has kernels: Keras's layers then run their scans in the place of these."""
    calls, of_keras = [], fused.twin

    def twin(layer):
        call = of_keras(layer)

        def counted(values):
            calls.append(values.shape)
            return call(values)

        return counted

    monkeypatch.setattr(fused, "has_kernel", lambda name: True)
    monkeypatch.setattr(fused, "twin", twin)
    return calls


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize("mask", [None, PADDED, MASK], ids=["all valid", "right padded", "holes"])
def test_fused_kernels_give_the_numbers_and_gradients_of_steps(name, mask, kernels):
    layers = [randomize(getattr(kseq, name)(3, use_cudnn=choice)) for choice in ("auto", False)]
    layers[1].set_weights(layers[0].get_weights())
    assert [v.name for v in layers[0].variables] == [v.name for v in layers[1].variables]  # no other layer's
    found = []
    for layer in layers:

        def loss(x, layer=layer):
            y = layer(kseq.Sequence(x, None if mask is None else ops.convert_to_tensor(mask)))
            return ops.sum(y.values**2), y.values  # of invalid steps, too: they give what they gave

        weights = [numpy(v) for v in layer.trainable_variables]
        _, y, of_x, of_weights = transforms.value_and_gradients(loss, layer.trainable_variables)(X, weights)
        found.append([numpy(part) for part in (y, of_x, *of_weights)])
        called_kernels = bool(kernels)
        kernels.clear()
        if layer is layers[1] or (keras.backend.backend() != "jax" and mask is MASK):
            assert not called_kernels
        else:
            assert called_kernels  # jax compiles both, for the mask is not known yet
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()))


def test_a_kernel_that_must_be_is_refused_where_there_is_none(kernels, monkeypatch):
    assert kseq.LSTM(2, use_cudnn=True).use_cudnn is True
    for options, words in (
        ({"projection_units": 2}, "only for the cell of Keras's layer"),
        ({"recurrent_dropout": 0.1}, "only for the cell of Keras's layer"),
        ({"activation": "relu"}, "but for tanh, sigmoid and a bias"),
        ({"use_bias": False}, "but for tanh, sigmoid and a bias"),
    ):
        with pytest.raises(ValueError, match=f"use_cudnn=True: LSTM has no fused kernel .*{words}"):
            kseq.LSTM(2, use_cudnn=True, **options)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"no fused kernel for keras\.layers\.GRU on this device"):
        kseq.GRU(2, use_cudnn=True)


def test_right_padded():
    masks = [MASK, PADDED, MASK[2:3], MASK[3:], MASK[:2], np.zeros((2, 0), bool)]
    found = [bool(numpy(fused.right_padded(ops.convert_to_tensor(mask)))) for mask in masks]
    assert found == [False, True, False, True, True, True]


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout", "zoneout"])
def test_fractions(name):
    for rate in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0 and below 1; received {rate}"):
            kseq.LSTM(2, **{name: rate})
    with pytest.raises(ValueError, match="`projection_units` must be an integer of at least 1; received 0"):
        kseq.LSTM(2, projection_units=0)


def test_what_is_trained_is_saved(tmp_path):
    layer = kseq.LSTM(3, projection_units=2, use_peephole=True, use_layer_norm=True, zoneout=0.2, recurrent_dropout=0.1)
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), layer, kseq.SimpleRNN(2)])
    model.compile("adam", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(X, np.ones((4, 6, 2)), epochs=1, verbose=0)
    assert all(np.abs(w - old).max() > 0 for w, old in zip(model.get_weights(), before, strict=True) if old.ndim)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(X)), numpy(model(X)))
