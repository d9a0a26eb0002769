"""Streams run over iterables and by hosts' blocks, how late they are, and weights that are taken anew."""

import asyncio
import threading

import keras
import numpy as np
import pytest
from keras import ops

import kseq

TODAYS = {"jax": 0.3, "tensorflow": 0.3}


def built(layer, channels=2):
    layer.build((None, None, channels))
    return layer


def frames(steps, batch=1, channels=2):
    return np.random.default_rng(steps).normal(size=(batch, steps, channels)).astype("float32")


def whole(layer, x):
    return ops.convert_to_numpy(layer(x))


def lookahead():
    return built(kseq.Serial([kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)]))


# Iterables.


def test_an_iterable_of_chunks_and_its_end():
    layer, x = lookahead(), frames(9)
    found = list(kseq.Stream(layer).run(np.split(x, [2, 2, 7], axis=1)))
    assert [y.shape[1] for y in found] == [0, 0, 5, 2, 2]
    np.testing.assert_allclose(np.concatenate(found, 1), whole(layer, x), atol=1e-5)
    stream = kseq.Stream(layer)
    for _ in stream.run(iter([x[:, :4], x])):
        break
    assert stream.pushed == 4  # and no flush
    np.testing.assert_allclose(stream.push(x[:, 4:]), whole(layer, x)[:, 2:7], atol=1e-5)
    with pytest.raises(ValueError, match="channels"):
        list(kseq.Stream(layer).run([x[:, :, :1]]))
    with pytest.raises(TypeError, match="iterable or an asynchronous one; received int"):
        stream.run(3)


def test_an_asynchronous_iterable_leaves_the_loop_free():
    layer, x, threads = lookahead(), frames(9), set()

    async def chunks():
        for part in np.split(x, [2, 7], axis=1):
            await asyncio.sleep(0)
            yield part

    async def run(given):
        return np.concatenate([y async for y in kseq.Stream(Watched(layer)).run(given)], 1)

    class Watched(kseq.SequenceLayer):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.built = layer, True

        channel_shape = (2,)
        timing = layer.timing

        def initial_state(self, batch_size, input_spec, context=None):
            return self.layer.initial_state(batch_size, input_spec)

        def call_step(self, x, state, *, training=False):
            threads.add(threading.current_thread())
            return self.layer.call_step(x, state)

    for given in (chunks(), np.split(x, 3, axis=1)):
        np.testing.assert_allclose(asyncio.run(run(given)), whole(layer, x), atol=1e-5)
    assert threads and threading.main_thread() not in threads
    with pytest.raises(TypeError, match="asynchronous iterable: run it by `async for`"):
        iter(kseq.Stream(layer).run(chunks()))


def test_who_is_cancelled_leaves_no_thread_behind():
    layer, x, began, ends = lookahead(), frames(4), threading.Event(), threading.Event()
    stream = kseq.Stream(layer)
    push = stream.push

    def slow(chunk):
        began.set()
        ends.wait(10)
        return push(chunk)

    stream.push = slow

    async def main():
        async def consume():
            async for _ in stream.run([x, x]):
                pass

        task = asyncio.create_task(consume())
        while not began.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()  # the step still runs
        ends.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.pushed == 4

    asyncio.run(main())


# How late.


@pytest.mark.parametrize(
    ("layer", "steps"),
    [
        (lambda: kseq.GRU(2), 0),
        (lambda: kseq.Lookahead(3), 3),
        (lambda: kseq.Conv1D(2, 3, padding="reverse_causal"), 2),
        (lambda: kseq.Conv1D(2, 4, strides=4), 3),  # the first step of a block waits for the last
        (lambda: kseq.UpSampling1D(3), 0),
        (lambda: kseq.Serial([kseq.Conv1D(2, 2, strides=2), kseq.Lookahead(1), kseq.UpSampling1D(2)]), 3),
    ],
)
def test_latency_is_the_longest_wait_of_an_output(layer, steps):
    stream = kseq.Stream(built(layer()))
    assert stream.latency_seconds(16000) == steps / 16000
    ratio, waits, given = stream.timing.ratio, [], 0
    for pushed in range(1, 20):
        after = given + stream.push(frames(1)).shape[1]
        waits += [pushed - 1 - u * ratio.denominator // ratio.numerator for u in range(given, after)]
        given = after
    assert max(waits) == steps
    with pytest.raises(ValueError, match="must be positive; received 0"):
        stream.latency_seconds(0)


def test_the_receptive_field_is_that_of_all_outputs():
    assert kseq.Stream(built(kseq.Conv1D(2, 3, padding="reverse_causal"))).receptive_field == (0, 2)
    x = keras.Input((None, 2))
    model = keras.Model(x, [kseq.Conv1D(2, 3)(x), kseq.Conv1D(2, 3, padding="reverse_causal")(x)])
    assert kseq.Stream(model).receptive_field == (-2, 2)


# Blocks of a host.

CHAINS = [
    lambda: kseq.GRU(2),
    lambda: kseq.Serial([kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.Conv1D(3, 4, strides=3), kseq.GRU(1)]),
    lambda: kseq.Serial([kseq.Conv1D(2, 5, strides=5), kseq.UpSampling1D(5)]),
    lambda: kseq.Resample(3, 2),
]


@pytest.mark.parametrize("make", CHAINS)
@pytest.mark.parametrize("host_block", [1, 4, 7])
def test_blocks_of_a_host_keep_time_with_the_smallest_delay(make, host_block):
    layer = built(make())
    ratio, calls = layer.timing.ratio, 45 // host_block
    x, callback = frames(calls * host_block), kseq.Stream(layer).frames(host_block)
    for _ in range(2):
        parts, left = [], []
        for part in np.split(x, calls, axis=1):
            parts.append(callback(part))
            left.append(callback._waiting[0].shape[1])
        made = np.cumsum([y.shape[1] for y in parts])
        assert made.tolist() == [int((n + 1) * host_block * ratio) for n in range(calls)]
        assert min(left) == 0  # a shorter delay would run dry
        y = np.concatenate([*parts, callback.flush()], 1)
        assert not y[:, : callback.delay].any()
        np.testing.assert_allclose(y[:, callback.delay :], whole(layer, x), atol=1e-5)


def test_blocks_in_every_form_and_structure():
    x = keras.Input((None, 2))
    model = keras.Model(x, {"fast": kseq.Dense(1)(x), "slow": kseq.Conv1D(1, 2, strides=2)(kseq.Lookahead(3)(x))})
    callback, given = kseq.Stream(model).frames(3), frames(9)
    fast, slow = callback.delay
    y = [callback.push(given[0, :3]), callback.push(given[:, 3:6]), callback.push(kseq.Sequence(given[:, 6:]))]
    assert [y[0]["fast"].shape, y[1]["slow"].shape, y[2]["slow"].values.shape] == [(3, 1), (1, 2, 1), (1, 1, 1)]
    assert y[0]["slow"].shape == (1, 1)
    rest = callback.flush()
    parts = [y[0]["slow"][None], y[1]["slow"], y[2]["slow"].values, rest["slow"].values]
    wanted = ops.convert_to_numpy(model(given)["slow"])
    np.testing.assert_allclose(np.concatenate(parts, 1)[:, slow:], wanted, atol=1e-5)
    assert fast == 1  # which waits for the blocks of the other
    assert rest["fast"].mask.shape == (1, 1)


def test_a_host_of_another_rate():
    layer = built(kseq.Delay(2, delay_layer_output=False), 1)
    callback = kseq.Stream(layer).frames(5, host_rate=300, rate=200)
    x = np.sin(np.arange(150, dtype="float32") / 9)[None, :, None]
    parts = [callback(part) for part in np.split(x, 30, axis=1)]
    assert all(y.shape == (1, 5, 1) for y in parts)
    y = np.concatenate([*parts, callback.flush()], 1)[:, callback.delay :]
    assert callback.delay_seconds == callback.delay / 300
    np.testing.assert_allclose(y[:, 30:120], x[:, 30:120], atol=0.02)  # through both filters and back
    same = kseq.Stream(layer).frames(5, host_rate=200, rate=200)
    assert same.delay == 2
    with pytest.raises(ValueError, match="go together; received 300 and None"):
        kseq.Stream(layer).frames(5, host_rate=300)
    x, two = keras.Input((None, 1)), keras.Input((None, 1))
    with pytest.raises(ValueError, match="one input and one output"):
        kseq.Stream(keras.Model([x, two], keras.layers.Add()([x, two]))).frames(5, host_rate=300, rate=200)


def test_wrong_blocks_are_refused_and_change_nothing():
    layer, x = lookahead(), frames(8)
    stream = kseq.Stream(layer)
    callback, other = stream.frames(4), kseq.Stream(layer).frames(4)
    np.testing.assert_array_equal(callback(x[:, :4]), other(x[:, :4]))
    for wrong in (x[:, :3], x[:, :, :1], np.zeros((1, 4, 2), "complex64"), None):
        with pytest.raises((ValueError, TypeError)):
            callback(wrong)
    np.testing.assert_array_equal(callback(x[:, 4:]), other(x[:, 4:]))
    with pytest.raises(ValueError, match="was pushed 8 steps"):
        stream.frames(4)
    stream.push(x[:, :1])
    with pytest.raises(ValueError, match="used beside its host blocks"):
        callback(x[:, :4])
    callback.reset()
    other.reset()
    np.testing.assert_array_equal(callback(x[:, :4]), other(x[:, :4]))
    with pytest.raises(ValueError, match="host_block"):
        kseq.Stream(layer).frames(0)


def test_a_block_that_a_model_has_no_room_for_goes_through_no_resampler():
    layer, x, saved = built(kseq.SelfAttention(1, 2, max_length=8), 1), frames(3, channels=1), []
    callback = kseq.Stream(layer).frames(3, host_rate=300, rate=200)
    first = callback(x)

    def fill():
        while True:
            saved[:] = [stream.save() for stream in callback._chain]
            callback(x)

    for _ in range(2):
        with pytest.raises(ValueError, match="raise max_length"):
            fill()
        assert [stream.save() for stream in callback._chain] == saved
    callback.reset()
    np.testing.assert_array_equal(callback(x), first)


# Weights.


def test_refresh_takes_new_weights_and_keeps_the_state():
    layer, x = lookahead(), frames(8)
    stream, held = kseq.Stream(layer), kseq.Stream(layer)
    for one in (stream, held):
        one.push(x[:, :4])
    old = layer.get_weights()
    layer.set_weights([w * 0.5 + 0.1 for w in old])
    np.testing.assert_array_equal(stream.peek(x[:, 4:]), held.push(x[:, 4:]))  # not yet
    saved = stream.save()
    stream.refresh()
    other = kseq.Stream.load(layer, saved, other_weights=True)
    y = stream.push(x[:, 4:])
    np.testing.assert_array_equal(y, other.push(x[:, 4:]))
    stream.reset()
    np.testing.assert_allclose(stream.push(x)[:, :6], whole(layer, x)[:, :6], atol=1e-5)
    compiled = stream.compilations
    stream.refresh()  # of the same weights
    stream.reset()
    stream.push(x)
    assert stream.compilations == compiled
    kseq.Stream.load(layer, stream.save())  # is of the new weights


def test_refresh_before_the_first_chunk_and_of_a_context():
    layer = built(kseq.Dense(2))
    stream, x = kseq.Stream(layer), frames(3)
    layer.set_weights([w + 1 for w in layer.get_weights()])
    stream.refresh()
    np.testing.assert_allclose(stream.push(x), whole(layer, x), atol=1e-6)
    attention = kseq.CrossAttention(1, 2)
    attention.build((None, None, 2), context_shape={"source": (None, None, 3)})
    context = {"source": frames(3, channels=3)}
    stream = kseq.Stream(attention, context=context)
    stream.push(x)
    attention.set_weights([w + 1 for w in attention.get_weights()])
    stream.refresh()
    stream.reset()  # begins with the context as the new weights have it
    wanted = ops.convert_to_numpy(attention(x, context=context))
    np.testing.assert_allclose(stream.push(x), wanted, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="other backends keep it")
def test_stock_layers_lose_on_jax_through_predict_what_a_stream_keeps():
    x = frames(6)
    stock = keras.Sequential(
        [keras.Input((1, 2), batch_size=1), keras.layers.LSTM(2, stateful=True, return_sequences=True)]
    )
    model = keras.Sequential([keras.Input((None, 2)), kseq.LSTM(2)])
    model.set_weights(stock.get_weights())
    steps = np.split(x, 6, axis=1)
    lost = np.concatenate([stock.predict_on_batch(step) for step in steps], 1)
    stream = kseq.Stream(model)
    kept = np.concatenate([stream.push(step) for step in steps], 1)
    np.testing.assert_allclose(kept, whole(model, x), atol=1e-6)
    # Keras says nothing, and every step begins anew.
    alone = np.concatenate([whole(model, step) for step in steps], 1)
    np.testing.assert_allclose(lost, alone, atol=1e-6)
    assert np.abs(lost - kept).max() > 0.01
