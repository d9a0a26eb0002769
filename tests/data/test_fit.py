"""Batches in Keras: `fit` follows the plan on every backend, and an interrupted run goes on exactly where it was."""

import keras
import numpy as np
import pytest

import kseq
from kseq.data import BackupAndRestore, Batches, Writer, errors
from kseq.data import open as open_store

RECORDS, STEPS = 61, 8  # 8 batches of 8, the last of 5
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("fit") / "store"
    with Writer(path, {"tokens": ("int32", (None,)), "label": "float32", "id": "int32"}) as writer:
        for i in range(RECORDS):
            tokens = rng.integers(1, 20, rng.integers(1, 9)).astype(np.int32)
            writer.write({"tokens": tokens, "label": float(tokens.sum() % 2), "id": i})
    return open_store(path)


class Spied(Batches):
    """Notes which records Keras is given."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.given = []

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.given.append(batch[0]["id"].tolist())
        return batch


def make_batches(store, **options):
    inputs = {"x": "tokens", "id": "id"}
    return Spied(store, batch_size=8, inputs=inputs, targets="label", pad_to=8, masks=None, **options)


def make_model():
    keras.utils.set_random_seed(0)
    tokens, number = keras.Input((8,), dtype="int32", name="x"), keras.Input((), dtype="int32", name="id")
    x = keras.layers.Embedding(20, 3, mask_zero=True)(tokens)
    x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling1D()(x))
    model = keras.Model({"x": tokens, "id": number}, keras.layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


def records(batches, epoch):
    """The ids of an epoch's batches as the plan has them, filled rows left out."""
    return [batches.records(i, epoch).tolist() for i in range(STEPS)]


def given(batches, steps):
    """What Keras was given for its last `steps` steps, filled rows left out."""
    whole = batches.given[-steps:]
    return [ids if len(set(ids)) == len(ids) else list(dict.fromkeys(ids)) for ids in whole]


def test_fit_follows_the_plan_though_keras_shuffles(store):
    batches = make_batches(store)
    make_model().fit(batches, epochs=2, verbose=0)
    seen = given(batches, 2 * STEPS)
    for epoch in range(2):
        part = seen[epoch * STEPS : (epoch + 1) * STEPS]
        assert part == records(batches, epoch)
    assert batches.epoch == 2


def test_fit_in_order(store):
    batches = make_batches(store)
    make_model().fit(batches, epochs=1, verbose=0, shuffle=False)
    assert given(batches, STEPS)[: STEPS - 1] == records(batches, 0)[: STEPS - 1]


def test_an_epoch_of_other_steps_goes_on_in_the_data(store):
    batches = make_batches(store)
    make_model().fit(batches, epochs=6, steps_per_epoch=4, verbose=0)  # three epochs of the data
    seen = {tuple(ids) for ids in given(batches, len(batches.given))}
    assert {tuple(ids) for epoch in range(3) for ids in records(batches, epoch)} <= seen


def test_evaluation_and_prediction_take_every_record_in_order(store):
    batches = make_batches(store, shuffle=False)
    model = make_model()
    assert np.isfinite(model.evaluate(batches, verbose=0))
    predicted = model.predict(
        store.batches(batch_size=8, inputs={"x": "tokens", "id": "id"}, pad_to=8, masks=None, shuffle=False), verbose=0
    )
    values = kseq.pad([store[i]["tokens"] for i in range(RECORDS)], length=8)[0]
    whole = keras.ops.convert_to_numpy(model({"x": values, "id": np.arange(RECORDS)}))
    np.testing.assert_allclose(predicted[:RECORDS], whole, atol=1e-5)


def test_masks_reach_layers_of_kseq(store):
    batches = store.batches(batch_size=8, targets="tokens", pad_to=8)
    tokens = kseq.Sequence(keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="bool"))
    x = kseq.Embedding(20, 4)(tokens)
    x = kseq.Conv1D(4, 3, padding="causal")(x)
    model = keras.Model(tokens, keras.layers.Dense(20)(x.values))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(batches, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


class Interrupt(keras.callbacks.Callback):
    """Stops a run as a signal would."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("save_freq", "after"), [(3, 11), ("epoch", 11), (1, 16)])
def test_an_interrupted_run_ends_like_one_that_was_not(store, tmp_path, save_freq, after):
    straight, batches = make_model(), make_batches(store)
    straight.fit(batches, epochs=3, verbose=0, callbacks=[BackupAndRestore(tmp_path / "other", batches)])

    model, batches = make_model(), make_batches(store)
    callbacks = [BackupAndRestore(tmp_path / "backup", batches, save_freq), Interrupt(after)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(batches, epochs=3, verbose=0, callbacks=callbacks)

    model, batches = make_model(), make_batches(store)
    callbacks = [BackupAndRestore(tmp_path / "backup", batches, save_freq)]
    model.fit(batches, epochs=3, verbose=0, callbacks=callbacks)
    for found, expected in zip(model.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert int(model.optimizer.iterations) == 3 * STEPS
    assert not (tmp_path / "backup").exists()


def test_a_backup_of_other_data_is_refused(store, tmp_path):
    model, batches = make_model(), make_batches(store)
    callback = BackupAndRestore(tmp_path / "backup", batches, delete_checkpoint=False)
    model.fit(batches, epochs=1, verbose=0, callbacks=[callback])
    other = make_batches(store, seed=1)
    with pytest.raises(errors.StateError, match="another plan"):
        model.fit(other, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path / "backup", other)])
    with pytest.raises(TypeError, match="received list"):
        BackupAndRestore(tmp_path / "backup", [])


def test_a_backup_survives_a_kill_between_its_renames(store, tmp_path):
    model, batches = make_model(), make_batches(store)
    model.fit(
        batches,
        epochs=1,
        verbose=0,
        callbacks=[BackupAndRestore(tmp_path / "backup", batches, delete_checkpoint=False)],
    )
    (tmp_path / "backup" / "current").rename(tmp_path / "backup" / "previous")
    model, batches = make_model(), make_batches(store)
    model.fit(batches, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path / "backup", batches)])
    assert int(model.optimizer.iterations) == 2 * STEPS


def test_feeds_give_the_batches_of_an_epoch(store):
    batches = store.batches(batch_size=8, targets="label", pad_to=8)
    expected = [(x.values, x.mask, y, w) for x, y, w in (batches.batch(i) for i in range(STEPS))]

    def same(found):
        found = [(np.asarray(x[0]), np.asarray(x[1]), np.asarray(y), np.asarray(w)) for x, y, w in found]
        return len(found) == STEPS and all(
            np.array_equal(a, b)
            for one, other in zip(found, expected, strict=True)
            for a, b in zip(one, other, strict=True)
        )

    if keras.backend.backend() == "torch":
        import torch

        assert same(torch.utils.data.DataLoader(batches.to_torch(), batch_size=None))
    elif ON_TENSORFLOW:
        dataset = batches.to_tf()
        assert int(dataset.cardinality()) == STEPS
        assert same(dataset.as_numpy_iterator())
    else:
        grain = pytest.importorskip("grain")
        dataset = batches.to_grain(epochs=2)
        assert isinstance(dataset, grain.MapDataset)
        assert len(dataset) == 2 * STEPS
        assert same(dataset[i] for i in range(STEPS))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="a data set of tensorflow")
def test_a_tensorflow_data_set_has_the_batches_that_there_are(store):
    growing = store.batches(batch_size=8, length_range=lambda epoch: (0, 3 + 2 * epoch))
    steps = [growing.steps(epoch) for epoch in range(3)]
    dataset = growing.to_tf()
    assert len(set(steps)) == 3 and int(dataset.cardinality()) == -2
    assert [sum(1 for _ in dataset) for _ in range(3)] == steps
    begun = store.batches(batch_size=8)
    begun.restore(begun.state() | {"batch": len(begun) - 3})
    dataset = begun.to_tf()
    assert [sum(1 for _ in dataset) for _ in range(2)] == [3, len(begun)]
    whole = store.batches(batch_size=8)
    dataset = whole.to_tf()
    whole.restore(whole.state() | {"batch": 2})
    assert [sum(1 for _ in dataset) for _ in range(2)] == [len(whole)] * 2
