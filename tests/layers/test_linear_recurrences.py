"""The linear scan and the layers on it beside NumPy, one step after the other: values, gradients, unknown lengths."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.recurrent import linear_scan as scans
from kseq.layers.recurrent import s5, time_invariant
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.2, "tensorflow": 0.2}

RNG = np.random.default_rng(0)
STEPS = 11
X = RNG.normal(size=(3, STEPS, 4))
# A row that is whole, one of leading invalid steps and holes, one without any valid step.
MASK = np.array([[True] * STEPS, [False, False, True, False] + [True] * 4 + [False, True, False], [False] * STEPS])


@pytest.fixture(params=["in chunks", "in a loop"])
def way(request, monkeypatch):
    """Chunks of few steps, so that some follow upon each other, or the loop of jax on processors."""
    monkeypatch.setattr(scans, "CHUNK", 2)
    monkeypatch.setattr(time_invariant, "CHUNK", 4 if request.param == "in chunks" else 10)
    monkeypatch.setattr(scans, "loops_are_cheap", lambda: request.param == "in a loop")


def plain_scan(a, b, h, mask):
    """NumPy's complex numbers, or a backend's real ones."""
    states = []
    for t in range(b.shape[1]):
        where = np.where if isinstance(b, np.ndarray) else ops.where
        valid = mask[:, t][(..., *[None] * (len(h.shape) - 1))]
        h = where(valid, a[:, t] * h + b[:, t], h)
        states.append(h)
    return states


def tensors(x):
    """Complex numbers as a pair of tensors, real ones as one."""
    parts = [ops.convert_to_tensor(part, dtype="float64") for part in ([x.real, x.imag] if np.iscomplexobj(x) else [x])]
    return tuple(parts) if len(parts) == 2 else parts[0]


def numbers(x):
    if isinstance(x, tuple):
        return ops.convert_to_numpy(x[0]) + 1j * ops.convert_to_numpy(x[1])
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("steps", [0, 1, 3, 25])
def test_scan(way, kind, steps):
    def drawn(*shape):
        return RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if kind == "complex" else 0)

    a, b, h = drawn(3, steps, 2), drawn(3, steps, 2), drawn(3, 2)
    a = np.where(RNG.random(a.shape) < 0.2, 0, a / np.maximum(np.abs(a), 1))  # factors of zero are factors, too
    mask = RNG.random((3, steps)) < 0.7
    with transforms.float64():
        states, last = scans.linear_scan(*map(tensors, (a, b, h)), ops.convert_to_tensor(mask))
        wanted = plain_scan(a, b, h, mask)
        for i, state in enumerate(wanted):
            np.testing.assert_allclose(numbers(states)[:, i], state, rtol=0, atol=1e-12)
        np.testing.assert_allclose(numbers(last), wanted[-1] if wanted else h, rtol=0, atol=1e-12)
        assert numbers(states).shape == b.shape


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_gradients_are_those_of_a_plain_scan(way, kind, order):
    parts, steps = (2 if kind == "complex" else 1), 6
    values = RNG.normal(size=(3 * parts, 2, steps, 2)) * 0.7
    mask = np.array([[True] * steps, [False, True, False, True, True, False]])
    weight = RNG.normal(size=(parts, 2, steps, 2))

    def loss(states):
        return sum(
            ops.sum(ops.convert_to_tensor(w, dtype="float64") * s**2) for w, s in zip(weight, states, strict=True)
        )

    def split(values):
        a, b, h = ([values[i * parts + j] for j in range(parts)] for i in range(3))
        return a, b, [part[:, 0] for part in h]

    def ours(values):
        given = (tuple(part) if parts == 2 else part[0] for part in split(values))
        states, _ = scans.linear_scan(*given, ops.convert_to_tensor(mask))
        return loss(states if parts == 2 else [states])

    def plain(values):
        a, b, h = split(values)
        if parts == 1:
            return loss([ops.stack(plain_scan(a[0], b[0], h[0], ops.convert_to_tensor(mask)), axis=1)])
        # A complex number is a matrix [[real, -imaginary], [imaginary, real]].
        states = []
        for t in range(steps):
            new = (
                a[0][:, t] * h[0] - a[1][:, t] * h[1] + b[0][:, t],
                a[0][:, t] * h[1] + a[1][:, t] * h[0] + b[1][:, t],
            )
            h = [ops.where(mask[:, t, None], n, old) for n, old in zip(new, h, strict=True)]
            states.append(h)
        return loss([ops.stack(part, axis=1) for part in zip(*states, strict=True)])

    def gradient(fn):
        if order == 2:
            return transforms.gradients_of_gradients(fn, [])(values, [])[0]
        return ops.convert_to_numpy(transforms.value_and_gradients(lambda x: (fn(x), ()), [])(values, [])[2])

    with transforms.float64():
        found, wanted = gradient(ours), gradient(plain)
        assert found.dtype == "float64" and np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10 * np.abs(wanted).max())


# Layers.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rg_lru(layer, weights, x, mask):
    heads, units = layer.num_heads, layer.units
    gates = []
    for gate in ("input_gate", "a_gate"):
        y = np.einsum("bthi,hij->bthj", x.reshape(*x.shape[:2], heads, units // heads), weights[f"{gate}_kernel"])
        gates.append(sigmoid(y + weights[f"{gate}_bias"]).reshape(*x.shape[:2], -1))
    log_a = -8 * gates[1] * np.log1p(np.exp(weights["a_param"]))
    scale = np.sqrt(1 - np.exp(2 * log_a))
    first = mask & (np.cumsum(mask, axis=1) == 1)
    scale[first] = 1
    if layer.only_real:
        return np.exp(log_a), scale * gates[0] * x, lambda h: h
    a = np.exp(log_a + 1j * gates[1] * weights["a_imag_param"])
    half = units // 2
    z = x[..., :half] + 1j * x[..., half:]
    return a, scale * gates[0] * z, lambda h: np.concatenate([h.real, h.imag], axis=-1)


def minimal(layer, weights, x, mask):
    *gates, c = np.split(x @ weights["kernel"] + weights.get("bias", 0), layer.parts, axis=-1)
    if layer.positive_candidate:
        c = np.where(c >= 0, c + 0.5, sigmoid(c))
    if layer.parts == 2:
        return 1 - sigmoid(gates[0]), sigmoid(gates[0]) * c, lambda h: h
    f, i = map(sigmoid, gates)
    return f / (f + i), i / (f + i) * c, lambda h: h


def discretized(layer, a, dt):
    if layer.discretization == "zoh":
        return np.exp(a * dt), (np.exp(a * dt) - 1) / a
    return (1 + a * dt / 2) / (1 - a * dt / 2), dt / (1 - a * dt / 2)


def s4d(layer, weights, x, mask):
    poles = -np.exp(weights["a_log"]) + 1j * weights["a_imag"]
    a, b = discretized(layer, poles, np.exp(weights["log_dt"])[:, None])
    c = weights["c"][..., 0] + 1j * weights["c"][..., 1]
    factors = np.broadcast_to(a, (*x.shape, a.shape[-1]))
    return factors, b * x[..., None], lambda h: 2 * (c * h).sum(-1).real + weights["d"] * x


def s5_layer(layer, weights, x, mask):
    poles = np.minimum(weights["a_real"], -1e-4 if layer.clip_eigenvalues else np.inf) + 1j * weights["a_imag"]
    a, factor = discretized(layer, poles, np.exp(weights["log_dt"]))
    b, c = (weights[name][..., 0] + 1j * weights[name][..., 1] for name in "bc")
    factors = np.broadcast_to(a, (*x.shape[:2], len(a)))
    return factors, factor * (x @ b), lambda h: 2 * (h @ c).real + weights["d"] * x


LAYERS = {
    "RGLRU": (kseq.RGLRU, {"units": 4, "num_heads": 2}, rg_lru),
    "complex RGLRU": (kseq.RGLRU, {"units": 4, "num_heads": 2, "only_real": False}, rg_lru),
    "MinGRU": (kseq.MinGRU, {"units": 3}, minimal),
    "MinGRU of any candidate": (kseq.MinGRU, {"units": 3, "positive_candidate": False, "use_bias": False}, minimal),
    "MinLSTM": (kseq.MinLSTM, {"units": 3}, minimal),
    "S4D": (kseq.S4D, {"state_dim": 6, "dt_min": 0.05, "dt_max": 0.3}, s4d),
    "bilinear S4D": (kseq.S4D, {"state_dim": 6, "discretization": "bilinear", "dt_min": 0.1}, s4d),
    "S5": (kseq.S5, {"state_dim": 8, "num_blocks": 2, "dt_min": 0.1}, s5_layer),
    "bilinear S5 without clipping": (
        kseq.S5,
        {"state_dim": 4, "discretization": "bilinear", "clip_eigenvalues": False, "dt_min": 0.1},
        s5_layer,
    ),
}


def moved(name, **options):
    """A layer whose weights all differ from those at the start."""
    cls, config, reference = LAYERS[name]
    layer = cls(**config, **options)
    layer.build(X.shape)
    layer.set_weights([w + RNG.normal(size=w.shape) * 0.2 for w in layer.get_weights()])
    return layer, reference


@pytest.mark.parametrize("name", LAYERS)
def test_layer_mode_and_steps_are_the_formula(way, name):
    with transforms.float64():
        layer, reference = moved(name, dtype="float64")
        weights = {v.name: ops.convert_to_numpy(v) for v in layer.weights}
        x = np.where(MASK[..., None], X, 0)
        a, b, read = reference(layer, weights, x, MASK)
        states = plain_scan(a, b, np.zeros(b[:, 0].shape, b.dtype), MASK)
        wanted = np.where(MASK[..., None], read(np.stack(states, axis=1)), 0)
        poisoned = np.where(MASK[..., None], X, np.nan)
        step = transforms.jit(lambda x, mask, state: layer.step(kseq.Sequence(x, mask), state), quick=True)
        # Keras's sine on jax is of float32.
        tolerance = 1e-6 if keras.backend.backend() == "jax" and np.iscomplexobj(a) else 1e-12
        for sizes in ((STEPS,), (1, 6, 0, 4)):  # a chunk mid-stream is one parallel call
            state, parts, start = layer.initial_state(3, kseq.SequenceSpec((4,), "float64")), [], 0
            for size in sizes:
                chunk = slice(start, start + size)
                y, state = step(ops.convert_to_tensor(poisoned[:, chunk], dtype="float64"), MASK[:, chunk], state)
                parts.append(y)
                start += size
            y = kseq.Sequence.concatenate(parts).mask_invalid().values
            assert keras.backend.standardize_dtype(y.dtype) == "float64"
            np.testing.assert_allclose(ops.convert_to_numpy(y), wanted, rtol=0, atol=tolerance)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="jax knows every length when it compiles")
@pytest.mark.parametrize("name", ["RGLRU", "MinLSTM", "S4D", "S5"])
def test_unknown_lengths(way, name):
    layer, _ = moved(name)
    x = X.astype("float32")
    given = keras.Input((None, 4)), keras.Input((None,), dtype="bool")
    model = keras.Model(given, layer(kseq.Sequence(*given)).values)
    for steps in (STEPS, 5):
        found = model.predict_on_batch((x[:, :steps], MASK[:, :steps]))
        wanted = layer(kseq.Sequence(x[:, :steps], MASK[:, :steps])).values
        valid = MASK[:, :steps, None]
        np.testing.assert_allclose(found * valid, ops.convert_to_numpy(wanted) * valid, rtol=0, atol=1e-5)


def gradients(layer, x):
    def loss(values):
        return ops.sum(layer(values) ** 2), ()

    run = transforms.value_and_gradients(loss, layer.trainable_variables)
    value, _, of_x, of_weights = run(x.astype("float32"), [np.array(w) for w in layer.get_weights()])
    return [ops.convert_to_numpy(g) for g in (value, of_x, *of_weights)]


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_gates_that_are_shut_have_finite_gradients(size):
    layer = kseq.MinLSTM(2, bias_initializer=keras.initializers.Constant(size))
    layer.build(X.shape)
    assert all(np.isfinite(g).all() for g in gradients(layer, X))
    unit = kseq.RGLRU(4, bias_initializer=keras.initializers.Constant(size))  # decays of 0 and of 1
    unit.build(X.shape)
    assert all(np.isfinite(g).all() for g in gradients(unit, X))


def test_the_slope_of_the_square_root_is_bounded():
    # A gate that is shut has a decay of one, of which the root of 1 - a^2 has no slope but for the bound.
    unit = kseq.RGLRU(4, bias_initializer=keras.initializers.Constant(-16.0))
    unit.build(X.shape)
    found = dict(zip(["value", "x", *(v.name for v in unit.trainable_variables)], gradients(unit, X), strict=True))
    assert 0 < np.abs(found["a_gate_bias"]).max() < 1e3


def test_decays_begin_within_the_ring():
    unit = kseq.RGLRU(500, min_rad=0.6)
    unit.build((None, None, 500))
    radius = np.exp(-np.log1p(np.exp(ops.convert_to_numpy(unit.a_param))))
    assert 0.6 <= radius.min() < 0.65 and 0.98 < radius.max() <= 0.9991
    # The gates' kernels are drawn one by one.
    kernels = [ops.convert_to_numpy(v) for v in unit.weights if v.name.endswith("kernel")]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    heads = kseq.RGLRU(500, num_heads=20)
    heads.build((None, None, 500))
    (kernel, *_) = [ops.convert_to_numpy(v) for v in heads.weights if v.name.endswith("kernel")]
    np.testing.assert_allclose(kernel.std(), 25**-0.5, rtol=0.1)  # of one head's inputs


def test_state_spaces_begin_as_their_papers_say():
    n = np.arange(3)
    for law, angles in (("lin", np.pi * n), ("inv", 6 / np.pi * (6 / (2 * n + 1) - 1))):
        layer = kseq.S4D(state_dim=6, a_initialization=law)
        layer.build((None, None, 2))
        np.testing.assert_allclose(-np.exp(ops.convert_to_numpy(layer.a_log)), -0.5, rtol=1e-6)
        np.testing.assert_allclose(ops.convert_to_numpy(layer.a_imag), np.tile(angles, (2, 1)), rtol=1e-5)
        times = np.exp(ops.convert_to_numpy(layer.log_dt))
        assert times.min() >= 0.001 and times.max() <= 0.1
    poles, basis = s5._hippo(6)
    # With their conjugates they are the normal part of HiPPO-LegS.
    whole = 2 * ((basis * poles) @ basis.conj().T).real
    legs = np.fromfunction(
        lambda i, j: np.where(i > j, -np.sqrt((2 * i + 1) * (2 * j + 1)), -(i + 1) * (i == j)), (6, 6)
    )
    p = np.sqrt(np.arange(6) + 0.5)
    np.testing.assert_allclose(whole, legs + np.outer(p, p), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.RGLRU(0), "units"),
        (lambda: kseq.RGLRU(5, only_real=False), "`units` must be even where `only_real` is false; received 5"),
        (lambda: kseq.RGLRU(6, num_heads=4), r"`num_heads` \(=4\) must divide the real channels \(=6\)"),
        (lambda: kseq.RGLRU(8, 8, only_real=False), r"`num_heads` \(=8\) must divide the complex channels \(=4\)"),
        (lambda: kseq.RGLRU(4, min_rad=0.999), "`min_rad` must be at least 0 and below 0.999; received 0.999"),
        (lambda: kseq.RGLRU(4)(X[..., :3]), r"`units` \(=4\) must be the channels of the input \(=3\)"),
        (lambda: kseq.MinGRU(0), "units"),
        (lambda: kseq.MinLSTM(-1), "units"),
        (lambda: kseq.S4D(5), "`state_dim` must be even, for pairs of conjugates; received 5"),
        (lambda: kseq.S4D(4, a_initialization="fourier"), "a_initialization.*fourier"),
        (lambda: kseq.S4D(4, discretization="euler"), "discretization.*euler"),
        (lambda: kseq.S4D(4, dt_min=0.2), "`dt_min` must be above 0 and at most `dt_max`; received 0.2 and 0.1"),
        (lambda: kseq.S5(6, num_blocks=2), r"`state_dim` \(=6\) must be an even multiple of `num_blocks` \(=2\)"),
        (lambda: kseq.S5(4, dt_min=0.0), "`dt_min` must be above 0; received 0.0"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
