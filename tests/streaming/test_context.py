"""Context: what is known when a stream begins, in functional models and in streams."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.6}


@kseq.register("tests.Attending")
class Attending(kseq.SequenceLayer):
    """Adds to each step the mean of a source's valid steps, weighted."""

    context_names = ("source",)

    def build(self, input_shape, context_shape):
        self.kernel = self.add_weight(shape=(context_shape["source"][-1], input_shape[-1]), name="kernel")

    def initial_state(self, batch_size, input_spec, context):
        source = self.standardize_context(context)["source"].with_mask()
        total = ops.sum(ops.matmul(source.values, self.weight(self.kernel)), axis=1)
        return {"mean": total / ops.cast(source.lengths(), self.compute_dtype)[:, None]}

    def call_step(self, x, state, *, training=False):
        return x.apply(lambda values: values + state["mean"][:, None]), state


def with_mask_input():
    x, source = keras.Input((None, 3), name="x"), keras.Input((None, 2), name="source")
    mask = keras.Input((None,), dtype="bool", name="source_mask")
    encoded = kseq.Dense(4)(kseq.Sequence(source, mask))
    y = Attending()(kseq.Conv1D(3, 2, padding="reverse_causal")(x), context={"source": encoded})
    return keras.Model([x, source, mask], kseq.GRU(2)(y)), lambda a, b, m: [a, b, m]


def with_stock_encoder():
    """An encoder that could never stream, whose mask Keras carries."""
    x, source = keras.Input((None, 3), name="x"), keras.Input((None, 2), name="source")
    encoded = keras.layers.Masking()(source)
    encoded = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True))(encoded)
    y = Attending()(x, context={"source": encoded})
    return keras.Model({"x": x, "source": source}, kseq.GRU(2)(y)), lambda a, b, m: {"x": a, "source": b}


def nested():
    model, given = with_mask_input()
    tensors = [keras.Input(t.shape[1:], dtype=t.dtype, name=t.name) for t in model.inputs]
    return keras.Model(tensors, kseq.Dense(2)(model(tensors))), given


@pytest.fixture(params=[with_mask_input, with_stock_encoder, nested], ids=lambda make: make.__name__)
def made(request):
    return request.param()


def data(batch):
    rng = np.random.default_rng(0)
    x, source = rng.normal(size=(batch, 7, 3)).astype("float32"), rng.normal(size=(batch, 5, 2)).astype("float32")
    mask = np.arange(5) < np.array([5, 2, 3])[:batch, None]
    return x, np.where(mask[..., None], source, 0), mask


def test_a_model_streams_with_its_context(made):
    model, given = made
    x, source, mask = data(2)
    expected = ops.convert_to_numpy(model(given(x, source, mask)))
    masked = len(model.inputs) == 3
    stream = kseq.Stream(model, 2, context={"source": kseq.Sequence(source, mask) if masked else source})
    for _ in range(2):  # a stream begun anew has the same context
        parts = [stream.push(x[:, :1]), stream.push(x[:, 1:]), stream.flush()]
        np.testing.assert_allclose(np.concatenate(parts, 1), expected, atol=1e-5)


def test_a_model_with_context_is_saved_and_loaded(made, tmp_path):
    model, given = made
    x, source, mask = data(2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    wanted, found = (ops.convert_to_numpy(m(given(x, source, mask))) for m in (model, loaded))
    np.testing.assert_array_equal(found, wanted)
    masked = len(model.inputs) == 3
    stream = kseq.Stream(loaded, 2, context={"source": kseq.Sequence(source, mask) if masked else source})
    found = np.concatenate([stream.push(x), stream.flush()], 1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_model_with_context_trains():
    model, given = with_mask_input()
    x, source, mask = data(2)
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(given(x, source, mask), np.ones((2, 7, 2)), verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_tensor_reads_the_masks_that_keras_carries():
    x, source, mask = data(2)
    layer = Attending()
    wanted = layer(kseq.Sequence(x), context={"source": kseq.Sequence(source, mask)})
    found = layer(x, context={"source": keras.layers.Masking()(source)})
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(wanted.values), atol=1e-6)


def test_a_context_that_does_not_fit_is_refused():
    model, _ = with_stock_encoder()
    _, source, mask = data(2)
    with pytest.raises(ValueError, match="must be a dict of source; received none"):
        kseq.Stream(model, 2)
    with pytest.raises(ValueError, match="must be a dict of source; received sauce"):
        kseq.Stream(model, 2, context={"sauce": source})
    with pytest.raises(ValueError, match="reads its context 'source' without a mask"):
        kseq.Stream(model, 2, context={"source": kseq.Sequence(source, mask)})
    plain = keras.Sequential([keras.Input((None, 3)), kseq.GRU(2)])
    with pytest.raises(ValueError, match="must be none; received source"):
        kseq.Stream(plain, 2, context={"source": source})


def test_a_context_that_flows_along_is_refused_by_name():
    x = keras.Input((None, 3), name="x")
    y = Attending(name="attending")(x, context={"source": kseq.Dense(4)(x)})
    with pytest.raises(kseq.NotStreamable, match=r"attending \(Attending\): its context is made of .*x.*second input"):
        kseq.Stream(keras.Model(x, y))
