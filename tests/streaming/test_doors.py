"""Going on from a state, looking ahead, room, rolling back, and copies of rows: of layers, networks and streams."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.4, "tensorflow": 0.6}

BATCH = 2


@kseq.register("acme.Recent")
class Recent(kseq.SequenceLayer):
    """The weighted sum of each step and the two before it; it remembers more of them, and takes so many steps."""

    def __init__(self, max_length=None, max_rollback=0, **kwargs):
        super().__init__(**kwargs)
        self.keep(locals())

    @property
    def timing(self):
        return kseq.Timing(receptive_field_per_step=((-2, 0),))

    @property
    def rollback_obstacle(self):
        return None if self.max_rollback else "its ring keeps no older steps: set `max_rollback`"

    # State: the last values [B, 2 + max_rollback, ...], and the counts [B, 2] of steps fed and remembered.

    def initial_state(self, batch_size, input_spec, context=None):
        dtype = self.output_spec(input_spec).dtype
        return {
            "values": ops.zeros((batch_size, 2 + self.max_rollback, *input_spec.shape), dtype=dtype),
            "counts": ops.zeros((batch_size, 2), dtype="int32"),
        }

    def call_step(self, x, state, *, training=False):
        time = x.values.shape[1]
        joined = ops.concatenate([state["values"], x.values], axis=1)
        window = joined[:, self.max_rollback :]
        y = window[:, 2:] + 2 * window[:, 1:-1] + 3 * window[:, :-2]
        counts = ops.minimum(state["counts"] + time, [2**30, self.max_rollback])
        return kseq.Sequence(y, x.mask), {"values": joined[:, time:], "counts": counts}

    def room(self, state):
        return None if self.max_length is None else self.max_length - state["counts"][:, 0]

    @property
    def room_advice(self):
        return f"raise max_length (={self.max_length}) of `{self.name}`"

    def history(self, state):
        return state["counts"][:, 1]

    @property
    def history_advice(self):
        return f"raise max_rollback (={self.max_rollback}) of `{self.name}`"

    def call_rollback(self, state, steps):
        index = ops.arange(2 + self.max_rollback, dtype="int32")[None] - steps[:, None]
        values = ops.take_along_axis(state["values"], ops.maximum(index, 0)[..., None], axis=1)
        return {
            "values": ops.where((index >= 0)[..., None], values, ops.zeros_like(values)),
            "counts": state["counts"] - steps[:, None],
        }


def numpy(x):
    return ops.convert_to_numpy(x)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(layer, channels=3):
    layer.build((None, None, channels))
    return layer


def memory(**options):
    return built(kseq.Serial([kseq.Dense(3), Recent(name="recent", **options)]))


def equal(found, wanted):
    """Bit for bit, of arrays, sequences, and states."""
    found, wanted = (keras.tree.flatten(x) for x in (found, wanted))
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        if a is not None or b is not None:
            np.testing.assert_array_equal(numpy(a), numpy(b))


# Going on from a state.

LAYERS = {
    "latency": lambda: kseq.Serial([kseq.Conv1D(3, 3, padding="reverse_causal"), kseq.GRU(2)]),
    "blocks": lambda: kseq.Residual([kseq.Conv1D(3, 4, strides=2, padding="causal"), kseq.UpSampling1D(2)]),
    "attention": lambda: kseq.LocalSelfAttention(2, 2, max_past_horizon=3, max_future_horizon=1),
    "none": lambda: kseq.Dense(3),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_call_from_a_state_is_a_step(name, masked):
    layer, x = built(LAYERS[name]()), numbers(BATCH, 8, 3)
    mask = np.array([[False, True, True, False, True, True, True, True], [True] * 3 + [False] * 5]) if masked else None
    x = kseq.Sequence(x, mask)
    state = layer.initial_state(BATCH, kseq.SequenceSpec((3,)))
    first, after = layer.step(x.slice_time(0, 6), state)
    second, last = layer.step(x.slice_time(6, 8), after)
    equal(layer(x.slice_time(0, 6), return_state=True), (first, after))
    equal(layer(x.slice_time(0, 6), initial_state=state), first)
    y, found = layer(x.slice_time(6, 8), initial_state=after, return_state=True)
    assert isinstance(y, kseq.Sequence)
    equal((y, found), (second, last))
    # Tensors come with Keras's mask, which the next layer reads.
    values = ops.convert_to_tensor(x.values[:, :6])
    given = None if mask is None else ops.convert_to_tensor(mask[:, :6])
    y, found = layer(values, mask=given, return_state=True)
    equal((y, found), (first.values, after))
    seen = MaskSeen()
    seen(y)
    equal(seen.mask, first.mask)


class MaskSeen(keras.layers.Layer):
    """Keeps the mask that Keras has put on what it is called on."""

    supports_masking = True
    mask = None

    def call(self, x, mask=None):
        self.mask = mask
        return x


def test_a_call_from_a_state_within_a_model_of_ones_own_hears_whether_it_trains():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.drop = kseq.Serial([kseq.Dropout(0.5, seed=1), kseq.GRU(2)])

        def call(self, x):
            y, state = self.drop(x[:, :3], return_state=True)
            return ops.concatenate([y, self.drop(x[:, 3:], initial_state=state)], axis=1)

    model, x = Twice(), numbers(BATCH, 5, 3)
    np.testing.assert_allclose(numpy(model(x)), numpy(model.drop(x)), atol=1e-6)
    assert np.abs(numpy(model(x, training=True)) - numpy(model(x))).max() > 1e-3
    model.compile(loss="mse", optimizer="sgd")
    model.fit(x, numbers(BATCH, 5, 2), epochs=1, verbose=0)  # traced


def test_states_keep_their_dtype_in_mixed_precision():
    layer = built(kseq.GroupNormalization(3, statistics="running", dtype="mixed_bfloat16"))
    _, state = layer(numbers(BATCH, 4, 3), return_state=True)
    _, later = layer(numbers(BATCH, 4, 3), initial_state=state, return_state=True)
    _, wanted = layer.step(kseq.Sequence(numbers(BATCH, 4, 3)), state)
    equal(later, wanted)


def test_nothing_goes_on_as_it_was():
    layer = memory()
    _, state = layer(numbers(BATCH, 4, 3), return_state=True)
    y, after = layer(numbers(BATCH, 0, 3), initial_state=state, return_state=True)
    assert y.shape == (BATCH, 0, 3)
    equal(after, state)


def test_what_cannot_go_on():
    layer, x = memory(), numbers(BATCH, 4, 3)
    _, state = layer(x, return_state=True)
    with pytest.raises(ValueError, match=r"leaves recent/counts, recent/values; received state"):
        layer(x, initial_state=np.zeros((BATCH, 3)))
    with pytest.raises(ValueError, match=r"batch of 1, as the input has; received shape \(2, 2\) of 'recent/counts'"):
        layer(x[:1], initial_state=state)
    with pytest.raises(ValueError, match=r"serial.* received symbols of a functional model"):
        layer(keras.Input((None, 3)), return_state=True)
    with pytest.raises(kseq.NotStreamable, match="cannot step"):
        built(kseq.Conv1D(2, 3, padding="same", strides=2))(x, return_state=True)
    with pytest.raises(ValueError, match="multiple of it; received 3"):
        built(kseq.Conv1D(2, 2, strides=2))(x[:, :3], return_state=True)


class Weighted(kseq.SequenceLayer):
    """Each step times the first of a source."""

    context_names = ("source",)

    def build(self, input_shape, context_shape=None):
        pass

    def initial_state(self, batch_size, input_spec, context=None):
        return {"first": self.standardize_context(context)["source"].values[:, :1]}

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda values: values * state["first"]), state


def test_a_state_has_what_a_context_said():
    layer, x, source = Weighted(), numbers(BATCH, 4, 3), numbers(BATCH, 2, 3, seed=1)
    y, state = layer(x, context={"source": source}, return_state=True)
    equal(y, layer(x, context={"source": source}))
    equal(layer(x, initial_state=state), y)
    with pytest.raises(ValueError, match=r"takes a `context`, or an `initial_state` that was .*; received both"):
        layer(x, initial_state=state, context={"source": source})
    with pytest.raises(ValueError, match="must be a dict of source; received none"):
        layer(x, return_state=True)
    with pytest.raises(ValueError, match="must have a batch of 1"):
        layer(x[:1], initial_state=state)


# Looking ahead.


def test_a_peek_is_a_step_of_which_nothing_is_kept():
    layer = built(kseq.Serial([kseq.Dropout(0.5, seed=3), kseq.GRU(2)]))
    state, x = layer.initial_state(BATCH, kseq.SequenceSpec((3,))), kseq.Sequence(numbers(BATCH, 4, 3))
    y = layer.peek(x, state, training=True)
    equal(layer.peek(x, state, training=True), y)
    equal(layer.step(x, state, training=True)[0], y)
    assert not np.array_equal(numpy(layer.peek(x, state, training=True).values), numpy(y.values))


def random_model():
    x = keras.Input((None, 3))
    y = kseq.Conv1D(3, 4, strides=2, padding="reverse_causal")(x)
    return keras.Model(x, kseq.GRU(2)(kseq.Dropout(0.5, seed=3)(y, training=True)))


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_peek_leaves_the_stream(dtype):
    model, x = random_model(), numbers(BATCH, 9, 3)
    peeked, plain = kseq.Stream(model, BATCH, dtype=dtype), kseq.Stream(model, BATCH, dtype=dtype)
    active = np.array([False, True])
    for part, rows in [(slice(0, 3), None), (slice(3, 5), None), (slice(5, 6), active), (slice(6, 9), None)]:
        ahead = peeked.peek(x[:, part], rows)
        equal(peeked.peek(x[:, part], rows), ahead)
        peeked.peek(np.ones((BATCH, 5, 3), "float32"))
        wanted = plain.push(x[:, part], rows)
        equal(ahead, wanted)
        equal(peeked.push(x[:, part], rows), wanted)
    with pytest.raises(ValueError, match="channels"):
        peeked.peek(x[..., :2])
    equal(peeked.flush(), plain.flush())


def test_a_peek_says_nothing_of_the_form():
    layer = kseq.Embedding(5, 2)
    layer.build((None, None))
    stream = kseq.Stream(layer)
    assert stream.peek(kseq.Sequence(np.array([1, 2]))).values.shape == (2, 2)
    assert stream.spec.dtype is None
    assert type(stream.push(np.array([1]))) is np.ndarray


# Room.


def test_the_room_of_a_network_is_the_least_of_its_layers():
    layer = built(
        kseq.Serial(
            [
                Recent(max_length=20, name="early"),
                kseq.Conv1D(3, 2, strides=2),
                kseq.Residual([kseq.Delay(1, delay_layer_output=False), Recent(max_length=5, name="late")]),
            ]
        )
    )
    assert built(kseq.Serial([kseq.Dense(2), kseq.GRU(2)])).room({}) is None
    state, x = layer.initial_state(BATCH, kseq.SequenceSpec((3,))), kseq.Sequence(numbers(BATCH, 4, 3))
    assert numpy(layer.room(state)).tolist() == [10, 10]
    _, state = layer.step(x, state, active=np.array([True, False]))
    assert numpy(layer.room(state)).tolist() == [6, 10]
    _, state = layer.step(x, state)
    words = r"late \(Recent\) takes 2 more steps in row 0; received a chunk of 4 steps: raise max_length \(=5\)"
    for act in (lambda: layer.step(x, state), lambda: layer.peek(x, state), lambda: layer(x, initial_state=state)):
        with pytest.raises(ValueError, match=words):
            act()
    _, after = layer.step(x, state, active=ops.convert_to_tensor([False, True]))
    assert numpy(layer.room(after)).tolist() == [2, 2]
    assert numpy(layer.step_in_room(x, state)[0].values).shape == (BATCH, 2, 3)  # who calls it has looked


def test_a_stream_refuses_what_it_has_no_room_for():
    layer = built(kseq.Serial([Recent(max_length=9, name="recent"), kseq.Conv1D(2, 3, padding="reverse_causal")]))
    stream, other, x = kseq.Stream(layer, BATCH), kseq.Stream(layer, BATCH), numbers(BATCH, 20, 3)
    for s in (stream, other):
        s.push(x[:, :6])
    words = r"recent \(Recent\) takes 3 more steps after 6 steps of the stream in row 0; received a chunk of 4"
    for act in (stream.push, stream.peek):
        with pytest.raises(ValueError, match=words):
            act(x[:, 6:10])
    equal(stream.push(x[:, 6:7]), other.push(x[:, 6:7]))  # a block that goes right through
    assert stream.push(x[:, :0]).shape == (BATCH, 0, 2)
    equal(stream.push(x[:, 7:8]), other.push(x[:, 7:8]))
    with pytest.raises(ValueError, match=r"takes 1 more step after 8 steps .* received a flush of 2"):
        stream.flush()
    stream.push(x[:, 8:9])
    with pytest.raises(ValueError, match=r"takes 0 more steps after 9 steps .* received a chunk of 1"):
        stream.push(x[:, :1])
    stream.reset(np.array([False, True]))
    with pytest.raises(ValueError, match="row 0"):
        stream.push(x[:, :1])
    assert len(stream.push(x[:, :4], active=np.array([False, True]))[1]) == 2
    stream.reset()
    assert stream.push(x[:, :9]).shape == (BATCH, 7, 2)


def test_the_room_is_read_as_seldom_as_can_be(monkeypatch):
    looks = []
    monkeypatch.setattr(Recent, "room", lambda self, state, room=Recent.room: looks.append(0) or room(self, state))
    limited, free = kseq.Stream(memory(max_length=8)), kseq.Stream(memory())
    for t in range(8):
        limited.push(numbers(1, 1, 3, seed=t))
        free.push(numbers(1, 1, 3, seed=t))
        if t == 0:
            looks.clear()
    assert not looks


# Rolling back.


def test_a_layer_without_state_is_rolled_back():
    layer = built(kseq.Serial([kseq.Dense(2), kseq.Conv1D(2, 1)]))
    assert layer.rollback_obstacles() == []
    state = layer.initial_state(BATCH, kseq.SequenceSpec((3,)))
    equal(layer.rollback(state, 7), state)


def test_what_keeps_nothing_is_an_obstacle():
    layer = built(kseq.Parallel([kseq.GRU(3, name="memory"), kseq.Conv1D(3, 2, padding="reverse_causal"), Recent()]))
    rows = layer.rollback_obstacles()
    assert [row.type for row in rows] == ["GRU", "Conv1D", "Recent", "Combine"]
    assert rows[0].reason == "its state keeps nothing of the steps before"
    assert "by a delay" in rows[3].reason
    _, state = layer(numbers(BATCH, 2, 3), return_state=True)
    with pytest.raises(ValueError, match=r"cannot be rolled back: memory \(GRU\): .*; .*\(Recent\): .* `max_rollback`"):
        layer.rollback(state, 1)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_layer_is_rolled_back(dtype):
    layer, x = memory(max_rollback=3, max_length=9), kseq.Sequence(numbers(BATCH, 8, 3))
    start = layer.initial_state(BATCH, kseq.SequenceSpec((3,)))
    assert numpy(layer.history(start)).tolist() == [0, 0]
    _, four = layer.step(x.slice_time(0, 4), start)
    wanted, _ = layer.step(x.slice_time(4, 8), four)
    _, seven = layer.step(x.slice_time(2, 5), four)
    y, _ = layer.step(x.slice_time(4, 8), layer.rollback(seven, 3))
    equal(y, wanted)
    some = layer.rollback(seven, ops.convert_to_tensor(np.array([3, 0], dtype)))
    assert numpy(layer.room(some)).tolist() == [5, 2]
    assert numpy(layer.history(some)).tolist() == [0, 3]
    equal(layer.step(x.slice_time(4, 6), some)[0].values[0], wanted.values[0, :2])
    with pytest.raises(ValueError, match=r"recent .* by 0 steps in row 0; received 1: raise max_rollback"):
        layer.rollback(some, 1)
    for wrong, error in [
        (-1, ValueError),
        ([1], ValueError),
        (1.5, TypeError),
        (np.ones(2), TypeError),
        (True, TypeError),
    ]:
        with pytest.raises(error, match="`steps` must"):
            layer.rollback(seven, wrong)


def test_a_stream_that_went_back_never_went_there():
    layer = memory(max_rollback=4)
    rng, x = np.random.default_rng(0), numbers(BATCH, 40, 3)
    stream, plain, at = kseq.Stream(layer, BATCH), kseq.Stream(layer, BATCH), np.zeros(BATCH, int)

    def chunk(steps, noise=0):
        return np.stack([x[row, n : n + steps] for row, n in enumerate(at)]) + np.float32(noise)

    for turn in range(6):
        stream.push(chunk(3, noise=1))
        if turn % 2:
            stream.rollback(3)
        else:
            back = rng.integers(0, 4, size=BATCH)
            stream.rollback(back)
            stream.rollback(3 - back)
        active = np.array([True, turn < 3])
        equal(list(stream.push(chunk(2), active)), list(plain.push(chunk(2), active)))
        at += 2 * active
    with pytest.raises(ValueError, match="`steps` must be 6 at most, which row 1 of the stream was pushed"):
        stream.rollback(12)
    stream.push(chunk(2, noise=1))
    stream.rollback(2)
    equal(list(stream.flush()), list(plain.flush()))


NETWORKS = {
    "slower": lambda: [kseq.Conv1D(3, 2, strides=2, padding="reverse_causal"), Recent(max_rollback=2)],
    "faster": lambda: [Recent(max_rollback=4), kseq.UpSampling1D(2), Recent(max_rollback=8), kseq.Dense(2)],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_rolled_back_at_every_rate(name):
    layer = built(kseq.Serial([kseq.Residual([kseq.Dense(3)]), kseq.Serial(NETWORKS[name]())]))
    stream, plain, x = kseq.Stream(layer, BATCH), kseq.Stream(layer, BATCH), numbers(BATCH, 10, 3)
    stream.push(x[:, :4])
    stream.push(x[:, 6:10])
    stream.rollback(np.array([4, 2]))
    stream.rollback(np.array([0, 2]))
    plain.push(x[:, :4], np.ones(BATCH, bool))
    equal(stream.push(x[:, 4:8]), plain.push(x[:, 4:8]))
    with pytest.raises(ValueError, match=r"can be rolled back by 4 steps in row 0; received 6"):
        stream.rollback(6)


def test_warm_up_that_is_undone_is_warm_up_again():
    class Late(Recent):
        timing = property(lambda self: kseq.Timing(1, 1, 2, 2, ((-2, 2),)))

    layer = built(Late(max_rollback=8))
    stream, plain, x = kseq.Stream(layer), kseq.Stream(layer), numbers(9, 3)
    assert len(stream.push(x[:4])) == 2
    stream.rollback(3)
    assert len(stream.push(x[1:3])) == 1
    plain.push(x[:3])
    equal(stream.push(x[3:]), plain.push(x[3:]))
    equal(stream.flush(), plain.flush())


def test_what_is_held_is_taken_back_step_by_step():
    layer = built(kseq.Serial([Recent(max_rollback=8), kseq.SqueezeTime(2, padding="semicausal")]))
    with_masks = kseq.Sequence(numbers(BATCH, 9, 3), np.random.default_rng(1).random((BATCH, 9)) < 0.7)
    for x in (kseq.Sequence(numbers(BATCH, 9, 3)), with_masks):
        stream, plain = kseq.Stream(layer, BATCH), kseq.Stream(layer, BATCH)
        stream.push(x.slice_time(0, 7))
        stream.rollback(1)  # held
        assert stream.push(x.slice_time(6, 7)).values.shape == (BATCH, 0, 2, 3)
        with pytest.raises(ValueError, match="between blocks of 2, or within the 1 that row 0 of the stream holds"):
            stream.rollback(2)
        stream.rollback(np.array([3, 1]))
        plain.push(x.slice_time(0, 4))
        active = np.array([True, False])
        plain.push(x.slice_time(4, 6), ~active)
        for s in (stream, plain):
            s.push(x.slice_time(0, 3), active)
        equal(stream.push(x.slice_time(7, 9)), plain.push(x.slice_time(7, 9)))
        equal(stream.flush(), plain.flush())


def test_what_is_not_rolled_back_stays():
    stream, plain, x = kseq.Stream(memory(max_rollback=2), BATCH), kseq.Stream(memory()), numbers(BATCH, 6, 3)
    stream.rollback(0)
    with pytest.raises(ValueError, match="0 at most, which row 0 of the stream was pushed; received 1"):
        stream.rollback(1)
    stream.push(x[:, :4])
    before = [numpy(leaf) for leaf in stream._state]
    for steps, active, error, words in [
        (3, None, ValueError, r"recent .* by 2 steps in row 0; received 3: raise max_rollback \(=2\)"),
        (-1, None, ValueError, "negative"),
        ([1], None, ValueError, "one for each of 2 rows; received 1"),
        (1.0, None, TypeError, "an integer; received 1.0"),
        (1, np.array([True]), ValueError, "`active` must be bool"),
    ]:
        with pytest.raises(error, match=words):
            stream.rollback(steps, active)
    equal([numpy(leaf) for leaf in stream._state], before)
    plain.push(x[:1, :1])
    with pytest.raises(ValueError, match="max_rollback"):
        plain.rollback(1)


def test_a_step_is_not_compiled_again_after_a_rollback():
    stream, x = kseq.Stream(memory(max_rollback=3), BATCH), numbers(BATCH, 1, 3)
    stream.push(x)
    before = stream.compilations
    stream.rollback(1)
    stream.copy_rows([0], [1])
    stream.peek(x)
    stream.push(x)
    assert stream.compilations == before


# Copies of rows.


def test_rows_are_copied():
    layer, x = built(kseq.Serial([kseq.GRU(3), kseq.Conv1D(2, 2, strides=2)])), numbers(3, 12, 3)
    streams = [kseq.Stream(layer) for _ in range(3)]
    stream = kseq.Stream(layer, 3)
    stream.push(x[:, :3])
    stream.push(x[:, 3:5], active=np.array([True, False, True]))
    alone = [x[row, : 5 if row != 1 else 3] for row in range(3)]
    stream.copy_rows([1, 0], [0, 1])
    stream.copy_rows([1], [2])
    stream.copy_rows([], [])
    found = stream.push(x[:, 6:])
    for row, source in enumerate([1, 0, 0]):
        streams[row].push(alone[source])
        np.testing.assert_allclose(found[row], streams[row].push(x[row, 6:]), atol=1e-6)


def test_rows_that_are_together_stay_so():
    layer, x = built(kseq.Conv1D(2, 2, strides=2)), numbers(2, 3, 3)
    stream = kseq.Stream(layer, 2)
    stream.copy_rows([0], [1])  # nothing is there yet
    stream.push(x)
    stream.copy_rows([0], [1])
    y = stream.push(np.stack([x[0, :1]] * 2))
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y[0], y[1])


@pytest.mark.parametrize(
    ("sources", "targets", "error", "words"),
    [
        ([0, 1], [0, 0], ValueError, "each once; received"),
        ([0], [0, 1], ValueError, "as many rows as"),
        ([2], [0], ValueError, "`sources` must be rows from 0 to 1; received"),
        ([0], [-1], ValueError, "`targets` must be rows from 0 to 1; received"),
        ([0.5], [1], TypeError, "`sources` must be integers"),
    ],
)
def test_rows_that_there_are_not(sources, targets, error, words):
    stream = kseq.Stream(memory(), BATCH)
    with pytest.raises(error, match=words):
        stream.copy_rows(sources, targets)
