"""Backbones of KerasHub, small and with random weights, token by token: what they give of the whole."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import kseq

hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed; its adapters are loaded with its layers")

TODAYS = {"jax": 0.15, "tensorflow": 0.15}
STEPS = 9
IDS = np.random.default_rng(0).integers(1, 20, (2, STEPS)).astype("int32")
# Padding at the end, and a hole.
PADDING = np.array([[1] * STEPS, [1, 1, 0, 1, 1, 1, 0, 0, 0]], "int32")
SIZES = {"vocabulary_size": 20, "num_layers": 2, "intermediate_dim": 12}


def gpt2(**options):
    return hub.models.GPT2Backbone(num_heads=2, hidden_dim=8, max_sequence_length=STEPS, **SIZES, **options)


def llama(**options):
    return hub.models.LlamaBackbone(num_query_heads=4, num_key_value_heads=2, hidden_dim=16, **SIZES, **options)


def llama_of_long_texts():
    scaling = {"frequency_adjustment_factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return llama(**{f"rope_{name}": value for name, value in scaling.items()}, rope_pretraining_sequence_length=16)


def after_attention():
    """Blocks that normalise last, without a padding mask: the embedding makes one."""
    x = keras.Input((None,), dtype="int32")
    y = hub.layers.TokenAndPositionEmbedding(20, STEPS, 8, mask_zero=True)(x)
    return keras.Model(x, hub.layers.TransformerDecoder(12, 2)(y))


def rotary(**options):
    """Rotated channels, and positions that are added, each from a start of its own."""
    x = keras.Input((None,), dtype="int32")
    y = layers.Embedding(20, 6)(x)
    y = hub.layers.RotaryEmbedding(50, **options)(y, start_index=3)
    return keras.Model(x, y + hub.layers.PositionEmbedding(2 * STEPS)(y, start_index=2))


def with_weights(model):
    rng = np.random.default_rng(1)
    for w in model.weights:
        w.assign(rng.normal(0, 0.5, w.shape))
    return model


def rows(model):
    """Some tokens as the model takes them; token 0 is in them where it is given no mask."""
    return {"token_ids": IDS, "padding_mask": PADDING} if isinstance(model.input, dict) else IDS * PADDING


@pytest.mark.filterwarnings("ignore:Layer '.*' .*was passed an input with a mask")
@pytest.mark.parametrize("cuts", [range(STEPS + 1), (0, 4, 5, STEPS)], ids=["tokens", "chunks"])
@pytest.mark.parametrize("build", [gpt2, llama, llama_of_long_texts, after_attention, rotary])
def test_token_by_token_as_the_whole(build, cuts):
    model = with_weights(build())
    given = rows(model)
    wanted = keras.ops.convert_to_numpy(model(given))
    stream = kseq.Stream(model, 2)
    parts = [
        stream.push(keras.tree.map_structure(lambda x, a=a, b=b: x[:, a:b], given)) for a, b in itertools.pairwise(cuts)
    ]
    found = np.concatenate(parts, axis=1)
    # What a query gives that is not there is not said.
    there = IDS * PADDING != 0 if build is after_attention else np.ones(IDS.shape, bool)
    np.testing.assert_allclose(found[there], wanted[there], atol=1e-4)


def test_rows_begin_at_their_own_time():
    model = with_weights(gpt2())
    given = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}
    wanted = keras.ops.convert_to_numpy(model(given))
    stream = kseq.Stream(model, 2)
    first = stream.push({name: x[:, :3] for name, x in given.items()}, active=[True, False])
    shifted = {name: np.stack([x[0, 3:6], x[1, :3]]) for name, x in given.items()}
    second = stream.push(shifted)
    np.testing.assert_allclose(np.concatenate([first[0], second[0]]), wanted[0, :6], atol=1e-4)
    np.testing.assert_allclose(second[1], wanted[1, :3], atol=1e-4)


def test_there_are_as_many_positions_as_vectors():
    stream = kseq.Stream(gpt2(), 1)
    tokens = {name: np.ones((1, STEPS), "int32") for name in ("token_ids", "padding_mask")}
    stream.push(tokens)
    with pytest.raises(ValueError, match=rf"sequence_length \(={STEPS}\) of `position_embedding`"):
        stream.push({name: x[:, :1] for name, x in tokens.items()})


def test_a_causal_model_of_logits():
    model = hub.models.GPT2CausalLM(backbone=gpt2())
    given = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}
    wanted = keras.ops.convert_to_numpy(model(given))
    stream = kseq.Stream(model, 2)
    found = [stream.push({name: x[:, t : t + 1] for name, x in given.items()}) for t in range(STEPS)]
    np.testing.assert_allclose(np.concatenate(found, axis=1), wanted, atol=1e-4)


def test_attention_to_a_context():
    target, source = keras.Input((None, 4), name="target"), keras.Input((None, 3), name="source")
    model = with_weights(keras.Model([target, source], hub.layers.CachedMultiHeadAttention(2, 4)(target, source)))
    rng = np.random.default_rng(2)
    given, known = rng.normal(size=(2, 5, 4)).astype("float32"), rng.normal(size=(2, 7, 3)).astype("float32")
    stream = kseq.Stream(model, 2, context={"source": known})
    found = np.concatenate([stream.push(given[:, t : t + 1]) for t in range(5)], axis=1)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model([given, known])), atol=1e-4)


X = keras.Input((None, 8))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: hub.layers.TransformerDecoder(12, 2)(X, use_causal_mask=False), "still to come.*use_causal_mask=True"),
        (lambda: hub.layers.TransformerDecoder(12, 2)(X, X), "cross-attention.*kseq.CrossAttention"),
        (lambda: hub.layers.TransformerDecoder(12, 2, dropout=0.1)(X, training=True), "random.*training=None"),
        (lambda: hub.layers.CachedMultiHeadAttention(2, 4)(X, X), "still to come.*MultiHeadAttention"),
        (lambda: hub.layers.RotaryEmbedding(sequence_axis=2, feature_axis=1)(X), "sequence_axis 2 is not time"),
    ],
    ids=["future", "cross", "training", "attention", "axis"],
)
def test_what_cannot_stream_says_why(call, reason):
    with pytest.raises(kseq.NotStreamable, match=reason):
        kseq.Stream(keras.Model(X, call()))


def test_an_adapter_of_ones_own_stays():
    class Turned(hub.layers.RotaryEmbedding):
        def call(self, inputs):
            return -inputs

    @kseq.adapts(Turned)
    def turned(layer, specs):
        return kseq.Scale(-1.0)

    @kseq.adapts(Turned, replace=False)
    def plain(layer, specs):
        raise ValueError("never asked")

    model = keras.Sequential([keras.Input((None, 2)), Turned()])
    np.testing.assert_allclose(kseq.Stream(model).push([[1.0, 2.0]]), [[-1.0, -2.0]])
