"""Random options through `fit`: each record as often as the plan says, over epochs, interruptions and hosts."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampling import examples

from kseq.data import BackupAndRestore, Batches, Writer
from kseq.data import open as open_store
from kseq.data.batches.keras_pass import StepCount

RECORDS = 53


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("plans") / "store"
    with Writer(path, {"tokens": ("int32", (None,)), "ids": ("int32", (None,))}) as writer:
        for i in range(RECORDS):
            n = int(rng.integers(1, 13))
            writer.write({"tokens": rng.integers(1, 9, n).astype(np.int32), "ids": np.full(n, i, np.int32)})
    return open_store(path)


class Counted(keras.Model):
    """Counts the steps that it is trained on of each record, in weights, so that nobody else is asked for them."""

    def __init__(self):
        super().__init__()
        self.counts = self.add_weight(shape=(RECORDS,), initializer="zeros", trainable=False)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs, training=False):
        ids, used = inputs
        if training:
            steps = keras.ops.cast(used, "float32")[..., None] * keras.ops.one_hot(ids, RECORDS)
            self.counts.assign(self.counts + keras.ops.sum(steps, axis=(0, 1)))
        return keras.ops.cast(ids, "float32")[..., None] * self.scale


class ForCounted(Batches):
    """Batches as a `Counted` takes them: the ids of steps, and which steps count."""

    def __getitem__(self, index):
        inputs, targets, weights = super().__getitem__(index)
        ids = inputs["ids"] if isinstance(inputs, dict) else inputs
        return (ids, weights > 0), targets[..., None].astype(np.float32), weights


class Interrupted(Exception):
    """A run was stopped."""


class Interrupt(keras.callbacks.Callback):
    """Stops a run after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = itertools.count(1)
        self.last = steps

    def on_train_batch_end(self, batch, logs=None):
        if next(self.steps) == self.last:
            raise Interrupted


def growing(epoch):
    """A curriculum."""
    return 0, 3 + 4 * epoch


def shrinking(epoch):
    """A curriculum that takes less and less."""
    return 0, max(13 - 4 * epoch, 3)


OPTIONS = st.fixed_dictionaries(
    {
        "size": st.sampled_from([{"batch_size": 8}, {"max_tokens": 60}, {"batch_size": 2, "pack": True}]),
        "shuffle": st.sampled_from([True, False, "block"]),
        "seed": st.integers(0, 99),
        "window": st.sampled_from([1, 2, 256]),
        "length_range": st.sampled_from([None, (2, 9), growing, shrinking]),
        "prefetch": st.sampled_from([0, 2]),
    }
)


def make_batches(store, options):
    options = dict(options)
    size = options.pop("size")
    return ForCounted(store, **size, **options, inputs="ids", targets="ids", masks=None, pad_to=13)


def planned(batches, epochs):
    """How many steps of each record the plan has in some epochs."""
    counts = np.zeros(RECORDS)
    for epoch in range(epochs):
        for index in range(batches.steps(epoch)):
            np.add.at(counts, batches.records(index, epoch), batches.store.lengths[batches.records(index, epoch)])
    return counts


def fresh_model():
    """A model; nothing is compiled, since shapes are many."""
    model = Counted()
    model.built = True  # its weights are there; a backup asks for that
    model.compile("sgd", "mse", run_eagerly=True)
    return model


@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(options=OPTIONS, shuffles=st.booleans())
def test_each_record_comes_as_often_as_planned(store, options, shuffles):
    batches, model = make_batches(store, options), fresh_model()
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    model.fit(batches, epochs=3, verbose=0, shuffle=shuffles, callbacks=[count])
    np.testing.assert_array_equal(np.asarray(model.counts), planned(batches, 3))
    assert len(steps) == sum(batches.steps(epoch) for epoch in range(3))
    assert batches.place == (3, 0)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(options=OPTIONS, freq=st.sampled_from(["epoch", 1, 3]), part=st.floats(0, 1))
def test_an_interrupted_run_comes_to_the_same_counts(store, tmp_path_factory, options, freq, part):
    folder = tmp_path_factory.mktemp("backup")
    batches = make_batches(store, options)
    total = sum(batches.steps(epoch) for epoch in range(3))
    model = fresh_model()
    callbacks = [BackupAndRestore(folder / "b", batches, freq), Interrupt(1 + int(part * (total - 1)))]
    with pytest.raises(Interrupted):
        model.fit(batches, epochs=3, verbose=0, callbacks=callbacks)
    model, batches = fresh_model(), make_batches(store, options)
    model.fit(batches, epochs=3, verbose=0, callbacks=[BackupAndRestore(folder / "b", batches, freq)])
    np.testing.assert_array_equal(np.asarray(model.counts), planned(batches, 3))
    assert batches.place == (3, 0)


@settings(max_examples=examples(6), deadline=None, suppress_health_check=list(HealthCheck))
@given(options=OPTIONS.map(lambda options: options | {"size": {"batch_size": 8}}), hosts=st.sampled_from([2, 4]))
def test_hosts_share_the_records(store, options, hosts):
    batches, total = make_batches(store, options), np.zeros(RECORDS)
    for host in range(hosts):
        model = fresh_model()
        model.fit(batches.shard(host, hosts), epochs=2, verbose=0)
        total += np.asarray(model.counts)
    np.testing.assert_array_equal(total, planned(batches, 2))


def test_a_run_that_was_stopped_goes_on_where_it_was(store):
    batches, model = make_batches(store, {"size": {"batch_size": 8}}), fresh_model()
    with pytest.raises(Interrupted):
        model.fit(batches, epochs=2, verbose=0, callbacks=[Interrupt(3)])
    if keras.backend.backend() != "tensorflow":  # which asks for batches ahead of their use
        assert batches.place == (0, 3)
        model.fit(batches, epochs=2, verbose=0)
        np.testing.assert_array_equal(np.asarray(model.counts), planned(batches, 2))
    assert batches.place[0] <= 2


def test_looking_at_data_takes_none_of_it(store):
    batches = make_batches(store, {"size": {"batch_size": 64}})  # one batch an epoch, which a look takes whole
    model = fresh_model()
    model.fit(batches, epochs=1, verbose=0)
    assert batches.place == (1, 0)
    model.predict(batches, verbose=0)
    assert batches.place == (1, 0)


def test_a_step_count_is_a_number_that_changes():
    values = [4]
    count = StepCount(lambda: values[0])
    assert len(range(count)) == 4 and count - 1 == 3 and 8 / count == 2 and count > 3 and count <= 4 and count
    values[0] = 5
    assert list(range(count))[-1] == 4 and str(count) == "5" and count >= 3 and float(count) == 5


def test_workers_of_keras_are_refused_or_ours(store):
    batches = store.batches(batch_size=8, inputs="ids")
    with pytest.raises(ValueError, match="use_multiprocessing"):
        batches.use_multiprocessing = True
    batches.workers = 2
    assert batches.workers == 1
    assert np.array_equal(batches.batch(0)[0].values, next(iter(batches))[0].values)
