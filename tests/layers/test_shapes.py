"""Layers that give the same numbers in other shapes, against NumPy."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.shape.pattern import Pattern
from kseq.sequence import SequenceSpec

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 2, 3, 4)).astype("float32")
MASK = np.array([[False, True, True, False, True, True], [True, True, True, False, False, False]])


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


# Channels.


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (kseq.Flatten(), X.reshape(2, 6, 24)),
        (kseq.Reshape((4, -1)), X.reshape(2, 6, 4, 6)),
        (kseq.Reshape([24]), X.reshape(2, 6, 24)),
        (kseq.Transpose(), X.transpose(0, 1, 4, 3, 2)),
        (kseq.Transpose([3, -1, 2]), X.transpose(0, 1, 3, 4, 2)),
        (kseq.SwapAxes(2, -1), X.swapaxes(2, 4)),
        (kseq.MoveAxis(2, -1), np.moveaxis(X, 2, -1)),
        (kseq.MoveAxis([2, -1], [-1, 2]), np.moveaxis(X, [2, -1], [-1, 2])),
        (kseq.ExpandDims(0), X[:, :, None]),
        (kseq.ExpandDims(-1), X[..., None]),
        (kseq.ExpandDims((1, -1)), X[:, :, :, None, ..., None].reshape(2, 6, 2, 1, 3, 1, 4)),
        (kseq.Slice([1, (None, None, -1), None, slice(1, None, 2)]), X[:, :, 1, ::-1, None, 1::2]),
        (kseq.Slice([[3, None, -2], [-1, 0, -1], [0, 0]]), X[:, :, 3::-2, -1:0:-1, 0:0]),
        (kseq.EinopsRearrange("a b c -> c (b a)"), X.transpose(0, 1, 4, 3, 2).reshape(2, 6, 4, 6)),
        (kseq.EinopsRearrange("a b (c d) -> d a 1 (c b)", {"d": 2}), "d a 1 (c b)"),
        (kseq.EinopsRearrange("a ... -> (... a)"), X.transpose(0, 1, 3, 4, 2).reshape(2, 6, 24)),
        (kseq.EinopsRearrange("... -> ..."), X),
        (kseq.EinopsRearrange("a  b c->a () b c"), X[:, :, :, None]),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, kseq.SequenceLayer) else "",
)
def test_channels(layer, wanted):
    if isinstance(wanted, str):
        wanted = X.reshape(2, 6, 2, 3, 2, 2).transpose(0, 1, 5, 2, 4, 3).reshape(2, 6, 2, 2, 1, 6)
    if layer.name.startswith("expand_dims") and isinstance(layer.axis, tuple):
        wanted = X.reshape(2, 6, 2, 1, 3, 1, 4)  # each place counted in the output
    for values in (X, (10 * X).astype("int32"), X + 1j * X):
        values = values.astype("complex64") if values.dtype.kind == "c" else values
        given = wanted if values is X else None
        y = layer(kseq.Sequence(values, MASK))
        assert y.spec == layer.output_spec(SequenceSpec((2, 3, 4), values.dtype.name))
        assert array(y.mask).tolist() == MASK.tolist()
        assert y.values.shape == wanted.shape
        if given is not None:
            np.testing.assert_array_equal(array(y.values), given)
            np.testing.assert_array_equal(array(layer.step(values, ())[0].values), given)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(array(again(X)), wanted)


def test_squeeze():
    x = X[:, :, :1, :, :1]
    assert kseq.Squeeze()(x).shape == (2, 6, 3)
    assert kseq.Squeeze(-1)(x).shape == (2, 6, 1, 3)
    assert kseq.Squeeze([2, 4])(x).shape == (2, 6, 3)
    assert kseq.Squeeze()(X).shape == X.shape
    with pytest.raises(ValueError, match=r"axes of size one; received 3 for values of channel shape \(1, 3, 1\)"):
        kseq.Squeeze(3)(x)


def test_values_without_channels():
    x = X[:, :, 0, 0, 0]
    assert kseq.Flatten()(x).shape == (2, 6, 1)
    assert kseq.Reshape(())(X[:, :, 0, 0, :1]).shape == (2, 6)
    assert kseq.ExpandDims(0)(x).shape == (2, 6, 1)
    assert kseq.Transpose()(x).shape == kseq.Slice([])(x).shape == kseq.Squeeze()(x).shape == (2, 6)
    assert kseq.EinopsRearrange("-> 1")(x).shape == (2, 6, 1)
    assert kseq.GlobalReshape((-1, 2))(x).shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: kseq.Reshape((5, 5)), r"`output_shape` \(5, 5\) cannot hold the 24 channels"),
        (lambda: kseq.Reshape((-1, 5)), "cannot hold the 24 channels"),
        (lambda: kseq.Reshape((-1, -1)), "may hold -1 once"),
        (lambda: kseq.Reshape((2.0,)), "must be an integer"),
        (lambda: kseq.Transpose((2, 3)), "must name all of the 3 channel axes"),
        (lambda: kseq.Transpose((1, 2, 3)), "`axes` must name channel axes"),
        (lambda: kseq.SwapAxes(1, 2), "`axis1` must name channel axes .* received 1"),
        (lambda: kseq.MoveAxis(2, 0), "`destination` must name channel axes"),
        (lambda: kseq.MoveAxis((2, 3), 2), "must have a place for each axis"),
        (lambda: kseq.ExpandDims(4), "must be from -4 to 3 .* received 4"),
        (lambda: kseq.ExpandDims((0, -4)), "names a place twice"),
        (lambda: kseq.Slice([1]), r"one for each of the channel axes \(2, 3, 4\)"),
        (lambda: kseq.Slice([2, 0, 0]), "no channel 2 in an axis of size 2"),
        (lambda: kseq.Slice([(0, 1, 0), 0, 0]), "step cannot be zero"),
        (lambda: kseq.EinopsRearrange("a b -> b a"), r"takes 2 axes; received shape \(2, 3, 4\)"),
        (lambda: kseq.EinopsRearrange("(a b) c d -> a b c d"), "needs `axes_lengths` of 'a' or 'b'"),
        (lambda: kseq.EinopsRearrange("a (b e) d -> a b e d", {"b": 2}), "cannot divide an axis of size 3 by 2"),
        (lambda: kseq.EinopsRearrange("1 b c -> b c"), "cannot divide an axis of size 2 by 1"),
        (lambda: kseq.EinopsRearrange("a b c"), "form 'left -> right'; received 'a b c'"),
        (lambda: kseq.EinopsRearrange("a b c -> a b"), "same axes on both sides"),
        (lambda: kseq.EinopsRearrange("a a c -> a c a"), "names 'a' twice"),
        (lambda: kseq.EinopsRearrange("a (b c -> a b c"), "close its brackets"),
        (lambda: kseq.EinopsRearrange("a ((b) c) -> a b c"), r"may not have '\('"),
        (lambda: kseq.EinopsRearrange("a 2 c -> a 2 c"), "may not have '2'"),
        (lambda: kseq.EinopsRearrange("(a ...) -> a ..."), r"'\.\.\.' within brackets on the left"),
        (lambda: kseq.EinopsRearrange("a b c -> c b a", {"d": 2}), "`axes_lengths` names 'd'"),
        (lambda: kseq.EinopsRearrange("a b c -> c b a", {"a": 0}), r"axes_lengths\['a'\]` must be an integer of"),
    ],
)
def test_what_cannot_be(make, words):
    with pytest.raises(ValueError, match=words):
        make().output_spec(SequenceSpec((2, 3, 4)))


def test_slices_of_other_things():
    for one in ("1", 1.0, (), (0, 1, 2, 3), (0.5, 1)):
        with pytest.raises(TypeError, match=r"slice.* must be an integer"):
            kseq.Slice([one])


def test_patterns_are_written_back():
    assert str(Pattern.of("(a b)   c 1->b (a c)")) == "'(a b) c () -> b (a c)'"


def test_symbolic_shapes():
    inputs = keras.Input((None, 2, 3))
    x = kseq.Slice([None, (None, None, -1), 1])(kseq.Reshape((3, 2))(kseq.Flatten()(inputs)))
    x = kseq.EinopsRearrange("1 (a b) -> b a", {"a": 3})(x)
    x = kseq.GlobalReshape((-1, 6))(x)
    model = keras.Model(inputs, kseq.ReverseSequence()(x))
    assert model.output_shape == (None, None, 6)
    wanted = X[..., 0].reshape(2, 6, 3, 2)[:, :, ::-1, 1].reshape(2, 3, 6)[:, ::-1]
    np.testing.assert_array_equal(array(model(X[..., 0])), wanted)
    np.testing.assert_array_equal(model.predict(X[..., 0], verbose=0), wanted)
    odd = model.predict(X[:, :5, ..., 0], verbose=0)  # two steps, and half of one, which is not valid
    assert odd.shape == (2, 3, 6)
    np.testing.assert_array_equal(odd[:, :2], wanted[:, 1:])


# Time.


def test_time_and_channels():
    x = kseq.Sequence(X[:, :, 0], MASK)
    y = kseq.GlobalReshape((-1, 6))(x)  # 12 channels make two steps of one
    np.testing.assert_array_equal(array(y.values)[:, ::2][MASK], X[:, :, 0].reshape(2, 6, 2, 6)[:, :, 0][MASK])
    np.testing.assert_array_equal(array(y.mask), np.repeat(MASK, 2, axis=1))
    layer = kseq.GlobalReshape((4, 2, 9))  # of one and a half steps one
    y = layer(x)
    wanted = np.repeat(MASK[..., None], 12, axis=2).reshape(2, 4, 18).all(-1)
    np.testing.assert_array_equal(array(y.mask), wanted)
    np.testing.assert_array_equal(array(y.values)[wanted], X[:, :, 0].reshape(2, 4, 2, 9)[wanted])
    assert layer.timing.ratio == Fraction(2, 3)
    assert layer.timing.receptive_field_per_step == ((0, 1), (0, 1))
    with pytest.raises(ValueError, match="3 steps of 12 channels do not fit"):
        layer(X[:, :3, 0])


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_patterns_over_time(ceil_mode):
    x = X[:, :5, 0]
    mask = MASK[:, :5]
    layer = kseq.GlobalEinopsRearrange("(t k) a b -> t (b k) a", {"k": 2}, ceil_mode)
    y = layer(kseq.Sequence(x, mask))
    padded, there = np.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)]), np.pad(mask, [(0, 0), (0, 1)])
    values = np.where(there[..., None, None], padded, 0)
    wanted = values.reshape(2, 3, 2, 3, 4).transpose(0, 1, 4, 2, 3).reshape(2, 3, 8, 3)
    valid = (np.any if ceil_mode else np.all)(there.reshape(2, 3, 2), axis=-1)
    np.testing.assert_array_equal(array(y.mask), valid)
    np.testing.assert_array_equal(array(y.values)[valid], wanted[valid])
    assert layer(x).shape == (2, 3, 8, 3)
    np.testing.assert_array_equal(array(kseq.masks.mask_rule(layer)(mask)), valid)


def test_what_patterns_over_time_say_of_themselves():
    def timing(*arguments):
        return kseq.GlobalEinopsRearrange(*arguments).timing

    found = timing("(t k) c -> t (k c)", {"k": 3})
    assert (found.ratio, found.receptive_field_per_step) == (Fraction(1, 3), ((0, 2),))
    found = timing("t (k c) -> (t k) c", {"k": 3})
    assert (found.ratio, found.receptive_field_per_step) == (3, ((0, 0),) * 3)
    found = timing("(t a b) c -> (t b) (a c)", {"a": 2, "b": 2})
    assert (found.ratio, found.receptive_field_per_step) == (Fraction(1, 2), ((0, 2), (-1, 1)))
    assert timing("(k t) c -> t (k c)", {"k": 2}).receptive_field == (-math.inf, math.inf)
    layer = kseq.GlobalEinopsRearrange("t (k c) -> (t k) c", {"c": 3})
    with pytest.raises(ValueError, match="give the lengths of all of t, k but 't', or build it first"):
        layer.timing.ratio  # noqa: B018
    layer.build((None, None, 6))
    assert layer.timing.ratio == 2


def test_time_that_must_be_a_multiple():
    layer = kseq.GlobalEinopsRearrange("(k t) c -> t (k c)", {"k": 2})
    x = X[:, :, 0, 0]
    np.testing.assert_array_equal(array(layer(x)), x.reshape(2, 2, 3, 4).transpose(0, 2, 1, 3).reshape(2, 3, 8))
    with pytest.raises(ValueError, match=r"time must be a multiple of 2 .* received 5 steps"):
        layer(x[:, :5])


def test_layers_over_time_in_layers_of_layers():
    chain = kseq.Serial([kseq.Dense(4), kseq.GlobalReshape((-1, 8), input_channels=4), kseq.Dense(2)])
    assert chain.timing.ratio == Fraction(1, 2)
    assert chain(X[:, :5, 0, 0]).shape == (2, 3, 2)
    assert type(chain).from_config(chain.get_config()).output_length(6) == 3
    with pytest.raises(kseq.NotStreamable, match=r"global_reshape.*rearranges the whole sequence.*SqueezeTime"):
        kseq.Stream(chain)
    with pytest.raises(ValueError, match="give `input_channels`, or build it first"):
        kseq.Serial([kseq.GlobalReshape((-1, 8))])
    with pytest.raises(ValueError, match=r"takes `input_channels` 3; received values of channel shape \(2, 3, 4\)"):
        kseq.GlobalReshape((-1, 8), input_channels=3)(X)
    for shape in ((), (0, 3), (-1, 0), (-1, -1)):
        with pytest.raises(ValueError, match="`output_shape`"):
            kseq.GlobalReshape(shape)
    for pattern in ("t c -> c t", "(t k) c -> t (k c)", "... c -> ... c", "(k t) c -> k (t c)"):
        with pytest.raises(ValueError, match="one name without length in its first axis"):
            kseq.GlobalEinopsRearrange(pattern, {"k": 2} if pattern[1] == "k" else None)
    layer = kseq.GlobalReshape((-1, 8))
    layer(X[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"was built for channel shape \(4,\); received \(2, 4\)"):
        layer(X[:, :, :, 0])


def test_sequences_backwards():
    values = np.arange(18, dtype="float32").reshape(3, 6)
    mask = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0], [0] * 6], bool)
    layer = kseq.ReverseSequence()
    y = layer(kseq.Sequence(values[..., None], mask))
    steps = [[0, 4, 3, 2, 1, 5], [3, 2, 1, 0, 4, 5], [0, 1, 2, 3, 4, 5]]  # where nothing is valid nothing moves
    np.testing.assert_array_equal(array(y.values)[..., 0], np.take_along_axis(values, np.array(steps), axis=1))
    np.testing.assert_array_equal(array(y.mask), np.take_along_axis(mask, np.array(steps), axis=1))
    twice = layer(y)
    np.testing.assert_array_equal(array(twice.values)[..., 0], values)
    np.testing.assert_array_equal(array(layer(values)), values[:, ::-1])
    more = layer(kseq.Sequence(np.pad(values, [(0, 0), (2, 3)]), np.pad(mask, [(0, 0), (2, 3)])))
    np.testing.assert_array_equal(array(more.values)[:, 2:-3][mask], array(y.values)[..., 0][mask])
    with pytest.raises(kseq.NotStreamable, match="its first output is the last input"):
        layer.step(values, ())
