"""What streams of one model share, and what each has of its own: compiled steps, weights, random numbers."""

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import kseq

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
IS_JAX = keras.backend.backend() == "jax"


def small(*layers):
    x = keras.Input((None, 3))
    y = x
    for layer in layers or (kseq.GRU(2),):
        y = layer(y)
    return keras.Model(x, y)


def whole(model, x=X):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x[None])))[0]


def test_streams_of_one_model_share_what_is_compiled():
    model = small()
    first = kseq.Stream(model)
    y = first.push(X)
    assert first.compilations == 1
    first.flush()
    np.testing.assert_array_equal(first.push(X), y)
    assert first.compilations == 1
    del first
    gc.collect()
    later = kseq.Stream(model)
    np.testing.assert_array_equal(later.push(X), y)
    assert later.compilations == 0
    other = kseq.Stream(model, 2)  # is of another size
    other.push(np.stack([X, X]))
    assert other.compilations == 1


def test_streams_before_and_after_a_change_of_weights_have_their_own():
    model = small(keras.layers.Dense(3), kseq.GRU(2))
    before = kseq.Stream(model)
    late = kseq.Stream(model)  # pushed only after the change
    expected = before.push(X)
    old = model.get_weights()
    model.set_weights([w + 0.25 for w in old])
    after = kseq.Stream(model)
    np.testing.assert_allclose(after.push(X), whole(model), atol=1e-5)
    assert after.compilations == IS_JAX  # where weights are constants
    before.reset()
    for stream in (before, late):
        np.testing.assert_array_equal(stream.push(X), expected)
        stream.reset()
        np.testing.assert_allclose(stream.push(X[:2]), expected[:2], atol=1e-6)
    model.set_weights(old)
    np.testing.assert_array_equal(kseq.Stream(model).push(X), expected)


def test_a_layer_whose_dtype_a_chunk_says_has_the_weights_of_its_making():
    layer = kseq.Dense(2)
    layer.build((None, None, 3))
    stream, before = kseq.Stream(layer), ops.convert_to_numpy(layer(X[None]))[0]
    layer.kernel.assign(layer.kernel.value * 0)
    np.testing.assert_allclose(stream.push(X), before, atol=1e-6)


def test_what_changes_beside_the_weights_is_compiled_anew():
    normalization, dense = keras.layers.Normalization(), kseq.Dense(2, activation="relu")
    normalization.adapt(X[None])
    model = small(normalization, dense)
    np.testing.assert_allclose(kseq.Stream(model).push(X), whole(model), atol=1e-5)
    normalization.adapt(3 * X[None] + 1)
    np.testing.assert_allclose(kseq.Stream(model).push(X), whole(model), atol=1e-5)
    dense.activation = keras.activations.tanh
    np.testing.assert_allclose(kseq.Stream(model).push(X), whole(model), atol=1e-5)


def test_neither_stream_nor_model_is_kept():
    model = small()
    stream = kseq.Stream(model)
    stream.push(X)
    found = [weakref.ref(stream), weakref.ref(stream.layer)]
    del stream
    gc.collect()
    assert [ref() for ref in found] == [None, None]
    found = weakref.ref(model)
    del model
    gc.collect()
    assert found() is None


def test_threads_compile_once():
    model = small()
    streams, found = [kseq.Stream(model) for _ in range(3)], [None] * 3

    def work(n):
        found[n] = np.concatenate([streams[n].push(X) for _ in range(3)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stream.compilations for stream in streams) == 1
    np.testing.assert_array_equal(found[1:], found[:-1])


class MonteCarlo:
    """A model that draws, and its variables as they were."""

    def __init__(self, **options):
        x = keras.Input((None, 3))
        self.model = keras.Model(x, kseq.GRU(2)(keras.layers.Dropout(0.5, **options)(x, training=True)))
        self.variables = [np.array(ops.convert_to_numpy(v)) for v in self.model.variables]

    def check(self):
        for v, was in zip(self.model.variables, self.variables, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(v), was)


@pytest.mark.parametrize("options", [{}, {"seed": 3}], ids=["unseeded", "seeded"])
def test_random_numbers_are_new_in_every_push_and_the_streams_own(options):
    drawn = MonteCarlo(**options)
    stream, x = kseq.Stream(drawn.model), np.ones((6, 3), "float32")
    runs = [stream.push(x) for _ in range(3)]
    assert not np.array_equal(runs[0], runs[1])
    other = kseq.Stream(drawn.model)
    np.testing.assert_array_equal(other.push(x), runs[0])
    keras.random.normal((2,))  # whoever else draws
    stream.reset()
    again = []
    for _ in range(3):
        with pytest.raises(ValueError, match="channels"):
            stream.push(np.ones((1, 5)))
        again.append(stream.push(x))
    np.testing.assert_array_equal(again, runs)
    np.testing.assert_array_equal(other.push(x), runs[1])
    drawn.check()


def test_rows_that_begin_anew_leave_the_random_numbers():
    x = keras.Input((None, 30))
    model = keras.Model(x, keras.layers.Dropout(0.5, seed=2)(x, training=True))
    stream, frame = kseq.Stream(model, 2), np.ones((2, 1, 30), "float32")
    runs = [stream.push(frame), stream.push(frame)]
    stream.reset()
    stream.push(frame)
    stream.reset(active=np.array([True, False]))
    np.testing.assert_array_equal(np.stack(stream.push(frame)), runs[1])


class Averaging(kseq.SequenceLayer):
    """Keeps a running mean in a variable."""

    def build(self, input_shape):
        self.mean = self.add_weight(name="mean", shape=(), initializer="zeros", trainable=False)

    def call_step(self, x, state, *, training=False):
        self.mean.assign(ops.mean(x.values))
        return x, state


def test_a_step_that_writes_weights_is_refused_by_their_name():
    layer = Averaging(name="own")
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match=r"writes the variable '.*mean'"):
        kseq.Stream(layer).push(X)


class Counting(kseq.SequenceLayer):
    """Adds how many chunks it has seen, which it keeps in a variable."""

    def build(self, input_shape):
        self.count = self.add_weight(name="count", shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call_step(self, x, state, *, training=False):
        self.count.assign(self.count + 1)
        return x.apply(lambda values: values + ops.cast(self.count, values.dtype)), state


def test_counts_that_a_step_writes_are_the_streams():
    layer = Counting()
    layer.build((None, None, 3))
    stream, zeros = kseq.Stream(layer), np.zeros((1, 3), "float32")
    assert [stream.push(zeros)[0, 0] for _ in range(3)] == [1, 2, 3]
    assert kseq.Stream(layer).push(zeros)[0, 0] == 1
    assert int(ops.convert_to_numpy(layer.count)) == 0


def test_a_variable_of_no_layer_is_read_and_never_written():
    class Reads(kseq.SequenceLayer):
        def __init__(self, box, **kwargs):
            super().__init__(**kwargs)
            self.read = lambda: box.variable

        def call_step(self, x, state, *, training=False):
            return x.apply(lambda values: values * self.read().value), state

    class Box:
        variable = keras.Variable(2.0, name="gain")

    layer, ones = Reads(Box), np.ones((1, 3), "float32")
    layer.build((None, None, 3))
    assert kseq.Stream(layer).push(ones)[0, 0] == 2
    Box.variable.assign(3.0)
    assert kseq.Stream(layer).push(ones)[0, 0] == 3
