"""`kseq.Stream`: chunks of any length give what the whole sequence gives."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.6}


def sequential():
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            kseq.Conv1D(4, 3, padding="reverse_causal"),
            kseq.Residual([kseq.LocalSelfAttention(2, 2, max_past_horizon=4, max_future_horizon=1)]),
            kseq.Conv1D(4, 4, strides=2),
            kseq.GRU(2),
        ]
    )


def functional():
    x = keras.Input((None, 3))
    fast = kseq.Dense(4, activation="tanh")(x)
    slow = kseq.Conv1D(4, 4, padding="reverse_causal")(x)
    merged = keras.layers.Add()([fast, slow])
    merged = keras.layers.Concatenate()([merged, keras.layers.Dense(2)(fast * 2.0)])
    return keras.Model(x, kseq.LSTM(3)(merged))


MODELS = {"sequential": sequential, "functional": functional}
MODELS["layer"] = lambda: built(kseq.Serial([kseq.Lookahead(2), kseq.MaxPooling1D(2, padding="semicausal")]))


def built(layer):
    layer.build((None, None, 3))
    return layer


def whole(model, x):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x)))


@pytest.fixture(scope="module", params=list(MODELS))
def streamed(request):
    """A model with a stream of it, shared because compiling takes longest; every test flushes it."""
    model = MODELS[request.param]()
    return model, kseq.Stream(model, batch_size=2)


_CHUNKS = [[1] * 11, [11], [3, 0, 5, 1, 2], [2, 9], [1], [2], [5]]


@pytest.mark.parametrize("chunks", _CHUNKS, ids=str)
def test_any_chunks_give_the_whole(streamed, chunks):
    model, stream = streamed
    x = np.random.default_rng(0).normal(size=(2, sum(chunks), 3)).astype("float32")
    parts = [stream.push(part) for part in np.split(x, np.cumsum(chunks)[:-1], axis=1)] + [stream.flush()]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole(model, x), atol=1e-5)


def test_flush_starts_a_new_stream_and_the_caller_may_reuse_its_array(streamed):
    model, stream = streamed
    x = np.random.default_rng(2).normal(size=(2, 7, 3)).astype("float32")
    buffer, runs = np.empty((2, 1, 3), "float32"), []
    for _ in range(2):
        parts = []
        for frame in np.split(x, 7, axis=1):
            buffer[:] = frame
            parts.append(stream.push(buffer).copy())
        runs.append(np.concatenate([*parts, stream.flush()], axis=1))
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_allclose(runs[0], whole(model, x), atol=1e-5)


def test_reset_forgets(streamed):
    model, stream = streamed
    x = np.random.default_rng(3).normal(size=(2, 5, 3)).astype("float32")
    stream.push(x[:, :3])
    stream.reset()
    parts = [stream.push(x), stream.flush()]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole(model, x), atol=1e-5)


def test_one_stream_needs_no_batch_axis():
    layer = built(kseq.Conv1D(2, 3, padding="reverse_causal"))
    x = np.random.default_rng(4).normal(size=(6, 3)).astype("float32")
    stream = kseq.Stream(layer)
    x.flags.writeable = False
    y = np.concatenate([stream.push(x[:4]), stream.push(x[4:]), stream.flush()])
    np.testing.assert_allclose(y, whole(layer, x[None])[0], atol=1e-5)


def test_a_long_chunk_is_few_calls_and_nothing_is_compiled_twice():
    stream = kseq.Stream(built(kseq.Conv1D(2, 3)))
    for length in (341, 341, 1, 21, 85, 5):
        assert stream.push(np.zeros((length, 3), "float32")).shape == (length, 2)
    assert stream.compilations == 5
    stream.flush()
    assert stream.compilations == 5


def test_chunks_that_are_all_alike_are_one_call_each():
    layer = built(kseq.Conv1D(2, 3))
    stream, x = kseq.Stream(layer), np.random.default_rng(4).normal(size=(35, 3)).astype("float32")
    parts = [stream.push(x[start : start + 7]) for start in range(0, 35, 7)]
    assert stream.compilations == 3  # of 4 blocks, of 1, and from the third chunk on of 7
    np.testing.assert_allclose(np.concatenate(parts), whole(layer, x[None])[0], atol=1e-5)


def test_sequences_go_in_and_come_out_with_their_masks():
    layer = built(kseq.Conv1D(2, 3, padding="reverse_causal_valid"))
    x = np.random.default_rng(3).normal(size=(2, 8, 3)).astype("float32")
    given = kseq.Sequence.from_lengths(x, [8, 5])
    stream = kseq.Stream(layer, batch_size=2)
    parts = [stream.push(given.slice_time(0, 3)), stream.push(given.slice_time(3, 8)), stream.flush()]
    streamed, expected = kseq.Sequence.concatenate(parts), layer(given)
    np.testing.assert_array_equal(streamed.mask, ops.convert_to_numpy(expected.mask))
    expected = ops.convert_to_numpy(expected.mask_invalid().values)
    np.testing.assert_allclose(streamed.mask_invalid().values, expected, atol=1e-5)


def test_a_stream_keeps_the_weights_it_was_made_with():
    layer = built(kseq.Dense(2))
    stream, x = kseq.Stream(layer), np.ones((1, 3), "float32")
    before = stream.push(x)
    layer.kernel.assign(np.zeros((3, 2)))
    np.testing.assert_array_equal(stream.push(x), before)
    later = stream.push(np.ones((4, 3), "float32"))  # compiled after the change
    np.testing.assert_allclose(later[:1], before, rtol=1e-6)
    np.testing.assert_array_equal(kseq.Stream(layer).push(x), np.zeros((1, 2)))


def test_a_stream_survives_further_training():
    model = keras.Sequential([keras.Input((None, 3)), kseq.Dense(2)])
    model.compile("sgd", "mse")
    stream, x = kseq.Stream(model), np.ones((1, 3), "float32")
    before = stream.push(x)
    model.fit(np.ones((4, 5, 3)), np.ones((4, 5, 2)), verbose=0)
    np.testing.assert_allclose(stream.push(np.ones((4, 3), "float32"))[:1], before, rtol=1e-6)


def test_integers_stream():
    model = keras.Sequential([keras.Input((None,), dtype="int32"), kseq.Embedding(5, 2), kseq.GRU(2)])
    x = np.array([1, 4, 0, 2], "int32")
    stream = kseq.Stream(model)
    y = np.concatenate([stream.push(x[:3]), stream.push(x[3:]), stream.flush()])
    np.testing.assert_allclose(y, whole(model, x[None])[0], atol=1e-6)


def test_a_layer_takes_the_kind_of_number_of_the_first_chunk():
    layer = kseq.Serial([kseq.Embedding(5, 2), kseq.Dense(3)])
    layer.build((None, None))
    stream = kseq.Stream(layer)
    assert stream.push(np.array([1, 2])).shape == (2, 3)
    assert stream.spec.dtype == "int32"
    with pytest.raises(TypeError, match="castable to int32; received float32"):
        stream.push(np.ones(2, "float32"))


def test_flushing_nothing_gives_nothing():
    assert kseq.Stream(built(kseq.GRU(2))).flush().shape == (1, 0, 2)


@pytest.mark.parametrize(
    ("chunk", "error", "words"),
    [
        (np.zeros((2, 4, 3), "float32"), ValueError, r"batch 1 and channels \(3,\); received shape \(2, 4, 3\)"),
        (np.zeros((4, 5), "float32"), ValueError, r"channels \(3,\); received shape \(4, 5\)"),
        (np.zeros(3, "float32"), ValueError, r"shape \[time, ...\].*received \(3,\)"),
        (np.zeros((1, 3), "complex64"), TypeError, "castable to float32; received complex64"),
        (kseq.Sequence(np.zeros((1, 2, 3), "float32"), np.ones((1, 2), "int32")), TypeError, "bool; received int32"),
        (
            kseq.Sequence(np.zeros((1, 2, 3), "float32"), np.ones((1, 3), bool)),
            ValueError,
            r"\(1, 2\); received \(1, 3\)",
        ),
    ],
)
def test_wrong_chunks_are_refused(chunk, error, words):
    with pytest.raises(error, match=words):
        kseq.Stream(built(kseq.Dense(2))).push(chunk)


def test_what_cannot_stream_says_why():
    with pytest.raises(ValueError, match="padding 'same' needs steps"):
        kseq.Stream(built(kseq.Conv1D(2, 3, padding="same")))
    with pytest.raises(ValueError, match="must be built"):
        kseq.Stream(kseq.Conv1D(2, 3))
    with pytest.raises(TypeError, match="expected a kseq layer or a Keras model; received 'model'"):
        kseq.Stream("model")
    with pytest.raises(ValueError, match="at least 1; received 0"):
        kseq.Stream(built(kseq.Dense(2)), batch_size=0)
    with pytest.raises(ValueError, match="Invalid dtype: 3"):
        kseq.Stream(built(kseq.Dense(2)), dtype=3)


def test_errors_use_the_names_that_the_user_gave():
    inputs = keras.Input((None, 3)), keras.Input((None, 4), name="text")
    outputs = [keras.layers.Dense(2)(x) for x in inputs]
    for name, said in ((None, "the model cannot"), ("tagger", "the model 'tagger' cannot")):
        with pytest.raises(kseq.NotStreamable, match=said):
            kseq.Stream(keras.Model(inputs[0], keras.layers.Flatten()(inputs[0]), **({"name": name} if name else {})))
    stream = kseq.Stream(keras.Model(inputs, outputs))
    for widths, said in (((5, 4), "^input 1 of a chunk"), ((3, 5), "^the input 'text' of a chunk")):
        with pytest.raises(ValueError, match=said):
            stream.push([np.ones((2, width), "float32") for width in widths])
    with pytest.raises(TypeError, match=r"^the input 'text' of a chunk must be castable to float32; .* complex64"):
        stream.push([np.ones((2, 3), "float32"), np.ones((2, 4), "complex64")])
