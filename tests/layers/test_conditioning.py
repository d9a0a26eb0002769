"""Conditioning: against NumPy, in its masks, and as a part of models."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays

import kseq
from kseq.testing import check_layer

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.06, "tensorflow": 0.08}

BATCH, TIME = 3, 6
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0]], bool)
# How a conditioning is projected and combined, and the channel shapes of the input and of the conditioning.
MODES = [
    ("add", "identity", (3,), (3,)),
    ("add", "identity", (2, 3), (3,)),
    ("add", "identity", (3,), (2, 1)),
    ("add", "linear", (2, 3), (4,)),
    ("add", "linear", (), (4,)),
    ("mul", "identity", (3,), ()),
    ("mul", "linear", (3,), (2, 2)),
    ("concat", "identity", (2, 3), (4,)),
    ("concat", "linear", (3,), ()),
    ("concat_before", "identity", (3,), (2, 1)),
    ("concat_before", "linear", (3,), (4,)),
    ("affine", "linear_affine", (2, 3), (4,)),
    ("affine_shift", "linear", (3,), (4,)),
    ("affine_scale", "linear", (3,), (4,)),
]


def numpy(x):
    return ops.convert_to_numpy(x)


def drawn(layer, *shapes, context=None):
    """A layer built and given random weights."""
    rng = np.random.default_rng(2)
    shape = (BATCH, TIME, *shapes[0]) if len(shapes) == 1 else [(BATCH, TIME, *s) for s in shapes]
    layer.build(shape, **({"context_shape": context} if context else {}))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def draw(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("float32")


def expected(layer, x, c):
    """Of an input [B, T, ...] and a conditioning [B, T, ...]."""
    channels = x.shape[2:]
    if layer.projection != "identity":
        kernel, *bias = layer.get_weights()
        shape = layer.projection_channel_shape or channels
        shape = (2, *shape) if layer.combination == "affine" else shape
        c = (c.reshape(*c.shape[:2], -1) @ kernel).reshape(*c.shape[:2], *shape) + (bias[0] if bias else 0)
    if layer.combination == "affine":
        c = c + np.array([layer.affine_scale_offset, 0]).reshape(2, *[1] * (c.ndim - 3))

    def of(x, c):  # one step
        if layer.combination in ("concat", "concat_before"):
            lead = np.broadcast_shapes(x.shape[:-1], c.shape[:-1])
            both = [np.broadcast_to(part, (*lead, part.shape[-1])) for part in (x, c)]
            return np.concatenate(both if layer.combination == "concat" else both[::-1], -1)
        return {
            "add": lambda: x + c,
            "affine_shift": lambda: x + c,
            "mul": lambda: x * c,
            "affine_scale": lambda: x * (c + layer.affine_scale_offset),
            "affine": lambda: x * c[0] + c[1],
        }[layer.combination]()

    return np.stack([np.stack([of(*step) for step in zip(*row, strict=True)]) for row in zip(x, c, strict=True)])


@pytest.mark.parametrize(("combination", "projection", "channels", "others"), MODES)
def test_modes(combination, projection, channels, others):
    x, c = draw(BATCH, TIME, *channels), draw(BATCH, TIME, *others)
    options = {"combination": combination, "projection": projection, "affine_scale_offset": 0.5}
    layer = drawn(kseq.SynchronousConditioning(**options), channels, others)
    y = layer([x, c])
    np.testing.assert_allclose(numpy(y), expected(layer, x, c), atol=1e-5)
    assert tuple(y.shape[2:]) == layer.output_spec((kseq.SequenceSpec(channels), kseq.SequenceSpec(others))).shape
    of_rows = drawn(kseq.Conditioning(**options), channels, context={"conditioning": (BATCH, *others)})
    alike = np.broadcast_to(c[:, :1], c.shape)
    y = numpy(of_rows(x, context={"conditioning": c[:, 0]}))
    np.testing.assert_allclose(y, expected(layer, x, alike), atol=1e-5)
    of_steps = kseq.Conditioning(**options, per_step=True)
    drawn(of_steps, channels, context={"conditioning": (BATCH, TIME, *others)})
    y = numpy(of_steps(x, context={"conditioning": c}))
    np.testing.assert_allclose(y, expected(layer, x, c), atol=1e-5)


@pytest.mark.parametrize("counted", ["valid", "all"])
def test_steps_of_a_conditioning_go_with_those_of_the_input(counted):
    x, c = kseq.Sequence(draw(BATCH, TIME, 3), MASK), draw(BATCH, 4, 3)
    valid = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    layer = kseq.Conditioning("add", "identity", per_step=True, positions=counted)
    y = layer(x, context={"conditioning": kseq.Sequence(c, valid)})
    places = [[0, 1, None, 3, None, None], [None, None, 0, None, 1, 2], [0, None, None, None, None, None]]
    if counted == "all":
        places[1] = [None, None, 0, None, 2, 3]
    assert numpy(y.mask).tolist() == [[place is not None for place in row] for row in places]
    for b, t in np.argwhere(numpy(y.mask)):
        np.testing.assert_allclose(numpy(y.values)[b, t], x.values[b, t] + c[b, places[b][t]], atol=1e-6)


def test_each_step_of_a_slow_conditioning_goes_with_several():
    x, c = draw(BATCH, 7, 3), draw(BATCH, 3, 3)
    layer = kseq.UpsampleConditioning(2, "mul", "identity")
    y = layer(kseq.Sequence(x), context={"conditioning": c})
    assert numpy(y.mask).tolist() == [[True] * 6 + [False]] * BATCH
    np.testing.assert_allclose(numpy(y.values)[:, :6], x[:, :6] * np.repeat(c, 2, axis=1), atol=1e-6)


def test_what_flows_along_is_valid_with_both():
    other = ~np.eye(BATCH, TIME, dtype=bool)
    y = kseq.SynchronousConditioning()((kseq.Sequence(draw(BATCH, TIME, 3), MASK), kseq.Sequence(draw(3, 6, 2), other)))
    np.testing.assert_array_equal(numpy(y.mask), MASK & other)


class Beside(kseq.SequenceLayer):
    """Of one input the two that the layer takes."""

    num_inputs = 1

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = kseq.SynchronousConditioning("affine", affine_scale_offset=0.5, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.inner.build([(*input_shape[:2], 2), (*input_shape[:2], 1)])

    def output_spec(self, input_spec):
        return kseq.SequenceSpec((2,), self.compute_dtype)

    def call_step(self, x, state, *, training=False):
        parts = tuple(kseq.Sequence(part, x.mask) for part in (x.values[..., :2], x.values[..., 2:]))
        return self.inner.call_layer(parts), state


def test_contract_of_what_flows_along():
    check_layer(Beside(), (2, 6, 3))


def test_film_begins_as_the_identity_where_the_kernel_is_zero():
    layer, x = kseq.FiLM("style", kernel_initializer="zeros"), draw(BATCH, TIME, 3)
    np.testing.assert_array_equal(numpy(layer(x, context={"style": draw(BATCH, 5)})), x)
    assert layer.combination == "affine"


# Models.


def conditioned_model():
    """Latency before what is conditioned, on what is known and on what flows along."""
    x, speaker = keras.Input((None, 3), name="x"), keras.Input((5,), name="speaker")
    text, mask = keras.Input((None, 2), name="text"), keras.Input((None,), dtype="bool", name="text_mask")
    h = kseq.Conv1D(4, 3, padding="reverse_causal")(x)
    h = kseq.FiLM("speaker")(h, context={"speaker": keras.layers.Dense(3)(speaker)})
    h = kseq.SynchronousConditioning("mul")([h, x])
    h = kseq.Conditioning("concat", per_step=True)(h, context={"conditioning": kseq.Sequence(text, mask)})
    return keras.Model([x, speaker, text, mask], kseq.GRU(2)(h))


def test_a_model_streams_and_is_saved(tmp_path):
    model = conditioned_model()
    x, speaker, text = draw(2, 8, 3), draw(2, 5), draw(2, 6, 2)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]], bool)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    wanted = numpy(model([x, speaker, text, mask]))
    stream = kseq.Stream(model, 2, context={"speaker": speaker, "text": kseq.Sequence(text, mask)})
    for cuts in ([1], [3, 4]):
        found = [stream.push(part) for part in np.split(x, cuts, axis=1)]
        np.testing.assert_allclose(np.concatenate([*found, stream.flush()], 1), wanted, atol=1e-5)


def test_training(tmp_path):
    model = conditioned_model()
    given = [draw(2, 8, 3), draw(2, 5), draw(2, 6, 2), MASK[:2]]
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(given, np.ones((2, 8, 2)), verbose=0)
    assert all((a != b).any() and np.isfinite(b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_keras_sees_the_mask_that_a_conditioning_makes():
    """A loss leaves out what has no conditioning."""
    x, text = keras.Input((None, 3)), keras.Input((None, 3))
    y = kseq.Conditioning("add", "identity", per_step=True)(x, context={"conditioning": text})
    model = keras.Model([x, text], y)
    model.compile(loss="mae")
    given = [np.zeros((1, 6, 3), "float32"), np.zeros((1, 3, 3), "float32")]
    target = np.repeat(np.array([0, 0, 0, 9, 9, 9], "float32")[None, :, None], 3, axis=2)
    assert model.evaluate(given, target, verbose=0) == 0


def test_in_combinators():
    speaker = draw(BATCH, 5)
    layer = kseq.Serial(
        [
            kseq.Conv1D(3, 2, padding="reverse_causal"),
            kseq.Residual(kseq.FiLM("speaker")),
            kseq.Conditioning("mul", source="speaker"),
        ]
    )
    assert layer.static_context == ("speaker",)
    check_layer(layer, (3, 6, 2), context={"speaker": (5,)})
    x = draw(BATCH, TIME, 2)
    whole = numpy(layer(x, context={"speaker": speaker}))
    stream = kseq.Stream(layer, BATCH, context={"speaker": speaker})
    np.testing.assert_allclose(np.concatenate([stream.push(x), stream.flush()], 1), whole, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    todays(
        [
            pytest.param(lambda: kseq.Serial([kseq.Conditioning("add", per_step=True), kseq.GRU(2)]), id="memory"),
            pytest.param(
                lambda: kseq.Serial(
                    [kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.UpsampleConditioning(2, "affine")]
                ),
                id="latency",
            ),
        ],
        of="conditioning in stacks",
        jax=0.5,
        tensorflow=0.5,
    ),
)
def test_stacks(layer):
    check_layer(layer(), (3, 8, 2), context={"conditioning": (11, 2)})


# Noise.


def test_noise_is_drawn_from_its_distribution():
    x = np.zeros((1, 4000, 1), "float32")
    y = numpy(kseq.NoiseConditioning((4,), "concat", "identity", seed=3)(x))[0, :, 1:]
    assert np.abs(y.mean(0)).max() < 0.06 and np.abs(y.std(0) - 1).max() < 0.06
    assert np.abs(np.corrcoef(y.T) - np.eye(4)).max() < 0.06 and np.abs(np.corrcoef(y[1:, 0], y[:-1, 0])[0, 1]) < 0.06
    y = numpy(kseq.NoiseConditioning((1,), "add", "identity", "uniform", seed=3)(x))
    assert 0 <= y.min() < 0.01 and 0.99 < y.max() < 1 and abs(y.mean() - 0.5) < 0.03


def test_noise_of_rows():
    layer = kseq.NoiseConditioning((2,), "concat", "identity", seed=3, row_seeds_name="seeds")
    call = functools.partial(layer, np.zeros((3, 5, 1), "float32"))
    y = numpy(call(context={"seeds": np.array([[1], [2], [1]])}))
    np.testing.assert_allclose(y[0], y[2], atol=1e-6)
    assert np.abs(y[0] - y[1])[:, 1:].min() > 0
    with pytest.raises(TypeError, match=r"'seeds', must be whole numbers \[B, n\]; received shape \(3,\)"):
        call(context={"seeds": np.array([1, 2, 3])})


def test_noise_while_training_differs_in_every_row_and_call():
    layer, x = kseq.NoiseConditioning((2,), "concat", "identity", seed=3), np.zeros((2, 5, 1), "float32")
    first, second = (numpy(layer(x, training=True))[..., 1:] for _ in range(2))
    assert np.abs(first - second).min() > 0 and np.abs(first[0] - first[1]).min() > 0
    np.testing.assert_allclose(numpy(layer(x)), numpy(layer(x)), atol=1e-6)


def test_noise_in_training():
    model = keras.Sequential([keras.Input((None, 3)), kseq.NoiseConditioning((2,), "affine", seed=3), kseq.GRU(1)])
    seeds = numpy(model.layers[0].seed_generator.state)
    model.compile("sgd", "mse")
    model.fit(draw(4, 5, 3), np.ones((4, 5, 1)), batch_size=2, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert (numpy(model.layers[0].seed_generator.state) != seeds).any()
    x = draw(2, 5, 3)
    stream = kseq.Stream(model, 2)
    found = np.concatenate([stream.push(x[:, :2]), stream.push(x[:, 2:])], axis=1)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-5)


# Style.


def test_style_tokens_are_attended_to():
    layer = drawn(kseq.StyleTokens(4, 2, 3, token_dim=5), (6,))
    tokens, query, key, value = layer.get_weights()
    x, tokens = draw(BATCH, TIME, 6), np.tanh(tokens)
    q, k, v = ((part @ w).reshape(*part.shape[:-1], 2, 3) for part, w in ((x, query), (tokens, key), (tokens, value)))
    weights = np.exp(np.einsum("bthd,nhd->bthn", q, k) / 3**0.5)
    weights /= weights.sum(-1, keepdims=True)
    wanted = np.einsum("bthn,nhd->bthd", weights, v).reshape(BATCH, TIME, 6)
    np.testing.assert_allclose(numpy(layer(x)), wanted, atol=1e-5)


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.Conditioning("sum"), "`combination` must be one of add, .*; received 'sum'"),
        (lambda: kseq.Conditioning("affine", "linear"), "'affine' takes the projection 'linear_affine'; received 'lin"),
        (lambda: kseq.Conditioning("add", "linear_affine"), "takes the projection 'linear' or 'identity'; received 'l"),
        (lambda: kseq.Conditioning("affine_scale", "identity"), "takes the projection 'linear'; received 'identity'"),
        (lambda: kseq.Conditioning(source=""), "`source` must be a name in the context; received ''"),
        (lambda: kseq.Conditioning(positions="some"), "`positions` must be one of valid, all; received 'some'"),
        (lambda: kseq.Conditioning("add", "identity", projection_channel_shape=(3,)), "by the identity; received .*3"),
        (lambda: kseq.FiLM(projection_channel_shape=(0,)), "`projection_channel_shape` must be an integer of at least"),
        (lambda: kseq.UpsampleConditioning(0), "`upsample_ratio` must be an integer of at least 1; received 0"),
        (lambda: kseq.NoiseConditioning((0,)), "`noise_channel_shape` must be an integer of at least 1"),
        (lambda: kseq.NoiseConditioning((2,), distribution="cauchy"), "`distribution` must be one of normal, uniform"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "context", "message"),
    [
        (
            kseq.Conditioning,
            np.zeros((2, 5), "float32"),
            r"must have 3 rows, as the input has; received shape \(2, 5\)",
        ),
        (kseq.Conditioning, np.zeros((3,), "float32"), r"must have the shape \[batch, 5\]; received \(3,\)"),
        (kseq.Conditioning, np.zeros((3, 4), "float32"), r"must have the shape \[batch, 5\]; received \(3, 4\)"),
        (
            kseq.Conditioning,
            kseq.Sequence(np.zeros((3, 5), "float32"), np.ones((3, 5), bool)),
            "is one value for each row, and has no mask; received one",
        ),
        (
            functools.partial(kseq.Conditioning, per_step=True),
            np.zeros((3, 5), "float32"),
            r"must have the shape \[batch, time, 5\]; received \(3, 5\)",
        ),
    ],
)
def test_a_context_that_does_not_fit(layer, context, message):
    layer = layer()
    layer.build((3, 6, 2), context_shape={"conditioning": (3, 7, 5) if layer.per_step else (3, 5)})
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((3, 6, 2), "float32"), context={"conditioning": context})


def test_channels_that_do_not_fit():
    x, c = np.zeros((1, 6, 3), "float32"), np.zeros((1, 2), "float32")
    message = r"cannot combine channels \(3,\) with those of its conditioning, \(2,\), by 'add'"
    with pytest.raises(ValueError, match=message):
        kseq.Conditioning("add", "identity")(x, context={"conditioning": c})
    with pytest.raises(ValueError, match="a concatenation, which both must have"):
        kseq.Conditioning("concat", "identity")(x[..., 0], context={"conditioning": c})
    with pytest.raises(ValueError, match="takes floats; received int32"):
        kseq.Conditioning()(np.zeros((1, 6, 3), "int32"), context={"conditioning": c})
    with pytest.raises(ValueError, match="is built by a call with its context"):
        kseq.FiLM().build((1, 6, 3))
