"""Records of a store, one by one, as a `tf.data.Dataset` of tuples."""

import numpy as np
import pytest

import kseq.data as kd
from kseq.data.errors import SchemaError

tf = pytest.importorskip("tensorflow")
SCHEMA = {
    "tokens": kd.Field("int64", (None,), store="uint8"),
    "frames": ("bfloat16", (None, 2)),
    "text": "string",
    "data": "bytes",
    "label": kd.Field("int8", optional=True),
    "when": "datetime64[s]",
}
FIELDS = ["label", "tokens", "frames", "text", "data"]


@pytest.fixture
def store(tmp_path):
    with kd.Writer(tmp_path / "store", SCHEMA) as out:
        for n in range(4):
            record = {"tokens": range(n), "frames": np.full((n, 2), n, "bfloat16"), "text": f"é{n}", "data": b"\xff"}
            out.write(record | {"label": None if n == 3 else n, "when": np.datetime64(n, "s")})
    return kd.open(tmp_path / "store")


def test_records_are_tuples_in_the_order_of_the_fields(store):
    dataset = store[:3].to_tf(FIELDS)
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[], [None], [None, 2], [], []]
    assert dataset.cardinality() == 3
    for _ in range(2):
        found = list(dataset.as_numpy_iterator())
        for n, (label, tokens, frames, text, data) in enumerate(found):
            assert (label, tokens.dtype, tokens.tolist()) == (n, np.int64, list(range(n)))
            assert frames.tolist() == [[n, n]] * n and (text.decode(), data) == (f"é{n}", b"\xff")
        assert len(found) == 3
    assert [tokens.tolist() for (tokens,) in store[[2, 0]].to_tf(["tokens"]).as_numpy_iterator()] == [[0, 1], []]


def test_what_tensorflow_cannot_have_is_named(store):
    for fields, words in ((None, "no dtype for field 'when'"), (["x"], "'x'"), ("text", "'text'"), ([], r"\[\]")):
        with pytest.raises(SchemaError, match=words):
            store.to_tf(fields)
    with pytest.raises(tf.errors.InvalidArgumentError, match="record 3, field 'label': the value is missing"):
        list(store.to_tf(FIELDS))
