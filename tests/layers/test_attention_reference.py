"""Attention of random options, masks and chunks against its definition, written in NumPy for every pair of steps."""

import contextlib
from unittest import mock

import attention_reference as reference
import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import ops

import kseq
from kseq.layers.attention import in_blocks
from kseq.testing import transforms

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="many shapes, each of them once")

POSITIONS = [
    None,
    kseq.RotaryPosition(50.0),
    kseq.AlibiPosition(),
    kseq.T5Position(6, 8),
    kseq.T5Position(6, 8, bidirectional=True),
    kseq.ShawPosition(3, 2),
    kseq.ShawPosition(2, 1, scaled_query=True),
    kseq.TransformerXLPosition(4, 2, position_bias_dim=4),
]


@st.composite
def options(draw):
    """Arguments of a layer, and those of a trial of it."""

    def maybe(values, share=4):
        """Now and then one of some values, most often the first."""
        return draw(st.sampled_from(values)) if draw(st.integers(1, share)) == 1 else values[0]

    config = {"num_heads": 4, "key_dim": 4, "output_dim": maybe([None, False, 3]), "use_bias": maybe([True, False])}
    config["num_key_value_heads"] = maybe([None, 1, 2], 2)
    config["interleave_groups"] = maybe([False, True], 2)
    config["share_key_value"] = maybe([False, True])
    if not config["share_key_value"]:
        config["value_dim"] = maybe([None, 3])
    config["position"] = draw(st.sampled_from(POSITIONS))
    for name in ("use_gate", "use_qk_norm", "use_per_dim_scale", "use_per_dim_key_scale"):
        config[name] = maybe([False, True])
    config["query_scale"] = maybe([None, 0.3])
    config["attention_logits_soft_cap"] = maybe([None, 1.5])
    config |= draw(st.sampled_from([{}, {}, {}, {"num_sink_embeddings": 2}, {"use_sink_scalars": True}]))
    block = config["block_size"] = maybe([1, 2, 3], 2)
    config["max_future_horizon"] = maybe([0, 1, 2, 3], 2)
    config["prefix_length"] = maybe([0, 1, 2, 4, 7], 3)
    config["use_segment_ids"] = draw(st.booleans())
    reach = -(-(config["prefix_length"] - 1) // block) * block if config["prefix_length"] else 0
    after = max(config["max_future_horizon"] * block, reach)
    time = draw(st.integers(1, 20))
    total = -(-(time + after) // block) * block
    kind = draw(st.sampled_from(["window", "growing", "slide"]))
    if kind == "window":
        config["max_past_horizon"] = draw(st.integers(0, 5))
    elif kind == "growing":
        config["max_length"] = total + draw(st.integers(0, 3))
    else:
        config |= {"max_length": block + after + draw(st.integers(0, 9)), "overflow": "slide"}
    if not config["use_segment_ids"]:
        firsts = draw(st.sampled_from([{}, {"num_sink_steps": 2}, {"max_rollback": block * draw(st.integers(1, 4))}]))
        if kind == "growing" and "max_rollback" in firsts:
            config["max_length"] += firsts["max_rollback"]  # for what is taken back
        config |= firsts
    trial = {"time": time, "batch": draw(st.integers(1, 3)), "seed": draw(st.integers(0, 2**16))}
    trial |= {"masked": draw(st.booleans()), "small_blocks": draw(st.booleans()), "other": draw(st.booleans())}
    return config, trial


def made(config, trial):
    """A layer, and its inputs: values and mask, ids, the source with its mask."""
    rng = np.random.default_rng(trial["seed"])
    shape = trial["batch"], trial["time"]
    layer = (kseq.SynchronousAttention if trial["other"] else kseq.SelfAttention)(**config, dtype="float64")
    x, source = rng.normal(size=(*shape, 3)), rng.normal(size=(*shape, 2)) if trial["other"] else None
    masks = [draw_mask(rng, *shape) if trial["masked"] else None for _ in range(2)]
    ids = np.cumsum(rng.random(shape) < 0.25, axis=1) + 1 if config["use_segment_ids"] else None
    parts = [kseq.Sequence(x, masks[0])]
    if trial["other"]:
        parts.append(kseq.Sequence(source, masks[1]))
    if ids is not None:
        valid = masks[1 if trial["other"] else 0]
        said = ids if valid is None else np.where(valid, ids, rng.integers(0, 9, shape))  # at other steps anything
        parts.append(kseq.Sequence(said.astype("int32")))
    shapes = [part.values.shape for part in parts]
    layer.build(shapes if len(shapes) > 1 else shapes[0])
    layer.set_weights([rng.normal(size=w.shape) * 0.7 for w in layer.get_weights()])
    wanted = reference.attention(layer, x, masks[0], ids, source, masks[1])
    return layer, parts, wanted, rng


def draw_mask(rng, batch, time):
    """Rows that are all valid, shorter, empty, with leading invalid steps, and with holes."""
    steps = np.arange(time)
    kinds = [
        steps >= 0,
        steps < rng.integers(0, time + 1),
        steps >= rng.integers(0, time + 1),
        rng.random(time) < 0.6,
        (rng.random(time) < 0.5) & (steps >= rng.integers(0, time + 1)),
    ]
    return np.stack([kinds[rng.integers(len(kinds))] for _ in range(batch)])


def expect(layer, parts, found, wanted):
    mask = np.ones(wanted.shape[:2], bool) if parts[0].mask is None else parts[0].mask
    if found.mask is not None:
        np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_allclose(found.values[mask], wanted[mask], rtol=1e-6, atol=1e-6)


def to_numpy(y):
    return kseq.Sequence(ops.convert_to_numpy(y.values), None if y.mask is None else ops.convert_to_numpy(y.mask))


def given_to(parts):
    return parts[0] if len(parts) == 1 else parts


def rows_at(part, at, steps, rng):
    """The steps of each row from where it is, and then invalid ones that hold anything."""
    values = (
        rng.integers(0, 3, (len(at), steps))
        if part.values.ndim == 2
        else rng.normal(size=(len(at), steps, part.values.shape[2]))
    )
    mask = np.zeros((len(at), steps), bool)
    for row, start in enumerate(at):
        there = part.slice_time(start, start + steps)
        count = there.values.shape[1]
        values[row, :count] = there.values[row]
        mask[row, :count] = True if there.mask is None else there.mask[row]
    return kseq.Sequence(values.astype(part.values.dtype), mask)


def streamed(layer, parts, rng, ragged):
    """The outputs of a stream in chunks of random sizes, warm-up dropped; rows by themselves where `ragged`."""
    batch, time = parts[0].values.shape[:2]
    block, latency = layer.timing.block_size, layer.timing.output_latency
    total = -(-(time + latency) // block) * block
    specs = tuple(part.spec for part in parts)
    state = layer.initial_state(batch, given_to(specs))
    at, outputs = np.zeros(batch, int), [[] for _ in range(batch)]
    while (at < total).any():
        active = (at < total) & (rng.random(batch) < 0.7 if ragged else True)
        room = (total - at[active]).min(initial=total) // block
        steps = block * rng.integers(1, room + 1) if rng.random() < 0.3 else block * rng.integers(1, min(room, 3) + 1)
        chunk = given_to([rows_at(part, at, steps, rng) for part in parts])
        if layer.max_rollback and rng.random() < 0.5:
            wrong = block * rng.integers(1, layer.max_rollback // block + 1)
            spoilt = given_to([rows_at(part, at * 0, wrong, rng) for part in parts])
            _, state = layer.step(spoilt, state, active=ops.convert_to_tensor(active))
            state = layer.rollback(state, ops.convert_to_tensor((active * wrong).astype("int32")))
        if active.all() and rng.random() < 0.5:
            y, state = layer(chunk, initial_state=state, return_state=True)
        else:
            y, state = layer.step(chunk, state, active=ops.convert_to_tensor(active))
        y = to_numpy(y)
        for row in np.flatnonzero(active):
            outputs[row].append((y.values[row], y.mask[row]))
            at[row] += steps
    values, mask = (np.stack([np.concatenate([o[i] for o in row]) for row in outputs]) for i in (0, 1))
    assert not mask[:, :latency].any() and not mask[:, latency + time :].any()
    return kseq.Sequence(values, mask).slice_time(latency, latency + time)


@contextlib.contextmanager
def small_blocks():
    """Layer mode in many parts, even of short sequences."""
    with mock.patch.multiple(in_blocks, _BLOCK=3, _LONG_BLOCK=3):
        yield


def compare(config, trial):
    layer, parts, wanted, rng = made(config, trial)
    with transforms.no_gradients(), small_blocks() if trial["small_blocks"] else contextlib.nullcontext():
        expect(layer, parts, to_numpy(layer(given_to(parts))), wanted)
        for ragged in (False, True):
            expect(layer, parts, streamed(layer, parts, rng, ragged), wanted)


# A query that waits for its prefix, before the first valid key: sink steps that were stored since come after it.
SINKS_BESIDE_A_PREFIX = {
    "num_heads": 4,
    "key_dim": 4,
    "max_past_horizon": 0,
    "max_future_horizon": 0,
    "prefix_length": 4,
    "num_sink_steps": 2,
    "use_segment_ids": False,
    "max_rollback": 0,
}
A_TRIAL = {"time": 8, "batch": 3, "seed": 0, "masked": True, "small_blocks": False, "other": True}


@settings(max_examples=60, deadline=None)
@example((SINKS_BESIDE_A_PREFIX, A_TRIAL))
@given(options())
def test_attention_is_what_its_definition_says(drawn):
    compare(*drawn)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(options())
def test_attention_is_what_its_definition_says_in_many_cases(drawn):
    compare(*drawn)
