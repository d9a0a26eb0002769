"""What Examples without a schema hold, whatever the order of their features."""

import itertools

import numpy as np
import pytest

from kseq.data import Writer, errors, formats
from kseq.data import open as open_store
from kseq.data.formats.tf.guess import Guess
from kseq.data.formats.tf.messages import Malformed
from kseq.data.store.schema import Schema


def guess(lengths):
    """The guess for records with features of some lengths."""
    return Guess([{name: np.zeros(n) for name, n in record.items()} for record in lengths])


@pytest.mark.parametrize("order", list(itertools.permutations(["label", "tags", "frames"])))
def test_the_main_sequence_is_the_longest_that_varies(order):
    lengths = [{"label": 1, "tags": 2, "frames": 9}, {"label": 1, "tags": 40, "frames": 8}]
    found = guess([{name: record[name] for name in order} for record in lengths])
    assert found.main == "tags"
    assert found.scalars == {"label"}
    record = found({name: np.zeros(2 if name != "label" else 1) for name in order})
    assert list(record) == ["tags", "frames", "label"]
    assert record["label"].shape == ()


def test_what_cannot_be_told():
    assert guess([{"a": 4, "b": 4}, {"a": 5, "b": 5}]).main == "a"  # of the same lengths: either does
    with pytest.raises(errors.SchemaError, match=r"any of \['a', 'b'\].*give a schema"):
        guess([{"a": 4, "b": 5}, {"a": 5, "b": 4}])
    assert guess([{"a": 7, "fixed": 30}, {"a": 5, "fixed": 30}]).main == "a"
    assert guess([{"a": 1}]).scalars == set()  # one record does not tell
    with pytest.raises(Malformed, match="'a' has 2 values"):
        guess([{"a": 1}, {"a": 1}])({"a": np.zeros(2)})


@pytest.mark.parametrize("order", [("few", "frames", "once"), ("once", "few", "frames"), ("frames", "once", "few")])
def test_feature_lists_are_sequences_in_an_order_of_their_own(tmp_path, order):
    fields = {"few": ("int64", (None,)), "frames": ("float32", (None, 2)), "once": ("int64", (None,))}
    with formats.write(
        tmp_path / "a.tfrecord", {name: fields[name] for name in order}, kind="sequence_example"
    ) as sink:
        for i in range(5):
            sink.write({"few": [1] * (i + 2), "frames": [[0.5, 1.5]] * (3 + 2 * i), "once": [i]})
    (tmp_path / "a.tfrecord.schema.json").unlink()
    for record in formats.read(tmp_path / "a.tfrecord", kind="sequence_example"):
        assert list(record) == ["frames", "few", "once"]
        assert record["once"].shape == (1,)


def test_a_store_of_a_file_has_the_sequence_as_its_main_one(tmp_path):
    path = tmp_path / "a.tfrecord"
    with formats.write(path, Schema({"label": "int64", "frames": ("float32", (None,))})) as sink:
        for i in range(5):
            sink.write({"label": i, "frames": [0.5] * (3 + i)})
    (tmp_path / "a.tfrecord.schema.json").unlink()
    with Writer(tmp_path / "store") as writer:
        for record in formats.read(path):
            writer.write(record)
    store = open_store(tmp_path / "store")
    assert store.schema.main == "frames"
    assert not store.schema["label"].ragged
    assert store.lengths.tolist() == [3, 4, 5, 6, 7]
