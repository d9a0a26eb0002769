"""A context that changes in the middle of a stream: for all rows or for some, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.06, "tensorflow": 0.08}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 9, 2)).astype("float32")
SPEAKERS = [RNG.normal(size=(3, 4)).astype("float32") for _ in range(2)]
TEXTS = [
    kseq.Sequence.from_lengths(RNG.normal(size=(3, 5, 2)).astype("float32"), np.array(lengths))
    for lengths in ([5, 2, 3], [1, 5, 4])
]


def numpy(x):
    return ops.convert_to_numpy(x)


def film():
    return kseq.Serial([kseq.Dense(3), kseq.FiLM("speaker")]), "speaker", SPEAKERS


def per_step():
    return kseq.Conditioning("add", per_step=True, source="text"), "text", TEXTS


def attention():
    return kseq.CrossAttention(2, 2, source="text"), "text", TEXTS


def alignment():
    return kseq.AdditiveAttention(1, 2, source="text"), "text", TEXTS


def encoded():
    """A model that makes what its layers read of its input."""
    x, speaker = keras.Input((None, 2), name="x"), keras.Input((4,), name="speaker")
    y = kseq.FiLM("style")(x, context={"style": keras.layers.Dense(3, activation="tanh")(speaker)})
    return keras.Model([x, speaker], y), "speaker", SPEAKERS


# Of these an output depends on its own step and on the context alone: whole sequences say what a stream must give.
MAKERS = [film, per_step, attention, alignment, encoded]
every_model = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def made(make):
    """A model, how it is called on all of the input with a context, and two contexts."""
    model, name, contexts = make()
    if isinstance(model, keras.Model):
        return model, lambda c: numpy(model([X, c])), name, contexts

    def whole(context):
        return numpy(model(kseq.Sequence(X), context={name: context}).mask_invalid().values)

    whole(contexts[0])  # builds it
    return model, whole, name, contexts


def valid(y):
    """The values of a sequence, zero at invalid steps."""
    return y.mask_invalid().values if isinstance(y, kseq.Sequence) else y


@every_model
def test_all_rows(make):
    model, whole, name, (first, second) = made(make)
    stream = kseq.Stream(model, 3, context={name: first})
    chunks = [kseq.Sequence(x) for x in np.split(X, [3, 5, 6], axis=1)]
    found = [stream.push(chunks[0]), stream.push(chunks[1], context={name: second}), stream.push(chunks[2])]
    peeked = stream.peek(chunks[3], context={name: first})
    found.append(stream.push(chunks[3]))
    wanted = np.concatenate([whole(first)[:, :3], whole(second)[:, 3:]], axis=1)
    np.testing.assert_allclose(np.concatenate([valid(y) for y in found], 1), wanted, atol=1e-5)
    np.testing.assert_allclose(valid(peeked), whole(first)[:, 6:], atol=1e-5)
    stream.reset()  # begins with the first again
    np.testing.assert_allclose(valid(stream.push(kseq.Sequence(X))), whole(first), atol=1e-5)


@every_model
def test_some_rows(make):
    model, whole, name, (first, second) = made(make)
    stream = kseq.Stream(model, 3, context={name: first})
    active = np.array([True, False, True])
    start, middle, end = (kseq.Sequence(x) for x in np.split(X, [3, 6], axis=1))
    found = [
        stream.push(start),
        stream.push(middle, active, context={name: second}),
        stream.push(middle, ~active),
        stream.push(end),
    ]
    wanted = np.concatenate([whole(first)[:, :3], whole(second)[:, 3:]], axis=1)
    wanted[1] = whole(first)[1]
    for row in range(3):
        of_row = [kseq.Sequence(y.values[row : row + 1], y.mask[row : row + 1]) for y in found[:1]]
        of_row += [kseq.Sequence(*(part[None] for part in y[row])) for y in found[1:]]
        np.testing.assert_allclose(np.concatenate([valid(y)[0] for y in of_row]), wanted[row], atol=1e-5)


def test_what_is_counted_goes_on():
    """Positions of queries, of steps of a conditioning, of what holds blocks and of the rest of the model."""
    x, text = keras.Input((None, 2), name="x"), keras.Input((None, 2), name="text")
    h = kseq.Conv1D(4, 3, padding="reverse_causal")(x)
    h = kseq.CrossAttention(2, 2, position=kseq.RotaryPosition(), source="text")(h, context={"text": text})
    model = keras.Model([x, text], kseq.Conv1D(2, 2)(h))
    first, second = (t.values for t in TEXTS)
    stream = kseq.Stream(model, 3, context={"text": first})
    found = [stream.push(X[:, :4]), stream.push(X[:, 4:6], context={"text": second}), stream.push(X[:, 6:])]
    found = np.concatenate([*found, stream.flush()], axis=1)
    # Two steps of latency are behind the change; the last convolution remembers a step before it.
    whole = [numpy(model([X, text])) for text in (first, second)]
    np.testing.assert_allclose(found[:, :2], whole[0][:, :2], atol=1e-5)
    np.testing.assert_allclose(found[:, 3:], whole[1][:, 3:], atol=1e-5)
    assert np.abs(found[:, 2] - whole[0][:, 2]).max() > 1e-3 < np.abs(found[:, 2] - whole[1][:, 2]).max()


def two():
    x, speaker, text = (keras.Input(s, name=n) for n, s in (("x", (None, 2)), ("speaker", (4,)), ("text", (None, 2))))
    h = kseq.FiLM("speaker")(x, context={"speaker": keras.layers.Dense(3)(speaker)})
    return keras.Model([x, speaker, text], kseq.AdditiveAttention(1, 2)(h, context={"source": kseq.Dense(2)(text)}))


def test_one_of_several():
    model, texts = two(), [t.values for t in TEXTS]
    stream = kseq.Stream(model, 3, context={"speaker": SPEAKERS[0], "text": texts[0]})
    found = [
        stream.push(X[:, :2]),
        stream.push(X[:, 2:4], context={"speaker": SPEAKERS[1]}),
        stream.push(X[:, 4:], context={"text": texts[1]}),
    ]
    wanted = [(0, 0, slice(0, 2)), (1, 0, slice(2, 4)), (1, 1, slice(4, None))]
    for y, (speaker, text, steps) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(y, numpy(model([X, SPEAKERS[speaker], texts[text]]))[:, steps], atol=1e-5)


def test_inputs_that_are_read_together_change_together():
    x, a, b = (keras.Input(s, name=n) for n, s in (("x", (None, 2)), ("a", (4,)), ("b", (4,))))
    model = keras.Model([x, a, b], kseq.FiLM("ab")(x, context={"ab": keras.layers.Add()([a, b])}))
    stream = kseq.Stream(model, 3, context={"a": SPEAKERS[0], "b": SPEAKERS[1]})
    with pytest.raises(ValueError, match=r"what its layers read of a, b together; received a context without b"):
        stream.push(X, context={"a": SPEAKERS[1]})


def test_the_weights_are_those_of_the_stream():
    layer = kseq.FiLM("speaker")
    wanted = numpy(layer(X, context={"speaker": SPEAKERS[1]}))
    stream = kseq.Stream(layer, 3, context={"speaker": SPEAKERS[0]})
    stream.push(X[:, :1])
    layer.set_weights([0 * w for w in layer.get_weights()])
    np.testing.assert_allclose(stream.push(X[:, 1:], context={"speaker": SPEAKERS[1]}), wanted[:, 1:], atol=1e-5)


def test_a_sequence_may_be_shorter_than_the_first():
    layer = kseq.CrossAttention(2, 2, source="text")
    short = TEXTS[1].slice_time(0, 3)
    layer(X, context={"text": TEXTS[0]})
    stream = kseq.Stream(layer, 3, context={"text": TEXTS[0]})
    stream.push(X[:, :1])
    found = stream.push(X[:, 1:], context={"text": short})
    np.testing.assert_allclose(found, numpy(layer(X[:, 1:], context={"text": short})), atol=1e-5)
    assert stream.compilations <= 2  # another context is nothing that is compiled


class Forgets(kseq.SequenceLayer):
    """Does not say what of its state is made of its context."""

    context_names = ("speaker",)
    static_context = ("speaker",)

    def build(self, input_shape, context_shape):
        pass

    def initial_state(self, batch_size, input_spec, context):
        return {"sum": ops.sum(self.standardize_context(context)["speaker"].values, axis=1)}

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda values: values + state["sum"][:, None, None]), state


LONG = kseq.Sequence(np.zeros((3, 6, 2), "float32"))
REFUSED = {
    "no name": (film, {}, "that changes must be a dict of speaker; received nothing"),
    "another name": (film, {"text": SPEAKERS[0]}, "that changes must be a dict of speaker; received text"),
    "other channels": (
        film,
        {"speaker": np.zeros((3, 5), "float32")},
        r"began with, \(3, 4\); received \(3, 5",
    ),
    "other rows": (film, {"speaker": np.zeros((2, 4), "float32")}, r"the stream began with, \(3, 4\); received \(2, 4"),
    "no channels": (film, {"speaker": kseq.Sequence(np.zeros(3, "float32"))}, r"\(3, 4\); received \(3,\)"),
    "no array": (film, {"speaker": [1.0, 2.0]}, r"\(3, 4\); received float"),
    "too long": (attention, {"text": LONG}, r"\(3, 5, 2\), or a `Sequence` of at most 5 steps; received \(3, 6, 2\)"),
    "short array": (attention, {"text": LONG.values[:, :3]}, r"or a `Sequence` of at most 5 steps; received \(3, 3, 2"),
    "no dict": (film, SPEAKERS[1], "must be a dict of speaker; received"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_the_stream_as_it_was(case):
    make, context, message = REFUSED[case]
    model, whole, name, (first, second) = made(make)
    stream = kseq.Stream(model, 3, context={name: first})
    found = [stream.push(X[:, :2])]
    with pytest.raises((ValueError, TypeError), match=message):
        stream.push(X[:, 2:], context=context)
    with pytest.raises(ValueError, match="a chunk must have batch 3 and channels"):  # of which nothing is taken
        stream.push(X[:, 2:, :1], context={name: second})
    found.append(stream.push(X[:, 2:]))
    np.testing.assert_allclose(np.concatenate(found, 1), whole(first), atol=1e-5)


def test_layers_that_cannot_change_theirs():
    layer = Forgets()
    layer(X, context={"speaker": SPEAKERS[0]})
    stream = kseq.Stream(layer, 3, context={"speaker": SPEAKERS[0]})
    stream.push(X)
    with pytest.raises(ValueError, match="does not say what of its state is made of its context"):
        stream.push(X, context={"speaker": SPEAKERS[1]})
    plain = kseq.GRU(2)
    plain.build((3, 9, 2))
    with pytest.raises(ValueError, match="that changes must be a dict of nothing; received speaker"):
        kseq.Stream(plain, 3, dtype="float32").push(X, context={"speaker": SPEAKERS[1]})


def test_the_dtype_must_be_known():
    layer = kseq.FiLM("speaker")
    layer(X, context={"speaker": SPEAKERS[0]})
    stream = kseq.Stream(layer, 3, context={"speaker": SPEAKERS[0]})
    with pytest.raises(ValueError, match="once the dtype of the stream is known"):
        stream.push(X[:, :0], context={"speaker": SPEAKERS[1]})
    found = stream.push(X, context={"speaker": SPEAKERS[1]})  # also with the first chunk
    np.testing.assert_allclose(found, numpy(layer(X, context={"speaker": SPEAKERS[1]})), atol=1e-5)
    stream.push(X[:, :0], context={"speaker": SPEAKERS[0]})
    np.testing.assert_allclose(stream.push(X), numpy(layer(X, context={"speaker": SPEAKERS[0]})), atol=1e-5)
