"""The recurrences of the recurrence bench: a table of layers, what other libraries have of them, and NumPy references.

A line of `MODELS` names everything that the bench asks of a recurrence. To add one, write a function that makes the
kseq layer with its weights in it and, where another library has the same, one for each that gives
`(forward, weights)`: `forward(weights, x) -> y` is pure, x and y [B, T, C].
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import models
import numpy as np
import recurrence_linear
import recurrence_matrices

NONE = MappingProxyType({})


class Recurrence(NamedTuple):
    """What the bench knows of a recurrence.

    Args:
        tasks: of the bench, with their sizes: `step/B=1`, `forward/B=8/T=1000`, `train/B=8/T=1000`.
        layer: makes the kseq layer, built, with its weights.
        peers: by system what makes `(forward, weights)`, with the same weights.
        steps: by system what makes `step(frames) -> frames` for so many streams.
        reference: `reference(x, scale) -> y` in float64, every weight times `scale`. Without one the layer's own step,
            one at a time, is what results are held to.
        channels: of the input.
    """

    tasks: tuple[str, ...]
    layer: Callable
    peers: Mapping[str, Callable] = NONE
    steps: Mapping[str, Callable] = NONE
    reference: Callable | None = None
    channels: int = 256


# Two layers of 256 units: the LSTM is model B of `models.py`.


def lstm():
    import peer_kseq

    return peer_kseq.build("B")


def lstm_of_keras():
    import bench_layers

    return bench_layers.pure(bench_layers.stock("B"))


def lstm_of_sequence_layers():
    import peer_sequence_layers

    return peer_sequence_layers.layer_mode("B")


def step_of_sequence_layers(batch, best):
    import peer_sequence_layers

    return peer_sequence_layers.step("B", batch, best=best)


def gru_weights(units=256):
    rng = np.random.default_rng(3)

    def normal(*shape, scale):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    kernels = [[normal(units, 3 * units, scale=units**-0.5) for _ in range(2)] for _ in range(2)]
    return [[*pair, normal(2, 3 * units, scale=0.1)] for pair in kernels]


def gru():
    import kseq

    layers = [kseq.GRU(256) for _ in range(2)]
    layer = kseq.Serial(layers)
    layer.build((None, None, 256))
    for part, weights in zip(layers, gru_weights(), strict=True):
        part.set_weights(weights)
    return layer


def gru_of_keras():
    import bench_layers
    import keras

    layers = [keras.layers.GRU(256, return_sequences=True) for _ in range(2)]
    network = keras.Sequential([keras.Input((None, 256)), *layers])
    for part, weights in zip(layers, gru_weights(), strict=True):
        part.set_weights(weights)
    return bench_layers.pure(network)


def gru_reference(x, scale=1.0):
    for layer in gru_weights():
        kernel, recurrent, bias = (scale * np.float64(w) for w in layer)
        h, outputs = np.zeros((len(x), len(recurrent))), []
        for t in range(x.shape[1]):
            z, r, g = np.split(x[:, t] @ kernel + bias[0], 3, axis=-1)
            hz, hr, hg = np.split(h @ recurrent + bias[1], 3, axis=-1)
            z, r = models.sigmoid(z + hz), models.sigmoid(r + hr)
            h = z * h + (1 - z) * np.tanh(g + r * hg)
            outputs.append(h)
        x = np.stack(outputs, axis=1)
    return x


MODELS = {
    "lstm": Recurrence(
        ("step/B=1", "step/B=16", "forward/B=8/T=1000", "train/B=8/T=1000"),
        lstm,
        {"keras": lstm_of_keras, "sequence-layers": lstm_of_sequence_layers},
        {
            "sequence-layers": lambda batch: step_of_sequence_layers(batch, best=False),
            "sequence-layers (best)": lambda batch: step_of_sequence_layers(batch, best=True),
        },
        lambda x, scale=1.0: models.reference("B", x, scale),
    ),
    "gru": Recurrence(
        ("step/B=1", "step/B=16", "forward/B=8/T=1000", "train/B=8/T=1000"),
        gru,
        {"keras": gru_of_keras},
        reference=gru_reference,
    ),
}
MODELS |= {name: Recurrence(**model) for name, model in recurrence_linear.MODELS.items()}
MODELS |= {
    name: Recurrence(recurrence_matrices.TASKS, make, channels=recurrence_matrices.CHANNELS)
    for name, make in recurrence_matrices.LAYERS.items()
}
