"""Random functional models of Keras's own layers, now and then with one that cannot stream."""

import dataclasses
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# Two values meet where they have as many steps, whatever these are: of even ones, branches that halve the rate too.
LENGTHS = ((24, 25, 31), (24, 28, 32))


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the model, its outputs for each input, its steps where the inputs have the model's `lengths`.

    Of what is masked, attention gives at invalid steps what depends on all others.
    """

    tensor: Any
    lengths: tuple[int, ...]
    ratio: Fraction = Fraction(1)
    is_masked: bool = False

    @property
    def channels(self):
        return self.tensor.shape[-1]


class RandomStock:
    """A functional model of one to three inputs, with layers that are shared, models within it, and several outputs.

    Args:
        seed: of all that is random.
        refuses: whether one of its layers has no streaming form.

    Attributes:
        model: the model.
        refused: the name of the layer that cannot stream, or `None`.
        steps: of the sequences on which it is tried.
    """

    def __init__(self, seed, refuses=False):
        keras.utils.set_random_seed(seed)
        self.rng, self.refused, self.shared = np.random.default_rng(seed), None, {}
        self.lengths = self.choose(LENGTHS)
        self.steps = int(self.choose(self.lengths))
        inputs = [keras.Input((None, 3), name=f"x{i}") for i in range(self.rng.integers(1, 3))]
        self.values = [Value(layers.Concatenate()([*inputs, inputs[0]]), self.lengths)]
        if self.rng.random() < 0.3:
            inputs.append(keras.Input((None,), dtype="int32", name="ids"))
            masks = bool(self.rng.random() < 0.5)
            table = layers.Embedding(5, self.values[0].channels, mask_zero=masks)
            self.values.append(Value(table(inputs[-1]), self.lengths, is_masked=masks))
            self.values.append(self.joined(*self.values))
        for _ in range(self.rng.integers(3, 9)):
            self.values.append(self.merge() if self.rng.random() < 0.3 else self.grow())
        last = self.values[-1]
        if refuses:
            layer = self.choose(REFUSED)()
            self.refused = layer.name
            attends = isinstance(layer, layers.MultiHeadAttention)
            last = dataclasses.replace(last, tensor=layer(*[last.tensor] * (1 + attends)))
        outputs = [last.tensor, *(self.choose(self.values).tensor for _ in range(self.rng.integers(0, 3)))]
        structure = self.choose([outputs[0], outputs, {f"y{i}": y for i, y in enumerate(outputs)}])
        self.model = keras.Model(inputs if len(inputs) > 1 else inputs[0], structure)
        for layer in self.model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.set_weights([self.rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])

    def arrays(self, batch):
        """An array for each input of the model, some of whose steps are zero."""
        found = []
        for x in self.model.inputs:
            if x.dtype == "int32":
                found.append(self.rng.integers(0, 5, (batch, self.steps)).astype("int32"))
            else:
                found.append(self.rng.normal(size=(batch, self.steps, 3)).astype("float32"))
                found[-1][self.rng.random((batch, self.steps)) < 0.2] = 0
        return found

    def choose(self, items):
        return items[self.rng.integers(len(items))]

    def grow(self):
        """A layer on a value: one that keeps the steps, or one that does not, or several."""
        value, kind = self.choose(self.values[-3:]), self.rng.random()
        if kind < 0.4:
            return self.kept(value)
        if kind < 0.5:
            return self.again(value)
        if kind < 0.6:
            return self.nested(value)
        if kind < 0.75 and all(n % 2 == 0 for n in value.lengths):
            return self.detour(value)
        layer, ratio = self.changing(value)
        lengths = tuple(layer.compute_output_shape((1, n, value.channels))[1] for n in value.lengths)
        if min(lengths) < 3 or value.ratio * ratio > 4:
            return value
        return Value(layer(value.tensor), lengths, value.ratio * ratio, value.is_masked)

    def again(self, value):
        """A layer that is called several times in the model."""
        channels = value.channels
        if channels not in self.shared:
            makers = [
                lambda: layers.Conv1D(channels, 3, padding="same"),
                lambda: layers.LSTM(channels, **_STEPS),
                lambda: layers.ZeroPadding1D((1, 0)),
                lambda: layers.LayerNormalization(epsilon=0.1),
                lambda: self.inner(channels, is_masked=True),
            ]
            self.shared[channels] = self.choose(makers)()
        layer = self.shared[channels]
        more = isinstance(layer, layers.ZeroPadding1D)
        lengths = tuple(n + more for n in value.lengths)
        return dataclasses.replace(value, tensor=layer(value.tensor), lengths=lengths)

    def inner(self, channels, is_masked):
        """A model of one input and one output that keeps the steps and the channels."""
        if self.rng.random() < 0.5:
            parts = [layers.Conv1D(5, 2, padding="causal"), layers.GRU(channels, **_STEPS)]
            return keras.Sequential([keras.Input((None, channels)), *parts])
        x = keras.Input((None, channels))
        value = self.kept(self.kept(Value(x, self.lengths, is_masked=is_masked)))
        return keras.Model(x, layers.Add()([x, layers.Dense(channels)(value.tensor)]))

    def nested(self, value):
        """A model in the model, now and then of several inputs and outputs."""
        channels = value.channels
        if self.rng.random() < 0.5:
            return dataclasses.replace(value, tensor=self.inner(channels, value.is_masked)(value.tensor))
        a, b = keras.Input((None, channels), name="a"), keras.Input((None, channels), name="b")
        wide = layers.Conv1D(channels, int(self.rng.integers(1, 6)), padding="same")(a)
        model = keras.Model({"b": b, "a": a}, {"sum": layers.Add()([wide, b]), "own": layers.SimpleRNN(2, **_STEPS)(b)})
        made = model({"a": value.tensor, "b": ops.tanh(value.tensor)})
        return dataclasses.replace(value, tensor=layers.Concatenate()([made["own"], made["sum"]]))

    def detour(self, value):
        """A branch of half the rate that comes back, beside the value itself."""
        x, channels = value.tensor, value.channels
        downs = [
            lambda: layers.Conv1D(4, 4, strides=2, padding="same")(x),
            lambda: layers.MaxPooling1D(2)(x),
            lambda: layers.AveragePooling1D(2)(x),
            lambda: layers.Conv1D(4, 3, strides=2, padding="causal")(x),
        ]
        y = self.choose(downs)()
        if self.rng.random() < 0.5:
            halved = tuple(n // 2 for n in value.lengths)
            y = self.kept(dataclasses.replace(value, tensor=y, lengths=halved)).tensor
        ups = [
            lambda: layers.Dense(channels)(layers.UpSampling1D(2)(y)),
            lambda: layers.Conv1DTranspose(channels, 4, strides=2, padding="same")(y),
            lambda: layers.Dense(channels)(layers.Conv1DTranspose(3, 2, strides=2)(y)),
        ]
        return self.joined(value, dataclasses.replace(value, tensor=self.choose(ups)()))

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
            lambda: layers.LSTM(3, **_STEPS)(x),
            lambda: layers.GRU(3, **_STEPS)(x),
            lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], **_STEPS)(x),
            lambda: layers.LayerNormalization(epsilon=0.1)(x),
            lambda: layers.BatchNormalization()(x),
            lambda: layers.Dense(4, activation="tanh", bias_initializer="ones")(x),
            lambda: ops.tanh(x) * 0.5 + 0.1,
            lambda: layers.Permute((1, 3, 2))(x[..., None])[:, :, 0],
            lambda: layers.SpectralNormalization(layers.Conv1D(4, size, padding="causal"))(x),
            lambda: layers.Activation("gelu")(layers.Rescaling(0.5, 0.1)(x)),
            lambda: layers.TimeDistributed(layers.Dense(3))(x),
            lambda: layers.EinsumDense("btc,cd->btd", (None, 4), activation="tanh")(x),
            lambda: layers.Conv2D(2, (size, 2), padding="same")(x[..., None])[..., 0],
        ]
        attending = [
            lambda: attention(x, x, use_causal_mask=True),
            lambda: groups(x, x, use_causal_mask=True),
            lambda: attention(x, layers.Conv1D(2, 3, padding="same")(x), use_causal_mask=True),
        ]
        if self.rng.random() < 0.1:
            masked = layers.Masking()(x)
            tensor = masked if self.rng.random() < 0.3 else layers.SimpleRNN(3, **_STEPS)(masked)
            return dataclasses.replace(value, tensor=tensor, is_masked=True)
        return dataclasses.replace(value, tensor=self.choose(makers + attending * (not value.is_masked))())

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
        return self.joined(one, self.choose(alike))

    def joined(self, one, other):
        pair, masked = [one.tensor, other.tensor], one.is_masked or other.is_masked
        merges = [lambda: layers.Dense(4)(layers.Concatenate()(pair))]
        if one.channels == other.channels:
            merges += [
                lambda: layers.Add()(pair),
                lambda: layers.Average()(pair),
                lambda: layers.Maximum()(pair),
                lambda: layers.Multiply()(pair),
                lambda: pair[0] - 0.5 * pair[1],
                lambda: ops.maximum(*pair),
            ]
        return dataclasses.replace(one, tensor=self.choose(merges)(), is_masked=masked)


_STEPS = {"return_sequences": True}
REFUSED = [
    lambda: layers.Bidirectional(layers.LSTM(2, **_STEPS)),
    lambda: layers.GroupNormalization(1),
    lambda: layers.Conv1D(2, 3, strides=2, padding="same"),
    lambda: layers.GRU(2, return_sequences=True, go_backwards=True),
    lambda: layers.Flatten(),
    lambda: layers.GlobalMaxPooling1D(),
    lambda: layers.MultiHeadAttention(1, 2),
    lambda: layers.Softmax(axis=1),
]
