"""Attention by every option: the contract, weights of Keras's layers, packed batches."""

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays

import kseq
from kseq.testing import check_layer, transforms
from kseq.testing.errors import ContractError

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.4, "tensorflow": 0.4}


def over_channels(make):
    """A network of heads that mixes time, as a layer of all their channels."""
    return kseq.Serial([kseq.Flatten(), make(), kseq.Reshape((2, 2))])


def convolution():
    return kseq.DepthwiseConv1D(2, padding="causal")


def recurrent():
    return kseq.GRU(4)


WINDOW, AHEAD = {"max_past_horizon": 3}, {"max_past_horizon": 3, "max_future_horizon": 2}
POSITIONS = {
    "rotary": kseq.RotaryPosition(50.0),
    "alibi": "AlibiPosition",
    "t5": kseq.T5Position(6, 8, bidirectional=True),
    "shaw": kseq.ShawPosition(3, 2),
    "transformer_xl": kseq.TransformerXLPosition(4, 2, position_bias_dim=4),
}
LAYERS = {
    "window": WINDOW,
    "itself alone": {"max_past_horizon": 0},
    "ahead": AHEAD,
    "growing": {"max_length": 48},
    "growing, ahead": {"max_length": 48, "max_future_horizon": 2},
    "slide": {"max_length": 10, "overflow": "slide"},
    "slide, ahead": {"max_length": 8, "overflow": "slide", "max_future_horizon": 2},
    "blocks": {"max_past_horizon": 1, "block_size": 3},
    "blocks, ahead": {"max_past_horizon": 1, "max_future_horizon": 1, "block_size": 2},
    "blocks, growing": {"max_length": 96, "block_size": 3, "max_future_horizon": 1},
    "prefix": WINDOW | {"prefix_length": 4},
    "prefix, growing": {"max_length": 48, "prefix_length": 3, "max_future_horizon": 1},
    "sinks": WINDOW | {"num_sink_steps": 2},
    "sinks, ahead": AHEAD | {"num_sink_steps": 2},
    "sinks, slide": {"max_length": 5, "overflow": "slide", "num_sink_steps": 1, "max_future_horizon": 1},
    "rollback": WINDOW | {"max_rollback": 2, "use_sink_scalars": True},
    "rollback, ahead": AHEAD | {"max_rollback": 3},
    "grouped": WINDOW | {"num_heads": 4, "num_key_value_heads": 2, "value_dim": 3},
    "interleaved": WINDOW | {"num_heads": 4, "num_key_value_heads": 2, "interleave_groups": True},
    "one key head": {"max_length": 48, "num_key_value_heads": 1, "output_dim": False},
    "gate": AHEAD | {"use_gate": True, "value_dim": 3},
    "norms": WINDOW | {"key_dim": 4, "use_qk_norm": True, "use_per_dim_scale": True, "use_per_dim_key_scale": True},
    "soft cap": AHEAD | {"attention_logits_soft_cap": 2.0, "query_scale": 0.7, "use_bias": False},
    "sink embeddings": WINDOW | {"num_sink_embeddings": 2, "num_key_value_heads": 1},
    "sink scalars": AHEAD | {"use_sink_scalars": True, "attention_logits_soft_cap": 2.0},
    "shared": {"max_length": 48, "share_key_value": True},
    "dropout": AHEAD | {"dropout": 0.5, "seed": 1},
    "whole future": {"max_future_horizon": None},
    "whole future, window": {"max_past_horizon": 2, "max_future_horizon": None},
    "networks": AHEAD | {"query_network": kseq.Snake(), "key_network": kseq.RMSNormalization()},
    "rotated by a network": WINDOW | {f"{role}_network": kseq.RotaryEmbedding(50.0) for role in ("query", "key")},
    "convolved": WINDOW | {f"{role}_network": over_channels(convolution) for role in ("query", "key", "value")},
    "convolved, growing": {"max_length": 48, "max_future_horizon": 1, "use_gate": True}
    | {"value_network": over_channels(convolution)},
    "recurrent": AHEAD | {"query_network": over_channels(recurrent), "use_gate": True},
    "recurrent keys": {"max_length": 48} | {f"{role}_network": over_channels(recurrent) for role in ("key", "value")},
    "several horizons": {"max_past_horizon": 3, "max_future_horizon": [0, 2]},
    **{f"{name}, ahead": AHEAD | {"position": position} for name, position in POSITIONS.items()},
    **{f"{name}, growing": {"max_length": 48, "position": position} for name, position in POSITIONS.items()},
    "rotary, sinks": WINDOW | {"num_sink_steps": 2, "position": POSITIONS["rotary"]},
    "shaw, prefix": WINDOW | {"prefix_length": 3, "position": POSITIONS["shaw"]},
    "alibi, blocks": {"max_past_horizon": 1, "block_size": 2, "max_rollback": 2, "position": "AlibiPosition"},
    **{f"kept as {d}": AHEAD | {"cache_dtype": d} for d in ("float32", "bfloat16", "float16", "int8")},
    "kept as int8, growing": {"max_length": 48, "cache_dtype": "int8"},
    "kept as int8, sinks": WINDOW | {"num_sink_steps": 2, "cache_dtype": "int8"},
}
SAMPLE = {"jax": 0.12, "tensorflow": 0.12}


def params(names, of):
    return todays([pytest.param(name, id=name) for name in names], of=of, **SAMPLE)


@pytest.mark.parametrize("name", params(LAYERS, "self attention"))
def test_self_attention_keeps_the_contract(name):
    config = {"num_heads": 2, "key_dim": 2} | LAYERS[name]
    options = {}
    if "prefix_length" in config:  # it does not always reach as far as it may
        options["receptive_field"] = "bound"
    if "cache_dtype" in config:
        # Where one mode rounds up and the other down, they differ by the rounding.
        options |= {"gradients": False, "rtol": 2e-2, "atol": 2e-2}
    check_layer(kseq.SelfAttention(**config), (4, 12, 3), **options)


CROSS = {
    "plain": {},
    "alibi": {"position": "AlibiPosition"},
    "t5": {"position": POSITIONS["t5"]},
    "rotary": {"position": POSITIONS["rotary"], "num_key_value_heads": 1},
    "gate": {"use_gate": True, "num_sink_embeddings": 1},
    "networks": {"query_network": over_channels(convolution), "key_network": kseq.RMSNormalization()},
    "source's network": {"value_network": over_channels(convolution), "output_dim": False},
}


@pytest.mark.parametrize("name", params(CROSS, "cross attention"))
def test_cross_attention_keeps_the_contract(name):
    check_layer(kseq.CrossAttention(2, 2, **CROSS[name]), (4, 12, 3), context={"source": (5, 4)})


SYNCHRONOUS = {
    "window": WINDOW,
    "growing": {"max_length": 48, "max_future_horizon": 1},
    "sinks": {"max_past_horizon": 2, "num_sink_steps": 2},
    "rotary": AHEAD | {"position": POSITIONS["rotary"], "use_gate": True},
}


@kseq.register("tests.Halves")
class Halves(kseq.SequenceLayer):
    """Synchronous attention of one half of the channels to the other."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.attention = kseq.SynchronousAttention(2, 2, dtype=self.dtype_policy, **config)

    def build(self, input_shape):
        self.attention.build([(*input_shape[:2], 3)] * 2)

    @property
    def timing(self):
        return self.attention.timing

    @property
    def counts_steps(self):
        return self.attention.counts_steps

    def output_spec(self, input_spec):
        return self.attention.output_spec((kseq.SequenceSpec((3,), input_spec.dtype),) * 2)

    def initial_state(self, batch_size, input_spec, context=None):
        return self.attention.initial_state(batch_size, (kseq.SequenceSpec((3,), input_spec.dtype),) * 2)

    def _halves(self, x):
        return tuple(x.apply(lambda values: values[..., part]) for part in (slice(0, 3), slice(3, 6)))  # noqa: B023

    def call_layer(self, x, *, training=False):
        return self.attention(self._halves(x), training=training)

    def call_step(self, x, state, *, training=False):
        return self.attention.advance(self._halves(x), state, training=training)

    def hold_step(self, x, state, active, *, training=False):
        return self.attention.advance(self._halves(x), state, training=training, active=active)

    def get_config(self):
        return super().get_config() | {"config": keras.saving.serialize_keras_object(self.config)}

    @classmethod
    def from_config(cls, config):
        return cls(**(config | {"config": keras.saving.deserialize_keras_object(config["config"])}))


@pytest.mark.parametrize("name", params(SYNCHRONOUS, "synchronous attention"))
def test_synchronous_attention_keeps_the_contract(name):
    check_layer(Halves(SYNCHRONOUS[name]), (4, 12, 6))


def test_the_contract_finds_a_field_that_is_too_wide():
    with pytest.raises(ContractError, match="S15"):
        check_layer(kseq.SelfAttention(2, 2, max_past_horizon=3, prefix_length=4), (4, 12, 3))


# Weights of Keras's layers.


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


MASK = np.array([[True] * 7, [True] * 4 + [False] * 3])


def same(found, wanted, mask):
    found, wanted = (ops.convert_to_numpy(y) for y in (found, wanted))
    mask = np.ones(found.shape[:2], bool) if mask is None else mask
    np.testing.assert_allclose(found[mask], wanted[mask], atol=2e-6)


def of_keras_layer(layer, *given, **masks):
    """Its outputs, on the way that it has on all backends where values are of another size than keys."""
    return layer(*given, return_attention_scores=True, **masks)[0]


KERAS = {
    "plain": ({}, {}),
    "value_dim": ({"value_dim": 3}, {"value_dim": 3}),
    "no bias": ({"use_bias": False}, {"use_bias": False}),
    "output": ({"output_shape": 6}, {"output_dim": 6}),
    "gate": ({"use_gate": True, "value_dim": 3}, {"use_gate": True, "value_dim": 3}),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", KERAS)
def test_weights_of_multi_head_attention(name, masked):
    of_keras, ours = KERAS[name]
    mask, x = MASK if masked else None, numbers(2, 7, 5)
    theirs, layer = keras.layers.MultiHeadAttention(2, 4, **of_keras), kseq.SelfAttention(2, 4, **ours)
    given = {} if mask is None else dict.fromkeys(("query_mask", "value_mask"), ops.convert_to_tensor(mask))
    of_keras_layer(theirs, x, x)
    randomize(theirs)
    layer.build(x.shape)
    layer.set_weights(theirs.get_weights())
    same(layer(kseq.Sequence(x, mask)).values, of_keras_layer(theirs, x, x, use_causal_mask=True, **given), mask)
    unlimited = kseq.SelfAttention(2, 4, max_future_horizon=None, **ours)
    unlimited.build(x.shape)
    unlimited.set_weights(theirs.get_weights())
    same(unlimited(kseq.Sequence(x, mask)).values, of_keras_layer(theirs, x, x, **given), mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("gate", [False, True])
def test_weights_of_group_query_attention(gate, masked):
    mask, x = MASK if masked else None, numbers(2, 7, 5)
    theirs = keras.layers.GroupQueryAttention(4, 6, 2, use_gate=gate)
    layer = kseq.SelfAttention(6, 4, num_key_value_heads=2, use_gate=gate)
    given = {} if mask is None else dict.fromkeys(("query_mask", "value_mask"), ops.convert_to_tensor(mask))
    of_keras_layer(theirs, x, x)
    randomize(theirs)
    layer.build(x.shape)
    layer.set_weights(theirs.get_weights())
    same(layer(kseq.Sequence(x, mask)).values, of_keras_layer(theirs, x, x, use_causal_mask=True, **given), mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", KERAS)
def test_weights_of_multi_head_attention_to_a_source(name, masked):
    of_keras, ours = KERAS[name]
    x, source = numbers(2, 7, 5), numbers(2, 4, 3, seed=1)
    mask = np.array([[True] * 4, [True, False, True, False]]) if masked else None
    theirs, layer = keras.layers.MultiHeadAttention(2, 4, **of_keras), kseq.CrossAttention(2, 4, **ours)
    given = {} if mask is None else {"value_mask": ops.convert_to_tensor(mask)}
    of_keras_layer(theirs, x, source)
    randomize(theirs)
    context = {"source": kseq.Sequence(source, mask)}
    layer(x, context=context)
    layer.set_weights(theirs.get_weights())
    same(layer(x, context=context), of_keras_layer(theirs, x, source, **given), None)


def randomize(layer):
    layer.set_weights([0.5 * numbers(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])


# Packed batches.

LENGTHS = (5, 1, 6, 3)


def packed():
    """Records, and rows in which several are: their place in it, ids from 1, and 0 where there is none."""
    records = [numbers(n, 3, seed=n) for n in LENGTHS]
    rows, ids = np.zeros((2, 9, 3), "float32"), np.zeros((2, 9), "int32")
    places = [(0, 0), (0, 5), (1, 0), (0, 6)]
    seen = [0, 0]
    for record, (row, start) in zip(records, places, strict=True):
        seen[row] += 1
        rows[row, start : start + len(record)] = record
        ids[row, start : start + len(record)] = seen[row]
    return records, rows, ids, places


SEGMENTS = {
    "window": AHEAD,
    "growing": {},
    "prefix": WINDOW | {"prefix_length": 3},
    "blocks": {"max_past_horizon": 2, "max_future_horizon": 0},
    **{name: AHEAD | {"position": position} for name, position in POSITIONS.items()},
    "rotary, growing": {"position": POSITIONS["rotary"]},
    "alibi, prefix": {"position": "AlibiPosition", "prefix_length": 4},
}


@pytest.mark.parametrize("masked", [True, False], ids=["padding masked", "padding is a segment"])
@pytest.mark.parametrize("name", params(SEGMENTS, "segments"))
def test_packed_batches_train_as_their_records_do(name, masked):
    """The loss of every record and its gradient are what they are for the record alone."""
    config = {"num_heads": 2, "key_dim": 4} | SEGMENTS[name]
    records, rows, ids, places = packed()
    layer, alone = kseq.SelfAttention(**config, use_segment_ids=True), kseq.SelfAttention(**config)
    layer.build([rows.shape, ids.shape])
    alone.build(rows.shape)
    randomize(layer)
    alone.set_weights(layer.get_weights())
    mask = ids > 0 if masked else None
    y = ops.convert_to_numpy(layer([kseq.Sequence(rows, mask), kseq.Sequence(ids)]).values)
    for record, (row, start) in zip(records, places, strict=True):
        wanted = ops.convert_to_numpy(alone(record[None]))[0]
        np.testing.assert_allclose(y[row, start : start + len(record)], wanted, atol=1e-5)
    places = [(row, start, start + len(record)) for record, (row, start) in zip(records, places, strict=True)]
    one = gradients(lambda x: layer([kseq.Sequence(x, mask), kseq.Sequence(ids)]).values, layer, rows, ids > 0)
    several = gradients(lambda x: joined([alone(x[r : r + 1, a:b]) for r, a, b in places]), alone, rows, None)
    for a, b in zip(one, several, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def joined(parts):
    return ops.concatenate(parts, axis=1)


def gradients(fn, layer, x, mask):
    """The sum of squares of the valid outputs and its gradients, by the input and the weights of a layer."""

    def loss(x):
        y = ops.square(fn(x))
        return ops.sum(y if mask is None else ops.where(ops.convert_to_tensor(mask)[..., None], y, 0.0)), ()

    run = transforms.value_and_gradients(loss, layer.trainable_variables)
    value, _, of_input, of_weights = run(x, [ops.convert_to_numpy(w) for w in layer.trainable_variables])
    if mask is not None:  # nothing is asked of what is padding
        of_input = ops.where(ops.convert_to_tensor(mask)[..., None], of_input, 0.0)
    return [ops.convert_to_numpy(g) for g in (value, of_input, *of_weights)]


@pytest.mark.parametrize("chunk", [1, 4, 9])
@pytest.mark.parametrize("position", [None, "RotaryPosition", "AlibiPosition"])
def test_segments_in_steps(chunk, position):
    """Ids at invalid steps say nothing; in a stream one that comes back is another segment."""
    layer = kseq.SelfAttention(2, 4, max_past_horizon=6, use_segment_ids=True, position=position)
    x = numbers(3, 9, 3)
    ids = np.array([[1, 1, 2, 2, 2, 1, 1, 1, 1], [1, 7, 1, 7, 1, 2, 7, 2, 7], [7, 7, 7, 5, 5, 5, 0, 0, 0]], "int32")
    mask = np.array([[True] * 9, ids[1] != 7, [False] * 3 + [True] * 6])
    parts = [kseq.Sequence(x, mask), kseq.Sequence(ids)]
    alone = kseq.SelfAttention(2, 4, max_past_horizon=6, position=position)
    layer.build([part.values.shape for part in parts])
    alone.build(x.shape)
    randomize(layer)
    alone.set_weights(layer.get_weights())
    wanted = np.zeros((3, 9, 3), "float32")
    for row, start, stop in [(0, 0, 2), (0, 2, 5), (0, 5, 9), (1, 0, 5), (1, 5, 9), (2, 3, 6), (2, 6, 9)]:
        part = kseq.Sequence(x[row : row + 1, start:stop], mask[row : row + 1, start:stop])
        wanted[row, start:stop] = ops.convert_to_numpy(alone(part).values)[0]
    stream = kseq.Stream(layer, 3)
    found = [stream.push([p.slice_time(t, t + chunk).with_mask() for p in parts]).values for t in range(0, 9, chunk)]
    y = np.concatenate(found, 1)
    np.testing.assert_allclose(y[mask], wanted[mask], atol=1e-5)
    if chunk == 9:
        y = ops.convert_to_numpy(
            layer([kseq.Sequence(part.values[1:], part.with_mask().mask[1:]) for part in parts]).values
        )
        np.testing.assert_allclose(y[mask[1:]], wanted[1:][mask[1:]], atol=1e-5)


def test_segments_in_a_model_of_any_length():
    x, ids = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    model = keras.Model([x, ids], kseq.SelfAttention(2, 4, use_segment_ids=True, position="AlibiPosition")([x, ids]))
    _, rows, segments, _ = packed()
    model.compile("sgd", "mse")
    for time in (5, 8, 9):
        given = [rows[:, :time], segments[:, :time]]
        wanted = ops.convert_to_numpy(model(given))
        np.testing.assert_allclose(model.predict(given, verbose=0), wanted, atol=1e-5)
        model.fit(given, wanted, verbose=0)
