"""Training under masks: losses, metrics and activity regularisers leave padding out, and layers are rematerialised."""

import keras
import numpy as np
import pytest

import kseq

rng = np.random.default_rng(0)
VALUES = rng.normal(size=(3, 5, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)  # a hole, a leading invalid step, no step
X = kseq.Sequence(VALUES, MASK)
Y = rng.normal(size=(3, 5, 2)).astype("float32")
PADDED = np.where(MASK[..., None], Y, 1e6).astype("float32")  # what is left out of a loss may be anything
WEIGHTS = rng.uniform(size=(3, 5)).astype("float32")


def inputs():
    return kseq.Sequence(keras.Input((None, 4)), keras.Input((None,), dtype="bool"))


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def layers(dtype=None):
    return kseq.Serial([kseq.Conv1D(3, 2, dtype=dtype), kseq.Dense(2, dtype=dtype)])


def of_values(dtype=None):
    s = inputs()
    return keras.Model(s, layers(dtype)(s).values)


def nested(dtype=None):
    s, given = inputs(), inputs()
    inner = keras.Model(s, kseq.Dense(3, dtype=dtype)(s))
    return keras.Model(given, layers(dtype)(kseq.Sequence(*inner(given))).values)


def through_stock_layers(dtype=None):
    s = inputs()
    h = keras.layers.Dense(4, "relu", dtype=dtype)(layers(dtype)(s).values)
    return keras.Model(s, kseq.Dense(2, dtype=dtype)(keras.layers.LayerNormalization(dtype=dtype)(h)))


def wanted_loss(model, weights=1.0):
    error = np.square(numpy(keras.ops.cast(model(X), "float32")) - Y).mean(-1)
    return (error * weights)[MASK].sum() / MASK.sum()


@pytest.mark.parametrize(
    ("make", "dtype", "eager"),
    [
        (of_values, None, False),
        (of_values, None, True),
        (nested, None, False),
        (through_stock_layers, None, False),
        (of_values, "mixed_bfloat16", False),
    ],
)
def test_values_leave_padding_out_of_the_loss(make, dtype, eager, tmp_path):
    model = make(dtype)
    model.compile("sgd", "mse", metrics=["mse"], weighted_metrics=["mae"], run_eagerly=eager)
    found = model.evaluate(X, PADDED, sample_weight=WEIGHTS, return_dict=True, verbose=0)
    tolerance = {"rtol": 1e-2 if dtype else 1e-5}
    np.testing.assert_allclose(found["loss"], wanted_loss(model, WEIGHTS), **tolerance)
    np.testing.assert_allclose(found["mse"], wanted_loss(model), **tolerance)
    assert found["mae"] < 100
    history = model.fit(X, PADDED, epochs=3, validation_data=(X, PADDED), verbose=0).history
    assert history["val_loss"][-1] < history["val_loss"][0] < 100
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = loaded.evaluate([*X], PADDED, return_dict=True, verbose=0)
    np.testing.assert_allclose(found["loss"], wanted_loss(model), **tolerance)


def test_keras_loses_masks_by_its_own_rules():
    s = inputs()
    model = keras.Model(s, 2 * kseq.Dense(2)(s).values)
    model.compile("sgd", "mse")
    assert model.evaluate(X, PADDED, verbose=0) > 1e6


def test_a_model_that_gives_a_sequence_trains_on_sequences(tmp_path):
    s = inputs()
    y = layers()(s)
    model, of_its_values = keras.Model(s, y), keras.Model(s, y.values)
    targets = kseq.Sequence(PADDED, MASK)
    model.compile("sgd", ["mse", None], metrics=[["mae"], None])
    found = model.evaluate(X, targets, return_dict=True, verbose=0)
    np.testing.assert_allclose(found["loss"], wanted_loss(of_its_values), rtol=1e-5)
    weighted = model.evaluate(X, targets, sample_weight=kseq.Sequence(WEIGHTS, WEIGHTS), return_dict=True, verbose=0)
    np.testing.assert_allclose(weighted["loss"], wanted_loss(of_its_values, WEIGHTS), rtol=1e-5)
    history = model.fit(X, targets, epochs=3, validation_data=(X, targets), verbose=0).history
    assert history["val_loss"][-1] < history["val_loss"][0] < 100
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras").fit([*X], targets, verbose=0)
    model.compile("sgd", "mse")  # that of a mask and itself is zero
    np.testing.assert_allclose(
        model.evaluate(X, targets, return_dict=True, verbose=0)["loss"], wanted_loss(of_its_values), rtol=1e-5
    )
    given = model.predict(X, verbose=0)
    np.testing.assert_array_equal(given.mask, MASK)


def test_batches_of_unequal_length_leave_padding_out():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X.slice_time(0, 4 + i), kseq.Sequence(PADDED, MASK).slice_time(0, 4 + i)

    s = inputs()
    model = keras.Model(s, layers()(s))
    model.compile("sgd", ["mse", None])
    losses = model.fit(Batches(), validation_data=Batches(), epochs=2, verbose=0).history
    assert losses["val_loss"][-1] < losses["val_loss"][0] < 100


def test_rows_of_padding_alone_have_no_gradient():
    model = of_values()
    model.compile("sgd", "mse")
    before = model.get_weights()
    none = kseq.Sequence(VALUES, np.zeros_like(MASK))
    assert model.evaluate(none, PADDED, verbose=0) == 0
    model.fit(none, PADDED, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def activity(layer, x, mask=None):
    """The losses of a layer on a tensor, or on a sequence where there is a mask."""
    layer(x if mask is None else kseq.Sequence(x, mask))
    return [float(numpy(loss)) for loss in layer.losses]


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: kseq.Dense(2, **k),
        lambda **k: kseq.Conv1D(2, 2, **k),
        lambda **k: kseq.Serial([kseq.Conv1D(2, 2), kseq.Dense(2)], **k),
        lambda **k: kseq.Serial([kseq.Dense(2), kseq.Dense(2, **k)]),
    ],
)
def test_an_activity_regulariser_sees_values_of_valid_steps(make):
    layer = make(activity_regularizer="l2")
    right = np.sort(MASK, axis=1)[:, ::-1]  # padding on the right
    (loss,) = activity(layer, VALUES, right)
    alone = [activity(layer, VALUES[i : i + 1, : right[i].sum()]) for i in range(2)]
    np.testing.assert_allclose(loss, sum(loss for (loss,) in alone) / 3, rtol=1e-5)  # per row
    np.testing.assert_allclose(activity(layer, VALUES, np.ones_like(MASK)), activity(layer, VALUES), rtol=1e-6)
    again = type(layer).from_config(layer.get_config())
    again.build((None, None, 4))
    again.set_weights(layer.get_weights())
    np.testing.assert_allclose(activity(again, VALUES, right), [loss], rtol=1e-6)


def test_an_activity_regulariser_is_that_of_keras():
    layer, stock = kseq.Dense(2), keras.layers.Dense(2)
    layer.activity_regularizer = stock.activity_regularizer = keras.regularizers.L1(0.1)
    stock(VALUES)
    layer(VALUES)
    layer.set_weights(stock.get_weights())
    stock(VALUES)
    (wanted,) = (float(numpy(loss)) for loss in stock.losses)
    np.testing.assert_allclose(activity(layer, VALUES), [wanted], rtol=1e-6)
    assert layer.activity_regularizer is stock.activity_regularizer
    assert layer.get_config()["activity_regularizer"] == stock.get_config()["activity_regularizer"]


REMATERIALISED = [
    {"mode": "full"},
    {"mode": "activations"},
    {"mode": "larger_than", "output_size_threshold": 3},
    {"mode": "list_of_layers", "layer_names": ["remembered"]},
]


def trained(masked=True, **scope):
    """The losses of two epochs of a model of layers made under a `keras.RematScope`."""
    keras.utils.set_random_seed(0)
    s = inputs() if masked else keras.Input((None, 4))
    with keras.RematScope(**scope):
        body = [kseq.Conv1D(4, 2, activation="tanh"), kseq.Dense(4, activity_regularizer="l2")]
        layer = kseq.Residual([*body], name="remembered")
    model = keras.Model(s, keras.layers.Dense(2)(layer(s).values if masked else layer(s)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model.fit(X if masked else VALUES, PADDED if masked else Y, epochs=2, verbose=0).history["loss"]


def test_rematerialised_layers_train_as_others_do():
    wanted = trained(mode=None)
    for scope in REMATERIALISED:
        np.testing.assert_allclose(trained(**scope), wanted, rtol=1e-5, err_msg=str(scope))
    np.testing.assert_allclose(trained(False, mode="full"), trained(False, mode=None), rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras cannot rematerialise a model there")
def test_a_rematerialised_model_does_not_say_whether_it_is_training():
    with keras.RematScope(mode="full"):
        model = keras.Sequential([keras.Input((5, 4)), kseq.Conv1D(2, 3), kseq.Serial([kseq.Dense(2)])])
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(VALUES, Y, verbose=0).history["loss"][0])
