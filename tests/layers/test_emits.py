"""`Emit` and `kseq.emitting`, and functions of the user's as layers."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.sequence import SequenceSpec

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.6}


RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 3)).astype("float32")
MASK = np.array([[False, True, True, False, True, True, True], [True] * 3 + [False] * 4])


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def ahead(filters=3, size=3):
    return kseq.Conv1D(filters, size, padding="reverse_causal")


@pytest.fixture
def nested():
    residual = kseq.Residual([ahead(), kseq.Emit("body"), kseq.GRU(3)])
    branches = kseq.Parallel([kseq.Serial([kseq.Emit("body")]), ahead()], combination="concat")
    return kseq.Serial([kseq.Dense(3), kseq.Emit(name="first"), residual, branches])


def test_emits_in_layers_of_layers(nested):
    layer = kseq.emitting(nested)
    assert layer.emit_names == ("first", "body", "body_1")
    assert [timing.output_latency for timing in layer.timings] == [4, 0, 2, 2]  # each comes as early as it can
    x = kseq.Sequence(X, MASK)
    y, first, body, second = layer(x)
    wanted = nested(x)
    np.testing.assert_allclose(array(y.values)[MASK], array(wanted.values)[MASK], atol=1e-6)
    dense, _, residual, _ = nested.layers
    np.testing.assert_allclose(array(first.values)[MASK], array(dense(x).values)[MASK], atol=1e-6)
    np.testing.assert_allclose(array(body.values)[MASK], array(residual.layers[0](first).values)[MASK], atol=1e-6)
    np.testing.assert_allclose(array(second.values)[MASK], array(residual(first).values)[MASK], atol=1e-6)
    assert all(array(part.mask).tolist() == MASK.tolist() for part in (y, first, body, second))


def test_emits_stream(nested):
    layer = kseq.emitting(nested)
    whole = layer(X[:1])
    stream = kseq.Stream(layer)
    pieces = [stream.push(X[0, :2]), stream.push(X[0, 2:3]), stream.push(X[0, 3:]), stream.flush()]
    for found, wanted in zip(zip(*pieces, strict=True), whole, strict=True):
        np.testing.assert_allclose(np.concatenate(found), array(wanted)[0], atol=1e-5)


def test_emits_are_saved(nested, tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, kseq.emitting(nested, name="told")(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("told").emit_names == ("first", "body", "body_1")
    for found, wanted in zip(again(X), model(X), strict=True):
        np.testing.assert_allclose(array(found), array(wanted), atol=1e-6)


def test_casts_of_layers_of_layers_stay():
    inner = kseq.Residual([kseq.Dense(3, dtype="bfloat16"), kseq.Emit(dtype="bfloat16")], dtype="bfloat16")
    chain = kseq.Serial([inner])
    y, seen = kseq.emitting(chain)(kseq.Sequence(X))
    wanted = chain(kseq.Sequence(X))
    assert y.spec.dtype == seen.spec.dtype == wanted.spec.dtype == "bfloat16"
    np.testing.assert_array_equal(array(ops.cast(y.values, "float32")), array(ops.cast(wanted.values, "float32")))


def test_a_shared_layer_emits_at_each_place():
    shared = kseq.Serial([kseq.Scale(2), kseq.Emit("twice")])
    layer = kseq.emitting(kseq.Serial([shared, shared]))
    y, first, second = layer(X)
    assert layer.emit_names == ("twice", "twice_1")
    for found, factor in ((y, 4), (first, 2), (second, 4)):
        np.testing.assert_allclose(array(found), factor * X, rtol=1e-6)


def test_context_reaches_layers_within():
    @kseq.register("emits.Speaker")
    class Speaker(kseq.SequenceLayer):
        context_names = ("speaker",)

        def build(self, input_shape, context_shape=None):
            pass

        def initial_state(self, batch_size, input_spec, context=None):
            return {"speaker": ops.copy(self.standardize_context(context)["speaker"].values)}

        def call_step(self, x, state, *, training=False):
            return x.apply(lambda values: values + state["speaker"]), state

    chain = kseq.Serial([kseq.Serial([Speaker(), kseq.Emit()]), kseq.Scale(2)])
    layer, context = kseq.emitting(chain), {"speaker": np.ones((2, 1, 3), "float32")}
    y, seen = layer(X, context=context)
    np.testing.assert_allclose(array(seen), X + 1, rtol=1e-6)
    np.testing.assert_allclose(array(y), 2 * X + 2, rtol=1e-6)
    stepped, _ = layer.step(X, layer.initial_state(2, SequenceSpec((3,)), context=context))
    np.testing.assert_allclose(array(stepped[1].values), X + 1, rtol=1e-6)


def test_what_cannot_emit():
    class Other(kseq.layers.Network):
        def __init__(self, layer, **kwargs):
            super().__init__(**kwargs)
            self.sublayers = (layer,)
            self.connect(*self._chain(layer))

        def _chain(self, layer):
            nodes, last = kseq.layers.network.chain([layer], kseq.layers.network.Read(0))
            return nodes, [last]

        def call_layer(self, x, *, training=False):
            return super().call_layer(x.apply(lambda values: -values), training=training)

    with pytest.raises(ValueError, match="does more than to run its layers"):
        kseq.emitting(kseq.Serial([Other(kseq.Serial([kseq.Emit()]))]))
    _, seen = kseq.emitting(kseq.Serial([Other(kseq.Scale(2)), kseq.Emit()]))(X)
    np.testing.assert_allclose(array(seen), -2 * X, rtol=1e-6)
    with pytest.raises(ValueError, match=r"holds no `kseq.Emit`"):
        kseq.emitting(kseq.Serial([kseq.Dense(2)]))
    with pytest.raises(TypeError, match="must be a kseq layer; received"):
        kseq.emitting(keras.layers.Dense(2))


# Functions.


def test_lambdas():
    layer = kseq.Lambda(lambda x: ops.cast(ops.expand_dims(x, -1) > 0, "int32"))
    assert layer.output_spec(SequenceSpec((3,))) == SequenceSpec((3, 1), "int32")
    np.testing.assert_array_equal(array(layer(X))[..., 0], X > 0)
    layer = kseq.Serial([ahead(), kseq.Lambda(lambda x: 2 * x[..., :2]), kseq.GRU(2)])
    wanted = array(layer(X))[0]
    stream = kseq.Stream(layer)
    found = np.concatenate([stream.push(X[0, :4]), stream.push(X[0, 4:]), stream.flush()])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_lambdas_that_mix_time_do_not_step():
    for function, options in (
        (lambda x: ops.cumsum(x, axis=1), {}),
        (lambda x: x.apply(lambda values: ops.flip(values, axis=1)), {"sequence_input": True}),
        (lambda x: kseq.Sequence(x.values, ops.flip(x.mask, axis=1)), {"sequence_input": True}),
    ):
        layer = kseq.Lambda(function, **options)
        layer(kseq.Sequence(X, MASK))
        with pytest.raises(kseq.NotStreamable, match="its function '<lambda>' does not treat every step by itself"):
            layer.step(X, ())
    # One that takes integers alone is tried on integers.
    layer = kseq.Lambda(lambda x: ops.take(ops.convert_to_tensor(X[0]), x, axis=0))
    assert layer.step(np.array([[1, 2]], "int32"), ())[0].values.shape == (1, 2, 3)
    layer = kseq.Lambda(lambda x: ops.take(ops.convert_to_tensor(X[0]), ops.flip(x, axis=1), axis=0))
    with pytest.raises(kseq.NotStreamable, match="other values"):
        layer.step(np.array([[1, 2]], "int32"), ())


def test_lambdas_of_sequences_have_masks_of_their_own():
    def loud(x):
        return kseq.Sequence(x.values, ops.logical_and(x.with_mask().mask, x.values[..., 0] > 0))

    layer = kseq.Lambda(loud, sequence_input=True, mask_required=True)
    y = layer(kseq.Sequence(X, MASK))
    wanted = MASK & (X[..., 0] > 0)
    np.testing.assert_array_equal(array(y.mask), wanted)
    assert not array(y.values)[~wanted].any()
    np.testing.assert_array_equal(array(layer.compute_mask(ops.convert_to_tensor(X))), X[..., 0] > 0)
    np.testing.assert_array_equal(array(layer.step(X, ())[0].mask), X[..., 0] > 0)


def test_lambdas_that_break_their_word():
    with pytest.raises(TypeError, match="must be a function; received 3"):
        kseq.Lambda(3)
    with pytest.raises(ValueError, match=r"must keep batch and time \(2, 7\); received \(2, 6\)"):
        kseq.Lambda(lambda x: x[:, 1:])(X)
    with pytest.raises(TypeError, match="must give a Sequence"):
        kseq.Lambda(lambda x: x.values, sequence_input=True)(X)
    layer = kseq.Lambda(ops.square, expected_input_spec=((3,), "float32"))
    assert layer.get_config()["expected_input_spec"] == [[3], "float32"]
    assert layer(X).shape == X.shape and layer.supports_step
    with pytest.raises(ValueError, match=r"expects values of .*\(3,\).*received .*\(2,\)"):
        layer(X[..., :2])


def test_lambdas_are_saved_as_those_of_keras(tmp_path):
    layer = kseq.Lambda(lambda x: 3 * x, mask_required=True, expected_input_spec=SequenceSpec((3,)))
    model = keras.Sequential([keras.Input((None, 3)), layer])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="disallowed"):
        keras.models.load_model(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_allclose(array(again(X)), 3 * X, rtol=1e-6)
    assert again.layers[0].mask_required and again.layers[0].expected_input_spec == SequenceSpec((3,))
    with pytest.raises(ValueError, match="disallowed"):
        kseq.Lambda.from_config(layer.get_config())
    named = kseq.Lambda(keras.activations.relu)
    np.testing.assert_allclose(array(kseq.Lambda.from_config(named.get_config())(X)), np.maximum(X, 0))
    theirs = keras.layers.Lambda(keras.activations.relu)
    np.testing.assert_allclose(array(kseq.Lambda.from_config(theirs.get_config())(X)), np.maximum(X, 0))


def test_specs_name_no_lambdas():
    text = "kseq: 1\ninput: {shape: [null, 4]}\nlayers:\n  - Lambda: {function: relu}\n"
    with pytest.raises(kseq.SpecError, match="a spec cannot say what `Lambda` is given"):
        kseq.load_spec_text(text)
    model = keras.Sequential([keras.Input((None, 3)), kseq.Lambda(keras.activations.relu)])
    with pytest.raises(kseq.SpecError, match="Lambda"):
        kseq.dump_spec(model)
