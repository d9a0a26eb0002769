"""Models of several inputs and outputs: lists and dicts, by Keras's names."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.show import summary_rows
from kseq.streaming import as_layer

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.4, "tensorflow": 0.5}


def inputs():
    return keras.Input((None, 2), name="left"), keras.Input((None, 3), name="right")


def outputs(left, right):
    slow = kseq.Conv1D(4, 3, padding="reverse_causal")(left)
    merged = keras.layers.Add()([slow, kseq.Dense(4)(right)])
    return kseq.GRU(2, name="fine")(merged), kseq.Conv1D(2, 2, strides=2, name="coarse")(merged)


def model_of(form):
    left, right = inputs()
    fine, coarse = outputs(left, right)
    if form == "lists":
        return keras.Model([left, right], [fine, coarse])
    return keras.Model({"right": right, "left": left}, {"fine": fine, "deep": {"coarse": coarse}})


def frames(batch, steps):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(batch, steps, n)).astype("float32") for n in (2, 3)]


@pytest.mark.parametrize("form", ["lists", "dicts"])
def test_chunks_in_and_out_in_the_structure_of_the_model(form):
    model, (left, right) = model_of(form), frames(2, 11)
    stream, parts = kseq.Stream(model, batch_size=2), []
    for start, stop in ((0, 1), (1, 6), (6, 11)):
        a, b = left[:, start:stop], right[:, start:stop]
        parts.append(stream.push([a, b] if form == "lists" else {"left": a, "right": b}))
    parts.append(stream.flush())
    if form == "lists":
        expected = model([left, right])
        assert all(isinstance(part, list) for part in parts)
        found = [np.concatenate([part[i] for part in parts], 1) for i in (0, 1)]
    else:
        expected = model({"left": left, "right": right})
        found = [np.concatenate([part["fine"] for part in parts], 1)]
        found.append(np.concatenate([part["deep"]["coarse"] for part in parts], 1))
        expected = [expected["fine"], expected["deep"]["coarse"]]
    for y, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, ops.convert_to_numpy(wanted), atol=1e-5)


def test_outputs_of_unequal_rate_have_timings_of_their_own():
    layer = as_layer(model_of("lists"))
    assert [(str(t.ratio), t.input_latency, t.output_latency) for t in layer.timings] == [("1", 2, 2), ("1/2", 2, 1)]
    assert (layer.timing.block_size, layer.timing.input_latency) == (2, 2)
    assert kseq.masks.output_lengths is not None
    row = summary_rows(model_of("dicts"))[-1]
    assert (row["block"], row["input_latency"]) == (2, 2)


def test_masks_of_several_inputs():
    values, mask = keras.Input((None, 2), name="values"), keras.Input((None,), dtype="bool", name="mask")
    other = keras.Input((None, 2), name="other")
    y = kseq.GRU(3)(kseq.Sequence(values, mask))
    z = kseq.Conv1D(3, 2)(other)
    model = keras.Model([values, mask, other], y.values + z)
    layer = as_layer(model)
    assert [(i.name, i.mask) for i in layer.inputs] == [("values", "mask"), ("other", None)]
    assert as_layer(keras.Model([mask, other, values], y.values + z)).input_names == ["mask", "other", "values"]
    x, _ = frames(2, 6)
    valid = np.arange(6) < np.array([[6], [4]])
    expected = ops.convert_to_numpy(model([x, valid, x]))
    stream = kseq.Stream(model, batch_size=2)
    found = stream.push([kseq.Sequence(x, valid), x])
    np.testing.assert_allclose(found.values[valid], expected[valid], atol=1e-5)
    for chunk in ({"values": x, "mask": valid, "other": x}, [x, valid, x]):
        stream.reset()
        found = stream.push(chunk)
        np.testing.assert_allclose(found.values[valid], expected[valid], atol=1e-5)


def test_one_input_and_its_mask_in_the_structure_of_the_model():
    values, mask = keras.Input((None, 2), name="values"), keras.Input((None,), dtype="bool", name="mask")
    model = keras.Model([values, mask], kseq.GRU(3)(kseq.Sequence(values, mask)).values)
    x, _ = frames(2, 2)
    valid = np.array([[True, True], [True, False]])
    stream, found = kseq.Stream(model, 2), []
    for chunk in (kseq.Sequence(x, valid), [x, valid], {"values": x, "mask": valid}):
        found.append(stream.push(chunk))
        stream.reset()
    for y in found:
        np.testing.assert_array_equal(y.values[valid], found[0].values[valid])
        np.testing.assert_array_equal(y.mask, valid)
    assert kseq.Stream(model).push([[1.0, 2.0], [3.0, 4.0]]).shape == (2, 3)  # two steps


def test_operations_on_masks_are_operations():
    values, first = keras.Input((None, 2), name="values"), keras.Input((None,), dtype="bool", name="first")
    second = keras.Input((None,), dtype="bool", name="second")
    one = kseq.Conv1D(2, 2, padding="reverse_causal")(kseq.Sequence(values, first))
    joined = ops.logical_and(first, ops.logical_not(second))
    y = kseq.GRU(2)(kseq.Sequence(one.values, joined))
    model = keras.Model([values, first, second], y)
    x, _ = frames(2, 6)
    a, b = np.arange(6) < np.array([[6], [4]]), np.arange(6) == np.array([[2], [1]])
    expected = model([x, a, b])
    stream = kseq.Stream(model, batch_size=2)
    parts = [stream.push([kseq.Sequence(x[:, :3], a[:, :3]), b[:, :3]])]
    parts += [stream.push([kseq.Sequence(x[:, 3:], a[:, 3:]), b[:, 3:]]), stream.flush()]
    found = kseq.Sequence.concatenate(parts)
    mask = ops.convert_to_numpy(expected.mask)
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_allclose(found.values[mask], ops.convert_to_numpy(expected.values)[mask], atol=1e-5)


def test_a_nested_model_of_dicts_streams():
    inner = model_of("dicts")
    left, right = inputs()
    y = inner({"left": left, "right": right})
    model = keras.Model([left, right], keras.layers.Concatenate()([y["fine"], y["fine"]]))
    a, b = frames(1, 7)
    stream = kseq.Stream(model)
    found = np.concatenate([stream.push([a, b]), stream.flush()], axis=1)
    np.testing.assert_allclose(found, ops.convert_to_numpy(model([a, b])), atol=1e-5)


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (lambda a, b: a, r"a list of 2 inputs \(left, right\); received ndarray"),
        (lambda a, b: [a], "a list of 2 inputs .*; received 1"),
        (lambda a, b: [a, b, a], "received 3"),
        (lambda a, b: {"left": a}, "received a dict of left"),
        (lambda a, b: {"left": a, "right": b, "middle": b}, "received a dict of left, right, middle"),
        (lambda a, b: [a, b[:, :2]], "equally many time steps; received 3 and 2"),
        (lambda a, b: [b, a], r"channels \(2,\)"),
    ],
)
def test_chunks_of_another_structure_are_refused_and_change_nothing(chunk, words):
    model, (a, b) = model_of("lists"), frames(2, 3)
    stream = kseq.Stream(model, batch_size=2)
    with pytest.raises(ValueError, match=words):
        stream.push(chunk(a, b))
    y, _ = stream.push({"left": a, "right": b})
    np.testing.assert_allclose(y, ops.convert_to_numpy(model([a, b])[0])[:, : y.shape[1]], atol=1e-5)


def test_one_output_in_a_dict_comes_out_in_a_dict_whatever_the_chunk():
    x = keras.Input((None, 2))
    stream = kseq.Stream(keras.Model(x, {"y": kseq.Dense(3)(x)}))
    for chunk in (np.ones((1, 1, 2), "float32"), np.ones((3, 2), "float32")):
        assert list(stream.push(chunk)) == ["y"]
    two = kseq.Stream(keras.Model(x, [kseq.Dense(3)(x), kseq.Dense(1)(x)]))
    assert [y.shape for y in two.push(np.ones((1, 1, 2), "float32"))] == [(1, 1, 3), (1, 1, 1)]


def test_nested_structures_are_those_of_keras():
    left, right = inputs()
    fine, _ = outputs(left, right)
    model = keras.Model({"pair": [left, right]}, {"all": [fine]})
    a, b = frames(1, 5)
    stream = kseq.Stream(model)
    found = [stream.push({"pair": [a, b]}), stream.flush()]
    y = np.concatenate([part["all"][0] for part in found], 1)
    np.testing.assert_allclose(y, ops.convert_to_numpy(model({"pair": [a, b]})["all"][0]), atol=1e-5)
    with pytest.raises(ValueError, match="a dict of pair; received 2"):
        stream.push([a, b])
