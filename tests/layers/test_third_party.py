"""Layers that a third party could write with the public base classes alone, each of a kind that kseq has not itself."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import check_layer


class Convolution2D(kseq.WindowedLayer):
    """A convolution over time and the first channel axis.  [B, T, S, C] -> [B, T / strides[0], S, filters]."""

    input_rank = 4

    def __init__(
        self, filters, kernel_size, strides=(1, 1), padding="causal", kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(**kwargs)
        self.keep(locals())
        self.window = kseq.Window(kernel_size[0], strides[0], padding=padding)

    def build(self, input_shape):
        self.kernel = self.add_parameter("kernel", (*self.kernel_size, input_shape[-1], self.filters))

    def output_spec(self, input_spec):
        return kseq.SequenceSpec((-(-input_spec.shape[0] // self.strides[1]), self.filters), self.compute_dtype)

    def call_windows(self, x):
        reach = self.kernel_size[1] - 1
        values = ops.pad(x.values, [(0, 0), (0, 0), (reach // 2, reach - reach // 2), (0, 0)])
        return ops.conv(values, self.weight(self.kernel), self.strides, "valid")


class TransposedConvolution(kseq.TransposedWindowedLayer):
    """A transposed convolution over time.  [B, T, C] -> [B, T * strides, filters]."""

    input_rank = 3

    def __init__(
        self, filters, kernel_size, strides=1, dilation_rate=1, padding="causal", kernel_initializer="glorot_uniform",
        bias_initializer="zeros", **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.keep(locals())
        self.window = kseq.Window(kernel_size, strides, dilation_rate, padding, transposed=True)

    def build(self, input_shape):
        self.kernel = self.add_parameter("kernel", (input_shape[-1], self.kernel_size * self.filters))
        self.bias = self.add_parameter("bias", (self.filters,))

    def output_spec(self, input_spec):
        return kseq.SequenceSpec((self.filters,), self.compute_dtype)

    def call_taps(self, x):
        taps = ops.matmul(x.values, self.weight(self.kernel))
        return ops.reshape(taps, (*ops.shape(taps)[:2], self.kernel_size, self.filters))

    def finish(self, values, mask):
        return kseq.Sequence(ops.tanh(values + self.weight(self.bias)), mask)


@kseq.register("acme.CrossAttention")
class CrossAttention(kseq.SequenceLayer):
    """Each step attends to a source that is known when the stream begins.  [B, T, C] -> [B, T, units]."""

    input_rank = 3
    context_names = ("source",)

    def __init__(self, units, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.keep(locals())

    def build(self, input_shape, context_shape):
        self.query = self.add_parameter("query", (input_shape[-1], self.units), "kernel")
        self.keys = self.add_parameter("keys", (context_shape["source"][-1], self.units), "kernel")
        self.values = self.add_parameter("values", (context_shape["source"][-1], self.units), "kernel")

    def output_spec(self, input_spec):
        return kseq.SequenceSpec((self.units,), self.compute_dtype)

    def initial_state(self, batch_size, input_spec, context):
        source = self.standardize_context(context)["source"].with_mask()
        return {
            "keys": ops.matmul(source.values, self.weight(self.keys)),
            "values": ops.matmul(source.values, self.weight(self.values)),
            "mask": source.mask,
        }

    def call_step(self, x, state, *, training=False):
        query = ops.matmul(x.values, self.weight(self.query))
        logits = ops.einsum("btd,bsd->bts", query, state["keys"])
        logits = ops.where(state["mask"][:, None], logits, ops.cast(-1e4, logits.dtype))
        return kseq.Sequence(ops.einsum("bts,bsd->btd", ops.softmax(logits), state["values"]), x.mask), state


class Difference(kseq.SequenceLayer):
    """The difference of two sequences that flow side by side."""

    num_inputs = 2

    def call_step(self, x, state, *, training=False):
        (a, b), masks = x, [part.mask for part in x if part.mask is not None]
        return kseq.Sequence(
            a.values - b.values, ops.logical_and(*masks) if len(masks) > 1 else (masks or [None])[0]
        ), state


@pytest.mark.parametrize("padding", ["causal", "reverse_causal_valid", "semicausal", "same"])
def test_a_convolution_whose_strides_are_a_pair(padding):
    check_layer(Convolution2D(2, (3, 2), (2, 2), padding), (2, 7, 4, 1), gradients=padding == "causal")


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 5, "strides": 2},
        {"kernel_size": 2, "strides": 3},
        {"kernel_size": 3, "strides": 2, "dilation_rate": 2},
        {"kernel_size": 4, "strides": 2, "padding": "valid"},
        {"kernel_size": 4, "strides": 2, "padding": "same"},
    ],
    ids=str,
)
def test_a_transposed_convolution(options):
    check_layer(TransposedConvolution(2, **options), (2, 6, 2), gradients=options["kernel_size"] == 5)


def test_a_transposed_convolution_is_that_of_keras():
    theirs = keras.layers.Conv1DTranspose(3, 4, strides=2, padding="valid", activation="tanh")
    x = np.random.default_rng(0).normal(size=(2, 5, 2)).astype("float32")
    expected = ops.convert_to_numpy(theirs(x))
    ours = TransposedConvolution(3, 4, strides=2, padding="valid")
    ours.build(x.shape)
    kernel, bias = theirs.get_weights()  # [K, filters, C]
    ours.set_weights([np.transpose(kernel, (2, 0, 1)).reshape(2, -1), bias])
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), expected, atol=1e-5)


def test_cross_attention():
    check_layer(CrossAttention(3), (2, 6, 2), context={"source": (5, 4)})


def test_cross_attention_within_combinators():
    layer = kseq.Residual([kseq.Conv1D(3, 2, padding="reverse_causal"), CrossAttention(3)])
    check_layer(layer, (2, 6, 3), context={"source": (4, 2)}, gradients=False)


def test_a_context_that_is_not_what_the_layer_reads_is_refused():
    x, source = np.ones((2, 3, 2), "float32"), np.ones((2, 4, 2), "float32")
    with pytest.raises(ValueError, match=r"context of .*CrossAttention\) must be a dict of source; received none"):
        CrossAttention(3)(x)
    with pytest.raises(ValueError, match="must be a dict of source; received sauce"):
        CrossAttention(3)(x, context={"sauce": source})
    with pytest.raises(ValueError, match=r"context of .*Dense\) must be none; received source"):
        kseq.Dense(3)(x, context={"source": source})


def test_a_layer_of_two_inputs_takes_tensors_and_sequences():
    a, b = (np.random.default_rng(i).normal(size=(2, 4, 3)).astype("float32") for i in (0, 1))
    mask = np.array([[True] * 4, [True, True, False, False]])
    layer = Difference()
    np.testing.assert_allclose(ops.convert_to_numpy(layer([a, b])), a - b)
    y = layer([kseq.Sequence(a, mask), b])
    np.testing.assert_array_equal(ops.convert_to_numpy(y.mask), mask)
    spec = (kseq.SequenceSpec((3,)), kseq.SequenceSpec((3,)))
    y, _ = layer.step((a, kseq.Sequence(b, mask)), layer.initial_state(2, spec))
    np.testing.assert_array_equal(ops.convert_to_numpy(y.mask), mask)
    with pytest.raises(ValueError, match="list of 2 inputs; received one"):
        layer(a)
    with pytest.raises(ValueError, match="equally many time steps; received 4, 3"):
        layer([a, b[:, :3]])
