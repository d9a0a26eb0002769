"""Random functional models of Keras's own layers, now and then with one that cannot stream."""

import dataclasses
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# Two values meet where they have as many steps, whatever these are.
LENGTHS = (24, 25, 31)


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the model, its outputs for each input, and its steps where the inputs have `LENGTHS`."""

    tensor: Any
    ratio: Fraction = Fraction(1)
    lengths: tuple[int, ...] = LENGTHS

    @property
    def channels(self):
        return self.tensor.shape[-1]


class RandomStock:
    """A functional model of one or two inputs.

    Args:
        seed: of all that is random.
        refuses: whether one of its layers has no streaming form.

    Attributes:
        model: the model.
        refused: the name of the layer that cannot stream, or `None`.
    """

    def __init__(self, seed, refuses=False):
        keras.utils.set_random_seed(seed)
        self.rng, self.refused = np.random.default_rng(seed), None
        inputs = [keras.Input((None, 3), name=f"x{i}") for i in range(self.rng.integers(1, 3))]
        self.values = [Value(layers.Concatenate()([*inputs, inputs[0]]))]
        for _ in range(self.rng.integers(3, 9)):
            self.values.append(self.merge() if self.rng.random() < 0.3 else self.grow())
        if refuses:
            layer = self.choose(REFUSED)()
            self.refused, last = layer.name, self.values[-1]
            y = layer(last.tensor, last.tensor) if isinstance(layer, layers.MultiHeadAttention) else layer(last.tensor)
            self.values.append(dataclasses.replace(last, tensor=y))
        self.model = keras.Model(inputs if len(inputs) > 1 else inputs[0], self.values[-1].tensor)
        for layer in self.model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.set_weights([self.rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])

    def choose(self, items):
        return items[self.rng.integers(len(items))]

    def grow(self):
        """A layer on a value: one that keeps the steps, or one that does not."""
        value = self.choose(self.values[-3:])
        if self.rng.random() < 0.6:
            return dataclasses.replace(value, tensor=self.kept(value))
        layer, ratio = self.changing(value)
        lengths = tuple(layer.compute_output_shape((1, n, value.channels))[1] for n in value.lengths)
        if min(lengths) < 3 or value.ratio * ratio > 4:
            return value
        return Value(layer(value.tensor), value.ratio * ratio, lengths)

    def kept(self, value):
        x, channels = value.tensor, value.channels
        size, rate, heads = (int(self.rng.integers(low, 4)) for low in (1, 1, 1))
        attention = layers.MultiHeadAttention(heads, 2)
        groups = layers.GroupQueryAttention(2, 2 * heads, heads)
        makers = [
            lambda: layers.Conv1D(channels, size, dilation_rate=rate, padding="causal", activation="relu")(x),
            lambda: layers.Conv1D(channels, size, dilation_rate=rate, padding="same")(x),
            lambda: layers.Conv1D(channels, size)(layers.ZeroPadding1D((size - 1, 0))(x)),
            lambda: layers.SeparableConv1D(channels, size + 1, padding="same")(x),
            lambda: layers.MaxPooling1D(3, 1, padding="same")(x),
            lambda: layers.AveragePooling1D(3, 1, padding="same")(x),
            lambda: layers.LSTM(3, return_sequences=True)(x),
            lambda: layers.GRU(3, return_sequences=True)(x),
            lambda: layers.SimpleRNN(3, return_sequences=True)(layers.Masking()(x)),
            lambda: attention(x, x, use_causal_mask=True),
            lambda: groups(x, x, use_causal_mask=True),
            lambda: attention(x, layers.Conv1D(2, 3, padding="same")(x), use_causal_mask=True),
            lambda: layers.LayerNormalization(epsilon=0.1)(x),
            lambda: layers.BatchNormalization()(x),
            lambda: layers.Dense(4, activation="tanh", bias_initializer="ones")(x),
            lambda: ops.tanh(x) * 0.5 + 0.1,
            lambda: layers.Permute((1, 3, 2))(x[..., None])[:, :, 0],
        ]
        return self.choose(makers)()

    def changing(self, value):
        size, stride = int(self.rng.integers(1, 5)), int(self.rng.integers(1, 3))
        ends = tuple(map(int, self.rng.integers(0, 4, 2)))
        makers = [
            lambda: (layers.Conv1D(4, size, strides=stride), Fraction(1, stride)),
            lambda: (layers.Conv1D(4, 4, strides=2, padding="same"), Fraction(1, 2)),
            lambda: (layers.DepthwiseConv1D(size, strides=stride), Fraction(1, stride)),
            lambda: (layers.MaxPooling1D(size, stride), Fraction(1, stride)),
            lambda: (layers.AveragePooling1D(2, 2, padding="same"), Fraction(1, 2)),
            lambda: (layers.ZeroPadding1D(ends), Fraction(1)),
            lambda: (layers.Cropping1D(ends), Fraction(1)),
            lambda: (layers.UpSampling1D(2), Fraction(2)),
            lambda: (layers.Conv1DTranspose(3, size, strides=stride, padding="same"), Fraction(stride)),
            lambda: (layers.Conv1DTranspose(3, size, strides=stride), Fraction(stride)),
        ]
        return self.choose(makers)()

    def merge(self):
        one = self.choose(self.values)
        alike = [v for v in self.values if (v.ratio, v.lengths) == (one.ratio, one.lengths)]
        other = self.choose(alike)
        pair = [one.tensor, other.tensor]
        if one.channels == other.channels and self.rng.random() < 0.7:
            merge = self.choose([layers.Add, layers.Average, layers.Maximum, layers.Multiply])
            return dataclasses.replace(one, tensor=merge()(pair))
        return dataclasses.replace(one, tensor=layers.Dense(4)(layers.Concatenate()(pair)))


REFUSED = [
    lambda: layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
    lambda: layers.GroupNormalization(1),
    lambda: layers.Conv1D(2, 3, strides=2, padding="same"),
    lambda: layers.GRU(2, return_sequences=True, go_backwards=True),
    lambda: layers.Flatten(),
    lambda: layers.GlobalMaxPooling1D(),
    lambda: layers.MultiHeadAttention(1, 2),
    lambda: layers.Softmax(axis=1),
]
