"""Adapters by registration: of stock layers, of a third party's, and what has none."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.show import summary_rows


class Lagged(keras.layers.Layer):
    """Somebody's Keras layer: the step before, times a weight."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")

    def call(self, x, twice=False):
        channels = [(0, 0)] * (len(x.shape) - 2)
        shifted = ops.pad(x, [(0, 0), (1, 0), *channels])[:, :-1] * self.scale
        return 2 * shifted if twice else shifted


class _SteppingLagged(kseq.SequenceLayer):
    def __init__(self, layer, factor):
        super().__init__(name=layer.name)
        self.lagged, self.factor = layer, factor
        self.built = True

    @property
    def timing(self):
        return kseq.Timing(receptive_field_per_step=((-1, -1),))

    def initial_state(self, batch_size, input_spec, context=None):
        return {"last": ops.zeros((batch_size, 1, *input_spec.shape))}

    def call_step(self, x, state, *, training=False):
        joined = ops.concatenate([state["last"], x.values], axis=1)
        y = joined[:, :-1] * ops.convert_to_tensor(self.lagged.scale) * self.factor
        return kseq.Sequence(y, x.mask), {"last": joined[:, -1:]}


@kseq.adapts(Lagged)
def lagged(layer, specs, twice=False):
    if len(specs.shape) != 1:
        raise ValueError(f"it takes one channel axis; received channels {specs.shape}")
    return _SteppingLagged(layer, 2 if twice else 1)


def test_a_third_party_adapts_its_own_layer():
    x = keras.Input((None, 2))
    model = keras.Model(x, keras.layers.Dense(2)(Lagged(name="lagged")(x, twice=True)))
    frames = np.random.default_rng(0).normal(size=(1, 6, 2)).astype("float32")
    stream = kseq.Stream(model)
    found = np.concatenate([stream.push(frames[:, :2]), stream.push(frames[:, 2:])], axis=1)
    np.testing.assert_allclose(found, ops.convert_to_numpy(model(frames)), atol=1e-6)
    row = summary_rows(model)[0]
    assert (row["layer"], row["type"], row["past"], row["state_bytes"]) == ("lagged", "_SteppingLagged", 1, 8)


def test_an_adapter_says_why_this_very_layer_does_not_stream():
    x = keras.Input((None, 2, 2))
    model = keras.Model(x, Lagged(name="lagged")(x))
    with pytest.raises(kseq.NotStreamable, match=r"lagged \(Lagged\): it takes one channel axis"):
        kseq.Stream(model)


def test_an_option_that_an_adapter_does_not_take_is_named():
    x = keras.Input((None, 2))
    model = keras.Model(x, keras.layers.BatchNormalization(name="norm")(x, training=True))
    with pytest.raises(kseq.NotStreamable, match=r"norm \(BatchNormalization\): called with training=True it may mix"):
        kseq.Stream(model)
    attention = keras.layers.MultiHeadAttention(1, 2, name="attention")
    model = keras.Model(x, attention(x, x, attention_mask=np.ones((1, 4, 4), bool)))
    with pytest.raises(kseq.NotStreamable, match=r"\(MultiHeadAttention\): it is called with `attention_mask`"):
        kseq.Stream(model)


class Averaged(keras.layers.Dense):
    """A subclass that mixes time."""

    def call(self, inputs, training=None):
        return super().call(inputs) + ops.mean(inputs, axis=1, keepdims=True)


class Renamed(keras.layers.Dense):
    """A subclass that computes what its parent computes."""


def test_an_adapter_is_for_what_a_class_computes():
    x = keras.Input((None, 2))
    with pytest.raises(kseq.NotStreamable, match=r"averaged \(Averaged\): it has no streaming form; use @kseq"):
        kseq.Stream(keras.Model(x, Averaged(2, name="averaged")(x)))
    assert kseq.Stream(keras.Model(x, Renamed(2)(x))).timing == kseq.Timing()


def test_the_error_has_a_row_for_each_layer():
    x = keras.Input((None, 2))
    y = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True), name="both")(x)
    inner = keras.Sequential([keras.Input((None, 4)), keras.layers.GroupNormalization(2, name="norm")], name="inner")
    model = keras.Model(x, ops.cumsum(inner(y), axis=1))
    with pytest.raises(kseq.NotStreamable) as error:
        kseq.Stream(model)
    rows = error.value.obstacles
    assert [(row.layer, row.type, row.instead) for row in rows[:2]] == [
        ("both", "Bidirectional", "its `forward_layer` alone, or a layer that looks ahead, such as a convolution"),
        ("norm", "GroupNormalization", "kseq.GroupNormalization"),
    ]
    assert rows[2].type == "Cumsum" and "its axis is batch or time" in rows[2].reason
    assert isinstance(error.value, ValueError)
    layers = {row["layer"]: row["obstacle"] for row in summary_rows(model)}
    assert layers["norm"] == "its mean and variance are those of all steps; use kseq.GroupNormalization"
    own = kseq.Serial([kseq.Conv1D(2, 3, padding="same", name="wide"), kseq.GRU(2)])
    own.build((None, None, 2))
    with pytest.raises(kseq.NotStreamable) as error:
        kseq.Stream(own)
    assert [(row.layer, row.type) for row in error.value.obstacles] == [("wide", "Conv1D")]
    assert "'causal'" in error.value.obstacles[0].instead


def test_a_subclassed_model_is_refused_by_name_and_shown():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    x = keras.Input((None, 2))
    model = keras.Model(x, Subclassed()(x))
    with pytest.raises(kseq.NotStreamable, match=r"own \(Subclassed\): it is a subclassed model"):
        kseq.Stream(model)
    assert summary_rows(model)[0]["obstacle"].startswith("it is a subclassed model")
    with pytest.raises(TypeError, match="expected a sequential or functional Keras model; received <Subclassed"):
        kseq.Stream(Subclassed())


class Plain(keras.Model):
    """A subclassed model of layers and operations."""

    def __init__(self):
        super().__init__(name="own")
        self.conv, self.gru = keras.layers.Conv1D(4, 3, padding="same"), keras.layers.GRU(2, return_sequences=True)

    def call(self, x):
        return self.gru(ops.tanh(self.conv(x)) * 0.5)


def test_a_subclassed_model_may_declare_itself():
    @kseq.traceable
    class Declared(Plain):
        pass

    model = Declared()
    with pytest.raises(ValueError, match="the model 'own' must be built before it can stream"):
        kseq.Stream(model)
    frames = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    wanted = ops.convert_to_numpy(model(frames))
    for given in (model, keras.Sequential([keras.Input((None, 3)), model])):
        stream = kseq.Stream(given, 2)
        found = np.concatenate([stream.push(frames[:, :2]), stream.push(frames[:, 2:]), stream.flush()], axis=1)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert {id(v) for v in stream.layer.variables} == {id(v) for v in model.variables}
    model.set_weights([w * 0.5 for w in model.get_weights()])
    np.testing.assert_allclose(
        kseq.Stream(model, 2).push(frames), ops.convert_to_numpy(model(frames))[:, :6], atol=1e-5
    )


def test_what_is_declared_must_be_readable():
    @kseq.traceable
    class Branching(keras.Model):
        def build(self, input_shape):
            self.built = True

        def call(self, x):
            return x * 2 if float(ops.sum(x)) > 0 else x

    model = Branching(name="own")
    model(np.ones((1, 4, 4), "float32"))
    with pytest.raises(kseq.NotStreamable, match=r"own \(Branching\): its call cannot be read on symbols"):
        kseq.Stream(model)

    class Another(Branching):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="expected a sequential or functional Keras model"):
        kseq.Stream(Another())
    with pytest.raises(TypeError, match="a class of Keras models; received <class 'int'>"):
        kseq.traceable(int)


def test_adapters_are_for_keras_layers():
    with pytest.raises(TypeError, match="classes of Keras layers; received <class 'int'>"):
        kseq.adapts(int)


def test_the_summary_gives_state_and_timing_of_stock_layers():
    x = keras.Input((None, 2))
    y = keras.layers.Concatenate(name="both")([keras.layers.Dense(3, name="dense")(x), x])
    rows = {row["layer"]: row for row in summary_rows(keras.Model(x, y))}
    assert rows["dense"]["output_shape"] == [None, None, 3]
    assert rows["both"]["output_shape"] == [None, None, 5]
    assert rows["dense"]["state_bytes"] == 0 and rows["dense"]["block"] == 1
