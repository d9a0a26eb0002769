"""The mixers of Mamba-2, RetNet, GLA, Gated DeltaNet and xLSTM beside their definitions in NumPy, step by step."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest
from keras import ops

TODAYS = {"jax": 0.15, "tensorflow": 0.15}

RNG = np.random.default_rng(0)
STEPS, C = 9, 4
X = RNG.normal(size=(4, STEPS, C)).astype("float32")
# A row that is whole, one of leading invalid steps and holes, one that ends early, one that is empty.
MASK = np.array([[1] * 9, [0, 0, 1, 1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 0, 0, 0, 0], [0] * 9], bool)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log1p(np.exp(x))


def unit_mean_square(x, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def unit_variance(x, epsilon):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def unit_length(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def last_steps(x, t, kernel):
    """The sum over the steps up to t, each channel times a row of the kernel, the last one for step t."""
    return sum(x[t - i] * kernel[len(kernel) - 1 - i] for i in range(min(len(kernel), t + 1)))


# Each takes the valid steps of one row [T, C], weights by name, and the layer for its sizes.


def mamba2(x, w, layer):
    inner, n, groups = layer.expand * C, layer.state_dim, layer.num_groups
    heads = inner // layer.head_dim
    z, mixed, dt = np.split(x @ w["in_kernel"], [inner, 2 * inner + 2 * groups * n], axis=-1)
    state, outputs = np.zeros((heads, n, layer.head_dim)), []
    for t in range(len(x)):
        c = silu(last_steps(mixed, t, w["conv_kernel"]) + w["conv_bias"])
        values = c[:inner].reshape(heads, layer.head_dim)
        written, read = c[inner : inner + groups * n].reshape(groups, n), c[inner + groups * n :].reshape(groups, n)
        step = softplus(dt[t] + w["dt_bias"])
        y = np.zeros_like(values)
        for h in range(heads):
            group = h // (heads // groups)
            decay = np.exp(-np.exp(w["A_log"][h]) * step[h])
            state[h] = decay * state[h] + step[h] * np.outer(written[group], values[h])
            y[h] = read[group] @ state[h] + w["D"][h] * values[h]
        y = (y.ravel() * silu(z[t])).reshape(groups, -1)
        outputs.append((unit_mean_square(y, layer.epsilon).ravel() * w["norm_scale"]) @ w["out_kernel"])
    return outputs


def heads_of(x, w, layer):
    names = "query_kernel", "key_kernel", "value_kernel"
    return (np.reshape(x @ w[name], (len(x), layer.num_heads, -1)) for name in names)


def rotated(x, position):
    """Pairs of channels, of which the i-th and the i-th of the second half are one, turned as complex numbers."""
    half = x.shape[-1] // 2
    angle = position * 10000 ** (-np.arange(half) / max(half - 1, 1))
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], axis=-1)


def retention(x, w, layer):
    q, k, v = heads_of(x, w, layer)
    outputs = []
    for t in range(len(x)):
        y = np.zeros(v[t].shape)
        for h in range(layer.num_heads):  # in the parallel form of the source: each step by all before it
            for s in range(t + 1):
                gamma = (1 - 2.0 ** (-5 - h)) ** (t - s)
                score = rotated(q[t, h], t) @ rotated(k[s, h], s) / layer.key_dim**0.5
                y[h] += gamma * score * v[s, h]
        gate = silu(x[t] @ w["gate_kernel"])
        outputs.append((unit_variance(y, layer.epsilon).ravel() * gate) @ w["out_kernel"])
    return outputs


def gated_linear_attention(x, w, layer):
    q, k, v = heads_of(x, w, layer)
    state, outputs = np.zeros((layer.num_heads, layer.key_dim, v.shape[-1])), []
    for t in range(len(x)):
        gate = sigmoid(x[t] @ w["decay_kernel_in"] @ w["decay_kernel_out"] + w["decay_bias"])
        alpha = gate.reshape(layer.num_heads, layer.key_dim) ** (1 / layer.gate_temperature)
        for h in range(layer.num_heads):
            state[h] = np.diag(alpha[h]) @ state[h] + np.outer(k[t, h], v[t, h])
        y = np.stack([q[t, h] @ state[h] for h in range(layer.num_heads)]) / layer.key_dim**0.5
        y = unit_mean_square(y, layer.epsilon) * w["norm_scale"]
        outputs.append((y.ravel() * silu(x[t] @ w["gate_kernel"] + w["gate_bias"])) @ w["out_kernel"])
    return outputs


def gated_delta_net(x, w, layer):
    heads, dim = layer.num_heads, layer.key_dim
    mixed = np.concatenate([x @ w[name] for name in ("query_kernel", "key_kernel", "value_kernel")], axis=-1)
    state, outputs = 0.0, []
    for t in range(len(x)):
        parts = np.split(silu(last_steps(mixed, t, w["conv_kernel"])), [heads * dim, 2 * heads * dim])
        q, k, v = (part.reshape(heads, -1) for part in parts)
        q, k = unit_length(q) / dim**0.5, unit_length(k)
        alpha = np.exp(-np.exp(w["A_log"]) * softplus(x[t] @ w["decay_kernel"] + w["dt_bias"]))
        beta = sigmoid(x[t] @ w["beta_kernel"])
        y, state = [], np.zeros((heads, dim, v.shape[-1])) + state
        for h in range(heads):
            state[h] = alpha[h] * (np.eye(dim) - beta[h] * np.outer(k[h], k[h])) @ state[h]
            state[h] += beta[h] * np.outer(k[h], v[h])
            y.append(q[h] @ state[h])
        y = unit_mean_square(np.stack(y), layer.epsilon) * w["norm_scale"]
        outputs.append((y.ravel() * silu(x[t] @ w["gate_kernel"])) @ w["out_kernel"])
    return outputs


def mlstm(x, w, layer):
    heads, dim = layer.num_heads, layer.key_dim
    q, k, v, o = (
        (x @ w[f"{name}_kernel"] + w.get(f"{name}_bias", 0)).reshape(len(x), heads, -1)
        for name in ("query", "key", "value", "output_gate")
    )
    i, f = np.split(x @ w["gate_kernel"] + w["gate_bias"], 2, axis=-1)
    cell, normalizer, outputs = np.zeros((heads, dim, v.shape[-1])), np.zeros((heads, dim)), []
    for t in range(len(x)):
        y = np.zeros(v[t].shape)
        for h in range(heads):
            key = np.exp(i[t, h]) * k[t, h] / dim**0.5
            cell[h] = sigmoid(f[t, h]) * cell[h] + np.outer(key, v[t, h])
            normalizer[h] = sigmoid(f[t, h]) * normalizer[h] + key
            y[h] = q[t, h] @ cell[h] / max(abs(q[t, h] @ normalizer[h]), 1)
        y = unit_variance(y, layer.epsilon).ravel() * w["norm_scale"]
        outputs.append((y * sigmoid(o[t].ravel())) @ w["out_kernel"])
    return outputs


DEFINITIONS = {
    "Mamba2": mamba2,
    "Retention": retention,
    "GatedLinearAttention": gated_linear_attention,
    "GatedDeltaNet": gated_delta_net,
    "MLSTM": mlstm,
}
CASES = {
    "Mamba2": {"state_dim": 3, "head_dim": 2, "num_groups": 2},
    "Mamba2 of one group": {"state_dim": 3, "head_dim": 4, "expand": 3, "kernel_size": 1},
    "Retention": {"num_heads": 3, "key_dim": 4},
    "GatedLinearAttention": {"num_heads": 2, "key_dim": 3, "gate_rank": 2, "gate_temperature": 2.0},
    "GatedDeltaNet": {"num_heads": 2, "key_dim": 3, "kernel_size": 3},
    "MLSTM": {"num_heads": 2, "key_dim": 3},
    "MLSTM without biases": {"num_heads": 1, "key_dim": 2, "value_dim": 3, "use_bias": False},
}


def made(case, dtype="float32"):
    """A layer with weights that are far from where they start, and these in float64 by name."""
    layer = getattr(kseq, case.split()[0])(**CASES[case], dtype=dtype)
    layer.build(X.shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        value = ops.convert_to_numpy(weight)
        weight.assign(value + 0.4 * rng.normal(size=value.shape))
    return layer, {w.name: np.float64(ops.convert_to_numpy(w)) for w in layer.weights}


@pytest.mark.parametrize("case", CASES)
def test_a_mixer_is_its_definition_of_the_valid_steps(case):
    layer, weights = made(case)
    y = ops.convert_to_numpy(layer(kseq.Sequence(X, MASK)).values)
    for row in range(3):
        wanted = DEFINITIONS[case.split()[0]](np.float64(X[row][MASK[row]]), weights, layer)
        np.testing.assert_allclose(y[row][MASK[row]], np.stack(wanted), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_step_leaves_the_state_as_it_is(case):
    layer, _ = made(case)
    state = layer.initial_state(4, kseq.SequenceSpec((C,)))
    _, state = layer.step(kseq.Sequence(X), state)
    nothing = np.zeros((4, 5), bool)
    poison = np.full((4, 5, C), np.nan, "float32")
    for steps in (1, 5):
        _, after = layer.step(kseq.Sequence(poison[:, :steps], nothing[:, :steps]), state)
        for name, leaf in state.items():
            np.testing.assert_array_equal(ops.convert_to_numpy(after[name]), ops.convert_to_numpy(leaf), err_msg=name)


@pytest.mark.parametrize("case", ["Mamba2", "Retention", "GatedLinearAttention", "GatedDeltaNet", "MLSTM"])
def test_states_are_float32_where_values_are_half(case):
    layer, _ = made(case, "mixed_bfloat16")
    state = layer.initial_state(2, kseq.SequenceSpec((C,)))
    assert keras.backend.standardize_dtype(state["matrix"].dtype) == "float32"
    y, after = layer.step(kseq.Sequence(X[:2]), state)
    assert keras.backend.standardize_dtype(y.values.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(after["matrix"].dtype) == "float32"


@pytest.mark.parametrize("name", ["Mamba2", "Retention", "GatedLinearAttention", "GatedDeltaNet", "MLSTM"])
def test_a_model_is_trained_on_rows_of_unequal_length(name):
    keras.utils.set_random_seed(0)
    x = keras.Input((None, C))
    y = keras.layers.Masking()(x)
    y = getattr(kseq, name)(**CASES[name])(y)
    model = keras.Model(x, keras.layers.Dense(1)(y))
    model.compile("adam", "mse")
    values = np.where(MASK[:3, :, None], X[:3], 0)
    before = [w.copy() for w in model.get_weights()]
    history = model.fit(values, values.sum(-1, keepdims=True), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.Mamba2(head_dim=3).build((1, 1, 4)), r"`expand` \(=2\) times 4.*`head_dim` \(=3\)"),
        (lambda: kseq.Mamba2(head_dim=4, num_groups=3).build((1, 1, 4)), r"`num_groups` \(=3\); received 8 and 2"),
        (lambda: kseq.Mamba2(state_dim=0), "`state_dim`"),
        (lambda: kseq.Retention(2, 3), "`key_dim` must be even.*received 3"),
        (
            lambda: kseq.GatedLinearAttention(2, 4, gate_temperature=0),
            "`gate_temperature` must be positive; received 0",
        ),
        (lambda: kseq.GatedDeltaNet(0, 4), "`num_heads`"),
        (lambda: kseq.MLSTM(2, 4, value_dim=0), "`value_dim`"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
