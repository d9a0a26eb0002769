"""Normalisation: over the batch without padding, over time without and with a memory, and Keras's spectral one."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.5}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 9, 6)).astype("float32")
MASK = RNG.random((4, 9)) < 0.6
MASK[0], MASK[1, :3], MASK[3] = True, False, False
SPOILT = np.where(MASK[..., None], X, np.nan)


def numpy(x):
    return ops.convert_to_numpy(x)


def variables(layer):
    return {v.name: numpy(v.value) for v in layer.variables}


# Over the batch.


def trained(layer, x, mask=None):
    """Outputs while training, and the moving averages after it."""
    y = layer(kseq.Sequence(x, mask), training=True).values if mask is not None else layer(x, training=True)
    return numpy(y), variables(layer)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("axis", [-1, 2])
def test_batch_normalization_of_valid_steps_is_that_of_keras(axis, dtype):
    x = (3 * X + 2).reshape(4, 9, 2, 3)
    options = {"axis": axis, "momentum": 0.7, "gamma_initializer": "random_normal", "dtype": dtype}
    theirs, ours = keras.layers.BatchNormalization(**options), kseq.BatchNormalization(**options)
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    wanted, found = trained(theirs, x), trained(ours, x)
    close = {"atol": 1e-5 if dtype == "float32" else 3e-2}
    np.testing.assert_allclose(found[0].astype("float32"), wanted[0].astype("float32"), **close)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(found[1][name], wanted[1][name], rtol=1e-5)
    np.testing.assert_allclose(numpy(ours(x)).astype("float32"), numpy(theirs(x)).astype("float32"), **close)
    again = kseq.BatchNormalization.from_config(theirs.get_config())
    assert (again.momentum, again.axis) == (0.7, axis)


def test_padding_changes_no_statistic():
    layer, packed = kseq.BatchNormalization(), kseq.BatchNormalization()
    y, after = trained(layer, SPOILT, MASK)
    wanted, wanted_after = trained(packed, X[MASK][None])
    np.testing.assert_allclose(y[MASK], wanted[0], atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(after[name], wanted_after[name], rtol=1e-5)


def test_a_batch_without_valid_steps_changes_nothing():
    layer = kseq.BatchNormalization(moving_mean_initializer="ones")
    layer.build(X.shape)
    before = variables(layer)
    y, after = trained(layer, SPOILT, np.zeros_like(MASK))
    assert np.isfinite(y).all()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_gradients_flow_through_the_statistics():
    """Of outputs of mean zero and variance one the sum of squares has no gradient; nor has padding."""
    layer = kseq.BatchNormalization(epsilon=1e-6)
    layer.build(X.shape)

    def loss(values):
        y = layer(kseq.Sequence(values, ops.convert_to_tensor(MASK)), training=True).mask_invalid().values
        return ops.sum(ops.square(y)), ops.sum(y * y * y)

    weights = [numpy(v.value) for v in layer.trainable_variables]
    run = transforms.value_and_gradients(loss, layer.trainable_variables)
    value, _, of_values, of_weights = run(SPOILT, weights)
    np.testing.assert_allclose(numpy(value), MASK.sum() * 6, rtol=1e-4)
    np.testing.assert_allclose(numpy(of_values), 0, atol=1e-3)
    np.testing.assert_allclose(numpy(of_weights[0]), 2 * MASK.sum(), rtol=1e-3)


def test_a_frozen_layer_uses_moving_averages():
    layer = kseq.BatchNormalization(trainable=False)
    y, after = trained(layer, X, MASK)
    np.testing.assert_allclose(y[MASK], X[MASK] / np.sqrt(1 + 1e-3), atol=1e-5)
    assert not after["moving_mean"].any()
    layer.step(kseq.Sequence(X), (), training=True)


def test_a_step_does_not_train():
    layer = kseq.BatchNormalization(name="bn")
    layer.build(X.shape)
    with pytest.raises(ValueError, match=r"bn \(BatchNormalization\) cannot step with training=True: while training"):
        layer.step(kseq.Sequence(X), (), training=True)
    s = keras.Input((None, 6))
    with pytest.raises(kseq.NotStreamable, match="while training its statistics are those of whole sequences"):
        kseq.Stream(keras.Model(s, layer(s, training=True)))
    kseq.Stream(keras.Model(s, layer(s))).push(X[0])


@pytest.mark.parametrize(
    ("option", "reason"), [({"synchronized": True}, "one replica"), ({"renorm": True}, "no batch renormalisation")]
)
def test_options_of_keras_that_are_refused(option, reason):
    (name,) = option
    with pytest.raises(ValueError, match=f"takes `{name}` as False; received True: .*{reason}"):
        kseq.BatchNormalization(**option)


def fitted(**scope):
    keras.utils.set_random_seed(0)
    with keras.RematScope(**scope):
        body = kseq.Serial([kseq.Dense(6), kseq.Residual([kseq.BatchNormalization(momentum=0.5)])])
    model = keras.Sequential([keras.Input((9, 6)), keras.layers.Masking(), body])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.where(MASK[..., None], X, 0), X, epochs=2, batch_size=4, shuffle=False, verbose=0)
    return {v.path.split("/")[-1]: numpy(v.value) for v in model.variables}


def test_fit_moves_the_averages_within_other_layers():
    assert np.abs(fitted(mode=None)["moving_mean"]).max() > 0.01


def test_averages_move_once_where_calls_are_run_again_for_gradients():
    pytest.importorskip("kseq.layers.rematerialize", reason="variables are written by calls that are run again")
    wanted = fitted(mode=None)
    for name, value in fitted(mode="full").items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)


# Over time.


def moments(x, mask, groups):
    """Mean and variance of each row and group over its valid steps, of values [T, C]."""
    valid = x[mask].reshape(mask.sum(), groups, -1)
    return valid.mean((0, 2)), valid.var((0, 2))


@pytest.mark.parametrize("groups", [1, 2, -1])
def test_group_normalization_of_valid_steps_is_that_of_keras(groups):
    theirs, ours = (
        module.GroupNormalization(groups, gamma_initializer="random_normal") for module in (keras.layers, kseq)
    )
    wanted = numpy(theirs(X))
    ours.build(X.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(X)), wanted, atol=1e-5)
    y = numpy(ours(kseq.Sequence(SPOILT, MASK)).values)
    for row in range(3):
        alone = numpy(theirs(X[row][MASK[row]][None]))[0]
        np.testing.assert_allclose(y[row][MASK[row]], alone, atol=1e-5)
    again = kseq.GroupNormalization.from_config(keras.layers.GroupNormalization(groups).get_config())
    assert again.groups == groups


def running(x, mask, groups, cumulative):
    """The definition, in float64, step by step: outputs [T, C]."""
    y, seen, squares = np.zeros(x.shape), [], 0
    for t in np.flatnonzero(mask):
        seen.append(x[t].astype("float64").reshape(groups, -1))
        mean = np.mean(seen, axis=(0, 2))
        squares = squares + ((seen[-1] - mean[:, None]) ** 2).sum(1)
        variance = squares / (len(seen) * seen[-1].shape[1]) if cumulative else np.var(seen, axis=(0, 2))
        y[t] = ((seen[-1] - mean[:, None]) / np.sqrt(variance + 1e-3)[:, None]).reshape(-1)
    return y


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("statistics", ["running", "cumulative"])
@pytest.mark.parametrize("groups", [1, 3, -1])
def test_statistics_so_far_are_those_of_the_definition(groups, statistics, offset):
    layer = kseq.GroupNormalization(groups, statistics=statistics)
    x = (X + np.float32(offset)).astype("float32")
    given = kseq.Sequence(np.where(MASK[..., None], x, np.nan), MASK)
    whole = numpy(layer(given).values)
    size = 6 if groups == -1 else groups
    for row in range(4):
        wanted = running(x[row], MASK[row], size, statistics == "cumulative")
        np.testing.assert_allclose(whole[row][MASK[row]], wanted[MASK[row]], atol=2e-4)
    state, streamed = layer.initial_state(4, kseq.SequenceSpec((6,))), []
    with transforms.no_gradients():
        for start, end in ((0, 1), (1, 4), (4, 9)):
            y, state = layer.step(given.slice_time(start, end), state)
            streamed.append(numpy(y.values))
    np.testing.assert_allclose(np.concatenate(streamed, 1)[MASK], whole[MASK], atol=1e-5)


def test_a_long_stream_far_from_zero():
    """Ten thousand deviations away, after a first step that is nowhere near."""
    layer = kseq.InstanceNormalization(statistics="running")
    x = RNG.normal(1e4, 1, (1, 4000, 1)).astype("float32")
    x[0, 0] = 0
    state, last = layer.initial_state(1, kseq.SequenceSpec((1,))), None
    with transforms.no_gradients():
        for start in range(0, 4000, 500):
            last, state = layer.step(kseq.Sequence(x[:, start : start + 500]), state)
    so_far = x.astype("float64")
    wanted = (so_far[0, -1] - so_far.mean()) / np.sqrt(so_far.var() + 1e-3)
    np.testing.assert_allclose(numpy(last.values)[0, -1], wanted, atol=1e-4)
    np.testing.assert_allclose(numpy(state["variance"])[0], so_far.var(), rtol=1e-4)


def test_instance_normalization_is_a_group_for_each_channel():
    x = RNG.normal(2, 3, (2, 9, 4, 3)).astype("float32")
    for axis, others in ((-1, (0, 1)), (2, (0, 2))):
        layer = kseq.InstanceNormalization(axis, epsilon=0)
        layer.build(x.shape)
        assert layer.gamma.shape == (x.shape[axis],)
        y = numpy(layer(x))
        for row in y:
            np.testing.assert_allclose(row.mean(others), 0, atol=1e-5)
            np.testing.assert_allclose(row.std(others), 1, atol=1e-5)


def test_what_is_refused_over_time():
    with pytest.raises(ValueError, match=r"`groups` \(=4\) must divide the channels of `axis` -1 \(=6\)"):
        kseq.GroupNormalization(4).build(X.shape)
    with pytest.raises(ValueError, match="`groups`"):
        kseq.GroupNormalization(0)
    with pytest.raises(ValueError, match=r"`statistics` must be one of .*received 'global'"):
        kseq.InstanceNormalization(statistics="global")
    with pytest.raises(ValueError, match="channel axes"):
        kseq.InstanceNormalization(axis=1).build(X.shape)
    with pytest.raises(kseq.NotStreamable, match=r'whole sequence.*InstanceNormalization\(statistics="running"\)'):
        kseq.InstanceNormalization().step(kseq.Sequence(X), ())
    model = keras.Sequential([keras.Input((None, 6)), keras.layers.GroupNormalization(2)])
    with pytest.raises(kseq.NotStreamable, match=r"use kseq\.GroupNormalization"):
        kseq.Stream(model)


# Of weights.


@pytest.mark.parametrize(
    ("make", "stock"),
    [
        (lambda: kseq.Conv1D(6, 3), lambda: keras.layers.Conv1D(6, 3, padding="causal")),
        (lambda: kseq.Dense(6, dtype="mixed_bfloat16"), lambda: keras.layers.Dense(6, dtype="mixed_bfloat16")),
        (lambda: keras.layers.Dense(6), None),
    ],
)
def test_spectral_normalization_of_keras_trains_saves_and_streams(make, stock, tmp_path):
    kernels = []
    for inner in filter(None, (stock, make)):
        keras.utils.set_random_seed(1)
        layer = keras.layers.SpectralNormalization(inner(), power_iterations=8)
        model = keras.Sequential([keras.Input((None, 6)), layer, kseq.GRU(2)])
        model.compile(keras.optimizers.SGD(1e-2), "mse")
        model.fit(X, np.zeros((4, 9, 2)), epochs=2, shuffle=False, verbose=0)
        kernels.append(numpy(layer.kernel.value))
    rounding = 1e-5 if layer.layer.compute_dtype == "float32" else 5e-3
    np.testing.assert_allclose(kernels[-1], kernels[0], atol=rounding)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        stream = kseq.Stream(each)
        streamed = np.concatenate([stream.push(X[0, :4]), stream.push(X[0, 4:])])
        np.testing.assert_allclose(streamed, model.predict(X, verbose=0)[0], atol=rounding)


@pytest.mark.filterwarnings("ignore:.*does not support masking")  # so says Keras, but the mask goes through
@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_masks_in_spectral_normalization(dtype):
    ids = keras.Input((None,), dtype="int32")
    x = kseq.Embedding(5, 3, mask_zero=True)(ids)
    y = keras.layers.SpectralNormalization(kseq.Conv1D(3, 3, dtype=dtype))(x)
    model = keras.Model(ids, kseq.GRU(2)(y))
    given = np.array([[0, 0, 1, 2, 0, 3]], "int32")
    stream = kseq.Stream(model)
    streamed = np.concatenate([stream.push(given[0, :3]), stream.push(given[0, 3:])])
    np.testing.assert_allclose(streamed, numpy(model(given))[0], atol=1e-5)


def test_spectral_normalization_that_does_not_stream():
    ids, x = keras.Input((None,), dtype="int32"), keras.Input((None, 6))
    with pytest.raises(kseq.NotStreamable, match="the dtype of its input"):
        kseq.Stream(keras.Model(ids, keras.layers.SpectralNormalization(kseq.Embedding(5, 3))(ids)))
    with pytest.raises(kseq.NotStreamable, match="changes its kernel"):
        kseq.Stream(keras.Model(x, keras.layers.SpectralNormalization(kseq.Dense(3))(x, training=True)))
