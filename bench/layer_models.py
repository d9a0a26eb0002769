"""Small networks of the layers bench in kseq and in google/sequence-layers, and what they compute in NumPy float64.

    stft   frames of 64 every 16 steps, hann window, 33 complex bins; [B, 1000]
    audio  frames of 400 every 160 steps, hann window, 257 complex bins; [B, 32000]
    pair   causal convolution, kernel 5, stride 2, 64 channels; transposed one, kernel 4, stride 2; [B, 1000, 64]
    local  the attention of model C, without positions, over T steps (`local/T=1000`); [B, T, 256]

Frames begin at their step, `reverse_causal_valid`, and the convolutions have no activation.
"""

import functools

import models
import numpy as np

#: Shape of the input without batch.
SHAPES = {"stft": (1000,), "audio": (32000,), "pair": (1000, 64)}
SHAPES |= {f"local/T={steps}": (steps, models.CHANNELS["C"]) for steps in (1000, 8000)}
FRAMES = {"stft": (64, 16, 64), "audio": (400, 160, 512)}
CHANNELS, KERNELS = 64, (5, 4)


def signal(model, batch):
    """The input [batch, T, ...], float32."""
    return np.random.default_rng(1).standard_normal((batch, *SHAPES[model])).astype(np.float32)


@functools.cache
def kernels():
    """Of the strided and of the transposed convolution, as Keras lays them out."""
    rng = np.random.default_rng(2)
    shapes = ((size, CHANNELS, CHANNELS) for size in KERNELS)
    return [(rng.standard_normal(s) / (s[0] * s[1]) ** 0.5).astype(np.float32) for s in shapes]


def attention_kernels():
    """Of queries, keys, values and outputs."""
    return [models.weights("C")[0][name] for name in ("query", "key", "value", "output")]


def local_attention(x, query, key, value, output, block=500):
    """Some queries at a time, with the keys of their window."""
    y = []
    for start in range(0, x.shape[1], block):
        steps = np.arange(max(start - models.WINDOW + 1, 0), min(start + block, x.shape[1]))
        q, k, v = (np.einsum("btd,dhc->bhtc", x[:, steps], w) for w in (query, key, value))
        q = q[:, :, steps >= start]
        age = steps[steps >= start][:, None] - steps
        scores = np.where((age >= 0) & (age < models.WINDOW), q @ k.swapaxes(-1, -2) / models.HEAD_DIM**0.5, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        y.append(np.einsum("bhtc,hcd->btd", p / p.sum(-1, keepdims=True) @ v, output))
    return np.concatenate(y, axis=1)


def reference(model, x, scale=1.0):
    """What the network gives, its weights times `scale`."""
    x = np.float64(x)
    if model.startswith("local"):
        return local_attention(x, *(np.float64(w) * scale for w in attention_kernels()))
    if model in FRAMES:
        length, step, fft = FRAMES[model]
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        x = np.pad(x, ((0, 0), (0, length - 1)))
        starts = np.arange(0, x.shape[1] - length + 1, step)
        return np.fft.rfft(x[:, starts[:, None] + np.arange(length)] * window, fft)
    first, second = (np.float64(kernel) * scale for kernel in kernels())
    padded = np.pad(x, ((0, 0), (len(first) - 1, 0), (0, 0)))
    outputs = -(-x.shape[1] // 2)
    y = sum(padded[:, k : k + 2 * outputs - 1 : 2] @ first[k] for k in range(len(first)))
    sums = np.zeros((len(x), 2 * outputs + len(second) - 2, CHANNELS))
    for k, kernel in enumerate(second):
        sums[:, k : k + 2 * outputs - 1 : 2] += y @ kernel.T
    return sums[:, : 2 * outputs]


def ours(model, pure):
    """`(forward, weights)` of kseq."""
    import kseq

    if model.startswith("local"):
        layer = kseq.SelfAttention(models.HEADS, models.HEAD_DIM, max_past_horizon=models.WINDOW - 1, use_bias=False)
        layer.build((None, *SHAPES[model]))
        layer.set_weights(attention_kernels())
        return pure(layer)
    if model in FRAMES:
        layer = kseq.STFT(*FRAMES[model])
        layer.build((None, *SHAPES[model]))
        return pure(layer)
    layers = [
        kseq.Conv1D(CHANNELS, KERNELS[0], strides=2, use_bias=False),
        kseq.Conv1DTranspose(CHANNELS, KERNELS[1], strides=2, use_bias=False),
    ]
    layer = kseq.Serial(layers)
    layer.build((None, *SHAPES[model]))
    layer.set_weights(kernels())
    return pure(layer)


def theirs(model, block_size=128):
    """`(forward, weights)` of sequence-layers; `block_size` is its attention's in layer mode."""
    import jax
    import jax.numpy as jnp
    import sequence_layers.jax as sl

    if model.startswith("local"):
        attention = sl.LocalDotProductSelfAttention.Config(
            num_heads=models.HEADS,
            units_per_head=models.HEAD_DIM,
            block_size=block_size,
            max_past_horizon=models.WINDOW - 1,
            input_projection=sl.SeparateQueryKeyValueProjection(),
        )
        output = sl.EinsumDense.Config("...hc,hcd->...d", (models.CHANNELS["C"],), name="output")
        config = sl.Serial.Config([attention, output])
    elif model in FRAMES:
        config = sl.STFT.Config(*FRAMES[model])
    else:
        config = sl.Serial.Config(
            [
                sl.Conv1D.Config(CHANNELS, KERNELS[0], strides=2, padding="causal", use_bias=False),
                sl.Conv1DTranspose.Config(CHANNELS, KERNELS[1], strides=2, padding="causal", use_bias=False),
            ]
        )
    layer = config.make()
    x = sl.Sequence.from_values(jnp.zeros((1, *SHAPES[model])))
    params = layer.init(jax.random.key(0), x, training=False)
    leaves, structure = jax.tree.flatten(params)
    if model.startswith("local"):
        kernels_by_name = dict(zip(("query", "key", "value", "output"), attention_kernels(), strict=True))

        def fill(path, leaf):
            [kernel] = [w for name, w in kernels_by_name.items() if name in jax.tree_util.keystr(path[:-1])]
            return jnp.asarray(kernel.reshape(leaf.shape))

        params = jax.tree_util.tree_map_with_path(fill, params)
    elif leaves:
        strided, transposed = kernels()
        flipped = np.swapaxes(transposed[::-1], 1, 2)  # theirs is not flipped, and has the input's channels first
        by_size = {len(strided): strided, len(transposed): flipped}
        params = jax.tree.unflatten(structure, [jnp.asarray(by_size[leaf.shape[0]]) for leaf in leaves])

    def forward(params, values):
        sequence = sl.Sequence(values, jnp.ones(values.shape[:2], bool))
        return layer.apply(params, sequence, training=False, method=layer.layer).values

    return forward, params
