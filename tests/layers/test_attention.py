"""Attention where numbers are extreme: steps that are not finite, and positions late in a stream."""

import attention_reference as reference
import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.rotary import rotate
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.2, "tensorflow": 0.3}

RNG = np.random.default_rng(0)
PAST, FUTURE = 5, 2
LATE = [10**8, 2**31 - 10]  # in the second, int32 positions wrap around on the way


def attention(**options):
    layer = kseq.LocalSelfAttention(2, 4, PAST, FUTURE, **options)
    layer.build((None, None, 4))
    layer.set_weights([RNG.normal(size=w.shape) * 0.4 for w in layer.get_weights()])
    return layer


def stepped(layer, x, chunk, state=None):
    """Outputs of a stream in chunks, its latency dropped."""
    x = kseq.Sequence(*x).with_mask()
    padded = x.pad_time(0, FUTURE + -(x.values.shape[1] + FUTURE) % chunk)
    state = layer.initial_state(len(x.values), kseq.SequenceSpec((4,))) if state is None else state
    parts = []
    with transforms.no_gradients():
        for start in range(0, padded.values.shape[1], chunk):
            y, state = layer.step(padded.slice_time(start, start + chunk), state)
            parts.append(y)
    whole = kseq.Sequence.concatenate(parts).slice_time(FUTURE, FUTURE + x.values.shape[1])
    return ops.convert_to_numpy(whole.mask_invalid().values)


def in_layer_mode(layer, values, mask=None):
    return ops.convert_to_numpy(layer(kseq.Sequence(values, mask)).mask_invalid().values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("time", [20, 75], ids=["at once", "in blocks"])
def test_what_is_not_finite_reaches_those_who_see_it(bad, time):
    layer = attention()
    x = RNG.normal(size=(2, time, 4)).astype("float32")
    mask = np.ones((2, time), bool)
    mask[1, [0, 1, 9]] = False
    spoilt = x.copy()
    spoilt[0, 11], spoilt[1, 12, 1], spoilt[1, 9] = bad, bad, bad  # the last of them at an invalid step
    sees = np.zeros((2, time), bool)
    sees[0, 11 - FUTURE : 11 + PAST + 1] = sees[1, 12 - FUTURE : 12 + PAST + 1] = True
    wanted = in_layer_mode(layer, x, mask)
    found = [in_layer_mode(layer, spoilt, mask)]
    found += [stepped(layer, (spoilt, mask), chunk) for chunk in (1, 4, time + FUTURE)]
    for y in found:
        assert (np.isfinite(y).all(-1) == ~(sees & mask)).all()
        np.testing.assert_allclose(y[~sees], wanted[~sees], atol=1e-5)


def at(layer, positions):
    """The state of a stream whose rows have gone through so many valid steps, none of which are in the window."""
    state = layer.initial_state(len(positions), kseq.SequenceSpec((4,)))
    clock = np.stack([np.zeros(len(positions)), positions], axis=1).astype("int32")
    return state | {"clock": ops.convert_to_tensor(clock)}


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_rotary_positions_late_in_a_stream(chunk):
    """Rows of different progress, one with leading invalid steps and a hole, give what they give at the start."""
    layer = attention(rope_wavelength=10000.0)
    x = RNG.normal(size=(1, 32, 4)).astype("float32").repeat(4, axis=0)
    mask = np.ones((4, 32), bool)
    mask[1:3, [0, 1, 2, 9]] = False
    positions = [*LATE, 0, 12345]
    found, wanted = stepped(layer, (x, mask), chunk, at(layer, positions)), in_layer_mode(layer, x, mask)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[0], found[3], rtol=0, atol=1e-5)


def test_positions_of_held_rows_stand_still():
    layer = attention(rope_wavelength=100.0)
    x = RNG.normal(size=(2, 12, 4)).astype("float32")
    state, outputs = at(layer, LATE), [[], []]
    taken = [0, 0]
    with transforms.no_gradients():
        for t in range(24):
            active = np.array([t % 2 == 0, t % 3 == 0]) & (np.array(taken) < 12)
            frame = np.stack([x[row, min(taken[row], 11)] for row in (0, 1)])[:, None]
            y, state = layer.step(kseq.Sequence(frame), state, active=ops.convert_to_tensor(active))
            for row in np.flatnonzero(active):
                outputs[row].append(ops.convert_to_numpy(y.values)[row, 0])
                taken[row] += 1
    assert taken == [12, 8]
    for row in (0, 1):
        wanted = in_layer_mode(layer, x[row : row + 1, : taken[row]])[0]
        # Without a flush the last outputs have not seen their future.
        np.testing.assert_allclose(outputs[row][FUTURE:], wanted[:-FUTURE], rtol=0, atol=1e-5)


@pytest.mark.parametrize("wavelength", [10000.0, 0.5, 1e9])
def test_rotations_are_those_of_the_formula(wavelength):
    """Two rotations differ by the angle of the difference of their positions, in float64."""
    origins, distance = np.array([0, 7, *LATE, -(2**31)]), 4096
    x = RNG.normal(size=(5, 2, 8)).astype("float32")
    positions = ((origins[:, None] + [0, distance]) + 2**31) % 2**32 - 2**31
    turned = ops.convert_to_numpy(
        rotate(ops.convert_to_tensor(x), ops.convert_to_tensor(positions.astype("int32")), wavelength)
    )
    pairs, plain = turned[..., :4] + 1j * turned[..., 4:], x[..., :4].astype("float64") + 1j * x[..., 4:]
    frequencies = wavelength ** (-np.arange(4) / 4)
    wanted = plain[:, 1] * plain[:, 0].conj() * np.exp(1j * frequencies * distance)
    np.testing.assert_allclose(pairs[:, 1] * pairs[:, 0].conj(), wanted, rtol=0, atol=5e-5)
    assert keras.backend.standardize_dtype(turned.dtype) == "float32"


# Empty, long, narrow and extreme.


def built(cls=kseq.SelfAttention, channels=4, **options):
    layer = cls(2, 4, **options)
    layer.build((None, None, channels))
    layer.set_weights([RNG.normal(size=w.shape) * 0.4 for w in layer.get_weights()])
    return layer


SEES = {
    "growing": ({"max_length": 64}, lambda i, j, first: j <= i),
    "sinks": ({"max_past_horizon": 2, "num_sink_steps": 1}, lambda i, j, first: i - 2 <= j <= i or j == first <= i),
    "kept as int8": ({"max_past_horizon": 3, "cache_dtype": "int8"}, lambda i, j, first: i - 3 <= j <= i),
    "kept as float16": ({"max_past_horizon": 3, "cache_dtype": "float16"}, lambda i, j, first: i - 3 <= j <= i),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e7], ids=str)
@pytest.mark.parametrize("name", SEES)
def test_what_is_not_finite_reaches_nobody_else(name, bad):
    """Also not what is finite, but not where it is kept."""
    options, sees = SEES[name]
    layer, time = built(**options), 14
    x = RNG.normal(size=(2, time, 4)).astype("float32")
    mask = np.ones((2, time), bool)
    mask[1, [0, 5]] = False
    spoilt = x.copy()
    spoilt[0, 3], spoilt[1, 1], spoilt[1, 5] = bad, bad, np.nan
    reached = np.zeros((2, time), bool)
    for row, j, first in [(0, 3, 0), (1, 1, 1)]:
        reached[row] |= [sees(i, j, first) for i in range(time)]
    wanted = in_layer_mode(layer, x, mask)
    found = [in_layer_mode(layer, spoilt, mask)]
    for chunk in (1, 7):
        state, parts = layer.initial_state(2, kseq.SequenceSpec((4,))), []
        with transforms.no_gradients():
            for start in range(0, time, chunk):
                y, state = layer.step(kseq.Sequence(spoilt, mask).slice_time(start, start + chunk), state)
                parts.append(y)
        found.append(ops.convert_to_numpy(kseq.Sequence.concatenate(parts).mask_invalid().values))
    for y in found:
        if not np.isfinite(bad) or name == "kept as float16":
            assert (np.isfinite(y).all(-1) == ~(reached & mask)).all()
        np.testing.assert_allclose(y[~reached], wanted[~reached], atol=1e-5)


@pytest.mark.parametrize("logit", [-1e6, -1e18])
def test_logits_are_low_alone(logit):
    """A step that sees one other reads it, however little they have in common."""
    layer = kseq.SelfAttention(1, 1, max_past_horizon=0, output_dim=False, use_bias=False)
    layer.build((1, 3, 1))
    layer.set_weights([np.full((1, 1, 1), 1.0), np.full((1, 1, 1), logit), np.ones((1, 1, 1))])
    np.testing.assert_array_equal(in_layer_mode(layer, np.ones((1, 3, 1), "float32")).ravel(), np.ones(3))


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("name", ["plain", "gate", "alibi", "sinks"])
def test_a_source_without_valid_steps(name, steps):
    """What is read of it is zero, or of sinks alone; gradients are finite."""
    options = {"gate": {"use_gate": True}, "alibi": {"position": "AlibiPosition"}, "sinks": {"num_sink_embeddings": 1}}
    layer = kseq.CrossAttention(2, 4, output_dim=False, **options.get(name, {}))
    x, source = RNG.normal(size=(2, 5, 4)).astype("float32"), RNG.normal(size=(2, 3, 3)).astype("float32")
    mask = np.array([[True, False, True], [False] * 3])
    layer(x, context={"source": kseq.Sequence(source, mask)})
    source, mask = (np.nan_to_num(source) + np.where(mask, 0, np.nan)[..., None])[:, :steps], mask[:, :steps]

    def loss(x, source, mask):
        y = layer(x, context={"source": kseq.Sequence(source, mask)})
        return ops.sum(ops.square(y)), y

    weights = [ops.convert_to_numpy(w) for w in layer.trainable_variables]
    run = transforms.value_and_gradients(loss, layer.trainable_variables)
    _, y, of_input, of_weights = run(x, weights, source.astype("float32"), mask)
    y = ops.convert_to_numpy(y)
    assert (y[1] == 0).all() == (name != "sinks") and np.isfinite(y).all() and (steps == 0 or (y[0] != 0).all())
    assert all(np.isfinite(ops.convert_to_numpy(g)).all() for g in (of_input, *of_weights))
    context = {"source": kseq.Sequence(source.astype("float32"), mask)}
    stream = kseq.Stream(layer, 2, context=context)
    np.testing.assert_allclose(np.concatenate([stream.push(x[:, :2]), stream.push(x[:, 2:])], 1), y, atol=1e-5)


def test_a_state_is_not_the_mask_of_its_source():
    """Compiled steps write over what they are given."""
    layer, mask = kseq.CrossAttention(2, 4), ops.convert_to_tensor(np.array([[True, False, True]]))
    source = kseq.Sequence(ops.convert_to_tensor(RNG.normal(size=(1, 3, 4)).astype("float32")), mask)
    state = layer.initial_state(1, kseq.SequenceSpec((4,)), context={"source": source})
    assert all(leaf is not mask for leaf in keras.tree.flatten(state))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "options", [{"max_length": 64}, {"max_past_horizon": 3, "num_sink_steps": 1, "use_gate": True}]
)
def test_mixed_precision(policy, options):
    layer, exact = (
        built(**options, position="RotaryPosition", dtype=policy),
        built(**options, position="RotaryPosition"),
    )
    exact.set_weights(layer.get_weights())
    x = RNG.normal(size=(2, 12, 4)).astype("float32")
    wanted = in_layer_mode(exact, x)
    y, _ = layer(x, return_state=True)
    for found in (layer(x), y):
        assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
        np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(found, "float32")), wanted, atol=5e-2)


@pytest.mark.parametrize(
    "options", [{}, {"max_past_horizon": 2, "num_sink_steps": 1}, {"max_past_horizon": 2}], ids=str
)
def test_no_rows_no_steps_and_one(options):
    layer = built(**options)
    state = layer.initial_state(2, kseq.SequenceSpec((4,)))
    assert layer(np.zeros((0, 3, 4), "float32")).shape == (0, 3, 4)
    assert layer(np.zeros((2, 0, 4), "float32")).shape == (2, 0, 4)
    y, same = layer(np.zeros((2, 0, 4), "float32"), initial_state=state, return_state=True)
    assert y.shape == (2, 0, 4)
    for a, b in zip(keras.tree.flatten(same), keras.tree.flatten(state), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    x = RNG.normal(size=(2, 1, 4)).astype("float32")
    value = layer.get_weights()
    kernel, bias = (value[i] for i in (4, 5))  # one step reads its own value
    read = np.einsum("btc,chd->bthd", x, kernel) + bias
    wanted = np.einsum("bthd,hdc->btc", read, value[6]) + value[7]
    np.testing.assert_allclose(in_layer_mode(layer, x), wanted, atol=1e-5)


LONG = {"growing": {"max_length": 8}, "blocks": {"max_length": 8, "block_size": 3, "max_future_horizon": 1}}


@pytest.mark.parametrize("name", LONG)
def test_many_steps_in_parts(name):
    """Layer mode in several parts of the queries, compiled, with its gradient: the derivative of the definition."""
    layer, time = built(**LONG[name], position="RotaryPosition", use_bias=False), 1300
    x, weights, direction = (RNG.normal(size=(1, time, 4)) for _ in range(3))

    def loss(x):
        y = layer(x)
        return ops.sum(y * ops.convert_to_tensor(weights.astype("float32"))), y

    run = transforms.value_and_gradients(loss, layer.trainable_variables)
    values = [ops.convert_to_numpy(w) for w in layer.trainable_variables]
    _, y, gradient, of_weights = run(x.astype("float32"), values)
    np.testing.assert_allclose(ops.convert_to_numpy(y), reference.attention(layer, x), atol=1e-5)
    ahead, behind = (reference.attention(layer, x + step * direction) for step in (1e-5, -1e-5))
    wanted = ((ahead - behind) * weights).sum() / 2e-5
    gradient = ops.convert_to_numpy(gradient)
    assert abs((gradient * direction).sum() - wanted) < 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert all(np.abs(ops.convert_to_numpy(g)).max() > 0 for g in of_weights)


def test_dropout_in_parts_is_that_of_its_gradient():
    """What is computed again for its gradient drops the same weights: where nothing is kept of a value, no gradient."""
    layer, x = built(max_length=8, dropout=0.9, seed=3, num_sink_embeddings=0), RNG.normal(size=(1, 600, 4))

    def loss(x):
        y = layer(x, training=True)
        return ops.sum(y[:, 0]), y

    values = [ops.convert_to_numpy(w) for w in layer.trainable_variables]
    for _ in range(4):
        _, y, gradient, _ = transforms.value_and_gradients(loss, layer.trainable_variables)(x.astype("float32"), values)
        bias = values[7]  # of the output: all that is left where a step's own value is dropped
        dropped = np.allclose(ops.convert_to_numpy(y)[0, 0], bias, atol=1e-6)
        assert dropped == (np.abs(ops.convert_to_numpy(gradient)[0, 0]).max() < 1e-9)


# Saved, copied, fed any length.

MODELS = {
    "rotary": {"max_past_horizon": 3, "max_future_horizon": 1, "position": kseq.RotaryPosition(50.0)},
    "shaw": {"max_length": 64, "position": kseq.ShawPosition(3)},
    "sinks": {"max_past_horizon": 3, "num_sink_steps": 2},
    "networks": {"max_past_horizon": 3, "key_network": kseq.RMSNormalization(), "query_network": kseq.Snake()},
    "blocks": {"max_past_horizon": 1, "block_size": 3},
}


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("name", MODELS)
def test_models_of_attention(name, tmp_path):
    x = keras.Input((None, 4))
    model = keras.Model(x, kseq.SelfAttention(2, 4, **MODELS[name])(x))
    data = RNG.normal(size=(2, 70, 4)).astype("float32")
    model.save(tmp_path / "model.keras")
    copies = keras.models.load_model(tmp_path / "model.keras"), keras.models.clone_model(model)
    copies[1].set_weights(model.get_weights())
    for time in (5, 8, 1, 70):
        wanted = ops.convert_to_numpy(model(data[:, :time]))
        np.testing.assert_allclose(model.predict(data[:, :time], verbose=0), wanted, atol=1e-5)
        if time == 8:
            for copy in copies:
                np.testing.assert_allclose(ops.convert_to_numpy(copy(data[:, :time])), wanted, atol=1e-6)
    model.compile("sgd", "mse")
    for time in (5, 8):
        model.fit(data[:, :time], data[:, :time], verbose=0)
    model.quantize("int8")
    assert model.predict(data, verbose=0).shape == data.shape
