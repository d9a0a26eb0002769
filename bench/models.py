"""The three models of the step and layer benches: their shapes, seeded weights and a NumPy float64 reference.

    A  five causal Conv1D, kernel 5, 128 channels, ReLU                                           410,240 parameters
    B  two LSTM of 256 units on 256 channels                                                    1,050,624
    C  four blocks of pre-RMSNorm local attention (window 128, 4 heads of 64, RoPE) and GeGLU   4,196,352

Every system gets the weights that `weights` makes and has to give what `reference` gives, or it is not timed. A
model's weights are a list of layers, each a dict of float32 arrays.
"""

import numpy as np

DEPTH = {"A": 5, "B": 2, "C": 4}
CHANNELS = {"A": 128, "B": 256, "C": 256}
KERNEL = 5  # A
HEADS, HEAD_DIM, WINDOW, HIDDEN, WAVELENGTH, EPSILON = 4, 64, 128, 1024, 10000.0, 1e-6  # C
CHECK_STEPS = 150  # more than the window, so that a ring buffer wraps
TOLERANCE = 1e-4  # of the largest reference value; a right float32 model is within 1e-6


def cases(batches=(1, 16)):
    """The case names, `A/B=1` and so on."""
    return [f"{model}/B={batch}" for model in DEPTH for batch in batches]


def parse(case):
    """`"A/B=16"` -> `("A", 16)`."""
    model, batch = case.split("/B=")
    return model, int(batch)


def weights(model, seed=0):
    """The weights of a model, scaled so that activations stay of order one."""
    rng = np.random.default_rng(seed)
    d = CHANNELS[model]

    def normal(*shape, scale, mean=0.0):
        return (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def layer():
        if model == "A":
            kernel = normal(KERNEL, d, d, scale=(2 / (KERNEL * d)) ** 0.5)
            return {"kernel": kernel, "bias": normal(d, scale=0.1)}
        if model == "B":
            return {
                "kernel": normal(d, 4 * d, scale=d**-0.5),
                "recurrent": normal(d, 4 * d, scale=d**-0.5),
                "bias": normal(4 * d, scale=0.1),
            }
        return {
            "norm1": normal(d, scale=0.1, mean=1.0),
            "query": normal(d, HEADS, HEAD_DIM, scale=d**-0.5),
            "key": normal(d, HEADS, HEAD_DIM, scale=d**-0.5),
            "value": normal(d, HEADS, HEAD_DIM, scale=d**-0.5),
            "output": normal(HEADS, HEAD_DIM, d, scale=d**-0.5),
            "norm2": normal(d, scale=0.1, mean=1.0),
            "gate": normal(d, HIDDEN, scale=d**-0.5),
            "up": normal(d, HIDDEN, scale=d**-0.5),
            "down": normal(HIDDEN, d, scale=HIDDEN**-0.5),
        }

    return [layer() for _ in range(DEPTH[model])]


def frames(model, batch, steps, seed=1):
    """Input frames [batch, steps, channels], float32."""
    return np.random.default_rng(seed).standard_normal((batch, steps, CHANNELS[model])).astype(np.float32)


def inverse_wavelengths():
    """RoPE's angle per step of each pair of channels, [HEAD_DIM / 2], float32."""
    return (WAVELENGTH ** (-2.0 * np.arange(HEAD_DIM // 2) / HEAD_DIM)).astype(np.float32)


def check(model, got, want):
    """Raise if `got` is not `want` to float32 rounding."""
    error = np.max(np.abs(got - want)) / np.max(np.abs(want))
    if got.shape != want.shape or not error < TOLERANCE:
        raise ValueError(f"model {model} is off the reference by {error:.1e}, shape {got.shape} for {want.shape}")


def check_step(model, batch, step, chunk=1):
    """Run `step(frames) -> frames` from its initial state over enough chunks and compare with the reference."""
    x = frames(model, batch, max(CHECK_STEPS // chunk, 2) * chunk)
    got = np.concatenate([np.array(step(x[:, t : t + chunk])) for t in range(0, x.shape[1], chunk)], axis=1)
    check(model, got, reference(model, x))


def reference(model, x, scale=1.0):
    """The model's output for frames [B, T, D] in float64, every weight times `scale`: what the systems are held to."""
    forward = {"A": conv, "B": lstm, "C": block}[model]
    x = x.astype(np.float64)
    for layer in weights(model):
        x = forward(x, **{name: scale * w.astype(np.float64) for name, w in layer.items()})
    return x


def conv(x, kernel, bias):
    steps = x.shape[1]
    padded = np.pad(x, ((0, 0), (KERNEL - 1, 0), (0, 0)))
    return np.maximum(sum(padded[:, k : k + steps] @ kernel[k] for k in range(KERNEL)) + bias, 0)


def lstm(x, kernel, recurrent, bias):
    h = c = np.zeros((x.shape[0], recurrent.shape[0]))
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=-1)  # the Keras order
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def block(x, norm1, query, key, value, output, norm2, gate, up, down):
    h = rms_norm(x, norm1)
    q, k, v = (np.einsum("btd,dhc->bhtc", h, w) for w in (query, key, value))
    scores = rope(q) @ rope(k).swapaxes(-1, -2) / HEAD_DIM**0.5  # [B, H, T, T]
    age = np.arange(x.shape[1])[:, None] - np.arange(x.shape[1])
    scores = np.where((age >= 0) & (age < WINDOW), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    x = x + np.einsum("bhtc,hcd->btd", p / p.sum(-1, keepdims=True) @ v, output)
    h = rms_norm(x, norm2)
    return x + (gelu_tanh(h @ gate) * (h @ up)) @ down


def rope(x):
    """Rotary positions on [B, H, T, C]: channel i pairs with channel i + C/2."""
    angle = np.arange(x.shape[2])[:, None] * WAVELENGTH ** (-2.0 * np.arange(HEAD_DIM // 2) / HEAD_DIM)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)


def rms_norm(x, scale):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON) * scale


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
