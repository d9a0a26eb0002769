"""The step as a value, and operations on states."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.streaming import state as states
from kseq.streaming.compiled import compile_step

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.7}


def network():
    layer = kseq.Serial(
        [
            kseq.Conv1D(3, 3, name="conv"),
            kseq.Residual([kseq.LocalSelfAttention(1, 2, max_past_horizon=2, name="attention")], name="block"),
            kseq.LSTM(2, name="memory"),
        ]
    )
    layer.build((None, None, 2))
    return layer


def small():
    layer = kseq.Serial([kseq.Conv1D(2, 2, name="conv"), kseq.GRU(2, name="memory")])
    layer.build((None, None, 2))
    return layer


def frames(batch, steps, channels=2):
    return np.random.default_rng(steps).normal(size=(batch, steps, channels)).astype("float32")


def test_leaves_have_names_shapes_and_dtypes():
    step = kseq.StepFunction(network(), 4, kseq.SequenceSpec((2,)))
    assert [(leaf.name, leaf.shape, leaf.dtype) for leaf in step.state] == [
        ("block/body/attention/clock", (4, 2), "int32"),
        ("block/body/attention/keys", (4, 1, 3, 2), "float32"),
        ("block/body/attention/valid", (4, 3), "bool"),
        ("block/body/attention/values", (4, 1, 3, 2), "float32"),
        ("conv/values", (4, 2, 2), "float32"),
        ("memory/cell", (4, 2), "float32"),
        ("memory/hidden", (4, 2), "float32"),
    ]
    assert step.output_spec == kseq.SequenceSpec((2,), "float32")


def test_a_delay_that_aligns_branches_has_a_name_and_one_of_no_steps_is_not_there():
    layer = kseq.Parallel([kseq.Dense(2, name="fast"), kseq.Conv1D(2, 3, padding="reverse_causal", name="slow")], "add")
    layer.build((None, None, 2))
    names = [leaf.name for leaf in kseq.StepFunction(layer, 1, kseq.SequenceSpec((2,))).state]
    assert names == ["add.delay/mask", "add.delay/values", "slow/mask", "slow/values"]


def test_layers_of_one_name_have_states_of_their_own():
    layer = kseq.Serial([kseq.GRU(2, name="gru"), kseq.GRU(2, name="gru")])
    layer.build((None, None, 2))
    assert [leaf.name for leaf in kseq.StepFunction(layer, 1, kseq.SequenceSpec((2,))).state] == [
        "gru/hidden",
        "gru_1/hidden",
    ]


def test_the_step_is_pure_and_gives_what_the_layer_gives():
    layer, x = small(), frames(2, 6)
    step = kseq.StepFunction(layer, 2, kseq.SequenceSpec((2,)))
    state, outputs = step.initial_state(), []
    for t in range(6):
        again, _ = step(kseq.Sequence(x[:, t : t + 1]), state)
        y, state = step(kseq.Sequence(x[:, t : t + 1]), state)
        np.testing.assert_array_equal(ops.convert_to_numpy(again.values), ops.convert_to_numpy(y.values))
        outputs.append(ops.convert_to_numpy(y.values))
    np.testing.assert_allclose(np.concatenate(outputs, 1), ops.convert_to_numpy(layer(x)), atol=1e-5)


def test_blocks_are_multiples_of_the_layers():
    layer = kseq.MaxPooling1D(2)
    assert kseq.StepFunction(layer, 1, kseq.SequenceSpec((2,))).block == 2
    assert kseq.StepFunction(layer, 1, kseq.SequenceSpec((2,)), block=np.int64(6)).block == 6
    with pytest.raises(ValueError, match="multiple of the layer's block, 2; received 3"):
        kseq.StepFunction(layer, 1, kseq.SequenceSpec((2,)), block=3)


def test_active_rows_reach_the_compiled_step():
    layer, x = network(), frames(3, 8)
    run = compile_step(kseq.StepFunction(layer, 3, kseq.SequenceSpec((2,))))
    state, position = run.initial_state(), np.zeros(3, int)
    whole, found = ops.convert_to_numpy(layer(x)), [[] for _ in range(3)]
    for active in ([1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]):
        active = np.array(active, bool)
        before = run.to_numpy(state)
        chunk = np.where(active[:, None, None], x[np.arange(3), position][:, None], np.nan).astype("float32")
        [(y, mask)], state = run((chunk,), (None,), active, state)
        for leaf, old in zip(run.to_numpy(state), before, strict=True):
            np.testing.assert_array_equal(leaf[~active], old[~active])
        np.testing.assert_array_equal(mask[:, 0], active)
        for row in np.flatnonzero(active):
            found[row].append(y[row, 0])
        position += active
    for row in range(3):
        np.testing.assert_allclose(found[row], whole[row, : position[row]], atol=1e-5)
    assert run.compilations == 1


def test_rows_are_taken_and_put():
    state = {"a": ops.convert_to_tensor(np.arange(6.0).reshape(3, 2)), "b": (ops.convert_to_tensor(np.arange(3)),)}
    two = states.take(state, np.array([2, 0]))
    assert ops.convert_to_numpy(two["a"]).tolist() == [[4, 5], [0, 1]]
    assert ops.convert_to_numpy(two["b"][0]).tolist() == [2, 0]
    back = states.put(state, np.array([0, 1]), two)
    assert ops.convert_to_numpy(back["a"]).tolist() == [[4, 5], [0, 1], [4, 5]]
    assert ops.convert_to_numpy(back["b"][0]).tolist() == [2, 0, 2]


def test_a_state_that_does_not_fit_is_named():
    wanted = states.specs({"a": np.zeros((2, 3), "float32")})
    states.check({"a": np.zeros((2, 3), "float32")}, wanted)
    with pytest.raises(ValueError, match=r"'a' must have shape \(2, 3\) and dtype float32; received shape \(2, 4\)"):
        states.check({"a": np.zeros((2, 4), "float32")}, wanted)
    with pytest.raises(ValueError, match="must have the leaves a; received b"):
        states.check({"b": np.zeros((2, 3), "float32")}, wanted)


@pytest.mark.parametrize("policy", ["float32", "bfloat16"])
def test_a_state_goes_on_from_bytes_in_a_layer_made_anew(policy):
    keras.config.set_dtype_policy(policy)
    try:
        layer, twin = small(), small()
    finally:
        keras.config.set_dtype_policy("float32")
    twin.set_weights(layer.get_weights())
    step, again = (kseq.StepFunction(part, 2, kseq.SequenceSpec((2,))) for part in (layer, twin))
    x = frames(2, 5)
    _, state = step(kseq.Sequence(x[:, :3]), step.initial_state())
    data = step.to_bytes(state)
    moved = compile_step(again).from_numpy(again.from_bytes(data))
    wanted, _ = step(kseq.Sequence(x[:, 3:]), state)
    found, _ = again(kseq.Sequence(x[:, 3:]), moved)
    np.testing.assert_array_equal(*(np.asarray(ops.convert_to_numpy(y.values), "float32") for y in (found, wanted)))


def test_bytes_of_something_else_are_refused():
    step = kseq.StepFunction(network(), 2, kseq.SequenceSpec((2,)))
    data = step.to_bytes(step.initial_state())
    with pytest.raises(ValueError, match="not a state"):
        step.from_bytes(b"something else")
    with pytest.raises(ValueError, match="damaged"):
        step.from_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    with pytest.raises(ValueError, match="damaged"):
        step.from_bytes(data[:-1])
    with pytest.raises(ValueError, match="another model"):
        kseq.StepFunction(network(), 3, kseq.SequenceSpec((2,))).from_bytes(data)
    other = kseq.Serial([kseq.Conv1D(3, 3, name="conv", activation="relu"), *network().layers[1:]])
    with pytest.raises(ValueError, match="another model"):
        kseq.StepFunction(other, 2, kseq.SequenceSpec((2,))).from_bytes(data)


def test_names_are_in_order_whatever_the_order_in_which_a_state_was_made():
    made = {"b": {"z": 1, "y": 2}, "a": (3, {"c": 4})}
    other = {"a": (30, {"c": 40}), "b": {"y": 20, "z": 10}}
    from kseq.layers.leaves import leaves, map_leaves, named_leaves, pack

    assert [name for name, _ in named_leaves(made)] == ["a/0", "a/1/c", "b/y", "b/z"]
    assert [10 * n for n in leaves(made)] == leaves(other)
    assert map_leaves(lambda a, b: b - 9 * a, made, other) == made == pack(other, leaves(made))
