"""Position schemes of attention: their numbers against the papers' formulas, as values, as arguments and in specs."""

import copy
import dataclasses
import math
import pickle

import jsonschema
import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.7}


B, N, H, Q, K, D = 2, 3, 2, 4, 5, 6
SCHEMES = [
    kseq.RotaryPosition(500),
    kseq.RotaryPosition(scaling="yarn", factor=4, original_length=64, rotary_dim=4),
    kseq.AlibiPosition(),
    kseq.T5Position(num_buckets=6, max_distance=8),
    kseq.T5Position(num_buckets=8, max_distance=9, bidirectional=True, embeddings_initializer="ones"),
    kseq.ShawPosition(3, 2, scaled_query=True),
    kseq.TransformerXLPosition(3, 2, position_bias_dim=5, use_bias=False),
    kseq.TransformerXLPosition(2, bias_initializer=keras.initializers.RandomNormal(seed=1)),
]


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def tensors(weights):
    return {name: ops.convert_to_tensor(value) for name, value in weights.items()}


def bias(position, weights, query, distance):
    found = position.bias(tensors(weights), ops.convert_to_tensor(query), ops.convert_to_tensor(distance))
    return ops.convert_to_numpy(found)


def distances(*leading):
    """Distances of keys to queries, at every leading place from another start, and some that no key can have."""
    start = np.arange(math.prod(leading)).reshape(*leading, 1, 1)
    found = (np.arange(K) - np.arange(Q)[:, None] + start - 2).astype("int32")
    found[..., 0, 0], found[..., -1, -1] = -(2**31), 2**31 - 1
    return found


# Rotary positions.


def rotated(x, positions, turning, scale=1.0):
    """Pairs of x [B, T, H, D] as complex numbers, turned."""
    half = x.shape[-1] // 2
    pairs = (x[..., :half] + 1j * x[..., half:]) * scale
    pairs = pairs * np.exp(1j * positions[:, :, None, None].astype("float64") * np.asarray(turning))
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def yarn(theta, factor, length):
    """Peng et al., 2023, equations 11 to 13, with alpha 1 and beta 32."""
    r = length / (2 * np.pi / theta)
    ramp = np.where(r < 1, 0, np.where(r > 32, 1, (r - 1) / (32 - 1)))
    return (1 - ramp) * theta / factor + ramp * theta


def llama3(theta, factor, length, low=1, high=4):
    """As the code that came with Llama 3.1 scales frequencies."""
    found = []
    for speed in theta:
        wavelength = 2 * np.pi / speed
        if wavelength < length / high:
            found.append(speed)
        elif wavelength > length / low:
            found.append(speed / factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            found.append((1 - smooth) * speed / factor + smooth * speed)
    return np.array(found)


PLAIN = 10000.0 ** (-np.arange(16) / 16)
SCALED = {
    "none": (kseq.RotaryPosition(), PLAIN, 1),
    "base": (kseq.RotaryPosition(max_wavelength=100), 100.0 ** (-np.arange(16) / 16), 1),
    "linear": (kseq.RotaryPosition(scaling="linear", factor=3), PLAIN / 3, 1),
    "ntk": (
        kseq.RotaryPosition(scaling="ntk", factor=3),
        (10000.0 * 3 ** (32 / (32 - 2))) ** (-np.arange(16) / 16),
        1,
    ),
    "yarn": (
        kseq.RotaryPosition(scaling="yarn", factor=8, original_length=512),
        yarn(PLAIN, 8, 512),
        1.2079441541679836,
    ),
    "yarn_factor": (
        kseq.RotaryPosition(scaling="yarn", factor=8, original_length=512, attention_factor=0.5),
        yarn(PLAIN, 8, 512),
        0.5,
    ),
    "llama3": (kseq.RotaryPosition(scaling="llama3", factor=8, original_length=512), llama3(PLAIN, 8, 512), 1),
    "llama3_factors": (
        kseq.RotaryPosition(scaling="llama3", factor=2, original_length=99, low_freq_factor=2, high_freq_factor=7),
        llama3(PLAIN, 2, 99, 2, 7),
        1,
    ),
}


@pytest.mark.parametrize("name", SCALED)
def test_rotary_speeds_are_those_of_the_papers(name):
    position, turning, scale = SCALED[name]
    np.testing.assert_allclose(position.speeds(32), turning, rtol=1e-12)
    x, positions = normal(2, 5, 2, 32), np.array([[0, 1, 2, 3, 700], [5, 5, 6, 90, 1]])
    found = ops.convert_to_numpy(position.rotate(ops.convert_to_tensor(x), ops.convert_to_tensor(positions)))
    np.testing.assert_allclose(found, rotated(x, positions, turning, scale), atol=2e-5)


def test_the_scalings_differ_where_pairs_are_kept_and_slowed_down():
    kept = {name: np.array(position.speeds(32)) / PLAIN for name, (position, _, _) in SCALED.items()}
    assert kept["yarn"][0] == kept["llama3"][0] == kept["ntk"][0] == 1
    assert kept["yarn"][-1] == kept["llama3"][-1] == 1 / 8 and kept["ntk"][-1] == pytest.approx(1 / 3)
    assert any(1 / 8 < share < 1 for share in kept["yarn"]) and any(1 / 8 < share < 1 for share in kept["llama3"])


@pytest.mark.parametrize("start", [0, 10**6, 2**31 - 3])
def test_products_of_rotated_heads_depend_on_the_distance_alone(start):
    position = kseq.RotaryPosition(scaling="linear", factor=3)
    query, key = normal(1, 7, 2, 8), normal(1, 7, 2, 8, seed=1)
    positions = (np.arange(7) + start).astype("int32")[None]  # past 2**31 they wrap around

    def products(at):
        q, k = (position.rotate(ops.convert_to_tensor(x), ops.convert_to_tensor(at)) for x in (query, key))
        return ops.convert_to_numpy(ops.einsum("bqhd,bkhd->bhqk", q, k))

    np.testing.assert_allclose(products(positions), products(np.arange(7, dtype="int32")[None]), atol=2e-6)


def test_a_part_of_the_channels_is_rotated():
    x, positions = ops.convert_to_tensor(normal(2, 3, 2, 7)), ops.convert_to_tensor([[4, 5, 9]])
    found = ops.convert_to_numpy(kseq.RotaryPosition(rotary_dim=4).rotate(x, positions))
    np.testing.assert_array_equal(found[..., 4:], ops.convert_to_numpy(x[..., 4:]))
    part = kseq.RotaryPosition().rotate(x[..., :4], positions)
    np.testing.assert_array_equal(found[..., :4], ops.convert_to_numpy(part))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_angles_are_right_in_narrow_dtypes(dtype):
    x, positions = normal(1, 4, 1, 8), np.array([[0, 1, 2047, 60001]])
    position = kseq.RotaryPosition()
    found = position.rotate(ops.cast(ops.convert_to_tensor(x), dtype), ops.convert_to_tensor(positions))
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    found = ops.convert_to_numpy(ops.cast(found, "float32"))
    np.testing.assert_allclose(found, rotated(x, positions, position.speeds(8)), atol=5e-2)


def test_heads_that_cannot_be_rotated_are_refused():
    layer = keras.layers.Layer()
    for x in (kseq.RotaryPosition(), kseq.RotaryPosition(rotary_dim=2)):
        assert x.add_weights(layer, 2, 4) == {}
    with pytest.raises(ValueError, match=r"`key_dim` must be even; received 5"):
        kseq.RotaryPosition().add_weights(layer, 2, 5)
    with pytest.raises(ValueError, match=r"`rotary_dim` must be at most `key_dim`, which is 4; received 6"):
        kseq.RotaryPosition(rotary_dim=6).add_weights(layer, 2, 4)
    with pytest.raises(ValueError, match=r"`max_wavelength` gives a speed that is too large"):
        kseq.RotaryPosition(scaling="ntk", factor=1e308).add_weights(layer, 2, 4)
    assert kseq.RotaryPosition(scaling="ntk", factor=2).speeds(2) == [1.0]


# Biases by distance.


def test_alibi_slopes_are_powers_of_two():
    assert kseq.AlibiPosition.slopes(1) == [2**-8]
    assert kseq.AlibiPosition.slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    between = [2 ** -(i + 0.5) for i in range(4)]  # every second one of 16 heads'
    np.testing.assert_allclose(kseq.AlibiPosition.slopes(12), kseq.AlibiPosition.slopes(8) + between)


@pytest.mark.parametrize("leading", [(), (1,), (B,), (B, N), (1, N)])
def test_alibi_is_linear_both_ways(leading):
    query, distance = normal(*([B, N] if len(leading) > 1 else [B]), 3, Q, D), distances(*leading)
    found = bias(kseq.AlibiPosition(), {}, query, distance)
    slopes = np.array([1 / 16, 1 / 256, 1 / 4])[:, None, None]
    expected = np.broadcast_to(-slopes * np.abs(distance.astype("float64"))[..., None, :, :], found.shape)
    seen = np.abs(expected) < 2**16
    np.testing.assert_allclose(found[seen], expected[seen])
    assert np.isfinite(found).all() and (found[~seen] < -(2**16)).all()


def test_alibi_does_not_overflow_in_half_precision():
    distance = np.array([[-(2**31), -(10**6), -3, 0, 3, 2**31 - 1]], "int32")
    found = bias(kseq.AlibiPosition(), {}, normal(1, 8, 1, 4, dtype="float16"), distance[None])
    assert found.dtype == np.float16 and np.isfinite(found).all()
    assert (found[0, :, 0, [0, 1, 5]] <= -128).all()
    np.testing.assert_array_equal(found[0, :, 0, 2], -3 * np.array(kseq.AlibiPosition.slopes(8), "float16"))


def bucket(distance, buckets, furthest, bidirectional):
    """The bucket of one distance, by exact logarithms."""
    offset, steps = 0, max(-distance, 0)
    if bidirectional:
        buckets //= 2
        offset, steps = (buckets if distance > 0 else 0), abs(distance)
    exact = buckets // 2
    if steps < exact:
        return offset + steps
    if steps >= furthest:
        return offset + buckets - 1
    grown = math.log(steps / exact) / math.log(furthest / exact) * (buckets - 1 - exact)
    return offset + exact + int(grown + 1e-9)


@pytest.mark.parametrize(
    ("buckets", "furthest", "bidirectional"),
    [(6, 8, False), (6, 8, True), (2, 2, False), (32, 128, False), (32, 128, True), (7, 20, True), (17, 9, False)],
)
def test_t5_buckets(buckets, furthest, bidirectional):
    position = kseq.T5Position(buckets, furthest, bidirectional)
    distance = np.array([[-(2**31), *range(-300, 301), 2**31 - 1]], "int32")
    table = normal(buckets, H)
    found = bias(position, {"embeddings": table}, normal(B, H, 1, D), distance[None])
    rows = [bucket(int(d), buckets, furthest, bidirectional) for d in distance[0]]
    np.testing.assert_array_equal(found[0, :, 0], table[rows].T)
    assert max(rows) == (2 * (buckets // 2) if bidirectional else buckets) - 1


@pytest.mark.parametrize("leading", [(B,), (1, N), (B, N)])
def test_t5_biases_have_the_axes_of_distances(leading):
    distance, table = distances(*leading), normal(6, H)
    found = bias(kseq.T5Position(6, 8), {"embeddings": table}, normal(B, N, H, Q, D)[: leading[0]], distance)
    assert found.shape == (*leading, H, Q, K)
    for place in np.ndindex(found.shape):
        *before, h, q, k = place
        assert found[place] == table[bucket(int(distance[(*before, q, k)]), 6, 8, False), h]


@pytest.mark.parametrize("leading", [(B,), (B, N)])
@pytest.mark.parametrize("same", [False, True])
def test_shaw_compares_queries_with_vectors(leading, same):
    query = normal(*leading, H, Q, D)
    distance = distances(*(1 for _ in leading) if same else leading)
    table = normal(6, H, D, seed=1)
    found = bias(kseq.ShawPosition(3, 2), {"embeddings": table}, query, distance)
    rows = np.broadcast_to(np.clip(distance, -3, 2) + 3, (*leading, Q, K))
    expected = np.zeros((*leading, H, Q, K))
    for *before, h, q, k in np.ndindex(expected.shape):
        expected[(*before, h, q, k)] = query[(*before, h, q)] @ table[rows[(*before, q, k)], h]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(("backward", "forward"), [(3, 0), (2, 3), (40, 40)])  # more queries than distances, and fewer
def test_transformer_xl_compares_queries_with_sines(backward, forward, use_bias):
    size = 5
    position = kseq.TransformerXLPosition(backward, forward, size, use_bias)
    weights = {"kernel": normal(size, H, D, seed=1)}
    if use_bias:
        weights |= {"u": normal(H, D, seed=2), "v": normal(H, D, seed=3)}
    query, distance = normal(B, N, H, Q, D), distances(B, N)
    found = bias(position, weights, query, distance)
    before = -np.clip(distance, -backward, forward)[..., None].astype("float64")
    speeds = np.array([1, 1e-4])
    sines = np.concatenate([np.sin(before * speeds), np.cos(before * speeds), np.zeros_like(before)], axis=-1)
    moved = query + (weights["v"][:, None] if use_bias else 0)
    expected = np.einsum("bnhqd,ehd,bnqke->bnhqk", moved, weights["kernel"], sines)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    compared = position.content_query(tensors(weights), ops.convert_to_tensor(query))
    expected = query + (weights["u"][:, None] if use_bias else 0)
    np.testing.assert_allclose(ops.convert_to_numpy(compared), expected, atol=1e-6)


@pytest.mark.parametrize("position", SCHEMES, ids=repr)
def test_weights_are_named_and_no_queries_give_no_bias(position):
    layer = keras.layers.Layer()
    weights = position.add_weights(layer, H, D)
    assert {v.name for v in layer.weights} == {f"position_{name}" for name in weights}
    assert all(any(v is weight for weight in layer.weights) for v in weights.values())
    query = ops.convert_to_tensor(normal(1, H, 0, D))  # of no queries no bias
    if position.uses_distance:
        values = {name: ops.convert_to_tensor(v) for name, v in weights.items()}
        found = position.bias(values, query, ops.zeros((1, 0, 3), dtype="int32"))
        assert tuple(found.shape) == (1, H, 0, 3)
    else:
        assert tuple(position.rotate(ops.zeros((1, 0, H, D)), ops.zeros((1, 0), dtype="int32")).shape) == (1, 0, H, D)


@pytest.mark.parametrize("position", [p for p in SCHEMES if p.uses_distance], ids=repr)
def test_biases_keep_the_dtype(position):
    layer = keras.layers.Layer(dtype="mixed_bfloat16")
    weights = {name: ops.cast(v, "bfloat16") for name, v in position.add_weights(layer, H, D).items()}
    query = ops.cast(ops.convert_to_tensor(normal(B, H, Q, D)), "bfloat16")
    found = position.bias(weights, query, ops.convert_to_tensor(distances(B)))
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    assert np.isfinite(ops.convert_to_numpy(ops.cast(found, "float32"))).all()


class Biased(keras.layers.Layer):
    """The biases of a sequence's steps to one another, with the position scheme's part of a head's products."""

    def __init__(self, position, **kwargs):
        super().__init__(**kwargs)
        self.position = position

    def build(self, input_shape):
        self.of_position = self.position.add_weights(self, H, input_shape[-1])

    def call(self, x):
        at = ops.arange(ops.shape(x)[1], dtype="int32")
        heads = self.position.rotate(ops.stack([x, 2 * x], axis=2), at[None])
        query, key = ops.moveaxis(heads, 2, 1), ops.swapaxes(ops.moveaxis(heads, 2, 1), -1, -2)
        weights = {name: ops.convert_to_tensor(value) for name, value in self.of_position.items()}
        products = ops.matmul(self.position.content_query(weights, query), key)
        if self.position.uses_distance:
            products = products + self.position.bias(weights, query, at[None, :] - at[:, None])
        return ops.sum(products, axis=1)


@pytest.mark.parametrize("position", [*SCHEMES[1:4], *SCHEMES[5:7]], ids=repr)
def test_schemes_are_compiled_and_trained_at_any_length(position):
    layer = Biased(position)
    model = keras.Sequential([keras.Input((None, D)), layer])
    for length in (3, 7):
        x = normal(2, length, D)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), ops.convert_to_numpy(layer(ops.convert_to_tensor(x))), rtol=1e-4, atol=1e-4
        )
    before = [ops.convert_to_numpy(v) for v in layer.weights]
    model.compile("sgd", "mse")
    if before:
        model.fit(x, np.zeros((2, 7, 7), "float32"), verbose=0)
    for old, new in zip(before, layer.weights, strict=True):
        assert np.isfinite(ops.convert_to_numpy(new)).all() and not np.array_equal(old, ops.convert_to_numpy(new))


# Schemes as values.


@pytest.mark.parametrize("position", SCHEMES, ids=repr)
def test_schemes_are_values(position):
    config = keras.saving.serialize_keras_object(position)
    assert config["registered_name"] == f"kseq>{type(position).__name__}"
    others = [
        keras.saving.deserialize_keras_object(config),
        type(position).from_config(position.get_config()),
        copy.deepcopy(position),
        pickle.loads(pickle.dumps(position)),
    ]
    for other in others:
        assert other == position and hash(other) == hash(position) and repr(other) == repr(position)
    assert sum(position == other for other in SCHEMES) == 1 and position != "position"
    for field in dataclasses.fields(position):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(position, field.name, 1)


def test_layers_that_share_a_scheme_begin_with_other_weights():
    position = kseq.ShawPosition(3)
    first, second = (position.add_weights(keras.layers.Layer(), H, D)["embeddings"] for _ in range(2))
    assert not np.array_equal(ops.convert_to_numpy(first), ops.convert_to_numpy(second))


WRONG = {
    "RotaryPosition": [
        ({"max_wavelength": 0}, r"`max_wavelength` must be a positive number; received 0"),
        ({"max_wavelength": math.inf}, r"`max_wavelength` must be a positive number; received inf"),
        ({"max_wavelength": True}, r"`max_wavelength` must be a positive number; received True"),
        ({"max_wavelength": "500"}, r"`max_wavelength` must be a positive number; received '500'"),
        ({"max_wavelength": [500]}, r"`max_wavelength` must be a positive number; received \[500\]"),
        ({"rotary_dim": 3}, r"`rotary_dim` must be even, as channels are paired; received 3"),
        ({"rotary_dim": 0}, r"`rotary_dim` must be an integer of at least 1; received 0"),
        ({"scaling": "dynamic"}, r"`scaling` must be one of linear, ntk, llama3, yarn; received 'dynamic'"),
        ({"scaling": ["ntk"]}, r"`scaling` must be one of"),
        ({"factor": 2}, r"`factor` has no use with scaling None; received 2"),
        ({"scaling": "linear"}, r"scaling 'linear' needs `factor`; received None"),
        ({"scaling": "linear", "factor": 0.5}, r"`factor` must be a number of at least 1; received 0\.5"),
        ({"scaling": "yarn", "factor": 2}, r"scaling 'yarn' needs `original_length`"),
        ({"scaling": "ntk", "factor": 2, "original_length": 9}, r"`original_length` has no use with scaling 'ntk'"),
        (
            {"scaling": "llama3", "factor": 2, "original_length": 9, "attention_factor": 2},
            r"`attention_factor` has no use with scaling 'llama3'; received 2",
        ),
        (
            {"scaling": "llama3", "factor": 2, "original_length": 9, "low_freq_factor": 4},
            r"`high_freq_factor` must be above `low_freq_factor`, which is 4\.0; received 4\.0",
        ),
    ],
    "T5Position": [
        ({"num_buckets": 1}, r"`num_buckets` must be an integer of at least 2; received 1"),
        ({"num_buckets": 3, "bidirectional": True}, r"`num_buckets` must be an integer of at least 4; received 3"),
        ({"num_buckets": 8, "max_distance": 4}, r"`max_distance` must be above 4, .* received 4"),
        ({"max_distance": 10**12}, r"may have 65536 numbers at most"),
    ],
    "ShawPosition": [
        ({"max_backward": -1}, r"`max_backward` must be an integer of at least 0; received -1"),
        ({"max_backward": 2, "max_forward": 1.5}, r"`max_forward` must be an integer of at least 0; received 1\.5"),
        ({"max_backward": 10**12}, r"may have 65536 numbers at most"),
        ({"max_backward": 2, "embeddings_initializer": "nothing"}, r"nothing"),
    ],
    "TransformerXLPosition": [
        (
            {"max_backward": 2, "position_bias_dim": 0},
            r"`position_bias_dim` must be an integer of at least 1; received 0",
        ),
        ({"max_backward": 2, "position_bias_dim": 10**12}, r"may have 16777216 numbers at most"),
        ({"max_backward": 2, "max_forward": 10**12}, r"may have 65536 numbers at most"),
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_mean_nothing_are_refused(name):
    for arguments, message in WRONG[name]:
        with pytest.raises(ValueError, match=message):
            getattr(kseq, name)(**arguments)


# Schemes as arguments of layers, and in specs.


@kseq.register("acme.Attending")
class Attending(kseq.SequenceLayer):
    """Holds a position scheme and its weights."""

    def __init__(self, num_heads=2, position=None, **kwargs):
        super().__init__(**kwargs)
        self.keep(locals())

    def build(self, input_shape):
        self.weights_of_position = (
            {} if self.position is None else self.position.add_weights(self, self.num_heads, input_shape[-1])
        )

    def call_step(self, x, state, *, training=False):
        return x, state


@kseq.register_position("acme.Near")
class Near(kseq.Position):
    """Lowers what is further than a step.

    Args:
        by: how much.
    """

    uses_distance = True

    def __init__(self, by: float = 1.0):
        self.by = by

    def bias(self, weights, query, distance):
        return -self.by * ops.cast(ops.abs(distance) > 1, query.dtype)[..., None, :, :]


def test_a_scheme_is_given_as_itself_by_name_or_by_configuration():
    position = kseq.RotaryPosition(500)
    config = keras.saving.serialize_keras_object(position)
    for given in (position, config):
        assert Attending(position=given).position == position
    assert Attending(position="RotaryPosition").position == kseq.RotaryPosition()
    assert Attending(position="acme.Near").position == Near(1.0) != Near(2.0)
    assert Attending().position is None
    assert Attending(position=position).position is position


@pytest.mark.parametrize(
    "wrong", ["Rotary", 3, object(), True, kseq.RotaryPosition, {"class_name": "Dense", "config": {}}]
)
def test_what_is_no_scheme_is_refused(wrong):
    with pytest.raises((ValueError, TypeError), match=r"`position` must be a position scheme.*RotaryPosition|Dense"):
        Attending(position=wrong)


@pytest.mark.parametrize("position", [*SCHEMES, Near(2.0)], ids=repr)
def test_a_model_with_a_scheme_is_saved_and_loaded(position, tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), Attending(position=position)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].position == position
    for saved, found in zip(model.weights, loaded.weights, strict=True):
        assert saved.name == found.name
        np.testing.assert_array_equal(ops.convert_to_numpy(saved), ops.convert_to_numpy(found))


def text(position):
    return f"kseq: 1\ninput: {{shape: [null, 4]}}\nlayers:\n  - acme.Attending: {{position: {position}}}\n"


def spec(position):
    return {"kseq": 1, "input": {"shape": [None, 4]}, "layers": [{"acme.Attending": {"position": position}}]}


IN_SPECS = [
    ("RotaryPosition", kseq.RotaryPosition()),
    ({"RotaryPosition": {"max_wavelength": 500}}, kseq.RotaryPosition(500)),
    (
        {"RotaryPosition": {"scaling": "yarn", "factor": 4, "original_length": 64}},
        kseq.RotaryPosition(scaling="yarn", factor=4, original_length=64),
    ),
    (
        {"T5Position": {"num_buckets": 8, "embeddings_initializer": "zeros"}},
        kseq.T5Position(8, embeddings_initializer="zeros"),
    ),
    ({"ShawPosition": {"max_backward": 2}}, kseq.ShawPosition(2)),
    ("AlibiPosition", kseq.AlibiPosition()),
    ({"TransformerXLPosition": {"max_backward": 2, "use_bias": False}}, kseq.TransformerXLPosition(2, use_bias=False)),
    ("acme.Near", Near()),
    ({"acme.Near": {"by": 2}}, Near(2)),
    (None, None),
]


@pytest.mark.parametrize(("written", "position"), IN_SPECS, ids=str)
def test_a_spec_names_a_scheme(written, position):
    validator = jsonschema.Draft202012Validator(kseq.spec.json_schema())
    assert not list(validator.iter_errors(spec(written)))
    model = kseq.load_spec(spec(written))
    assert model.layers[-1].position == position
    dumped = kseq.dump_spec(model)
    again = kseq.load_spec_text(dumped)
    assert again.layers[-1].position == position and kseq.dump_spec(again) == dumped
    name = written if isinstance(written, str) else next(iter(written or {"": 0}))
    assert name in dumped and "initializer" not in dumped.replace("embeddings_initializer: Zeros", "")


@pytest.mark.parametrize(
    "written", ["Rotary", "ShawPosition", {"T5Position": {"buckets": 8}}, {"acme.Near": {"by": "far"}}, 3, []]
)
def test_schemas_refuse_what_specs_refuse(written):
    validator = jsonschema.Draft202012Validator(kseq.spec.json_schema())
    assert list(validator.iter_errors(spec(written)))
    with pytest.raises(kseq.SpecError, match=r"acme\.Attending\.position"):
        kseq.load_spec(spec(written))


HOSTILE = [
    ("{RotaryPosition: {max_wavelength: -1}}", r"position\.RotaryPosition\.max_wavelength: .*received -1"),
    ("{RotaryPosition: {scaling: ntk, factor: 1e308}}", "`max_wavelength` gives a speed that is too large"),
    ("{RotaryPosition: {rotary_dim: 1000000000000}}", "`rotary_dim` must be at most `key_dim`, which is 4"),
    ("{T5Position: {num_buckets: 1000000000000, max_distance: 1000000000000}}", "65536 numbers at most"),
    ("{T5Position: {num_buckets: 60000, max_distance: 32000}}", None),
    ("{ShawPosition: {max_backward: 1000000000000}}", "65536 numbers at most"),
    ("{TransformerXLPosition: {max_backward: 2, position_bias_dim: 1000000000000}}", "16777216 numbers at most"),
    ("{class_name: RotaryPosition, config: {}}", "a position is one `Type: {arguments}` pair; received 2 keys"),
    ("{Dense: {units: 2}}", "unknown name of a position: 'Dense'"),
    ("{RotaryPosition: {}, AlibiPosition: {}}", "a position is one `Type: {arguments}` pair"),
]


@pytest.mark.parametrize(("written", "message"), HOSTILE)
def test_hostile_values(written, message):
    if message is None:
        kseq.load_spec_text(text(written))
    else:
        with pytest.raises(kseq.SpecError, match=message):
            kseq.load_spec_text(text(written))


def test_names_of_schemes_are_taken_once():
    with pytest.raises(ValueError, match=r"'acme\.Near' is taken"):
        kseq.register_position("acme.Near")(type("Other", (kseq.Position,), {}))
    with pytest.raises(ValueError, match=r"'acme\.Near' is taken"):
        kseq.register("acme.Near")(type("Far", (kseq.SequenceLayer,), {}))
    with pytest.raises(ValueError, match=r"'namespace\.ClassName'"):
        kseq.register_position("Near")
    assert kseq.registry.registered_positions()["acme.Near"] is Near
    assert "acme.Near" not in kseq.registered_layers()
