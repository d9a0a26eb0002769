"""What a batch weighs: a loss by name is the mean over what is valid, whatever the padding, the rows and the hosts."""

import keras
import numpy as np
import pytest

import kseq
from kseq.data import Writer
from kseq.data import open as open_store

LENGTHS = (1, 5, 10, 3, 3, 7, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("weights") / "store"
    fields = {"x": ("int32", (None,)), "y": ("int32", (None,)), "label": "int32", "grid": ("float32", (2, 3, 2))}
    with Writer(path, fields) as writer:
        for i, n in enumerate(LENGTHS):
            x = rng.integers(1, 4, n).astype(np.int32)
            writer.write({"x": x, "y": x % 2, "label": i % 2, "grid": rng.random((2, 3, 2), np.float32)})
    return open_store(path)


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Subclassed(keras.Model):
    """A model that is built when it is called, whose output carries Keras's mask."""

    def __init__(self):
        super().__init__()
        self.embedding, self.dense = keras.layers.Embedding(4, 3, mask_zero=True), keras.layers.Dense(2)

    def call(self, x):
        return self.dense(self.embedding(x))


def make_model(kind):
    """A tagger whose output carries Keras's mask or does not, and the `masks` of its batches."""
    if kind == "subclassed":
        return Subclassed(), None
    if kind in ("kseq", "dropped"):
        x = kseq.Sequence(keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="bool"))
        h = kseq.Embedding(4, 3)(x).values if kind == "kseq" else keras.layers.Embedding(4, 3)(x.values)
        return keras.Model(x, keras.layers.Dense(2)(h)), "sequence"
    x = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(4, 3, mask_zero=kind == "mask_zero")(x)
    return keras.Model(x, keras.layers.Dense(2)(h)), None


def log_likelihoods(model, store, masks):
    """Of the right tag, for every step."""
    found = []
    for record in (store[i] for i in range(len(store))):
        x = record["x"][None]
        given = x if masks is None else kseq.Sequence(x, np.ones(x.shape, bool))
        logits = keras.ops.convert_to_numpy(model(given))[0]
        logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        found.append(logits[np.arange(len(record["y"])), record["y"]])
    return found


@pytest.mark.parametrize("kind", ["kseq", "dropped", "mask_zero", "none", "subclassed"])
def test_a_loss_is_the_mean_over_valid_steps(store, kind):
    model, masks = make_model(kind)
    model.compile("sgd", crossentropy(), weighted_metrics=["accuracy"])
    options = {"targets": "y", "shuffle": False, "masks": masks}
    losses = [model.evaluate(store.batches(**options, batch_size=7, pad_to=pad), verbose=0)[0] for pad in (10, 30)]
    steps = log_likelihoods(model, store, masks)
    truth = -np.concatenate(steps).mean()
    np.testing.assert_allclose(losses, truth, rtol=1e-4)

    filled = store.batches(**options, max_tokens=160, pad_to=10)  # one batch of 16 rows, of which 7 are records
    loss, accuracy = model.evaluate(filled, verbose=0)
    np.testing.assert_allclose(loss, truth, rtol=1e-4)
    np.testing.assert_allclose(accuracy, np.mean(np.exp(np.concatenate(steps)) > 0.5), atol=1e-5)

    whole = store.batches(**options, batch_size=8, pad_to="max")
    hosts = [model.evaluate(whole.shard(i, 2), verbose=0)[0] for i in range(2)]
    np.testing.assert_allclose(np.mean(hosts), truth, rtol=1e-4)


def test_a_smaller_last_batch_weighs_as_its_records(store):
    x = kseq.Sequence(keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="bool"))
    pooled = keras.layers.GlobalMaxPooling1D()(keras.layers.Embedding(4, 3)(x.values))
    model = keras.Model(x, keras.layers.Dense(2, bias_initializer=keras.initializers.Constant([9, 0]))(pooled))
    model.compile("sgd", crossentropy(), metrics=["accuracy"], weighted_metrics=["accuracy"])
    for size in (7, 64, 4):
        found = model.evaluate(store.batches(batch_size=size, targets="label", pad_to=10), verbose=0, return_dict=True)
        assert found["accuracy"] == pytest.approx(4 / 7)
        assert found["weighted_accuracy"] == pytest.approx(4 / 7)
    whole = store.batches(batch_size=8, targets="label", pad_to=10)
    hosts = [model.evaluate(whole.shard(i, 4), verbose=0, return_dict=True) for i in range(4)]
    assert np.mean([host["loss"] for host in hosts]) == pytest.approx(
        model.evaluate(whole, verbose=0, return_dict=True)["loss"], rel=1e-5
    )
    fit = model.fit(whole, class_weight={0: 1.0, 1: 2.0}, verbose=0)
    assert np.isfinite(fit.history["loss"]).all()


def test_metrics_that_would_count_padding_are_told(store):
    model, masks = make_model("none")
    model.compile("sgd", crossentropy(), metrics=["accuracy"])
    with pytest.warns(UserWarning, match="weighted_metrics"):
        model.evaluate(store.batches(batch_size=7, targets="y", masks=masks, pad_to=10), verbose=0)


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_targets_of_any_rank_fit_filled_rows(store, loss):
    model = keras.Sequential([keras.Input((2, 3, 2)), keras.layers.Dense(2)])
    model.compile("sgd", loss)
    whole = store.batches(batch_size=8, inputs="grid", targets="grid")
    truth = model.evaluate(whole, verbose=0)
    hosts = [model.evaluate(whole.shard(i, 2), verbose=0) for i in range(2)]
    assert np.mean(hosts) == pytest.approx(truth, rel=1e-5)
    assert np.isfinite(model.fit(whole.shard(0, 2), verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    "options", [{"batch_size": 3}, {"batch_size": 3, "side": "left"}, {"max_tokens": 24, "targets": "label"}], ids=str
)
def test_predictions_are_those_of_the_records(store, options):
    model, masks = make_model("kseq")
    batches = store.batches(**options, seed=1)
    if "batch_size" in options:
        one_length = store.batches(**options, pad_to=10)
        assert len(model.predict(one_length, verbose=0)) == len(store)
    rows = batches.predict(model, unpad=True)
    assert [len(row) for row in rows] == list(LENGTHS)
    steps = log_likelihoods(model, store, masks)
    for i, row in enumerate(rows):
        found = row - np.log(np.exp(row).sum(-1, keepdims=True))
        np.testing.assert_allclose(found[np.arange(len(row)), store[i]["y"]], steps[i], rtol=1e-4, atol=1e-6)
    padded = batches.predict(model)
    assert padded.shape == (len(store), 10, 2)
    with pytest.raises(ValueError, match="received drop_remainder"):
        store.batches(batch_size=2, drop_remainder=True).predict(model)
