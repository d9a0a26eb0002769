"""Random layers: what they draw, and zeros that are the same in layer mode, in step mode and on every backend."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.counted import at_least, mixed, mixed_number

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.7}


numpy = ops.convert_to_numpy
ONES = np.ones((2, 50, 40), "float32")
SPEC = kseq.SequenceSpec((40,))


def zeros(layer, values=ONES, **options):
    return numpy(layer(values, training=True, **options)) == 0


@pytest.mark.parametrize(
    ("noise_shape", "shared"), [(None, ()), ((None, 1, None), (1,)), ((1, None, None), (0,)), ((None, 1, 1), (1, 2))]
)
@pytest.mark.parametrize("cls", [kseq.Dropout, kseq.DeterministicDropout])
def test_zeros_are_shared_along_axes(cls, noise_shape, shared):
    found = zeros(cls(0.4, noise_shape=noise_shape, seed=1), np.ones((9, 5, 6), "float32"))
    if cls is kseq.DeterministicDropout:
        shared = (*shared, 0)  # all rows are alike
    for axis in range(3):
        alike = (found == np.take(found, [0], axis=axis)).all()
        assert alike == (axis in shared)


def test_dropout_of_keras_is_taken():
    stock = keras.layers.Dropout(0.4, noise_shape=(None, 1, 40), seed=7)
    layer = kseq.Dropout.from_config(stock.get_config())
    np.testing.assert_array_equal(zeros(layer), numpy(stock(ONES, training=True)) == 0)
    stock = keras.layers.SpatialDropout1D(0.4, seed=7)
    layer = kseq.SpatialDropout1D.from_config({k: v for k, v in stock.get_config().items() if k in ("rate", "seed")})
    np.testing.assert_array_equal(zeros(layer), numpy(stock(ONES, training=True)) == 0)


@pytest.mark.parametrize("name", ["GaussianNoise", "GaussianDropout"])
def test_noise_of_keras_is_taken(name):
    stock = getattr(keras.layers, name)(0.4, seed=7)
    layer = getattr(kseq, name).from_config(stock.get_config())
    np.testing.assert_allclose(numpy(layer(ONES, training=True)), numpy(stock(ONES, training=True)), atol=1e-6)
    np.testing.assert_array_equal(numpy(layer(ONES)), ONES)


@pytest.mark.parametrize(
    ("options", "mean", "stddev", "ends"),
    [
        ({"mean": 3, "stddev": 0.5}, 3, 0.5, (-np.inf, np.inf)),
        ({"distribution": "uniform", "minval": -1, "maxval": 3}, 1, 4 / 12**0.5, (-1, 3)),
        ({"distribution": "truncated_normal", "stddev": 2}, 0, 2 * 0.8796, (-4, 4)),
    ],
)
def test_noise_has_a_distribution(options, mean, stddev, ends):
    drawn = numpy(kseq.Noise(**options, seed=3)(ONES, training=True)) - 1
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [mean, stddev], atol=0.06 * stddev)
    assert ends[0] <= drawn.min() + 1e-6 and drawn.max() <= ends[1] + 1e-6
    np.testing.assert_array_equal(numpy(kseq.Noise(**options)(ONES)), ONES)
    assert numpy(kseq.Noise(**options, training_only=False)(ONES)).std() > 0.1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_drawn_keeps_the_dtype(dtype):
    values = ops.cast(ONES, dtype)
    for layer in (kseq.Noise("truncated_normal", dtype=dtype), kseq.GaussianDropout(0.5, dtype=dtype)):
        y = layer(values, training=True)
        assert keras.backend.standardize_dtype(y.dtype) == dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.Noise("cauchy"), "one of normal, uniform, truncated_normal; received 'cauchy'"),
        (lambda: kseq.Noise("uniform", mean=1.0), "the parameters minval and maxval; received mean=1.0"),
        (lambda: kseq.Noise("uniform", minval=2.0), "`minval` must be at most `maxval`"),
        (lambda: kseq.Noise(stddev=-1.0), "`stddev` must be at least 0; received -1.0"),
        (lambda: kseq.GaussianDropout(1.0), "at least 0 and below 1; received 1.0"),
        (lambda: kseq.DeterministicDropout(1.5), "`rate` must be from 0 to 1; received 1.5"),
        (lambda: kseq.Dropout(0.5, (2, None, 3)), "1 .shared. or None for batch and time"),
        (lambda: kseq.Dropout(0.5, (None, 0)), "a whole number above 0 or None for each axis"),
        (lambda: kseq.Dropout(0.5, "no"), "a tuple of whole numbers or None; received 'no'"),
        (lambda: kseq.Dropout(0.5, (None, None, 3))(ONES, training=True), r"channel shape \(40,\); received"),
        (lambda: kseq.DeterministicDropout(0.5, 1, (1, None, None), row_seeds_name="seeds"), "share no zeros"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_have_no_noise():
    with pytest.raises(TypeError, match="Dropout takes floats; received values of dtype int32"):
        kseq.Dropout(0.5)(np.ones((1, 2, 3), "int32"))


# Zeros that follow from seed, position and channel.


def test_mixed_numbers_are_the_same_on_every_backend():
    numbers = np.random.default_rng(0).integers(-(2**31), 2**31, 200).astype("int32")
    numbers[:4] = 0, -1, -(2**31), 2**31 - 1
    found = numpy(mixed(ops.convert_to_tensor(numbers)))
    assert found.tolist() == [mixed_number(int(n)) for n in numbers]
    # 0x846CA68B and 0x7FEB352D are odd, the shifts invertible: no two numbers become one.
    assert len({*found.tolist()}) == len({*numbers.tolist()})
    assert numpy(at_least(mixed(ops.arange(4, dtype="int32")), 0.5)).tolist() == [False, True, True, True]


def test_the_zeros_are_these():
    """On every backend, in every version: a stream that was saved goes on with the zeros that it began with."""
    found = zeros(kseq.DeterministicDropout(0.5, seed=1), np.ones((1, 4, 8), "float32"))[0]
    assert ["".join(map(str, row)) for row in found.astype(int)] == THESE


THESE = ["10011110", "10001101", "01111111", "11000011"]


def test_zeros_are_as_many_as_the_rate_says_and_independent():
    values = np.ones((1, 1000, 64), "float32")
    found = zeros(kseq.DeterministicDropout(0.3, seed=5), values)[0].astype(float)
    other = zeros(kseq.DeterministicDropout(0.3, seed=6), values)[0].astype(float)
    assert abs(found.mean() - 0.3) < 0.01
    found, other = (found - found.mean()) / found.std(), (other - other.mean()) / other.std()
    neighbours = {
        "step": found[1:] * found[:-1],
        "channel": found[:, 1:] * found[:, :-1],
        "both": found[1:, 1:] * found[:-1, :-1],
        "across": found[1:, :-1] * found[:-1, 1:],
        "seed": found * other,
    }
    correlations = {name: product.mean() for name, product in neighbours.items()}
    assert max(map(abs, correlations.values())) < 0.02, correlations
    # Of 1000 steps' and of 64 channels' means each, none is beyond five standard deviations.
    assert np.abs(found.mean(0)).max() < 5 / 1000**0.5 and np.abs(found.mean(1)).max() < 5 / 64**0.5


def test_training_steps_draw_the_zeros_of_layer_mode():
    """Whatever the chunks, leading invalid steps and holes: a position is counted in valid steps."""
    layer = kseq.DeterministicDropout(0.4, seed=2)
    rng = np.random.default_rng(1)
    mask = rng.random((2, 50)) < 0.7
    mask[0, :9] = False
    whole = zeros(layer, kseq.Sequence(ONES, mask).values)
    state, found, start = layer.initial_state(2, SPEC), [], 0
    for size in (10, 20, 20):
        here = slice(start, start + size)
        y, state = layer.step(kseq.Sequence(ONES[:, here], mask[:, here]), state, training=True)
        found.append(numpy(y.values) == 0)
        start += size
    found = np.concatenate(found, axis=1)
    for row in range(2):
        np.testing.assert_array_equal(found[row][mask[row]], whole[row][: mask[row].sum()])
    assert numpy(state["position"]).tolist() == mask.sum(1).tolist()
    idle, _ = layer.step(ONES, layer.initial_state(2, SPEC))
    np.testing.assert_array_equal(numpy(idle.values), ONES)


def test_rows_keep_the_zeros_of_their_seeds():
    layer = kseq.DeterministicDropout(0.4, seed=2, row_seeds_name="seeds")
    seeds = np.array([[3], [7]], "int32")
    found = zeros(layer, context={"seeds": seeds})
    assert 0.4 < (found[0] != found[1]).mean() < 0.56  # 2 * 0.4 * 0.6
    np.testing.assert_array_equal(zeros(layer, context={"seeds": seeds[::-1].copy()}), found[::-1])
    state = layer.initial_state(2, SPEC, context={"seeds": seeds})
    y, state = layer.step(ONES[:, :30], state, training=True)
    y, _ = layer.step(ONES[:, 30:], state, training=True)
    np.testing.assert_array_equal(numpy(y.values) == 0, found[:, 30:])
    with pytest.raises(TypeError, match=r"'seeds', must be whole numbers \[B, n\]; received .* float32"):
        layer(ONES, context={"seeds": seeds.astype("float32")})


def test_a_seed_that_is_drawn_is_kept():
    layer = kseq.DeterministicDropout(0.5)
    copy = kseq.DeterministicDropout.from_config(json.loads(json.dumps(layer.get_config())))
    np.testing.assert_array_equal(zeros(copy), zeros(layer))
    assert (zeros(kseq.DeterministicDropout(0.5)) != zeros(layer)).any()
    first, second = kseq.Repeat([kseq.DeterministicDropout(0.5, seed=1)], 2).sublayers
    assert (zeros(first) != zeros(second)).any()


def test_a_stream_drops_as_layer_mode_does():
    x, layer = keras.Input((None, 40)), kseq.DeterministicDropout(0.5, seed=1)
    stream = kseq.Stream(keras.Model(x, layer(x, training=True)), batch_size=2)
    found = np.concatenate([np.asarray(stream.push(ONES[:, start : start + 25])) for start in (0, 25)], axis=1)
    np.testing.assert_array_equal(found, numpy(layer(ONES, training=True)))
    assert (found == 0).any()
    np.testing.assert_array_equal(numpy(kseq.DeterministicDropout(1.0, always_dropout=True)(ONES)), 0 * ONES)
