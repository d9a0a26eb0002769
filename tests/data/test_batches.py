"""Batches: every record once, as the rows say, padded and weighted; state, shards, parallel stores, errors."""

import functools
import json
import os
import pickle
import threading
from fractions import Fraction
from itertools import combinations, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kseq
from kseq.data import Writer, concatenate, errors, parallel
from kseq.data import open as open_store
from kseq.data.batches.bounds import choose_bounds, choose_ratio, follower_length, leader_length

RECORDS = 203


def make_store(path, count=RECORDS, seed=0):
    """Records that say their own number in every step."""
    rng = np.random.default_rng(seed)
    fields = {
        "tokens": ("int32", (None,)),
        "id": "int32",
        "frames": ("float32", (None, 2)),
        "small": kseq.data.Field("int32", (None,), store="uint8"),
        "half": kseq.data.Field("float32", (None,), store="float16"),
        "weight": "float32",
        "name": "string",
        "image": ("float32", (2, 3)),
        "maybe": kseq.data.Field("float32", optional=True),
    }
    with Writer(path, fields, shard_rows=70) as writer:
        for i in range(count):
            n, m = int(rng.integers(1, 40)), int(rng.integers(0, 9))
            writer.write(
                {
                    "tokens": np.full(n, i, np.int32),
                    "id": i,
                    "frames": np.full((2 * n, 2), i, np.float32),
                    "small": np.full(m, i % 250, np.int32),
                    "half": np.full(n, 0.5, np.float32),
                    "weight": i / 10,
                    "name": f"record {i}",
                    "image": np.full((2, 3), i, np.float32),
                    "maybe": i if i % 2 else None,
                }
            )
    return open_store(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("batches") / "store")


PLANS = {
    "shuffled": {"batch_size": 8},
    "in order": {"batch_size": 8, "shuffle": False},
    "in order, bucketed": {"batch_size": 8, "shuffle": False, "bucket": True},
    "blocks": {"batch_size": 8, "shuffle": "block", "block_size": 16, "blocks_in_flight": 3},
    "whole blocks": {"batch_size": 8, "shuffle": "block", "block_size": 8, "blocks_in_flight": 1, "bucket": False},
    "longest": {"batch_size": 8, "pad_to": "max"},
    "one length": {"batch_size": 8, "pad_to": 50},
    "small windows": {"batch_size": 8, "window": 2},
    "tokens": {"max_tokens": 200},
    "tokens in order": {"max_tokens": 200, "shuffle": False, "window": 3},
    "packed": {"batch_size": 4, "pack": True, "pad_to": 64},
    "one batch": {"batch_size": 500},
    "single rows": {"batch_size": 1},
}


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS)
def test_every_record_comes_once_an_epoch(store, options):
    batches = store.batches(**options)
    orders = []
    for epoch in range(2):
        order = np.concatenate([batches.records(i, epoch) for i in range(batches.steps(epoch))])
        assert np.array_equal(np.sort(order), np.arange(RECORDS))
        orders.append(order)
    assert np.array_equal(*orders) == (options.get("shuffle", True) is False)


@pytest.mark.parametrize("options", PLANS.values(), ids=PLANS)
def test_rows_are_the_records_padded(store, options):
    batches = store.batches(**options, inputs="tokens", targets="tokens", pad_value=-1)
    for index in range(len(batches)):
        inputs, targets, weights = batches.batch(index)
        rows = batches.records(index)
        if options.get("pack"):
            values, mask = inputs["tokens"], inputs["segment_ids"] > 0
            found = [
                values[row, inputs["segment_ids"][row] == k]
                for row in range(len(values))
                for k in range(1, inputs["segment_ids"][row].max() + 1)
            ]
            found = found[: len(rows)]
            assert np.array_equal(inputs["positions"][~mask], np.zeros((~mask).sum()))
        else:
            values, mask = inputs
            found = kseq.unpad(values, mask)
            assert np.array_equal(weights[len(rows) :], np.zeros_like(weights[len(rows) :]))
            assert np.array_equal(weights[: len(rows)], mask[: len(rows)])
        for row, steps in zip(rows, found, strict=False):
            assert np.array_equal(steps, store[int(row)]["tokens"])
        assert (values[~mask] == -1).all()
        assert np.array_equal(values, targets)


def test_rows_are_full_and_few_in_shape(store):
    batches = store.batches(batch_size=8, max_shapes=4)
    shapes = {batches.batch(i)[0].values.shape for i in range(len(batches))}
    assert len(shapes) <= 4
    assert {rows for rows, _ in shapes} == {8}
    shapes = {batch[0].values.shape for batch in store.batches(max_tokens=300)}
    assert len(shapes) <= 16
    assert all(rows * steps <= 300 for rows, steps in shapes)


def test_the_last_batch_is_filled_with_rows_of_no_weight_or_dropped(store):
    batches = store.batches(batch_size=8, inputs="id", targets="id")
    ids, _, weights = batches.batch(len(batches) - 1)
    assert RECORDS % 8 == 3
    assert weights.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert (ids[3:] == ids[0]).all()
    dropped = store.batches(batch_size=8, inputs="id", targets="id", drop_remainder=True)
    assert len(dropped) == RECORDS // 8
    assert all(len(batch) == 2 for batch in dropped)


def test_sample_weights_of_a_field(store):
    batches = store.batches(batch_size=8, inputs="id", targets="id", sample_weights="weight", shuffle=False)
    ids, _, weights = batches.batch(1)
    assert np.allclose(weights, ids / 10)
    _, _, weights = store.batches(batch_size=8, targets="tokens", sample_weights="weight", shuffle=False).batch(1)
    assert weights.shape[0] == 8
    assert np.allclose(weights[2], 1.0 * (weights[2] > 0))  # record 10 weighs 1


def test_structures(store):
    one = store.batches(batch_size=4, inputs=["tokens", "id"], shuffle=False).batch(0)[0]
    assert type(one) is tuple
    assert isinstance(one[0], kseq.Sequence)
    named = store.batches(batch_size=4, inputs={"x": "tokens", "y": "image"}, masks="inputs", shuffle=False).batch(0)[0]
    assert set(named) == {"x", "x_mask", "y"}
    flat = store.batches(batch_size=4, inputs=["tokens", "id"], masks="inputs", shuffle=False).batch(0)[0]
    assert [array.ndim for array in flat] == [2, 2, 1]
    bare = store.batches(batch_size=4, masks=None, shuffle=False).batch(0)[0]
    assert isinstance(bare, np.ndarray)
    _, targets, weights = store.batches(batch_size=4, targets={"a": "tokens", "b": "id"}, shuffle=False).batch(0)
    assert set(targets) == set(weights) == {"a", "b"}
    assert weights["a"].ndim == 2
    assert weights["b"].ndim == 1


def test_texts_narrow_dtypes_and_missing_values(store):
    inputs = {"name": "name", "small": "small", "half": "half", "maybe": "maybe"}
    batches = store.batches(batch_size=4, inputs=inputs, shuffle=False, pad_value={"maybe": -5, "half": 7, "small": -2})
    found = batches.batch(0)[0]
    assert found["name"].tolist() == [f"record {i}" for i in range(4)]
    assert found["small"].values.dtype == np.int32
    assert (found["small"].values[~found["small"].mask] == -2).all()
    assert found["half"].values.dtype == np.float32
    assert set(found["half"].values[~found["half"].mask]) <= {7.0}
    assert set(found["half"].values[found["half"].mask]) == {0.5}
    assert found["maybe"].tolist() == [-5, 1, -5, 3]


def test_an_end_is_appended(store):
    batches = store.batches(batch_size=4, eos=999, shuffle=False)
    values, mask = batches.batch(0)[0]
    for row, steps in enumerate(kseq.unpad(values, mask)):
        assert np.array_equal(steps, [*store[row]["tokens"], 999])
    packed = store.batches(batch_size=4, eos=999, pack=True, pad_to=60).batch(0)[0]
    segment = packed["tokens"][0][packed["segment_ids"][0] == 1]
    assert segment[-1] == 999
    assert (segment[:-1] == segment[0]).all()
    cut = store.batches(batch_size=4, eos=999, pad_to=5, truncate="right", shuffle=False).batch(0)[0]
    assert cut.values.shape == (4, 5)
    assert (cut.values[cut.mask.sum(1) == 5, -1] == 999).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation(store, side):
    batches = store.batches(batch_size=4, inputs="frames", pad_to=6, truncate=side, shuffle=False)
    assert batches.batch(0)[0].values.shape == (4, 6, 2)
    with pytest.raises(errors.RecordError, match="at most 6"):
        store.batches(batch_size=4, inputs="frames", pad_to=6)


def test_other_sequences_follow_the_leader(store):
    batches = store.batches(batch_size=8, inputs=["tokens", "frames"], targets="small")
    shapes = set()
    for (tokens, frames), _, _ in batches:
        assert (frames.mask.sum(1) == 2 * tokens.mask.sum(1)).all()
        shapes.add((tokens.values.shape[1], frames.values.shape[1]))
    assert len(shapes) <= 16
    fixed = store.batches(batch_size=8, targets="small", pad_to={"small": 9})
    assert {batch[1].shape[1] for batch in fixed} == {9}
    ratio = store.batches(batch_size=8, inputs=["tokens", "frames"], length_ratios={"frames": 3})
    assert all(frames.values.shape[1] == 3 * tokens.values.shape[1] for ((tokens, frames),) in ratio)


def test_a_curriculum_takes_lengths_by_epoch(store):
    batches = store.batches(batch_size=4, length_range=lambda epoch: (1, 5 + 10 * epoch))
    for epoch, most in ((0, 5), (1, 15), (0, 5)):
        taken = np.concatenate([batches.records(i, epoch) for i in range(batches.steps(epoch))])
        assert np.array_equal(np.sort(taken), np.flatnonzero(store.lengths <= most))
    assert sum(len(store.batches(batch_size=1, length_range=(5, 7)).records(i)) for i in range(3)) == 3
    for options in ({"batch_size": 4}, {"max_tokens": 99}, {"batch_size": 4, "pack": True}):
        with pytest.raises(errors.EmptyStoreError, match="epoch 0"):
            len(store.batches(**options, length_range=(1000, 2000)))
    with pytest.raises(errors.EmptyStoreError, match="203 records"):
        len(store.batches(batch_size=500, drop_remainder=True))


def test_views_and_concatenated_stores(store, tmp_path):
    odd = store[1::2]
    order = np.concatenate([ids for (ids,) in odd.batches(batch_size=8, inputs="id", drop_remainder=True)])
    assert (order % 2 == 1).all()
    assert len(set(order.tolist())) == len(order)
    tokens, _ = odd.batches(batch_size=8, shuffle=False).batch(1)[0]
    assert np.array_equal(tokens[:, 0], np.arange(17, 33, 2))
    other = make_store(tmp_path / "other", 10)
    both = concatenate([store, other])
    ids = np.concatenate([ids for (ids,) in both.batches(batch_size=1, inputs="id")])
    assert np.array_equal(np.bincount(ids)[:10], np.full(10, 2))
    mixed = concatenate([odd, other[:3]])
    assert [record["id"] for record in mixed][-4:] == [201, 0, 1, 2]


def test_folds_test_every_record_once(store):
    folds = store.folds(4, seed=1, by="name")
    assert sorted(record["id"] for _, test in folds for record in test) == list(range(RECORDS))
    for train, test in folds:
        assert len(train) + len(test) == RECORDS
        assert not {record["id"] for record in train} & {record["id"] for record in test}


def test_fixed_shapes_in_order_are_views_of_the_files(store):
    image = store.batches(batch_size=7, inputs="image", shuffle=False).batch(0)[0]
    assert not image.flags.writeable
    assert image.base is not None
    assert np.array_equal(image[:, 0, 0], np.arange(7))
    across = store.batches(batch_size=50, inputs="image", shuffle=False).batch(1)[0]  # shards have 70 records
    assert np.array_equal(across[:, 0, 0], np.arange(50, 100))


def test_iteration_goes_on_and_state_is_restored_exactly(store):
    batches = store.batches(batch_size=8, inputs="id", seed=3)
    straight = [batch[0].tolist() for _ in range(2) for batch in batches]
    first = store.batches(batch_size=8, inputs="id", seed=3)
    taken = [batch[0].tolist() for batch in islice(first, 9)]
    state = json.loads(json.dumps(first.state()))
    assert len(json.dumps(state)) < 100
    second = store.batches(batch_size=8, inputs="id", seed=3)
    second.restore(state)
    rest = [batch[0].tolist() for _ in range(2) for batch in second]
    assert taken + rest == straight


def test_a_state_of_another_store_or_plan_is_refused(store, tmp_path):
    state = store.batches(batch_size=8).state()
    for other in (store.batches(batch_size=9), store.batches(batch_size=8, seed=1), store.batches(batch_size=8, eos=1)):
        with pytest.raises(errors.StateError, match="another plan"):
            other.restore(state)
    with pytest.raises(errors.StateError, match="another store"):
        make_store(tmp_path / "other", seed=1).batches(batch_size=8).restore(state)
    for broken in (None, {}, state | {"format": 2}, state | {"batch": 10**6}):
        with pytest.raises(errors.StateError):
            store.batches(batch_size=8).restore(broken)


class Table:
    """A curriculum that is no function and ends."""

    def __init__(self, *most):
        self._most = most

    def __call__(self, epoch):
        return 0, self._most[epoch]


def up_to(least, epoch, most=9):
    return least, most + epoch


def test_a_state_is_that_of_what_a_curriculum_gives(store):
    functions = [
        lambda epoch: (0, 20),
        lambda epoch: (5, 99),
        lambda epoch: (0, 20 + (epoch > 30)),
        functools.partial(up_to, 0),
        functools.partial(up_to, 1),
        functools.partial(up_to, 0, most=19),
        Table(9, 15, 99),
        Table(9, 15, 98),
    ]
    states = [store.batches(batch_size=8, length_range=function).state() for function in functions]
    assert len({state["plan"] for state in states}) == len(functions)
    store.batches(batch_size=8, length_range=Table(9, 15, 99)).restore(states[6])
    store.batches(batch_size=8, length_range=lambda epoch: up_to(0, epoch)).restore(states[3])
    with pytest.raises(errors.StateError, match="another plan"):
        store.batches(batch_size=8, length_range=functions[1]).restore(states[0])


@pytest.mark.parametrize("options", [{}, {"pad_to": "max"}, {"shuffle": False}, {"inputs": "id"}], ids=str)
def test_hosts_share_every_batch(store, options):
    whole = store.batches(batch_size=8, **options)
    hosts = [whole.shard(i, 4) for i in range(4)]
    for index in range(len(whole)):
        parts = [host.batch(index)[0] for host in hosts]
        joined = [
            np.concatenate([np.atleast_1d(part[k]) for part in parts]) if isinstance(parts[0], tuple) else None
            for k in range(2)
        ]
        expected = whole.batch(index)[0]
        if isinstance(expected, tuple):
            assert all(np.array_equal(a, b) for a, b in zip(joined, expected, strict=True))
        else:
            assert np.array_equal(np.concatenate(parts), expected)
    hosts[0].restore(whole.state())  # a run goes on with another number of hosts
    with pytest.raises(ValueError, match=r"multiple of 3.*received \[8\]"):
        whole.shard(0, 3)


def test_hosts_share_packed_and_weighted_batches(store):
    whole = store.batches(batch_size=4, pack=True, targets="tokens", pad_to=64)
    last = len(whole) - 1
    parts = [whole.shard(i, 2).batch(last) for i in range(2)]
    for k in (1, 2):
        assert np.array_equal(np.concatenate([part[k] for part in parts]), whole.batch(last)[k])
    whole = store.batches(batch_size=8, inputs="id", targets="id")
    parts = [whole.shard(i, 4).batch(len(whole) - 1)[2] for i in range(4)]
    assert np.concatenate(parts).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_batches_are_pure_and_safe_to_share(store):
    batches = store.batches(batch_size=8, inputs="id")
    expected = [batches.batch(i, epoch)[0].tolist() for epoch in range(3) for i in range(len(batches))]
    copy = pickle.loads(pickle.dumps(batches))
    found = {}

    def read(epoch):
        for i in np.random.default_rng(epoch).permutation(len(copy)).tolist():
            found[epoch, i] = copy.batch(i, epoch)[0].tolist()

    threads = [threading.Thread(target=read, args=(epoch,)) for epoch in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[epoch, i] for epoch in range(3) for i in range(len(batches))] == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_forked_process_makes_batches_ahead_itself(store):
    batches = store.batches(batch_size=8, prefetch=4, inputs="id", shuffle=False)
    next(iter(batches))
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(next(iter(batches))[0], np.arange(8, 16)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_prefetching_changes_nothing(store):
    plain, ahead = (store.batches(batch_size=8, inputs="id", prefetch=n) for n in (0, 3))
    for _ in range(2):
        assert [batch[0].tolist() for batch in plain] == [batch[0].tolist() for batch in ahead]


def test_parallel_stores(store, tmp_path):
    rng = np.random.default_rng(1)
    with Writer(tmp_path / "german", {"tokens": ("int32", (None,))}) as writer:
        for i in range(RECORDS):
            length = max(int(1.3 * store.lengths[i]) + int(rng.integers(-2, 3)), 1)
            writer.write({"tokens": np.full(length, i, np.int32)})
    pairs = parallel(english=store, german=open_store(tmp_path / "german"))
    assert set(pairs[3]) > {"english_tokens", "german_tokens"}
    shapes = set()
    for source, target, weights in pairs.batches(batch_size=8, inputs="english_tokens", targets="german_tokens"):
        assert np.array_equal(source.values[:, 0], target[:, 0])
        assert weights.shape == target.shape
        shapes.add((source.values.shape, target.shape))
    assert len(shapes) <= 16
    part = pairs.split(0.5, seed=0)[0]
    assert len(part) == pytest.approx(RECORDS / 2, abs=1)
    with pytest.raises(errors.StoreError, match="same number"):
        parallel(a=store, b=store[:3])
    with pytest.raises(errors.SchemaError, match="leader"):
        parallel("c", a=store)


def test_masks_and_lengths_go_through_a_model(store):
    timing = kseq.Timing(block_size=2, ratio=Fraction(1, 2))
    batches = store.batches(
        batch_size=8, inputs="frames", targets="tokens", model=timing, shuffle=False, pad_to={"frames": 80}
    )
    inputs, targets, weights = batches.batch(0)
    assert inputs.values.shape[1] == 80
    assert targets.shape == weights.shape == (8, 40)
    assert np.array_equal(weights.sum(1), store.lengths[:8])
    inputs, labels = store.batches(
        batch_size=8, inputs="tokens", targets="small", model=timing, target_alignment="sequence", drop_remainder=True
    ).batch(0)
    lengths = inputs.mask.sum(1)
    assert np.array_equal(labels["output_lengths"], -(-lengths // 2))
    assert np.array_equal(labels["output_mask"].sum(1), labels["output_lengths"])
    assert (labels["label_lengths"] <= labels["labels"].shape[1]).all()


WRONG = {
    "neither size": ({}, ValueError, "one of batch_size and max_tokens"),
    "both sizes": ({"batch_size": 1, "max_tokens": 2}, ValueError, "one of batch_size and max_tokens"),
    "no such field": ({"batch_size": 1, "inputs": "x"}, errors.SchemaError, "received 'x'"),
    "no such target": ({"batch_size": 1, "targets": ["x"]}, errors.SchemaError, "received 'x'"),
    "weights that are none": ({"batch_size": 1, "sample_weights": "name"}, errors.SchemaError, "received 'name'"),
    "shuffle": ({"batch_size": 1, "shuffle": "yes"}, ValueError, "received 'yes'"),
    "masks": ({"batch_size": 1, "masks": True}, ValueError, "received True"),
    "batch size": ({"batch_size": 0}, ValueError, "at least 1; received 0"),
    "block size": ({"batch_size": 8, "block_size": 12}, ValueError, "multiple of the batch size, 8; received 12"),
    "too few tokens": ({"max_tokens": 20}, ValueError, "received 20"),
    "too short": ({"batch_size": 1, "pad_to": 3}, errors.RecordError, "at most 3"),
    "optional": ({"batch_size": 1, "inputs": "maybe"}, errors.SchemaError, "pad_value"),
    "pack": ({"batch_size": 1, "pack": True, "inputs": ["tokens", "id"]}, errors.SchemaError, r"received \['id'\]"),
    "pack uneven": ({"batch_size": 4, "pack": True, "inputs": ["tokens", "frames"]}, errors.DataError, "same length"),
    "pad value": ({"batch_size": 1, "pad_value": 0.5}, ValueError, "int32 holds; received 0.5"),
    "eos": ({"batch_size": 1, "eos": {"id": 1}}, errors.SchemaError, "received 'id'"),
    "ratio": ({"batch_size": 1, "length_ratios": {"tokens": 1}}, errors.SchemaError, "received 'tokens'"),
    "bucket": ({"batch_size": 1, "inputs": "id", "bucket": True}, errors.SchemaError, "need a sequence"),
    "truncate": ({"batch_size": 1, "truncate": "both"}, ValueError, "received 'both'"),
    "alignment": ({"batch_size": 1, "target_alignment": "x"}, ValueError, "received 'x'"),
}


@pytest.mark.parametrize(("options", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_say_what_is_wanted(store, options, error, message):
    with pytest.raises(error, match=message):
        store.batches(**options).batch(0)


def test_an_empty_store_has_no_batches(tmp_path):
    with Writer(tmp_path / "empty", {"tokens": ("int32", (None,))}):
        pass
    with pytest.raises(errors.EmptyStoreError, match="empty"):
        open_store(tmp_path / "empty").batches(batch_size=1)


def test_index_out_of_range(store):
    batches = store.batches(batch_size=8)
    with pytest.raises(IndexError, match="received 26"):
        batches[26]
    assert np.array_equal(batches[-1][0].values, batches[25][0].values)


def test_the_report_counts_cells(store):
    report = store.batches(batch_size=8, pad_to=40).report()
    assert report.cells == 26 * 8 * 40
    assert report.useful == store.lengths.sum()
    assert report.shapes == {(8, 40): 26}
    assert json.loads(json.dumps(report.to_json()))["efficiency"] == report.efficiency
    assert "26 steps" in str(report)


def test_efficiency_on_lengths_like_text(tmp_path):
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.8, 0.75, 20_000).astype(int), 1, 512)
    rows = kseq.Ragged(np.zeros(lengths.sum(), np.int32), np.concatenate([[0], np.cumsum(lengths)]))
    with Writer(tmp_path / "text", {"tokens": ("int32", (None,))}) as writer:
        writer.write_batch({"tokens": rows})
    store = open_store(tmp_path / "text")
    assert store.batches(batch_size=64, max_shapes=14).report().efficiency >= 0.84
    assert store.batches(batch_size=16, pack=True, pad_to=512).report().efficiency >= 0.98


# The algebra of bounds and orders.


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_bounds_waste_least(lengths, most):
    counts = np.bincount(lengths)
    bounds = choose_bounds(counts, most)
    assert len(bounds) <= most
    assert bounds[-1] == max(lengths)

    def steps(chosen):
        return sum(min(b for b in chosen if b >= n) for n in lengths)

    longest = max(lengths)
    best = min(
        steps((*others, longest))
        for k in range(min(most, len(set(lengths))))
        for others in combinations(sorted(set(lengths) - {longest}), k)
    )
    assert steps(bounds) == best


@given(st.integers(0, 500), st.integers(1, 64), st.integers(1, 64))
def test_a_follower_fits_the_least_leader_that_is_padded_for_it(length, numerator, denominator):
    ratio = numerator, denominator
    leader = int(leader_length(np.array([length]), ratio)[0])
    assert follower_length(leader, ratio) >= length
    assert leader == 0 or follower_length(leader - 1, ratio) < length


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=20))
def test_a_ratio_is_small_numbers(pairs):
    leader, follower = np.array(pairs).T
    numerator, denominator = choose_ratio(leader, follower)
    assert numerator > 0
    assert 0 < denominator <= 4096
