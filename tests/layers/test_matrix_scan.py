"""Recurrences of matrices by chunks beside plain loops over steps, in float64: numbers, gradients, extreme decays."""

import kseq  # noqa: F401, isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest
from keras import ops

from kseq.layers.recurrent import matrix_products, matrix_scan, matrix_stabilizer
from kseq.testing import transforms

TODAYS = {"jax": 0.15, "tensorflow": 0.15}

B, H, K, V = 2, 4, 3, 2
# By what decays, and how many groups of heads share queries and keys.
KINDS = {"heads": (H,), "groups": (2,), "keys": (H,), "delta": (H,), "stabilized": (H,)}


def draw(kind, steps, seed=0):
    """Arguments of a recurrence, float64, by name; the last but one are three steps that are not there."""
    rng = np.random.default_rng(seed)
    (groups,) = KINDS[kind]
    q, k = rng.normal(size=(2, B, steps, groups, K))
    if kind == "delta":
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = rng.normal(size=(B, steps, H, V))
    log_decay = -0.5 * np.abs(rng.normal(size=(B, steps, H, K) if kind == "keys" else (B, steps, H)))
    found = {"q": q, "k": k, "v": v, "log_decay": log_decay}
    if kind == "delta":
        found["beta"] = rng.random((B, steps, H))
    if kind == "stabilized":
        found["log_input"] = 3 * rng.normal(size=(B, steps, H))
    gone = slice(max(steps - 4, 0), max(steps - 1, 0))
    for name in ("k", "log_decay", "log_input"):
        if name in found:
            found[name][1, gone] = 0
    columns = V + 1 if kind == "stabilized" else V
    return found | {"state": rng.normal(size=(B, H, K, columns))}


def chunked(kind, q, k, v, log_decay, state, beta=None, log_input=None):
    """What is tested: outputs, and the last state."""
    if kind == "delta":
        return matrix_products.scan_delta(q, k, v, beta, log_decay, state)
    if kind == "stabilized":
        zero = ops.zeros_like(state[:, :, 0, 0])
        y, state, m = matrix_stabilizer.scan_stabilized(q, k, v, log_decay, log_input, state, zero)
        return y, state * ops.exp(m)[..., None, None]
    return matrix_products.scan_decayed(q, k, v, log_decay, state)


def looped(kind, q, k, v, log_decay, state, beta=None, log_input=None, np_=np):
    """The definition, step by step, in NumPy or by the backend's own gradients."""
    q, k = (np_.repeat(x, H // x.shape[2], axis=2) for x in (q, k))
    outputs = []
    for t in range(q.shape[1]):
        decay = np_.exp(log_decay[:, t])
        key, value = k[:, t], v[:, t]
        state = state * (decay[..., None] if kind == "keys" else decay[..., None, None])
        if kind == "delta":
            value = beta[:, t, :, None] * (value - np_.einsum("bhk,bhkv->bhv", key, state))
        if kind == "stabilized":
            key = key * np_.exp(log_input[:, t])[..., None]
            value = np_.concatenate([value, np_.ones_like(value[..., :1])], axis=-1)
        state = state + key[..., None] * value[..., None, :]
        y = np_.einsum("bhk,bhkv->bhv", q[:, t], state)
        if kind == "stabilized":
            size = np_.abs(y[..., -1:])
            y = y[..., :-1] / np_.where(size > 1, size, np_.ones_like(size))
        outputs.append(y)
    return np_.stack(outputs, axis=1), state


def tensors(arguments):
    return {name: ops.convert_to_tensor(x) for name, x in arguments.items()}


@pytest.mark.parametrize("steps", [1, 2, 7, 150])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_give_what_the_definition_gives(kind, steps):
    arguments = draw(kind, steps)
    with transforms.float64(), transforms.no_gradients():
        run = transforms.jit(lambda given: chunked(kind, **tensors(given)), quick=True)
        found = [np.asarray(ops.convert_to_numpy(x)) for x in run(arguments)]
    for ours, wanted in zip(found, looped(kind, **arguments), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


def in_one(arguments):
    """All arguments as one vector, and the function that takes them out of it again."""
    sizes = np.cumsum([0, *(x.size for x in arguments.values())])

    def out(vector):
        pairs = zip(arguments.items(), sizes[:-1], sizes[1:], strict=True)
        return {name: ops.reshape(vector[int(a) : int(b)], x.shape) for (name, x), a, b in pairs}

    return np.concatenate([x.ravel() for x in arguments.values()]), out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_those_of_a_plain_scan(kind, order, monkeypatch):
    monkeypatch.setattr(matrix_scan, "SIZE", 4)
    steps = 11 if order == 1 else 6
    vector, out = in_one(draw(kind, steps, seed=1))
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=shape) for shape in ((B, steps, H, V), (B, H, K, V + (kind == "stabilized")))]
    find = transforms.value_and_gradients if order == 1 else transforms.gradients_of_gradients

    def gradients(recurrence, **options):
        def loss(vector):
            pairs = zip(recurrence(kind, **out(vector), **options), weights, strict=True)
            return sum(ops.sum(part * ops.convert_to_tensor(w)) for part, w in pairs)

        if order == 1:
            return ops.convert_to_numpy(find(lambda vector: (loss(vector), ()), [])(vector, [])[2])
        return np.asarray(find(loss, [])(vector, [])[0])

    with transforms.float64():
        ours, wanted = gradients(chunked), gradients(looped, np_=ops)
    assert ours.dtype == np.float64
    for name, a in out(np.abs(wanted)).items():
        assert ops.convert_to_numpy(a).max() > 1e-3, name
    np.testing.assert_allclose(ours, wanted, rtol=1e-7, atol=1e-8 * np.abs(wanted).max())


def test_nothing_overflows_however_much_is_forgotten():
    arguments = {name: x.astype("float32") for name, x in draw("keys", 40, seed=3).items()}
    arguments["log_decay"][:, ::3, :, 0] = -200.0
    arguments["log_decay"][:, 1::2, :, 1] = -1e30
    arguments["log_decay"][:, :, :, 2] = -1e-3
    vector, out = in_one(arguments)

    def loss(vector):
        y, _ = chunked("keys", **out(vector))
        return ops.sum(y * y), y

    _, y, gradient, _ = transforms.value_and_gradients(loss, [])(vector, [])
    with np.errstate(under="ignore"):
        wanted, _ = looped("keys", **{name: np.float64(x) for name, x in arguments.items()})
    np.testing.assert_allclose(ops.convert_to_numpy(y), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert np.isfinite(ops.convert_to_numpy(gradient)).all()


def test_input_gates_may_be_of_any_size():
    arguments = draw("stabilized", 70, seed=4)
    arguments["state"][:] = 0
    arguments["log_input"][:] += np.linspace(-300, 300, 70)[None, :, None]
    wanted, _ = looped("stabilized", **arguments)
    arguments = {name: x.astype("float32") for name, x in arguments.items()}
    vector, out = in_one(arguments)

    def loss(vector):
        y, _ = chunked("stabilized", **out(vector))
        return ops.sum(y * y), y

    _, y, gradient, _ = transforms.value_and_gradients(loss, [])(vector, [])
    # Where less than one is read of the ones it is divided by one, else by what keys say: both ends are here.
    assert np.abs(wanted[:, 5]).max() < 1e-30 < 0.1 < np.abs(wanted[:, -1]).max()
    np.testing.assert_allclose(ops.convert_to_numpy(y), wanted, rtol=2e-3, atol=1e-5)
    assert np.isfinite(ops.convert_to_numpy(gradient)).all()


@pytest.mark.parametrize("steps", [1, 5])
def test_a_query_of_zeros_reads_zeros_however_large_the_inputs_were(steps):
    arguments = {name: x.astype("float32") for name, x in draw("stabilized", steps, seed=6).items()}
    arguments["q"][:] = 0
    arguments["log_input"][:] = 300
    vector, out = in_one(arguments)

    def loss(vector):
        y, _ = chunked("stabilized", **out(vector))
        return ops.sum(y), y

    _, y, gradient, _ = transforms.value_and_gradients(loss, [])(vector, [])
    np.testing.assert_array_equal(ops.convert_to_numpy(y), 0)
    assert np.isfinite(ops.convert_to_numpy(out(gradient)["v"])).all()


def test_what_is_written_anew_under_one_key_replaces_what_was_there():
    # Powers of this system of equations are as large as 1e18: it is to be solved, not to be expanded.
    steps = 64
    arguments = {name: x.astype("float32") for name, x in draw("delta", steps, seed=5).items()}
    arguments["k"][:] = arguments["k"][:1, :1]
    arguments["beta"][:] = 1
    arguments["log_decay"][:] = 0
    with transforms.no_gradients():
        y, _ = chunked("delta", **tensors(arguments | {"q": arguments["k"]}))
    np.testing.assert_allclose(ops.convert_to_numpy(y), arguments["v"], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only there the number of steps is unknown")
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_steps_may_be_unknown(kind):
    import tensorflow as tf

    def specs(name, x):
        return tf.TensorSpec(x.shape if name == "state" else (None, None, *x.shape[2:]), tf.float64)

    arguments = draw(kind, 70)
    signature = {name: specs(name, x) for name, x in arguments.items()}
    run = tf.function(lambda given: chunked(kind, **given), input_signature=[signature], autograph=False)
    for steps in (1, 5, 70):
        given = {name: x if name == "state" else x[:, :steps] for name, x in arguments.items()}
        for ours, wanted in zip(run(tensors(given)), looped(kind, **given), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
