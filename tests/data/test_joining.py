"""Stores of stores: concatenated, parallel, and each of the other, as records and as batches."""

import itertools
import pickle

import numpy as np
import pytest

from kseq import data
from kseq.data import concatenate, errors, parallel

FIELDS = {"id": "int64", "tokens": ("int32", (None,)), "text": "string"}
N = 11  # records of a store
ALL = list(range(N))


def record(i):
    return {"id": i, "tokens": np.full(1 + i % 5, i, np.int32), "text": f"text {i}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


def written(path, schema, records):
    if not path.exists():
        with data.Writer(path, schema, shard_rows=4, metadata={"name": path.name}) as out:
            for each in records:
                out.write(each)
        data.set_metadata(path, splits={"begin": [[0, 3]]})
    return data.open(path)


@pytest.fixture
def a(folder):
    return written(folder / "a", FIELDS, map(record, range(N)))


@pytest.fixture
def b(folder):
    return written(folder / "b", FIELDS, map(record, range(N)))


@pytest.fixture
def flat(folder):
    """One store with the fields that `parallel(a=..., b=...)` gives, in another order on the disk."""
    schema = data.Schema({f"{side}_{name}": field for side in "ab" for name, field in FIELDS.items()}, "a_tokens")
    rows = ({f"{side}_{name}": value for side in "ba" for name, value in record(i).items()} for i in range(100, 105))
    return written(folder / "flat", schema, rows)


# A way to join stores, and the numbers of its records on both sides.
WAYS = {
    "parallel": lambda a, b, flat: (parallel(a=a, b=b), ALL, ALL),
    "of views": lambda a, b, flat: (parallel(a=a[::-1], b=b), ALL[::-1], ALL),
    "of one store": lambda a, b, flat: (parallel(a=a, b=a[::-1]), ALL, ALL[::-1]),
    "twice the same": lambda a, b, flat: (parallel(a=a, b=a), ALL, ALL),
    "a view": lambda a, b, flat: (parallel(a=a, b=b)[[7, 2, 2]], [7, 2, 2], [7, 2, 2]),
    "a view of views": lambda a, b, flat: (parallel(a=a[2:], b=b[:-2])[1:3], [3, 4], [1, 2]),
    "concatenated": lambda a, b, flat: (concatenate([parallel(a=a, b=b)] * 2), ALL * 2, ALL * 2),
    "concatenated views": lambda a, b, flat: (
        concatenate([parallel(a=a, b=b)[8:], parallel(a=b[::-1], b=a), parallel(a=a, b=b)[:0]]),
        [8, 9, 10, *ALL[::-1]],
        [8, 9, 10, *ALL],
    ),
    "of concatenated": lambda a, b, flat: (
        parallel(a=concatenate([a, b[2:4]]), b=concatenate([b[:2], a])),
        [*ALL, 2, 3],
        [0, 1, *ALL],
    ),
    "with a store": lambda a, b, flat: (
        concatenate([parallel(a=a, b=b)[9:], flat]),
        [9, 10, *range(100, 105)],
        [9, 10, *range(100, 105)],
    ),
    "after a store": lambda a, b, flat: (
        concatenate([flat, parallel(a=a, b=b[::-1])])[3:7],
        [103, 104, 0, 1],
        [103, 104, 10, 9],
    ),
}


@pytest.fixture(params=WAYS)
def joined(request, a, b, flat):
    return WAYS[request.param](a, b, flat)


def test_records(joined):
    store, *sides = joined
    assert len(store) == len(sides[0]) and store.schema.main == "a_tokens"
    assert list(store.schema) == ["a_id", "a_tokens", "a_text", "b_id", "b_tokens", "b_text"]
    for found, *numbers in zip(store, *sides, strict=True):
        for side, i in zip("ab", numbers, strict=True):
            for name, value in record(i).items():
                assert np.array_equal(found[f"{side}_{name}"], value)
    assert store[-1]["b_id"] == sides[1][-1] and store.column("a_text") == [f"text {i}" for i in sides[0]]
    assert store.lengths.tolist() == [1 + i % 5 for i in sides[0]]
    assert store.field_lengths("b_tokens", np.array([1])).tolist() == [1 + sides[1][1] % 5]
    with pytest.raises(IndexError):
        store[len(store)]


@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_batches(joined, shuffle):
    store, *sides = joined
    options = {"inputs": ["a_tokens", "b_tokens", "b_text"], "targets": ["a_id", "b_id"], "block_size": 4}
    batches = store.batches(batch_size=4, shuffle=shuffle, **options)
    taken = [batches.records(number).tolist() for number in range(len(batches))]
    assert sorted(itertools.chain(*taken)) == list(range(len(store)))
    assert shuffle or taken[0] == [0, 1, 2, 3][: len(store)]
    for number, ids in enumerate(taken):
        (left, right, texts), (left_ids, right_ids) = batches.batch(number)[:2]
        for row, i in enumerate(ids):
            assert (left_ids[row], right_ids[row]) == (sides[0][i], sides[1][i])
            assert np.array_equal(left.values[row][left.mask[row]], record(sides[0][i])["tokens"])
            assert np.array_equal(right.values[row][right.mask[row]], record(sides[1][i])["tokens"])
            assert texts[row] == record(sides[1][i])["text"]


def test_packed_batches(joined):
    store, (numbers, _) = joined[0], joined[1:]
    found = [batch[0] for batch in store.batches(batch_size=2, pack=True, pad_to=8, inputs="a_tokens")]
    steps = np.concatenate([batch["a_tokens"][batch["segment_ids"] > 0] for batch in found])
    assert set(steps.tolist()) == set(numbers)


def test_what_is_said_of_them(a, b, flat):
    pairs = parallel(a=a, b=b)
    assert pairs.metadata == {"a": {"name": "a"}, "b": {"name": "b"}} and pairs.paths == [*a.paths, *b.paths]
    assert [record["b_id"] for record in pairs.splits["begin"]] == [0, 1, 2] and pairs.complete
    twice = concatenate([pairs, flat])
    assert [record["b_id"] for record in twice.splits["begin"]] == [0, 1, 2, 100, 101, 102]
    with pytest.raises(errors.StoreError, match="a view has no splits"):
        _ = concatenate([pairs[1:], flat]).splits
    nested = parallel(x=pairs, y=a)
    assert nested.schema.main == "x_a_tokens" and nested[3]["x_b_id"] == nested[3]["y_id"] == 3
    assert len(nested.batches(batch_size=4, inputs="x_a_tokens", targets="y_id").batch(0)) >= 2


def test_hashes_say_what_there_is(a, b, flat):
    stores = [way(a, b, flat)[0] for way in WAYS.values()]
    stores += [a, a[1:], concatenate([a, b]), concatenate([a, b[1:]]), parallel("b", a=a, b=b)]
    hashes = [store.content_hash for store in stores]
    assert all(len(found) == 32 for found in hashes)
    assert len(set(hashes)) == len(hashes)
    assert hashes[: len(WAYS)] == [way(a, b, flat)[0].content_hash for way in WAYS.values()]


def test_pickles(joined):
    store, *sides = joined
    again = pickle.loads(pickle.dumps(store))
    assert again.content_hash == store.content_hash and again.column("b_id").tolist() == sides[1]
    (ids,) = next(iter(pickle.loads(pickle.dumps(store.batches(batch_size=2, inputs="a_id", shuffle=False)))))
    assert ids.tolist() == sides[0][:2]


def test_closing_one_leaves_the_others(a, b):
    with parallel(a=a, b=b) as pairs:
        assert pairs[1]["a_id"] == 1
    assert repr(pairs) == "Store(closed)" and a[1]["id"] == 1
    for use in (len, concatenate, lambda store: parallel(x=store), lambda store: store.batches(batch_size=1)):
        with pytest.raises(errors.StoreError, match="closed"):
            use([pairs] if use is concatenate else pairs)


def test_stores_that_do_not_go_together(a, b, flat):
    with pytest.raises(errors.StoreError, match="no store"):
        concatenate([])
    for stores in ([a, flat], [parallel(a=a, b=b), parallel("b", a=a, b=b)], [parallel(a=a, b=b), parallel(a=a, c=b)]):
        with pytest.raises(errors.SchemaError, match="the fields must be those of"):
            concatenate(stores)
    one = parallel(x_a=a)
    with pytest.raises(errors.SchemaError, match="two fields would be named 'x_a_id'"):
        parallel(x=parallel(a=a), x_a=b)
    assert one[0]["x_a_id"] == 0


def test_fields_may_stand_in_another_order(folder, a):
    other = written(folder / "other", {name: FIELDS[name] for name in reversed(FIELDS)}, map(record, range(50, 53)))
    for both in (data.open([a.paths[0], other.paths[0]]), concatenate([a, other]), concatenate([a[:], other])):
        assert both.column("id").tolist() == [*ALL, 50, 51, 52] and both[-1]["text"] == "text 52"
        assert list(both.schema) == list(FIELDS) and both.lengths[-1] == 3
    assert data.concatenate([a, other]).content_hash != data.concatenate([a, a]).content_hash
