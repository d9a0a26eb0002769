"""Random functional models of kseq's and Keras's layers, and what Keras makes of them: values and masks."""

import keras
import numpy as np
from keras import ops
from random_networks import examples, made, small

import kseq
from kseq.streaming.adapters import MaskOf

CHANNELS = 2
STEPS = 11
PADDINGS = ["causal", "reverse_causal", "semicausal", "causal_valid", "reverse_causal_valid"]


class RandomModel:
    """A model of one to three inputs and of two outputs, of which one has half the rate.

    Args:
        seed: of all that is random.

    Attributes:
        model: the functional model.
        arrays: what its inputs are given, by their names.
        masks: the masks that Keras has put on some of them.
        stream: of the model.
    """

    def __init__(self, seed, batch=2):
        keras.utils.set_random_seed(seed)
        self.rng, self.batch = np.random.default_rng(seed), batch
        self.given, self.arrays, self.masks = [], {}, {}
        self.tensors, self.sequences, self.known_masks, self.layers = [], [], [], {False: [], True: []}
        for _ in range(int(self.rng.integers(1, 3))):
            self.add_input()
        for _ in range(int(self.rng.integers(3, 9))):
            self.grow()
        last = self.tensor(-1)
        for x in self.given:  # all are used
            last = keras.layers.Add()([last, ops.cast(x, "float32")[..., None] if len(x.shape) == 2 else x])
        half = kseq.Conv1D(CHANNELS, 3, strides=2, padding=str(self.rng.choice(["causal", "semicausal"])))(last)
        half = self.layer()(half * 0.5) if self.rng.random() < 0.5 else half
        outputs = [last, half]
        if self.sequences:
            outputs.append(self.sequence(-1))
        self.model = keras.Model(self.given, outputs)
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([self.rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
        self.stream = kseq.Stream(self.model, batch)
        for given in self.stream.layer.inputs:
            if given.mask is not None:  # a stream has but one mask for an input
                self.masks.pop(given.name, None)

    def choose(self, items):
        return items[self.rng.integers(len(items))]

    def tensor(self, number=None):
        return self.choose(self.tensors) if number is None else self.tensors[number]

    def sequence(self, number=None):
        return self.choose(self.sequences) if number is None else self.sequences[number]

    # Inputs.

    def add_input(self):
        kind = self.choose(["plain", "plain", "masked", "integers"])
        time = None if self.rng.random() < 0.8 else STEPS
        name = f"input_{len(self.given)}"
        if kind == "integers":
            x = keras.Input((time,), dtype="int32", name=name)
            embedding = self.choose([keras.layers.Embedding, kseq.Embedding])
            self.tensors.append(embedding(5, CHANNELS, mask_zero=bool(self.rng.random() < 0.7))(x))
            self.arrays[name] = self.rng.integers(0, 5, (self.batch, STEPS)).astype("int32")
        else:
            x = keras.Input((time, CHANNELS), name=name)
            self.tensors.append(x)
            self.arrays[name] = self.rng.normal(size=(self.batch, STEPS, CHANNELS)).astype("float32")
            self.arrays[name][self.rng.random((self.batch, STEPS)) < 0.2] = 0  # for Masking
        self.given.append(x)
        self.masks[name] = self.random_mask() if self.rng.random() < 0.4 else None
        if kind == "masked":
            mask = keras.Input((time,), dtype="bool", name=f"{name}_mask")
            self.arrays[mask.name] = self.random_mask()
            self.given.append(mask)
            self.sequences.append(kseq.Sequence(x, mask))
            self.known_masks.append(mask)

    def random_mask(self):
        mask = self.rng.random((self.batch, STEPS)) < self.choose([1.0, 0.7, 0.4])
        mask[:, : self.rng.integers(3)] = False
        return mask

    # Calls.

    def layer(self, in_sequences=False):
        """A kseq layer that keeps the channels and the rate, now and then one that was called before.

        Keras takes all calls of a layer for having as many outputs: a layer is called on tensors, or on sequences.
        """
        shared = self.layers[in_sequences]
        if shared and self.rng.random() < 0.2:
            return self.choose(shared)
        if self.rng.random() < 0.5:
            shared.append(self.registered())
            return shared[-1]
        padding, size, n = self.choose(PADDINGS), int(self.rng.integers(1, 4)), int(self.rng.integers(0, 3))
        makers = [
            lambda: kseq.Conv1D(CHANNELS, size, padding=padding),
            lambda: kseq.MaxPooling1D(size, strides=1, padding=padding),
            lambda: kseq.GRU(CHANNELS),
            lambda: kseq.LSTM(CHANNELS),
            lambda: kseq.Dense(CHANNELS, activation="tanh", bias_initializer="ones"),
            lambda: kseq.LocalSelfAttention(1, CHANNELS, max_past_horizon=2, max_future_horizon=n, rope_wavelength=9.0),
            lambda: kseq.Delay(n, delay_layer_output=False),
            lambda: kseq.Residual([kseq.Conv1D(CHANNELS, 2, padding=padding)]),
            lambda: kseq.RMSNormalization(epsilon=0.1),
            lambda: kseq.AveragePooling1D(size, strides=1, padding=padding, masked_average=bool(n)),
            lambda: kseq.Serial([kseq.Lookahead(n), kseq.Delay(n)]),
            lambda: kseq.Parallel([kseq.Conv1D(CHANNELS, 2, padding=padding), kseq.Dropout(0.5)], combination="add"),
        ]
        shared.append(self.choose(makers)())
        return shared[-1]

    def registered(self):
        """Whatever the registry has that keeps channels, rate and length."""
        spec, found = kseq.SequenceSpec((CHANNELS,)), examples()
        while True:
            cls, place = self.choose(found)
            layer = made(cls, cls.examples()[place], spec)
            if layer is None or not small(layer.timing) or layer.output_spec(spec) != spec:
                continue
            if all(layer.output_length(n) == n for n in range(STEPS + 1)):
                return layer

    def stock(self):
        """A Keras layer that keeps the channels and the rate."""
        makers = [
            lambda: keras.layers.LayerNormalization(epsilon=0.1),
            lambda: keras.layers.BatchNormalization(),
            lambda: keras.layers.Dense(CHANNELS, bias_initializer="ones"),
            lambda: keras.layers.Activation("tanh"),
            lambda: keras.layers.Dropout(0.5),
            lambda: keras.layers.Identity(),
            lambda: keras.layers.Masking(),
            lambda: keras.layers.Rescaling(0.5, 0.1),
        ]
        return self.choose(makers)()

    def merge(self, a, b):
        makers = [
            lambda: keras.layers.Add()([a, b]),
            lambda: keras.layers.Subtract()([a, b]),
            lambda: keras.layers.Multiply()([a, b]),
            lambda: keras.layers.Average()([a, b]),
            lambda: keras.layers.Maximum()([a, b]),
            lambda: keras.layers.Minimum()([a, b]),
            lambda: a * 0.5 + b,
            lambda: ops.maximum(a, b),
            lambda: keras.layers.Dense(CHANNELS)(keras.layers.Concatenate()([a, b])),
        ]
        return self.choose(makers)()

    def operate(self, x):
        return self.choose([lambda: x * 0.5 + 0.1, lambda: ops.tanh(x), lambda: ops.relu(x) - x, lambda: -x])()

    def nested(self):
        """A model in the model, of one input."""
        given = keras.Input((None, CHANNELS))
        y = self.merge(self.stock()(self.layer()(given)), given)
        return keras.Model(given, self.choose([lambda: y, lambda: self.layer()(y), lambda: self.operate(y)])())

    def nested_pair(self):
        """A model in the model, of an input with its mask."""
        given = kseq.Sequence(keras.Input((None, CHANNELS)), keras.Input((None,), dtype="bool"))
        y = self.layer(True)(given)
        return keras.Model(
            [*given], self.choose([lambda: self.operate(y.values), lambda: self.layer(True)(y).values])()
        )

    def mask(self):
        masks = self.known_masks
        if len(masks) > 1 and self.rng.random() < 0.3:
            return self.choose([ops.logical_and, ops.logical_or])(self.choose(masks), self.choose(masks))
        return ops.logical_not(self.choose(masks)) if self.rng.random() < 0.2 else self.choose(masks)

    def grow(self):
        """Add a call."""
        add, x = self.tensors.append, self.tensor()
        choice = self.rng.integers(15)
        if choice < 3:
            add(self.layer()(x))
        elif choice < 5:
            add(self.stock()(x))
        elif choice < 7:
            add(self.merge(x, self.tensor()))
        elif choice == 7:
            add(self.operate(x))
        elif choice == 8:
            add(self.nested()(x))
        elif choice == 9:
            self.sequences.append(self.layer(True)(kseq.Sequence(x)))
        elif choice == 10 and self.sequences:
            y = self.layer(True)(self.sequence())
            self.sequences.append(y)
            if y.mask is not None:
                self.known_masks.append(y.mask)
        elif choice == 11 and self.sequences:
            add(self.sequence().values)
        elif self.known_masks:
            mask = self.mask()
            makers = [
                lambda: add(self.layer()(x, mask=mask)),
                lambda: add(keras.layers.BatchNormalization()(x, mask=mask)),
                lambda: add(self.nested()(x, mask=mask)),
                lambda: add(self.nested_pair()([x, mask])),
                lambda: self.sequences.append(kseq.Sequence(x, mask)),
                lambda: self.sequences.append(self.layer(True)(kseq.Sequence(x, mask))),
            ]
            self.choose(makers)()

    # What it gives.

    def expected(self) -> list[kseq.Sequence]:
        """What Keras makes of the whole sequences: a `Sequence` for each output, all true where it gives no mask."""
        masks = [self.masks.get(x.name) for x in self.given]
        masks = [None if mask is None else ops.convert_to_tensor(mask) for mask in masks]
        given = [ops.convert_to_tensor(self.arrays[x.name]) for x in self.given]
        several = len(given) > 1
        return [to_sequence(y) for y in self.model(given if several else given[0], mask=masks if several else masks[0])]

    def streamed(self) -> list[kseq.Sequence]:
        """What a stream makes of them in random chunks."""
        start, parts = 0, []
        while start < STEPS:
            stop = min(start + int(self.rng.integers(1, 5)), STEPS)
            chunk = [self.sequence_of(x).slice_time(start, stop) for x in self.stream.layer.inputs]
            parts.append(self.stream.push(chunk if len(chunk) > 1 else chunk[0]))
            start = stop
        parts.append(self.stream.flush())
        return [kseq.Sequence.concatenate(of_output).with_mask() for of_output in zip(*parts, strict=True)]

    def sequence_of(self, given) -> kseq.Sequence:
        """The sequence that a stream is given for an input."""
        mask = self.masks.get(given.name) if given.mask is None else self.arrays[given.mask]
        return kseq.Sequence(self.arrays[given.name], mask)


def to_sequence(y) -> kseq.Sequence:
    values, mask = y if isinstance(y, (tuple, list)) else (y, MaskOf()(y))
    return kseq.Sequence(*(None if part is None else ops.convert_to_numpy(part) for part in (values, mask))).with_mask()
