"""Records written by column are those that are written one by one, whatever the columns are made of."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kseq import Ragged
from kseq.data import Field, Writer, errors, open, verify
from kseq.data.store import conversion, writer

SCHEMA = {
    "x": Field("int32", (None,)),
    "f": Field("float32", (None, 2), optional=True),
    "n": Field("int64", store="uint16"),
    "b": Field("bool"),
    "v": Field("float32", (3,)),
    "s": Field("string", optional=True),
    "d": Field("bytes"),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(writer, "CHUNK_BYTES", 3000)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert type(a[name]) is type(b[name])
        assert getattr(a[name], "dtype", 0) == getattr(b[name], "dtype", 0)
        assert np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes()


def one_by_one(path, columns, rows, schema):
    """The store of records that are written one by one, or the error."""
    values = {name: getattr(column, "rows", column) for name, column in columns.items()}
    try:
        with Writer(path, schema) as out:
            for row in range(rows):
                out.write({name: column[row] for name, column in values.items()})
    except errors.RecordError as error:
        return error
    return open(path)


def compare(tmp_path, columns, rows, schema, **options):
    wanted = one_by_one(tmp_path / "rows", columns, rows, schema)
    if isinstance(wanted, Exception):
        with pytest.raises(errors.RecordError) as caught, Writer(tmp_path / "batch", schema) as out:
            out.write_batch(columns)
        assert str(caught.value) == str(wanted)
        return
    with Writer(tmp_path / "batch", schema, **options) as out:
        assert out.write_batch(columns) == range(rows)
        for row in range(min(rows, 2)):
            out.write(wanted[row])
        assert out.write_batch(columns) == range(rows + min(rows, 2), 2 * rows + min(rows, 2))
    assert verify(tmp_path / "batch").ok
    found = open(tmp_path / "batch")
    for row, record in enumerate([*wanted, *wanted[:2], *wanted]):
        same(found[row], record)


@st.composite
def columns(draw):
    rows = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    lengths = rng.integers(0, draw(st.sampled_from([1, 4, 300])), rows)
    x = [np.arange(n, dtype="int32") for n in lengths]
    f = [np.ones((n, 2), "float32") * n for n in lengths]
    n = rng.integers(0, 1 << 16, rows)
    found = {
        "x": draw(st.sampled_from([x, tuple(x), Ragged.from_rows(x), [row.astype("int64") for row in x]])),
        "f": draw(st.sampled_from([f, Ragged.from_rows(f), Ragged.from_rows([f[0], *f])[1:]])),
        "n": draw(st.sampled_from([n, n.astype("uint16"), n.tolist(), list(n), n.astype(">i4")])),
        "b": draw(st.sampled_from([n > 9, (n > 9).tolist()])),
        "v": draw(
            st.sampled_from([np.ones((rows, 3), "float32"), np.ones((3, rows), "float32").T, [[1, 2, 3]] * rows])
        ),
        "s": [None if row % 3 == 2 and draw(st.booleans()) else f"é{row}" * (row % 4) for row in range(rows)],
        "d": [b"\0\xff" * row for row in range(rows)],
    }
    if draw(st.booleans()):
        found["x"] = [row.tolist() for row in x]
    if draw(st.integers(0, 9)) == 0:
        del found["f"]
    odd = draw(st.sampled_from([None] * 6 + ["x", "n", "s", "d", "b", "v"]))
    at = draw(st.integers(0, rows - 1))
    if odd is not None:
        bad = draw(st.sampled_from([None, 1.5, "text", b"bytes", 1 << 70, [1.5], True, np.int8(1), -1, "\ud800"]))
        found[odd] = (
            [*found[odd][:at], bad, *found[odd][at + 1 :]] if not isinstance(found[odd], Ragged) else found[odd]
        )
    return found, rows


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
@given(columns(), st.sampled_from([{}, {"shard_rows": 5}, {"shard_bytes": 900}]))
def test_columns_are_written_as_their_rows(tmp_path_factory, case, options):
    compare(tmp_path_factory.mktemp("case"), *case, SCHEMA, **options)


NUMBERS = [
    [1, 2.5],
    [1.5, 2],
    [2**53 + 1, 0.5],
    [-1, 2**63],
    [True, 2],
    [2**63, 2**64],
    [],
    [np.int64(1), np.int8(2)],
    [float("nan"), float("inf")],
    [1e300, 1.0],
    np.array([1, 2], "float64"),
    np.array(["1", "2"]),
    np.array([1, 2], object),
    np.arange(4)[::2],
    np.arange(4).reshape(2, 2),
]


@pytest.mark.parametrize("values", NUMBERS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint64", "bfloat16", "int8"])
def test_lists_of_numbers_lose_nothing(tmp_path, values, dtype):
    compare(tmp_path, {"a": values}, len(values), {"a": dtype})


def test_columns_are_converted_at_once():
    """None of these is taken apart into rows, which is slow."""
    x = Ragged.from_rows([np.arange(3, dtype="int32"), np.arange(2, dtype="int32")])
    for field, column in (
        (Field("int32", (None,)), x),
        (Field("int64", (None,)), x),
        (Field("int32", (None,)), x.rows),
        (Field("int32", (None,)), [[1, 2], [], [3]]),
        (Field("int32"), np.arange(3)),
        (Field("int32"), [1, 2]),
        (Field("float32"), [1.0, 0.1]),
        (Field("string"), ["a", "b"]),
        (Field("string", optional=True), ["a", None]),
        (Field("bytes"), [b"a", b""]),
        (Field("float32", (2,)), np.ones((5, 2), "float16")),
    ):
        assert conversion.convert_column(field, column) is not None, (field, column)


@pytest.mark.parametrize("dtype", ["int32", "bool", "float64", "complex64", "bfloat16", "datetime64[s]"])
def test_scalars_of_numpy_are_taken_as_they_are(tmp_path, dtype, monkeypatch):
    values = list(np.zeros(3, Field(dtype).dtype))
    monkeypatch.setattr(writer, "convert_record", None)
    with Writer(tmp_path / "store", {"a": dtype}) as out:
        for value in values:
            out.write({"a": value})
    assert [record["a"] for record in open(tmp_path / "store")] == values
