"""What the options of batches make of records: random ones, beside the same said in plain Python."""

import inspect
import itertools

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kseq.data import Batches, Writer, errors, shift
from kseq.data import open as open_store
from kseq.data.batches.bounds import choose_bounds
from kseq.data.batches.options import BatchesOptions, Options

RECORDS = 41


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("options") / "store"
    fields = {"tokens": ("int32", (None,)), "small": ("int32", (None,)), "id": "int32"}
    with Writer(path, fields, shard_rows=17) as writer:
        for i in range(RECORDS):
            n = int(rng.integers(0, 13))
            tokens = rng.integers(10, 99, n).astype(np.int32)
            writer.write({"tokens": tokens, "small": tokens // 10, "id": i})
    return open_store(path)


def shown_rows(store, ids, options, shifted, padded):
    """What is to be seen of the tokens of records: values and mask."""
    values = np.full((len(ids), padded), -1, np.int32)
    mask = np.zeros((len(ids), padded), bool)
    for row, record in enumerate(ids):
        steps = store[int(record)]["tokens"].tolist()
        marks = [options.get(name) for name in ("bos", "eos")]
        room = padded - sum(mark is not None for mark in marks)
        if len(steps) > room:
            steps = steps[len(steps) - room :] if options["truncate"] == "left" else steps[:room]
        steps = [*([] if marks[0] is None else marks[:1]), *steps, *([] if marks[1] is None else marks[1:])][shifted:]
        first = padded - len(steps) if options["side"] == "left" else 0
        values[row, first : first + len(steps)] = steps
        mask[row, first : first + len(steps)] = True
    return values, mask


OPTIONS = st.fixed_dictionaries(
    {
        "size": st.sampled_from([{"batch_size": 4}, {"max_tokens": 90}, {"batch_size": {8: 8, 12: 5, 16: 2}}]),
        "pad_to": st.sampled_from([None, "max", 16, [8, 16]]),
        "max_shapes": st.sampled_from([None, 1, 3]),
        "bos": st.sampled_from([None, 1]),
        "eos": st.sampled_from([None, 2]),
        "side": st.sampled_from(["right", "left"]),
        "multiple_of": st.sampled_from([None, 4]),
        "truncate": st.sampled_from([None, "left", "right"]),
        "shuffle": st.sampled_from([True, False, "block"]),
        "seed": st.integers(0, 9),
        "pad_value": st.just(-1),
    }
)


def made(store, options, **more):
    options = dict(options)
    size = options.pop("size")
    if isinstance(size.get("batch_size"), dict):
        options["pad_to"] = None
    return store.batches(**size, **options, **more)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(options=OPTIONS, steps=st.integers(1, 3))
def test_rows_are_what_the_options_say(store, options, steps):
    batches = made(store, options, inputs=["tokens", "id"], targets=shift("tokens", steps))
    seen = []
    for index in range(len(batches)):
        (inputs, numbers), targets, weights = batches.batch(index)
        ids = batches.records(index)
        seen += ids.tolist()
        used, padded = len(ids), inputs.values.shape[1]
        assert np.array_equal(numbers[:used], ids)
        if options["multiple_of"]:
            assert padded % 4 == 0
        if isinstance(options["size"].get("batch_size"), dict):
            assert len(numbers) == options["size"]["batch_size"][padded]
        for got, shifted in ((inputs, 0), ((targets, weights > 0), steps)):
            values, mask = shown_rows(store, ids, options, shifted, padded)
            assert np.array_equal(got[0][:used], values)
            assert np.array_equal(got[1][:used], mask)
        assert not weights[used:].any()
    assert sorted(seen) == list(range(RECORDS))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(options=OPTIONS.map(lambda given: given | {"size": {"batch_size": 4}}), steps=st.integers(1, 3))
def test_hosts_see_the_same(store, options, steps):
    options = {"inputs": ["tokens", "id"], "targets": shift("tokens", steps)} | options
    whole = made(store, options)
    hosts = [whole.shard(i, 2) for i in range(2)]
    for index in range(len(whole)):
        parts = [keras.tree.flatten(host.batch(index)) for host in hosts]
        for a, b, both in zip(*parts, keras.tree.flatten(whole.batch(index)), strict=True):
            assert np.array_equal(np.concatenate([a, b]), both)


@pytest.mark.parametrize("marks", [{}, {"bos": 1}, {"eos": 2}, {"bos": 1, "eos": 2}], ids=str)
def test_packed_rows_foretell_within_a_record(store, marks):
    batches = store.batches(batch_size=3, pack=True, pad_to=20, targets=shift("tokens", 1), pad_value=-1, **marks)
    for index in range(len(batches)):
        inputs, targets, weights = batches.batch(index)
        for row, record in itertools.product(range(3), range(1, inputs["segment_ids"].max() + 1)):
            at = inputs["segment_ids"][row] == record
            assert np.array_equal(inputs["tokens"][row][at][1:], targets[row][at][:-1])
            assert not at.any() or (targets[row][at][-1] == -1 and weights[row][at][-1] == 0)


def test_lengths_stand_beside_sequences(store):
    (values, lengths, ids) = store.batches(batch_size=4, inputs=["tokens", "id"], masks="lengths").batch(0)[0]
    assert (values.ndim, lengths.dtype) == (2, np.int32)
    assert np.array_equal(lengths, store.lengths[ids])
    named = store.batches(batch_size=4, inputs={"x": "tokens", "y": "id"}, masks="lengths").batch(0)[0]
    assert set(named) == {"x", "x_lengths", "y"}


def test_a_schedule_goes_by_batches(store):
    asked = []

    def schedule(iteration):
        asked.append(iteration)
        return (0, 4) if iteration < 6 else (0, 12)

    batches = store.batches(batch_size=4, length_schedule=schedule)
    steps = [batches.steps(epoch) for epoch in range(4)]
    few = -(-int((store.lengths <= 4).sum()) // 4)
    begun = np.cumsum([0, *steps])[:4]
    assert steps == [few if before < 6 else 11 for before in begun]
    assert set(begun.tolist()) <= set(asked)
    state = batches.state()
    store.batches(batch_size=4, length_schedule=lambda i: (0, 4) if i < 6 else (0, 12)).restore(state)
    with pytest.raises(errors.StateError, match="another plan"):
        store.batches(batch_size=4, length_schedule=lambda i: (0, 5) if i < 6 else (0, 12)).restore(state)


def test_a_loss_of_what_follows_is_the_mean_of_what_there_is(store):
    embedding = keras.layers.Embedding(100, 3, mask_zero=True)
    for masked in (True, False):
        x = keras.Input((None,), dtype="int32")
        h = embedding(x) if masked else keras.layers.Embedding(100, 3)(x)
        model = keras.Model(x, keras.layers.Dense(100)(h))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses = []
        for options in ({"batch_size": 41}, {"batch_size": 48}, {"batch_size": 41, "pad_to": 30}):
            batches = store.batches(**options, masks=None, targets=shift("tokens"), length_range=(1, 99))
            losses.append(model.evaluate(batches, verbose=0))
        total, count = 0.0, 0
        for record in (store[i]["tokens"] for i in range(RECORDS)):
            if len(record) > 1:
                logits = keras.ops.convert_to_numpy(model(record[None]))[0, :-1]
                logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
                total -= logits[np.arange(len(record) - 1), record[1:]].sum()
                count += len(record) - 1
        np.testing.assert_allclose(losses, total / count, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": {8: 4}, "pad_to": 8}, ValueError, "received pad_to=8"),
        ({"batch_size": {}}, ValueError, "received {}"),
        ({"batch_size": {8: 0}}, ValueError, "received 0"),
        ({"batch_size": {8: 4}}, errors.RecordError, "at most 8"),
        ({"batch_size": {16: 4}, "pack": True}, ValueError, "pack needs batch_size"),
        ({"max_tokens": 8, "pad_to": "max"}, ValueError, "longest row, .*received 8"),
        ({"batch_size": 1, "side": "up"}, ValueError, "received 'up'"),
        ({"batch_size": 1, "multiple_of": 0}, ValueError, "received 0"),
        ({"batch_size": 1, "pack": True, "side": "left"}, ValueError, "pack fills"),
        ({"batch_size": 1, "bos": {"id": 1}}, errors.SchemaError, "received 'id'"),
        ({"batch_size": 1, "bos": 0.5}, ValueError, "int32 holds; received 0.5"),
        ({"batch_size": 1, "targets": shift("id")}, errors.SchemaError, "only a sequence"),
        ({"batch_size": 1, "targets": shift("x")}, errors.SchemaError, "received 'x'"),
        ({"batch_size": 1, "length_range": (0, 1), "length_schedule": len}, ValueError, "received both"),
        ({"batch_size": 1, "inputs": "id", "length_schedule": len}, errors.SchemaError, "need a sequence"),
        ({"batch_size": 1, "pad_to": []}, ValueError, "empty list"),
    ],
    ids=str,
)
def test_wrong_options_say_what_is_wanted(store, options, error, message):
    with pytest.raises(error, match=message):
        store.batches(**options).batch(0)


def test_shift_goes_forward():
    with pytest.raises(ValueError, match="at least 1; received 0"):
        shift("tokens", 0)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=40), price=st.integers(0, 60))
def test_a_bound_is_worth_its_price(lengths, price):
    counts = np.bincount(lengths)

    def padded(bounds):
        return np.asarray(bounds)[np.searchsorted(bounds, lengths)].sum() + price * len(bounds)

    cost = min(padded(choose_bounds(counts, most)) for most in range(1, 17))
    assert padded(choose_bounds(counts, 16, price)) == cost


def test_a_small_store_has_one_shape(store):
    assert len({batch[0].values.shape for batch in store.batches(batch_size=4)}) == 1


def test_the_mask_of_a_shifted_input_goes_through_the_model(store):
    model = keras.Sequential([keras.Input((None, 1)), keras.layers.Dense(1)])
    batches = store.batches(batch_size=4, inputs=shift("tokens"), targets=shift("tokens"), model=model, pad_to=13)
    (_, mask), _, weights = batches.batch(0)
    assert np.array_equal(weights > 0, mask & (np.arange(len(mask)) < len(batches.records(0)))[:, None])


def test_what_passes_options_on_knows_them_all():
    _, store, *options = inspect.signature(Batches.__init__).parameters.values()
    assert store.name == "store"
    assert BatchesOptions.__annotations__ == {option.name: option.annotation for option in options}
    assert {*Options.__annotations__} == {*BatchesOptions.__annotations__, "rows_at"}
