"""Layers with weights for each step: against NumPy, and what happens beyond the last step that they know."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.06, "tensorflow": 0.08}

STEPS = 10
LAYERS = {
    "embedding": lambda **o: kseq.SequenceEmbedding([3 + n for n in range(STEPS)], 2, STEPS, multiple_of=8, **o),
    "dense": lambda **o: kseq.SequenceDense(2, STEPS, activation="tanh", **o),
    "masked": lambda **o: kseq.MaskedDense(2, STEPS, activation="tanh", **o),
}
MASK = np.array(
    [[1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]], bool
)
every_layer = pytest.mark.parametrize("name", LAYERS)


def numpy(x):
    return ops.convert_to_numpy(x)


def drawn(name, steps=8, rows=4, **options):
    rng = np.random.default_rng(1)
    layer = LAYERS[name](**options)
    shape = (rows, steps) if name == "embedding" else (rows, steps, 3)
    layer.build(shape)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    if name == "embedding":
        return layer, rng.integers(0, 3, shape).astype("int32")
    return layer, rng.normal(size=shape).astype("float32")


def expected(name, layer, x, mask, counted="valid"):
    """One row and one step at a time."""
    weights = layer.get_weights()
    y = np.zeros((*x.shape[:2], 2))
    for b, row in enumerate(mask):
        position, seen = 0, []
        for t, valid in enumerate(row):
            if not valid:
                position += counted == "all" and row[:t].any()
                continue
            if name == "embedding":
                first = sum(3 + n for n in range(position))
                y[b, t] = weights[0][first + x[b, t]]
            else:
                kernel, bias = weights
                seen.append((position, x[b, t]))
                sees = seen if name == "masked" else seen[-1:]
                of = (lambda s: kernel[s, position]) if name == "masked" else (lambda s: kernel[s])  # noqa: B023
                y[b, t] = np.tanh(sum(value @ of(s) for s, value in sees) + bias[position])
            position += 1
    return y


@every_layer
@pytest.mark.parametrize("counted", ["valid", "all"])
def test_values(name, counted):
    layer, x = drawn(name, positions=counted)
    y = layer(kseq.Sequence(x, MASK))
    np.testing.assert_allclose(numpy(y.mask_invalid().values), expected(name, layer, x, MASK, counted), atol=1e-5)
    full = np.ones_like(MASK)
    np.testing.assert_allclose(numpy(layer(x)), expected(name, layer, x, full), atol=1e-5)
    found = numpy(layer(kseq.Sequence(x, full)).values)
    np.testing.assert_allclose(found, expected(name, layer, x, full), atol=1e-5)


@every_layer
def test_a_row_is_longer_than_what_is_known(name):
    layer, x = drawn(name, STEPS + 2)
    message = rf"knows {STEPS} steps; received {STEPS + 2}: raise num_steps \(={STEPS}\) of `{layer.name}`"
    with pytest.raises(ValueError, match=message):
        layer(x)
    with pytest.raises(ValueError, match=message):
        layer(kseq.Sequence(x, np.ones(x.shape[:2], bool)))
    mask = np.ones(x.shape[:2], bool)
    mask[:, [1, 5]] = False  # as many as are known
    whole = layer(kseq.Sequence(x, mask))
    assert np.isfinite(numpy(whole.mask_invalid().values)).all()


@every_layer
def test_a_step_is_beyond_what_is_known(name):
    layer, x = drawn(name, STEPS + 2)
    spec = kseq.SequenceSpec(x.shape[2:], x.dtype.name)
    state = layer.initial_state(4, spec)
    _, state = layer.step(x[:, :4], state)
    mask = np.ones((4, 8), bool)
    mask[1:, -2:] = False
    with pytest.raises(ValueError, match=r"takes 6 more valid steps in row 0; received a chunk that has 8: raise num"):
        layer.step(kseq.Sequence(x[:, 4:], mask), state)
    mask[0, :2] = False
    y, state = layer.step(kseq.Sequence(x[:, 4:], mask), state)  # invalid steps are free
    assert np.isfinite(numpy(y.mask_invalid().values)).all()
    assert numpy(layer.room(state)).tolist() == [0, 0, 0, 0]
    layer.step(kseq.Sequence(x[:, :3], np.zeros((4, 3), bool)), state)
    layer.step(x[:, :3], state, active=np.zeros(4, bool))
    with pytest.raises(ValueError, match="takes 0 more valid steps in row 2"):
        layer.step(x[:, :1], state, active=np.array([False, False, True, False]))


@every_layer
def test_where_no_value_is_known_there_is_nan(name):
    if keras.backend.backend() == "torch":
        pytest.skip("nothing is traced")
    layer, x = drawn(name, STEPS + 2)
    mask = np.ones(x.shape[:2], bool)
    mask[1, 3:] = False
    y = numpy(transforms.jit(lambda x, mask: layer(kseq.Sequence(x, mask)).values)(x, mask))
    assert np.isfinite(y[0, :STEPS]).all() and np.isnan(y[0, STEPS:]).all() and np.isfinite(y[1]).all()


@every_layer
def test_a_stream_refuses_what_is_beyond_and_goes_on(name):
    layer, x = drawn(name, STEPS + 2, rows=2)
    stream = kseq.Stream(layer, 2, dtype=x.dtype.name)
    found = [stream.push(x[:, :7])]
    with pytest.raises(ValueError, match="takes 3 more valid steps in row 0; received a chunk that has 4: raise"):
        stream.push(x[:, 7:11])
    found += [stream.push(x[:, n : n + 1]) for n in range(7, STEPS)]
    for _ in range(2):
        with pytest.raises(ValueError, match="takes 0 more valid steps in row 0; received a chunk that has 1"):
            stream.push(x[:, :1])
    np.testing.assert_allclose(np.concatenate(found, 1), numpy(layer(x[:, :STEPS])), atol=1e-5)
    assert stream.flush().shape[1] == 0
    again = stream.push(x[:, :STEPS])
    np.testing.assert_allclose(again, np.concatenate(found, 1), atol=1e-5)


def test_a_stream_of_as_many_steps_as_are_known_is_flushed():
    """What makes the last outputs come out is invalid, and takes nothing of the room."""
    layer = kseq.Serial([kseq.SequenceDense(2, 6), kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.MaskedDense(2, 6)])
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    whole = numpy(layer(x))
    stream = kseq.Stream(layer, 2)
    found = [stream.push(x[:, :5]), stream.push(x[:, 5:]), stream.flush()]
    np.testing.assert_allclose(np.concatenate(found, 1), whole, atol=1e-5)
    stream.push(x)
    with pytest.raises(ValueError, match=r"sequence_dense.* takes 0 more valid steps"):
        stream.push(x[:, :1])
    np.testing.assert_allclose(stream.flush(), whole[:, -2:], atol=1e-5)


def test_rows_are_limited_each_by_its_own_steps():
    layer, x = drawn("masked", STEPS, rows=2)
    stream = kseq.Stream(layer, 2)
    stream.push(x)
    stream.reset(np.array([False, True]))
    np.testing.assert_allclose(stream.push(x, active=np.array([False, True]))[1], numpy(layer(x))[1], atol=1e-5)
    with pytest.raises(ValueError, match="takes 0 more valid steps in row 1"):
        stream.push(x[:, :1], active=np.array([False, True]))
    stream.reset(np.array([True, False]))
    stream.copy_rows([0], [1])
    np.testing.assert_allclose(stream.push(x[:, :1])[1], numpy(layer(x))[1, :1], atol=1e-5)


def test_an_index_that_a_step_does_not_have_has_nan():
    layer = kseq.SequenceEmbedding([2, 4], 3, 2)
    y = numpy(layer(np.array([[1, 3], [2, 0], [-1, 4]], "int32")))
    assert np.isnan(y).all(-1).tolist() == [[False, False], [True, False], [True, True]]


def test_the_kernel_begins_as_wide_as_what_a_step_sees():
    dense, masked = kseq.SequenceDense(200, 3), kseq.MaskedDense(60, 5)
    for layer in (dense, masked):
        layer.build((None, None, 100))
    kernel = numpy(dense.kernel)
    assert abs(kernel.std() - 100**-0.5) < 0.01 and np.abs(kernel[0] - kernel[1]).mean() > 0.05
    assert abs(numpy(masked.kernel).std() - 500**-0.5) < 0.005


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.SequenceDense(0, 3), "`units` must be an integer of at least 1; received 0"),
        (lambda: kseq.MaskedDense(2, 0), "`num_steps` must be an integer of at least 1; received 0"),
        (lambda: kseq.SequenceDense(2, 3, positions="some"), "`positions` must be one of valid, all; received 'some'"),
        (lambda: kseq.SequenceEmbedding([2, 3], 1, 3), "a number or one for each of 3 steps; received 2 of them"),
        (lambda: kseq.SequenceEmbedding(2, 1, 3, multiple_of=0), "`multiple_of` must be an integer of at least 1"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_embedding_takes_integers():
    with pytest.raises(TypeError, match="takes integers; received float32"):
        kseq.SequenceEmbedding(2, 1, 3)(np.zeros((1, 2), "float32"))


def test_training_with_rows_of_unequal_length(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            kseq.SequenceEmbedding(5, 3, 8),
            kseq.MaskedDense(3, 8, activation="relu"),
            kseq.SequenceDense(1, 8),
        ]
    )
    x = np.random.default_rng(0).integers(0, 5, (8, 8)).astype("int32")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    before = model.evaluate(x, 1.0 * (x[..., None] > 2), verbose=0)
    model.fit(x, 1.0 * (x[..., None] > 2), epochs=8, verbose=0)
    assert model.evaluate(x, 1.0 * (x[..., None] > 2), verbose=0) < before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
