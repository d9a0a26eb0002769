"""Combinators: what they combine, in blocks and in both directions, and what is computed again for its gradients."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.combinators.combine import Combine
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.5}

numpy = ops.convert_to_numpy
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(4, 9, 4)).astype("float32")
MASK = np.arange(9) < np.array([9, 5, 1, 0])[:, None]
X = kseq.Sequence(VALUES, MASK)
SPEC = kseq.SequenceSpec((4,))


def valid(y):
    """The values at valid steps, one row after the other."""
    return numpy(y.values)[numpy(y.mask)]


def gradients(layer, values=VALUES, training=False):
    """Loss and gradients of input and weights."""

    def loss(values, mask):
        y = layer(kseq.Sequence(values, mask), training=training)
        return ops.sum(y.mask_invalid().values ** 2), ()

    run = transforms.value_and_gradients(loss, layer.trainable_variables)
    value, _, of_values, found = run(values, [numpy(v) for v in layer.trainable_variables], MASK)
    return [numpy(part) for part in (value, of_values, *found)]


def twins(*layers):
    """The layers, built, with the weights of the first."""
    for layer in layers:
        layer.build(VALUES.shape)
        layer.set_weights(layers[0].get_weights())
    return layers


def expect_equal(found, wanted, atol=1e-5):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)


# Combinations.


@pytest.mark.parametrize(
    ("combination", "shapes", "wanted"),
    [
        ("stack", [(5, 1), (7,)], (2, 5, 7)),
        ("stack", [(), ()], (2,)),
        ("concat", [(), (5,)], (6,)),
        ("concat", [(2, 5), (3, 1, 7)], (3, 2, 12)),
        ("concat_first", [(2, 5), (3, 5)], (5, 5)),
        ("concat_first", [(2, 5), (3, 1)], (5, 5)),
        ("concat_first", [(4,), (3,)], (7,)),
        ("add", [(2, 5), (3, 1, 5)], (3, 2, 5)),
        ("mean", [(5,), ()], (5,)),
        ("product", [(2, 1), (5,)], (2, 5)),
    ],
)
def test_channels_are_broadcast(combination, shapes, wanted):
    parts = [RNG.normal(size=(2, 3, *shape)).astype("float32") for shape in shapes]
    layer = Combine(combination, ["a", "b"])
    y = layer(tuple(map(kseq.Sequence, parts)))
    assert layer.output_spec(tuple(kseq.SequenceSpec(shape) for shape in shapes)).shape == wanted
    assert tuple(y.values.shape) == (2, 3, *wanted)
    for step in ((0, 0), (1, 2)):
        np.testing.assert_allclose(numpy(y.values)[step], of_a_step(combination, *(v[step] for v in parts)), rtol=1e-6)


def of_a_step(combination, a, b):
    """What NumPy makes of the channels of one step."""
    rank = max(1, a.ndim, b.ndim)
    wide = [v.reshape((1,) * (rank - v.ndim) + v.shape) for v in (a, b)]
    if combination == "stack":
        return np.stack(np.broadcast_arrays(a, b))
    if combination == "concat":
        others = np.broadcast_shapes(*(v.shape[:-1] for v in wide))
        return np.concatenate([np.broadcast_to(v, (*others, v.shape[-1])) for v in wide], axis=-1)
    if combination == "concat_first":
        others = np.broadcast_shapes(*(v.shape[1:] for v in wide))
        return np.concatenate([np.broadcast_to(v, (len(v), *others)) for v in wide])
    return {"add": a + b, "mean": (a + b) / 2, "product": a * b}[combination]


@pytest.mark.parametrize("combination", ["stack", "concat", "concat_first"])
def test_channels_that_do_not_fit_are_refused(combination):
    shapes = {"stack": [(2,), (3,)], "concat": [(2, 5), (3, 5)], "concat_first": [(5, 2), (5, 3)]}[combination]
    with pytest.raises(ValueError, match=rf"'{combination}' combines; received \({shapes[0][0]}, ?.*branch 'a' and"):
        Combine(combination, ["a", "b"]).output_spec(tuple(map(kseq.SequenceSpec, shapes)))


def test_phases_that_only_one_branch_has_are_unions_with_the_other():
    two = kseq.Timing(receptive_field_per_step=((0, 0), (-2, -1)))
    found = kseq.timing.parallel([kseq.Timing(receptive_field_per_step=((-4, 0),)), two])
    assert found.receptive_field_per_step == ((-4, 0), (-4, 0))


# Layers side by side.


@pytest.mark.parametrize("combination", ["stack", "concat", "mean"])
def test_groups_share_weights_and_have_states_of_their_own(combination):
    child = kseq.GRU(2)
    layer = kseq.ParallelChannels(child, 2, combination)
    y = layer(X)
    assert len(layer.trainable_variables) == 3
    parts = [child(kseq.Sequence(VALUES[..., i : i + 2], MASK)) for i in (0, 2)]
    wanted = Combine(combination, ["a", "b"])(tuple(parts))
    np.testing.assert_allclose(valid(y), valid(wanted), atol=1e-6)
    state, found = layer.initial_state(4, SPEC), []
    for start in range(0, 9, 3):
        part, state = layer.step(X.slice_time(start, start + 3), state)
        found.append(part)
    np.testing.assert_allclose(valid(kseq.Sequence.concatenate(found)), valid(y), atol=1e-6)


def test_groups_divide_the_last_axis():
    with pytest.raises(ValueError, match=r"two: .*divisible by `groups` \(=3\); received channel shape \(4,\)"):
        kseq.ParallelChannels(kseq.Dense(2), 3, name="two")(VALUES)


def test_a_skip_is_joined_on_the_first_channel_axis():
    layer = kseq.Skip([kseq.Lookahead(1), kseq.Delay(1, delay_layer_output=False), kseq.Activation("relu")])
    with pytest.raises(ValueError, match="equal length; received"):
        layer(VALUES)
    values = VALUES.reshape(4, 9, 2, 2)
    y = numpy(kseq.Skip([kseq.Activation("relu")])(values))
    np.testing.assert_array_equal(y, np.concatenate([values, np.maximum(values, 0)], axis=2))


class Gated(kseq.Residual):
    def residual_function(self, body, shortcut):
        return ops.concatenate([body * shortcut, shortcut], axis=-1)


class Mixing(kseq.Residual):
    def residual_function(self, body, shortcut):
        return body + ops.cumsum(shortcut, axis=1)


def test_a_residual_may_do_something_else_than_add():
    layer = Gated([kseq.Conv1D(4, 3, padding="reverse_causal")])
    y = layer(X)
    body = layer.layers[0](X)
    wanted = np.concatenate([numpy(body.values) * VALUES, VALUES], axis=-1)
    np.testing.assert_allclose(valid(y), wanted[MASK], atol=1e-6)
    assert layer.output_spec(SPEC).shape == (8,) and layer.timing.output_latency == 2
    kseq.testing.check_layer(Gated([kseq.Dense(4)]), (2, 5, 4), gradients=False)


def test_a_residual_function_that_mixes_time_does_not_step():
    layer = Mixing([kseq.Dense(4)])
    layer(VALUES)
    with pytest.raises(kseq.NotStreamable, match="residual_function does not treat every step by itself"):
        layer.step(VALUES, layer.initial_state(4, SPEC))


# Both directions.


@pytest.mark.parametrize(("cls", "mode"), [("LSTM", "concat"), ("GRU", "ave")])
def test_both_directions_are_those_of_keras(cls, mode):
    stock = keras.layers.Bidirectional(getattr(keras.layers, cls)(2, return_sequences=True), merge_mode=mode)
    wanted = numpy(stock(VALUES, mask=ops.convert_to_tensor(MASK)))
    unmasked = numpy(stock(VALUES))
    made = kseq.Bidirectional(getattr(kseq, cls)(2), mode), kseq.Bidirectional.from_config(stock.get_config())
    for layer in made:
        layer.build(VALUES.shape)
        layer.set_weights(stock.get_weights())
        np.testing.assert_allclose(valid(layer(X)), wanted[MASK], atol=1e-6)
        np.testing.assert_allclose(numpy(layer(VALUES)), unmasked, atol=1e-6)


def test_a_backward_layer_of_keras_that_reads_forwards_is_refused():
    stock = keras.layers.Bidirectional(keras.layers.GRU(2))  # which gives its last step alone
    with pytest.raises(ValueError, match="`return_sequences` as True; received False"):
        kseq.Bidirectional.from_config(stock.get_config())


CHILDREN = {
    "strided": lambda: kseq.Conv1D(2, 3, strides=2, padding="causal"),
    "ahead": lambda: kseq.Conv1D(2, 3, strides=3, padding="reverse_causal_valid"),
    "shorter": lambda: kseq.Conv1D(2, 3, strides=2, padding="valid"),
}


@pytest.mark.parametrize("child", CHILDREN)
def test_padding_changes_no_direction(child):
    """Rows of a padded batch give what each row gives alone, wherever their padding is."""
    layer = kseq.Bidirectional(CHILDREN[child](), merge_mode="stack")
    padded = kseq.Sequence(VALUES, MASK).pad_time(0, 5, value=7.0)
    y = layer(padded).mask_invalid()
    assert numpy(layer.output_mask(padded.mask)).tolist() == numpy(y.mask).tolist()
    for row, length in enumerate(MASK.sum(1)):
        if not length:
            assert not numpy(y.mask)[row].any()
            continue
        alone = layer(kseq.Sequence(VALUES[row : row + 1, :length])).with_mask().mask_invalid()
        found = numpy(y.values)[row : row + 1, : alone.values.shape[1]]
        np.testing.assert_array_equal(numpy(y.mask)[row, : alone.values.shape[1]], numpy(alone.mask)[0])
        np.testing.assert_allclose(found, numpy(alone.values), atol=1e-6)


def test_leading_invalid_steps_change_no_direction():
    layer = kseq.Bidirectional(kseq.Conv1D(2, 3, strides=2, padding="causal"))
    y, late = layer(X), layer(X.pad_time(4, 1, value=7.0))
    assert not numpy(late.mask)[:, :2].any()
    np.testing.assert_array_equal(numpy(late.mask)[:, 2:7], numpy(y.mask))
    np.testing.assert_allclose(valid(late), valid(y), atol=1e-6)


def test_the_backward_layer_sees_holes_where_they_are():
    """A mirrored convolution is the convolution of the mirrored kernel, whatever is invalid in between."""
    both = kseq.Bidirectional(kseq.Conv1D(2, 3), backward_layer=kseq.Conv1D(2, 3), merge_mode="stack")
    mirrored = kseq.Conv1D(2, 3, padding="reverse_causal")
    mask = RNG.random((4, 9)) < 0.6
    x = kseq.Sequence(VALUES, mask)
    y, _ = both(x), mirrored(x)
    kernel, bias = (numpy(v) for v in both.backward_layer.weights)
    mirrored.set_weights([kernel[::-1].copy(), bias])
    np.testing.assert_allclose(valid(y)[:, 1], valid(mirrored(x)), atol=1e-5)


def test_both_directions_need_the_end():
    layer = kseq.Bidirectional(kseq.GRU(2), name="both")
    layer.build(VALUES.shape)
    with pytest.raises(
        kseq.NotStreamable, match=r"both \(Bidirectional\) cannot step: .* from the end; use the forward"
    ):
        layer.step(VALUES, ())
    with pytest.raises(ValueError, match="`merge_mode` must be a text; received None"):
        kseq.Bidirectional(kseq.GRU(2), merge_mode=None)
    with pytest.raises(ValueError, match=r"`merge_mode` must be one of concat, sum.*; received 'max'"):
        kseq.Bidirectional(kseq.GRU(2), merge_mode="max")
    with pytest.raises(TypeError, match="`backward_layer` must be a kseq layer; received <GRU"):
        kseq.Bidirectional(kseq.GRU(2), backward_layer=keras.layers.GRU(2))


def test_the_directions_draw_weights_of_their_own():
    glorot = keras.initializers.GlorotUniform(seed=1)
    layer = kseq.Bidirectional(kseq.GRU(2, kernel_initializer=glorot))
    layer.build(VALUES.shape)
    forward, backward = (numpy(part.kernel) for part in layer.sublayers)
    assert np.abs(forward - backward).max() > 0.01


# Blocks.


def chain():
    return kseq.Serial([kseq.Conv1D(4, 4, padding="reverse_causal"), kseq.GRU(4), kseq.Conv1D(3, 3, strides=2)])


@pytest.mark.parametrize("block_size", [4, 16])
def test_blocks_give_the_numbers_and_gradients_of_the_whole(block_size):
    whole, blocks = twins(chain(), kseq.Blockwise(chain(), block_size))
    y, wanted = blocks(X), whole(X)
    np.testing.assert_array_equal(numpy(y.mask), numpy(wanted.mask))
    np.testing.assert_allclose(valid(y), valid(wanted), atol=1e-6)
    np.testing.assert_allclose(numpy(blocks(VALUES)), numpy(whole(VALUES)), atol=1e-6)
    assert blocks(kseq.Sequence(VALUES)).mask is None and blocks.timing.block_size == block_size
    if block_size < 9:
        expect_equal(gradients(blocks), gradients(whole))


def test_random_layers_and_statistics_go_from_block_to_block():
    """Seeds, which are variables, are carried: every block draws zeros of its own, and so does the next call."""
    layer = kseq.Blockwise(kseq.Dropout(0.5, seed=1), 3)
    ones = np.ones((1, 9, 64), "float32")
    first, second = (numpy(layer(ones, training=True)) > 0 for _ in range(2))
    blocks = [first[:, :3], first[:, 3:6], first[:, 6:], second[:, :3]]
    assert all((a != b).mean() > 0.3 for i, a in enumerate(blocks) for b in blocks[:i])
    assert numpy(layer(ones)).all()


def test_blocks_pass_the_context_on():
    body = kseq.Serial([kseq.Dense(4), kseq.DeterministicDropout(0.5, 1, row_seeds_name="seeds")])
    layer = kseq.Blockwise(kseq.CheckpointGradient(body), 3)
    seeds = np.arange(4, dtype="int32")[:, None]
    found, wanted = (part(VALUES, training=True, context={"seeds": seeds}) for part in (layer, body))
    np.testing.assert_allclose(numpy(found), numpy(wanted), atol=1e-6)
    both = kseq.Bidirectional(body, backward_layer=body, merge_mode="stack")
    y = numpy(both(VALUES, training=True, context={"seeds": seeds}))
    flipped = numpy(body(VALUES[:, ::-1].copy(), training=True, context={"seeds": seeds}))
    np.testing.assert_allclose(y, np.stack([numpy(wanted), flipped[:, ::-1]], axis=2), atol=1e-6)


def test_what_has_no_blocks_is_refused():
    with pytest.raises(ValueError, match=r"multiple of 2, the block of conv \(Conv1D\); received 3"):
        kseq.Blockwise(kseq.Conv1D(2, 3, strides=2, name="conv"), 3)
    with pytest.raises(
        kseq.NotStreamable, match=r"by steps, which its layer cannot make: .*reads each row from the end"
    ):
        kseq.Blockwise(kseq.Bidirectional(kseq.GRU(2)), 3)(VALUES)
    layer = kseq.Blockwise(kseq.Serial([kseq.Dense(2, activity_regularizer="l2", name="inner")]), 3, name="outer")
    with pytest.raises(ValueError, match="activity regularizer of inner: give it to outer instead"):
        layer(VALUES, training=True)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax alone says what a program will take")
def test_blocks_bound_memory():
    import jax

    def body():
        return kseq.Serial([kseq.Dense(64, activation="tanh"), kseq.Conv1D(64, 3, activation="tanh"), kseq.Dense(4)])

    def memory(layer, gradient):
        layer.build((1, 2048, 4))
        variables = layer.trainable_variables

        def run(weights, x):
            with keras.StatelessScope(list(zip(variables, weights, strict=True))):
                return ops.sum(layer(x, training=gradient) ** 2)

        arguments = [v.value for v in variables], np.zeros((1, 2048, 4), "float32")
        return jax.jit(jax.grad(run) if gradient else run).lower(*arguments).compile().memory_analysis()

    whole, blocks = (memory(layer, False).temp_size_in_bytes for layer in (body(), kseq.Blockwise(body(), 64)))
    assert blocks < whole / 5
    again = kseq.Blockwise(kseq.CheckpointGradient(body()), 64)
    whole, blocks = (memory(layer, True).temp_size_in_bytes for layer in (body(), again))
    assert blocks < whole / 5


# What is computed again.


def noisy():
    return kseq.Serial([kseq.Dense(4, activation="tanh"), kseq.Dropout(0.5, seed=3), kseq.Dense(2)])


def test_what_is_computed_again_draws_the_same_numbers():
    """The gradients of dropout computed again are those of the zeros that were drawn first."""
    layers = twins(noisy(), kseq.CheckpointGradient(noisy()), kseq.Blockwise(kseq.CheckpointGradient(noisy()), 9))
    wanted, *found = (gradients(layer, training=True) for layer in layers)
    for each in found:
        expect_equal(each, wanted)


def test_repeats_are_computed_again():
    body = [kseq.Dense(4, activation="tanh"), kseq.Dropout(0.5, seed=3)]
    layers = twins(
        kseq.Repeat(body, 2), kseq.Repeat([layer.from_config(layer.get_config()) for layer in body], 2, True)
    )
    expect_equal(*(gradients(layer, training=True) for layer in layers))
    assert layers[1].get_config()["remat"] is True and len(layers[1].sublayers) == 4


def test_a_step_is_computed_again_while_training():
    def body():
        return kseq.Serial([kseq.GRU(4), kseq.Dropout(0.5, seed=3)])

    def of_steps(layer):
        def loss(values, mask):
            state, total = layer.initial_state(4, SPEC), 0.0
            for part in (slice(0, 4), slice(4, 9)):
                y, state = layer.step(kseq.Sequence(values[:, part], mask[:, part]), state, training=True)
                total = total + ops.sum(y.mask_invalid().values ** 2)
            return total, ()

        run = transforms.value_and_gradients(loss, layer.trainable_variables)
        value, _, of_values, found = run(VALUES, [numpy(v) for v in layer.trainable_variables], MASK)
        return [numpy(part) for part in (value, of_values, *found)]

    layers = twins(body(), kseq.CheckpointGradient(body()))
    expect_equal(*map(of_steps, layers))


def test_they_train():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((9, 4)), kseq.Blockwise(kseq.CheckpointGradient(noisy()), 4)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(VALUES, VALUES[..., :2], epochs=2, verbose=0)
    state = [numpy(v) for v in model.variables if "seed_generator" in v.path]
    assert state[0].tolist()[1] > 1  # the seed went on


def test_they_are_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, 4)),
            kseq.ParallelChannels(kseq.Conv1D(2, 3), 2, "concat"),
            kseq.Skip([kseq.Dense(3)]),
            kseq.Bidirectional(kseq.GRU(2), backward_layer=kseq.Dense(2)),
            kseq.Bidirectional(kseq.Dense(2), "sum"),
            kseq.Blockwise(kseq.CheckpointGradient(kseq.Dense(2)), 4),
        ]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(VALUES)), numpy(model(VALUES)), atol=1e-6)


@pytest.mark.parametrize("cls", [kseq.Residual, kseq.Parallel, kseq.Skip])
def test_nan_in_the_padding_does_not_pass_by_a_shortcut(cls):
    # A loss that multiplies by zero there would be NaN, and so would every weight.
    mask = np.array([[True, True, False], [True, False, False]])
    x = np.where(mask[..., None], 1, np.nan).astype("float32")
    y = cls([kseq.Identity()])(kseq.Sequence(x, mask))
    assert np.isfinite(ops.convert_to_numpy(y.values)).all()
