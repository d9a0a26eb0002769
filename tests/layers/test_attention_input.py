"""What attention refuses, with the argument and the value, and attention in specs."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.35, "tensorflow": 0.5}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Arguments.

WRONG = {
    "`max_past_horizon` .* at least 0; received -1": {"max_past_horizon": -1},
    "`max_past_horizon` must be an integer .* received 1.5": {"max_past_horizon": 1.5},
    "`max_past_horizon` must be an integer .* received True": {"max_past_horizon": True},
    "`max_future_horizon` .* at least 0; received -2": {"max_future_horizon": -2},
    "`max_future_horizon` must be an integer .* received 'far'": {"max_future_horizon": "far"},
    "`max_future_horizon` must be an integer .* received 0.5": {"max_future_horizon": (0, 0.5)},
    "`block_size` .* at least 1; received 0": {"block_size": 0},
    "`prefix_length` .* received -1": {"prefix_length": -1},
    "`max_length` .* at least 1; received 0": {"max_length": 0},
    "`max_length` must be at least 6, a block and the future .* received 5": {
        "max_length": 5,
        "max_future_horizon": 5,
        "overflow": "slide",
    },
    "`overflow` must be one of error, slide; received 'drop'": {"overflow": "drop"},
    "`cache_dtype` must be one of .* received 'int4'": {"cache_dtype": "int4"},
    "`num_sink_steps` must be an integer .* received 1.5": {"num_sink_steps": 1.5},
    "`num_sink_steps` .* excludes `use_segment_ids`; received 1": {"num_sink_steps": 1, "use_segment_ids": True},
    "`max_rollback` .* at least 0; received -1": {"max_rollback": -1},
    "`max_rollback` must be a multiple of the block, 2; received 3": {"block_size": 2, "max_rollback": 3},
    "`max_rollback` must be 0, since segments and sink .* received 2": {"num_sink_steps": 1, "max_rollback": 2},
    "`num_heads` .* multiple of `num_key_value_heads` .*3": {"num_key_value_heads": 3},
    "`value_dim` .* received 0": {"value_dim": 0},
    "`value_dim` must be 4 or None; received 3": {"value_dim": 3, "share_key_value": True},
    "`output_dim` .* received True": {"output_dim": True},
    "`dropout` must be from 0 to below 1; received 1.0": {"dropout": 1.0},
    "`dropout` must be from 0 to below 1; received 'much'": {"dropout": "much"},
    "`attention_logits_soft_cap` must be a positive number or None; received 0": {"attention_logits_soft_cap": 0},
    "`query_scale` must be a number or None; received 'large'": {"query_scale": "large"},
    "`flash_attention` must be None, False or True; received 'fast'": {"flash_attention": "fast"},
    "`position` must be .* received 'Rotary'": {"position": "Rotary"},
    "exclude each other": {"num_sink_embeddings": 1, "use_sink_scalars": True},
    "`query_network` must give one step for each": {"query_network": kseq.Delay(1)},
    "`value_network` .* without latency or context": {"value_network": kseq.CrossAttention(2, 2)},
}


@pytest.mark.parametrize("words", WRONG)
def test_arguments_that_are_refused(words):
    with pytest.raises(ValueError, match=words):
        kseq.SelfAttention(2, 4, **WRONG[words])


def test_networks_that_do_not_fit():
    with pytest.raises(TypeError, match="`key_network` must be a kseq layer; received 'GRU'"):
        kseq.SelfAttention(2, 4, key_network="GRU")
    x = numbers(2, 5, 3)
    with pytest.raises(ValueError, match="after `query_network` and `key_network`; received 3 and 4"):
        kseq.SelfAttention(2, 4, query_network=kseq.Dense(3))(x)
    with pytest.raises(ValueError, match=r"`value_network` must keep the 2 heads .* flat, .* channel shape \(8,\)"):
        kseq.SelfAttention(2, 4, value_network=kseq.Flatten(name="flat"))(x)
    both = kseq.SelfAttention(2, 4, query_network=kseq.Dense(6), key_network=kseq.Dense(6), value_network=kseq.Dense(5))
    assert both(x).shape == (2, 5, 3)
    assert {w.name: tuple(w.shape) for w in both.weights}["attention_output_kernel"] == (2, 5, 3)


# Inputs.


def test_inputs_that_do_not_fit():
    x, ids = numbers(2, 5, 3), np.zeros((2, 5), "int32")
    with pytest.raises(ValueError, match=r"takes values of rank 3; received shape \(2, 5\)"):
        kseq.SelfAttention(2, 4)(x[..., 0])
    layer = kseq.SelfAttention(2, 4, use_segment_ids=True)
    with pytest.raises(ValueError, match=r"and then ids of segments of rank 2; received shapes \(2, 5\), \(2, 5\)"):
        layer([x[..., 0], ids])
    with pytest.raises(ValueError, match=r"rank 2; received shapes \(2, 5\), \(2, 5, 3\)"):
        layer([ids, x])
    assert layer([x, ids]).shape == (2, 5, 3)
    with pytest.raises(ValueError, match=r"segment ids \[batch, time\] of integers .* dtype float32"):
        layer([x, ids.astype("float32")])
    with pytest.raises(ValueError, match="equally many rows; received 2, 1"):
        layer([x, ids[:1]])
    with pytest.raises(ValueError, match="equally many time steps; received 5, 4"):
        layer([x, ids[:, :4]])
    beside = kseq.SynchronousAttention(2, 4, max_past_horizon=2)
    with pytest.raises(ValueError, match="equally many rows; received 2, 1"):
        beside([x, x[:1]])
    state = beside.initial_state(2, (kseq.SequenceSpec((3,)),) * 2)
    with pytest.raises(ValueError, match="equally many rows; received 2, 1"):
        beside.step((kseq.Sequence(x), kseq.Sequence(x[:1])), state)


def test_masks_are_those_of_queries():
    """Whether the source, or the ids, have a mask of their own: in both calls, and as Keras's."""
    masks = [np.array([m], bool) for m in ([1, 1, 0, 1], [1, 0, 1, 1])]
    for layer, other in [
        (kseq.SynchronousAttention(2, 4, max_past_horizon=2), numbers(1, 4, 2)),
        (kseq.SelfAttention(2, 4, use_segment_ids=True), np.ones((1, 4), "int32")),
    ]:
        values = [ops.convert_to_tensor(v) for v in (numbers(1, 4, 3), other)]
        y = layer([kseq.Sequence(v, m) for v, m in zip(values, masks, strict=True)])
        of_keras = layer.compute_mask(values, [ops.convert_to_tensor(m) for m in masks])
        for mask in (y.mask, of_keras):
            np.testing.assert_array_equal(ops.convert_to_numpy(mask), masks[0])


def test_segments_that_go_back():
    """Where ids have values, and whatever stands at invalid steps and in rows that wait; padding is 0."""
    layer, x = kseq.SelfAttention(2, 4, use_segment_ids=True, name="attention"), numbers(2, 5, 3)

    def given(*ids, mask=None):
        return kseq.Sequence(x[:, : len(ids[0])], mask), kseq.Sequence(np.array(ids, "int32"))

    good = given([1, 1, 2, 0, 0], [0, 3, 0, 3, 4])
    assert layer(good).values.shape == (2, 5, 3)
    words = r"segment ids of attention \(SelfAttention\) must not go back; received 1 after 2 in row 1"
    bad, mask = ([1, 1, 2, 2, 3], [1, 2, 1, 2, 2]), np.array([[True] * 5, [True, True, False, True, True]])
    with pytest.raises(ValueError, match=words):
        layer(given(*bad))
    assert layer(given(*bad, mask=mask)).values.shape == (2, 5, 3)
    state = layer.initial_state(2, tuple(part.spec for part in good))
    with pytest.raises(ValueError, match=words):
        layer.step(given(*bad), state)
    _, state = layer.step(given([1, 1], [1, 2]), state)
    for act in (layer.step, layer.peek, lambda x, state: layer(x, initial_state=state)):
        with pytest.raises(ValueError, match=words):
            act(given([1], [1]), state)
    _, state = layer.step(given([1], [1]), state, active=ops.convert_to_tensor([True, False]))
    _, state = layer.step(given([0], [0]), state)
    _, state = layer.step(given([1], [2]), state)


# Context.

SPEC = kseq.SequenceSpec((3,))


def test_a_context_that_does_not_fit():
    layer, x, source = kseq.CrossAttention(2, 4, name="cross"), numbers(2, 5, 3), numbers(2, 4, 6)
    layer(x, context={"source": source})
    for words, context in {
        r"context of cross \(CrossAttention\) must be a dict of source; received none": None,
        "must be a dict of source; received source and sauce": {"source": source, "sauce": source},
        r"context 'source' of cross .* must have 2 rows, as the input has; received shape \(3, 4, 6\)": {
            "source": numbers(3, 4, 6)
        },
        r"must have 2 rows, .* received shape \(1, 4, 6\)": {"source": source[:1]},
        r"must have 6 channels; received shape \(2, 4, 5\)": {"source": source[..., :5]},
        r"must have the shape \[batch, time, channels\]; received \(2, 4\)": {"source": source[..., 0]},
    }.items():
        for act in (
            lambda: layer(x, context=context),  # noqa: B023
            lambda: layer.initial_state(2, SPEC, context=context),  # noqa: B023
            lambda: layer(x, context=context, return_state=True),  # noqa: B023
            lambda: kseq.Stream(layer, 2, dtype="float32", context=context),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=words):
                act()
    state = layer.initial_state(2, SPEC, context={"source": source})
    with pytest.raises(ValueError, match=r"takes a `context`, or an `initial_state` .* received both"):
        layer(x, context={"source": source}, initial_state=state)
    with pytest.raises(ValueError, match=r"context of .* must be none; received source"):
        kseq.SelfAttention(2, 4)(x, context={"source": source})
    with pytest.raises(ValueError, match=r"`source` must be a name, or several that differ; received \['a', 'a'\]"):
        kseq.CrossAttention(2, 4, source=["a", "a"])


def test_sources_that_share_a_projection():
    sources = {"text": numbers(2, 4, 6), "voice": numbers(2, 3, 5)}
    with pytest.raises(ValueError, match=r"equally many channels; received {'text': 6, 'voice': 5}"):
        kseq.CrossAttention(2, 4, source=["text", "voice"])(numbers(2, 5, 3), context=sources)
    layer = kseq.CrossAttention(2, 4, source=["text", "voice"], use_separate_projections=True)
    assert layer(numbers(2, 5, 3), context=sources).shape == (2, 5, 3)
    with pytest.raises(ValueError, match=r"'voice' of .* must have 5 channels"):
        layer(numbers(2, 5, 3), context=sources | {"voice": numbers(2, 3, 6)})


def test_a_layer_is_built_by_its_first_state():
    layer = kseq.CrossAttention(2, 4)
    state = layer.initial_state(2, SPEC, context={"source": numbers(2, 4, 6)})
    y, _ = layer.step(kseq.Sequence(numbers(2, 1, 3)), state)
    assert y.values.shape == (2, 1, 3)


# Room, and the way back.


def attention(**options):
    layer = kseq.SelfAttention(2, 4, name="attention", **options)
    layer.build((None, None, 3))
    return layer


def test_what_is_longer_than_there_is_room_for():
    layer, x = attention(max_length=6), numbers(2, 8, 3)
    words = r"attention \(SelfAttention\) takes 2 steps more.* received a chunk of 3 steps: raise max_length \(=6\)"
    words = words.replace("2 steps more", "2 (steps more|more steps)")
    _, state = layer(x[:, :4], return_state=True)
    before = [np.array(ops.convert_to_numpy(leaf)) for leaf in keras.tree.flatten(state)]
    chunk = kseq.Sequence(x[:, 4:7])
    for act in (
        lambda: layer.step(chunk, state),
        lambda: layer.peek(chunk, state),
        lambda: layer(chunk, initial_state=state),
    ):
        with pytest.raises(ValueError, match=words):
            act()
    for leaf, wanted in zip(keras.tree.flatten(state), before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(leaf), wanted)
    with pytest.raises(ValueError, match=r"takes 6 .* received a chunk of 7"):
        layer(x[:, :7], return_state=True)
    assert layer(x).shape == (2, 8, 3)  # layer mode keeps nothing
    stream, plain = kseq.Stream(layer, 2), kseq.Stream(layer, 2)
    for s in (stream, plain):
        s.push(x[:, :4])
    for act in (stream.push, stream.peek):
        with pytest.raises(ValueError, match=words.replace("more.*", "more after 4 steps of the stream.*")):
            act(x[:, 4:7])
    np.testing.assert_array_equal(stream.push(x[:, 4:6]), plain.push(x[:, 4:6]))
    with pytest.raises(ValueError, match=r"takes 0 .* received a chunk of 1"):
        stream.push(x[:, :1])
    stream.reset()
    assert stream.push(x[:, :6]).shape == (2, 6, 3)


def test_the_way_back_has_an_end():
    x = numbers(2, 8, 3)
    for options, words in [
        ({"max_past_horizon": 3, "max_rollback": 2}, r"by 2 steps in row 0; received 3: raise max_rollback \(=2\)"),
        ({"max_length": 8}, "by 2 steps in row 0; received 3$"),
        ({"max_past_horizon": 3}, "attention .* cannot be rolled back: .*`max_rollback` is 0"),
        ({"max_length": 8, "use_gate": True, "max_future_horizon": 1}, "cannot be rolled back: .*`max_rollback` is 0"),
        ({"max_length": 8, "key_network": kseq.Snake()}, "cannot be rolled back: .*networks"),
    ]:
        layer = attention(**options)
        stream, plain = kseq.Stream(layer, 2), kseq.Stream(layer, 2)
        _, state = layer(x[:, :2], return_state=True)
        for s in (stream, plain):
            s.push(x[:, :2])
        if "max_past_horizon" in options and "max_rollback" in options:
            _, state = layer(x[:, 2:4], initial_state=state, return_state=True)
            for s in (stream, plain):
                s.push(x[:, 2:4])
        with pytest.raises(ValueError, match=words):
            layer.rollback(state, 3)
        with pytest.raises(ValueError, match=r"by 2 steps|cannot be rolled back|must be 2 at most"):
            stream.rollback(3)
        np.testing.assert_array_equal(stream.push(x[:, 4:6]), plain.push(x[:, 4:6]))


# Specs.


def text(layer, arguments):
    return f"kseq: 1\ninput: {{shape: [null, 3]}}\nlayers:\n  - {layer}: {{num_heads: 2, key_dim: 4, {arguments}}}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "max_past_horizon: 3, position: {RotaryPosition: {max_wavelength: 50, scaling: linear, factor: 2}}",
        "max_past_horizon: 3, position: {ShawPosition: {max_backward: 3}}, max_future_horizon: [0, 2]",
        "position: AlibiPosition, key_network: {RMSNormalization: {}}, overflow: slide, max_length: 7",
        "max_past_horizon: 1, block_size: 2, cache_dtype: int8, num_sink_embeddings: 1, sink_initializer: zeros",
    ],
)
def test_specs_round_trip(arguments):
    model = kseq.load_spec(text("SelfAttention", arguments))
    dumped = kseq.dump_spec(model)
    again = kseq.load_spec(dumped)
    again.set_weights(model.get_weights())
    x = numbers(2, 9, 3)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(m(x)) for m in (model, again)))
    assert kseq.dump_spec(again) == dumped


@pytest.mark.parametrize(
    ("layer", "arguments", "words"),
    [
        ("SelfAttention", "max_past_horizon: -1", "4:.*max_past_horizon.*at least 0; received -1"),
        ("SelfAttention", "position: {Rotary: {}}", "position: unknown name .*'Rotary'"),
        ("SelfAttention", "position: {RotaryPosition: {wave: 3}}", "RotaryPosition: unknown argument `wave`"),
        ("SelfAttention", "position: {RotaryPosition: {max_wavelength: -3}}", "a positive number; received -3"),
        ("SelfAttention", "max_length: 1000000000000", "more than .* numbers of state"),
        ("SelfAttention", "use_segment_ids: true", "expected a list of 2 inputs; received one"),
        ("CrossAttention", "source: text", "a spec cannot say what `CrossAttention` is given"),
    ],
)
def test_specs_that_are_refused(layer, arguments, words):
    with pytest.raises(kseq.SpecError, match=words):
        kseq.load_spec(text(layer, arguments))
