"""Positions: signals by their formulas, at any position, with positions that are given, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.6}


RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 9, 6)).astype("float32")
MASK = RNG.random((4, 9)) < 0.7
MASK[0], MASK[1, :3], MASK[3] = True, False, False
GIVEN = RNG.integers(0, 50, (4, 9)).astype("int32")
LATE = 2**31 - 5
LAYERS = {
    "add": lambda **options: kseq.AddTimingSignal(max_timescale=100.0, **options),
    "rotary": lambda **options: kseq.RotaryEmbedding(100.0, **options),
    "concat": lambda **options: kseq.ConcatTimingSignal(3, **options),
    "learned": lambda **options: kseq.ConcatPositionEmbedding(50, 2, **options),
}


def numpy(x):
    return ops.convert_to_numpy(x)


def signal(positions, channels, shortest=1.0, longest=10000.0):
    """The definition, in float64: [..., channels] of positions [...]."""
    n = channels // 2
    rates = shortest * np.exp(-np.arange(n) * np.log(longest / shortest) / max(n - 1, 1))
    angles = np.asarray(positions, "float64")[..., None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles), np.zeros((*angles.shape[:-1], channels % 2))], axis=-1)


def counted(mask, mode):
    """Positions of valid steps: how many valid steps there were, or how many steps since the first of them."""
    counts = mask if mode == "valid" else np.logical_or.accumulate(mask, axis=1)
    return np.cumsum(counts, axis=1) - 1


@pytest.mark.parametrize("mode", ["valid", "all"])
@pytest.mark.parametrize("name", LAYERS)
def test_counted_positions_are_those_that_could_be_given(name, mode):
    counting, given = LAYERS[name](positions=mode), LAYERS[name](positions="given")
    spoilt = np.where(MASK[..., None], X, np.nan)
    counting.build(X.shape)
    given.build([X.shape, (4, 9)])
    given.set_weights(counting.get_weights())
    positions = counted(MASK, mode).astype("int32")
    y = counting(kseq.Sequence(spoilt, MASK))
    wanted = given((kseq.Sequence(spoilt, MASK), kseq.Sequence(positions)))
    np.testing.assert_array_equal(numpy(wanted.mask), MASK)
    np.testing.assert_allclose(numpy(y.values)[MASK], numpy(wanted.values)[MASK], atol=1e-6)
    state, streamed = counting.initial_state(4, kseq.SequenceSpec((6,))), []
    with transforms.no_gradients():
        for start, end in ((0, 1), (1, 5), (5, 9)):
            part, state = counting.step(kseq.Sequence(spoilt, MASK).slice_time(start, end), state)
            streamed.append(numpy(part.values))
    np.testing.assert_allclose(np.concatenate(streamed, axis=1)[MASK], numpy(y.values)[MASK], atol=1e-6)
    np.testing.assert_array_equal(numpy(state["position"]), np.maximum(positions[:, -1] + 1, 0))


@pytest.mark.parametrize(
    ("channels", "options", "shape"),
    [
        ((6,), {}, (6,)),
        ((5,), {"min_timescale": 0.5, "max_timescale": 50.0}, (5,)),
        ((1,), {}, (1,)),
        ((2, 3), {}, (2, 3)),
        ((4, 3), {"axes": -2}, (4, 1)),
        ((4, 3), {"axes": (3,)}, (1, 3)),
        ((4, 1, 3), {"axes": (-1, 2)}, (4, 1, 3)),
    ],
)
def test_timing_signals_are_those_of_the_formula(channels, options, shape):
    x = RNG.normal(size=(2, 7, *channels)).astype("float32")
    wanted = signal(np.arange(7), int(np.prod(shape)), *(options.get(f"{n}_timescale", d) for n, d in DEFAULTS))
    found = numpy(kseq.AddTimingSignal(**options)(x)) - x
    np.testing.assert_allclose(found, np.broadcast_to(wanted.reshape(7, *shape), x.shape), atol=1e-5)


DEFAULTS = (("min", 1.0), ("max", 10000.0))


def test_a_scaled_signal():
    layer = kseq.AddTimingSignal(trainable_scale=True)
    layer.build(X.shape)
    layer.set_weights([np.float32(3)])
    np.testing.assert_allclose(numpy(layer(X)) - X, np.broadcast_to(3 * signal(np.arange(9), 6), X.shape), atol=1e-5)


def test_signals_are_put_behind_the_channels_of_every_axis():
    x = RNG.normal(size=(2, 7, 2, 3)).astype("float32")
    y = numpy(kseq.ConcatTimingSignal(5, max_timescale=30.0)(x))
    np.testing.assert_array_equal(y[..., :3], x)
    wanted = signal(np.arange(7), 5, longest=30.0)[None, :, None]
    np.testing.assert_allclose(y[..., 3:], np.broadcast_to(wanted, (2, 7, 2, 5)), atol=1e-5)


def test_positions_beyond_the_learned_ones_have_the_last():
    layer = kseq.ConcatPositionEmbedding(4, 2)
    y = numpy(layer(X))[0, :, 6:]
    table = numpy(layer.embeddings.value)
    np.testing.assert_array_equal(y, table[np.minimum(np.arange(9), 3)])


def test_rotations_along_another_axis():
    x = RNG.normal(size=(2, 7, 4, 3)).astype("float32")
    y = numpy(kseq.RotaryEmbedding(50.0, axis=2)(x))
    wanted = numpy(kseq.RotaryEmbedding(50.0)(np.moveaxis(x, 2, -1)))
    np.testing.assert_allclose(y, np.moveaxis(wanted, -1, 2), atol=1e-6)
    turns = np.exp(1j * np.arange(7)[:, None] * 50.0 ** (-np.arange(2) / 2))
    pairs = (x[:, :, :2] + 1j * x[:, :, 2:]) * turns[..., None]
    np.testing.assert_allclose(y[:, :, :2] + 1j * y[:, :, 2:], pairs, atol=1e-5)


def at(layer, position, steps=6):
    """Outputs of the steps from a position on, for zeros or ones."""
    state = {"position": ops.convert_to_tensor(np.array([position], "int32"))}
    value = np.ones if isinstance(layer, kseq.RotaryEmbedding) else np.zeros
    with transforms.no_gradients():
        y, state = layer.step(kseq.Sequence(value((1, steps, 6), "float32")), state)
    return numpy(y.values)[0], numpy(state["position"])[0]


@pytest.mark.parametrize("position", [10**4, 10**6, 10**9, LATE - 6])
def test_signals_are_right_at_large_positions(position):
    found, after = at(kseq.AddTimingSignal(), position)
    np.testing.assert_allclose(found, signal(position + np.arange(6), 6), atol=2e-6)
    assert after == position + 6


@pytest.mark.parametrize("layer", [kseq.AddTimingSignal(), kseq.RotaryEmbedding()])
def test_there_is_no_seam_where_positions_wrap_around(layer):
    """From one step to the next every channel turns by the same angle."""
    y, after = at(layer, LATE, steps=10)
    assert after == LATE + 10 - 2**32
    pairs = y[:, 3:] + 1j * y[:, :3] if isinstance(layer, kseq.AddTimingSignal) else y[:, :3] + 1j * y[:, 3:]
    turns = pairs[1:] / pairs[:-1]
    np.testing.assert_allclose(turns, np.broadcast_to(turns[:1], turns.shape), atol=5e-6)


def test_rotary_angles_may_be_rounded():
    x = ops.cast(np.tile(X, (1, 30, 1)), "bfloat16")
    exact, rounded = (
        kseq.RotaryEmbedding(positions_in_at_least_fp32=exact, dtype="bfloat16")(x) for exact in (True, False)
    )
    wanted = numpy(kseq.RotaryEmbedding(dtype="float32")(x))
    errors = [np.abs(numpy(ops.cast(y, "float32")) - wanted).max() for y in (exact, rounded)]
    assert errors[0] < 0.05 < errors[1]


def test_a_model_that_is_given_positions_streams():
    x, positions = keras.Input((None, 6), name="x"), keras.Input((None,), dtype="int32", name="positions")
    y = kseq.GRU(2)(kseq.RotaryEmbedding(50.0, positions="given")([x, positions]))
    model = keras.Model([x, positions], y)
    whole = numpy(model([X, GIVEN]))
    stream = kseq.Stream(model)
    chunks = [stream.push([X[0, a:b], GIVEN[0, a:b]]) for a, b in ((0, 4), (4, 9))]
    np.testing.assert_allclose(np.concatenate(chunks), whole[0], atol=1e-5)


def test_sequences_of_unknown_length():
    x = keras.Input((None, 6))
    y = x
    for make in LAYERS.values():
        y = make(positions="all")(y) if make is not LAYERS["rotary"] else make()(y)
    model = keras.Model(x, y)
    assert model.output_shape == (None, None, 11)
    assert model.predict(X, verbose=0).shape == (4, 9, 11)


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: kseq.RotaryEmbedding(), (2, 3, 5), "the size of `axis` -1 must be even; received 5"),
        (lambda: kseq.RotaryEmbedding(axis=1), (2, 3, 4), "`axis` must name channel axes"),
        (lambda: kseq.RotaryEmbedding(0.0), (2, 3, 4), "`max_wavelength` must be positive; received 0.0"),
        (lambda: kseq.AddTimingSignal(axes=(0,)), (2, 3, 4), "`axes` must name channel axes"),
        (lambda: kseq.AddTimingSignal(max_timescale=-1.0), (2, 3, 4), "timescales must be positive"),
        (lambda: kseq.AddTimingSignal(positions="some"), (2, 3, 4), "`positions` must be one of .* received 'some'"),
        (lambda: kseq.ConcatTimingSignal(), (2, 3), "received values without channels"),
        (lambda: kseq.ConcatTimingSignal(0), (2, 3, 4), "`channels`"),
        (lambda: kseq.ConcatPositionEmbedding(0, 2), (2, 3, 4), "`timesteps`"),
    ],
)
def test_what_is_refused(make, shape, reason):
    with pytest.raises(ValueError, match=reason):
        make()(np.zeros(shape, "float32"))


def test_inputs_that_are_refused():
    with pytest.raises(ValueError, match="takes floats; received int32"):
        kseq.AddTimingSignal()(GIVEN[..., None])
    with pytest.raises(ValueError, match=r"positions .* of integers as its second input; received .* float32"):
        kseq.RotaryEmbedding(positions="given")([X, X[..., 0]])
    with pytest.raises(ValueError, match="expected a list of 2 inputs"):
        kseq.RotaryEmbedding(positions="given")(X)
