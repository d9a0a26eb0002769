"""The stream of a model follows Keras's own rules for masks, node by node."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops
from random_models import to_sequence
from sampling import todays

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.4, "tensorflow": 0.6}

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 9, 3)).astype("float32")
X[:, 3:5] = 0  # for Masking
MASK = np.array([[0, 1, 1, 0, 0, 1, 1, 1, 0]], bool)

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")


def lookahead(x, **options):
    return kseq.Conv1D(3, 3, padding="reverse_causal_valid")(x, **options)


def check(model, chunk, expected, cuts=(0, 1, 4, 9)):
    """Compare a stream with what Keras makes of the whole."""
    stream = kseq.Stream(model)
    cut = [stream.push(chunk.slice_time(*cut)) for cut in itertools.pairwise(cuts)]
    found = kseq.Sequence.concatenate([*cut, stream.flush()]).with_mask()
    wanted = to_sequence(expected)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    np.testing.assert_allclose(found.mask_invalid().values, wanted.mask_invalid().values, atol=1e-5)


OF_TENSORS = {
    "a merge of a mask and none": lambda x: layers.Add()([lookahead(x), x]),
    "a merge of two masks": lambda x: layers.Add()([lookahead(layers.Masking()(x)), layers.Masking()(x)]),
    "a maximum of the valid": lambda x: layers.Maximum()([lookahead(x), layers.Masking()(x)]),
    "a product of the valid": lambda x: layers.Multiply()([lookahead(x), layers.Masking()(x)]),
    "a concatenation": lambda x: layers.Concatenate()([lookahead(x), layers.Masking()(x)]),
    "an operator": lambda x: layers.Masking()(x) * 2.0,
    "an operator after a lookahead": lambda x: lookahead(x) * 2.0,
    "an operator after another rate": lambda x: kseq.Conv1D(3, 2, strides=2)(lookahead(x)) * 2.0,
    "normalised": lambda x: layers.BatchNormalization()(layers.Masking()(x)),
    "normalised after a kseq layer": lambda x: layers.BatchNormalization()(lookahead(x)),
    "a mask of an operation": lambda x: kseq.GRU(3)(x, mask=ops.any(x > 0, axis=-1)),
    "a mask that an operation turns": lambda x: lookahead(x, mask=ops.logical_not(ops.any(x > 0, axis=-1))),
    "a sequence without mask": lambda x: lookahead(kseq.Sequence(layers.Masking()(x))).values,
}


@pytest.mark.parametrize(
    ("build", "masked"),
    todays(
        [
            pytest.param(build, masked, id=f"{name}, {'masked' if masked else 'no mask'}")
            for name, build in OF_TENSORS.items()
            for masked in (False, True)
        ],
        of="masks of tensors",
        jax=0.4,
        tensorflow=0.4,
    ),
)
def test_masks_of_tensors(build, masked):
    x = keras.Input((None, 3))
    model = keras.Model(x, kseq.Conv1D(2, 2, padding="reverse_causal")(kseq.GRU(3)(build(x))))
    mask = MASK if masked else None
    check(model, kseq.Sequence(X, mask), model(X, mask=ops.convert_to_tensor(mask) if masked else None))


OF_SEQUENCES = {
    "another mask": lambda s: kseq.Sequence(kseq.Conv1D(3, 2, padding="causal_valid")(s).values, s.mask),
    "values of an input": lambda s: layers.Dense(3, bias_initializer="ones")(s.values),
    "values of a layer": lambda s: layers.Dense(3, bias_initializer="ones")(kseq.Dense(3)(s).values),
    "a mask beside a tensor": lambda s: kseq.GRU(3)(s.values, mask=s.mask),
    "a mask for a Keras layer": lambda s: layers.BatchNormalization()(s.values, mask=s.mask),
    "the mask as values": lambda s: kseq.Conv1D(3, 2, padding="reverse_causal")(ops.cast(s.mask, "float32")[..., None]),
}


@pytest.mark.parametrize("build", OF_SEQUENCES.values(), ids=OF_SEQUENCES.keys())
def test_masks_of_sequences(build):
    s = kseq.Sequence(keras.Input((None, 3)), keras.Input((None,), dtype="bool"))
    model = keras.Model([*s], lookahead(kseq.GRU(3)(build(s))))
    check(model, kseq.Sequence(X, MASK), model([X, MASK]))


def test_embedding_with_mask_zero():
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(7, 3, mask_zero=True), kseq.GRU(2), layers.Dense(2)]
    )
    ids = np.array([[0, 0, 1, 2, 0, 3, 0, 0, 1]], "int32")
    check(model, kseq.Sequence(ids), model(ids))
    check(model, kseq.Sequence(ids, MASK), model(ids, mask=ops.convert_to_tensor(MASK)))


@pytest.mark.parametrize("given", ["by Keras", "by hand"])
def test_a_model_in_the_model_is_given_a_mask(given):
    x, q = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    inner = keras.Sequential([keras.Input((None, 3)), kseq.Dense(3), kseq.GRU(2)])
    y = inner(layers.Masking()(x)) if given == "by Keras" else inner(x, mask=q)
    model = keras.Model([x, q], layers.Add()([y, inner(x)]))
    check(model, kseq.Sequence(X, MASK), model([X, MASK]))


def test_the_mask_of_a_kseq_layer_is_not_traced_into_a_model():
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.BatchNormalization()(lookahead(layers.Masking()(x))))
    assert [type(operation).__name__ for operation in model.operations] == [
        "InputLayer",
        "Masking",
        "Conv1D",
        "BatchNormalization",
    ]


def test_rows_that_are_apart_know_what_is_there():
    x = keras.Input((None, 3))
    model = keras.Model(x, kseq.Conv1D(2, 2, padding="reverse_causal")(lookahead(x) * 2.0 + 1.0))
    rows = RNG.normal(size=(2, 6, 3)).astype("float32")
    stream = kseq.Stream(model, 2)
    found = [stream.push(rows[:, :2], np.array([True, True])), stream.push(rows[:, 2:5], np.array([True, False]))]
    found.append(stream.flush(np.array([True, False])))
    wanted = ops.convert_to_numpy(model(rows[:1, :5]))[0]
    np.testing.assert_allclose(np.concatenate([part[0] for part in found]), wanted, atol=1e-5)
    late = [stream.push(rows[:, 2:], np.array([False, True]))]
    late.append(stream.flush(np.array([False, True])))
    wanted = ops.convert_to_numpy(model(rows[1:]))[0]
    np.testing.assert_allclose(np.concatenate([part[1] for part in (*found, *late)]), wanted, atol=1e-5)
