"""`Sequence` on NumPy arrays and on tensors."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq import Sequence

VALUES = np.arange(12, dtype="float32").reshape(2, 3, 2)
LENGTHS = np.array([3, 1])


@pytest.fixture(params=["numpy", "tensor"])
def convert(request):
    return np.asarray if request.param == "numpy" else ops.convert_to_tensor


def numpy(x):
    return ops.convert_to_numpy(x)


def test_from_lengths_and_back(convert):
    x = Sequence.from_lengths(convert(VALUES), convert(LENGTHS))
    assert numpy(x.mask).tolist() == [[True, True, True], [True, False, False]]
    assert numpy(x.lengths()).tolist() == [3, 1]
    assert [row.tolist() for row in x.to_ragged().rows] == [VALUES[0].tolist(), VALUES[1, :1].tolist()]
    assert x.spec == kseq.SequenceSpec((2,), "float32")


def test_methods_keep_the_kind_of_array(convert):
    x = Sequence.from_lengths(convert(VALUES), convert(LENGTHS))
    made = [
        x.mask_invalid(),
        x.pad_time(1, 2),
        Sequence.concatenate([x, x.slice_time(1)]),
        x.astype("float16"),
        x.apply(lambda v: v + 1),
        Sequence.from_values(convert(VALUES)).with_mask(),
    ]
    assert {type(part) for y in made for part in y} == {type(convert(VALUES))}


def test_values(convert):
    x = Sequence.from_lengths(convert(VALUES), convert(LENGTHS))
    assert numpy(x.mask_invalid().values)[1].tolist() == [[6, 7], [0, 0], [0, 0]]
    assert numpy(x.mask_invalid(-1).values)[1, 1].tolist() == [-1, -1]
    padded = x.pad_time(1, 1, value=5)
    assert numpy(padded.mask).tolist() == [[False, True, True, True, False], [False, True, False, False, False]]
    assert numpy(padded.values)[0, :, 0].tolist() == [5, 0, 2, 4, 5]
    joined = Sequence.concatenate([Sequence(convert(VALUES)), x])
    assert numpy(joined.lengths()).tolist() == [6, 4]
    assert numpy(x.slice_time(0, None, 2).values).shape == (2, 2, 2)


def test_no_mask_stays_no_mask(convert):
    x = Sequence.from_values(convert(VALUES))
    assert x.mask is None and x.mask_invalid() is x and x.slice_time(1).mask is None
    assert Sequence.concatenate([x, x]).mask is None and x.astype("float16").mask is None
    assert x.pad_time(1, 0, valid=True).mask is None and x.pad_time(0, 0) is x
    assert numpy(x.pad_time(1, 0).mask).tolist() == [[False, True, True, True]] * 2


def test_from_ragged():
    rows = [np.ones((2, 3), "float32"), np.ones((4, 3), "float32")]
    for given in (rows, kseq.Ragged.from_rows(rows)):
        x = Sequence.from_ragged(given, multiple_of=3)
        assert x.values.shape == (2, 6, 3) and x.lengths().tolist() == [2, 4]


def test_it_is_a_tree():
    x = Sequence.from_lengths(VALUES, LENGTHS)
    assert keras.tree.map_structure(np.shape, x) == Sequence((2, 3, 2), (2, 3))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Sequence.from_values(np.zeros(3)), ValueError, r"\[batch, time, ...\]; received shape \(3,\)"),
        (lambda: Sequence.from_values([1, 2]), ValueError, "received list"),
        (lambda: Sequence(VALUES, np.ones((2, 3))).check(), TypeError, "must be bool; received float64"),
        (lambda: Sequence(VALUES, np.ones((2, 4), bool)).check(), ValueError, r"\(2, 3\); received \(2, 4\)"),
        (lambda: Sequence(VALUES, np.ones((2, 3, 1), bool)).check(), ValueError, r"received \(2, 3, 1\)"),
        (lambda: Sequence.from_lengths(VALUES, [3, 4]), ValueError, r"from 0 to 3; received \[3, 4\]"),
        (lambda: Sequence.from_lengths(VALUES, [-1, 0]), ValueError, "from 0 to 3"),
        (lambda: Sequence.from_lengths(VALUES, [1, 2, 3]), ValueError, r"shape \(2,\); received \(3,\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
