"""`kseq.masks.check`: each planted fault is found, with its size and its layer, and nothing where there is none."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers as stock

import kseq
from kseq.doctor import MaskReport
from kseq.doctor.report import LARGE, LEAK, LOST, MISSING, NAN, OWN, REFUSED, WRONG

TODAYS = {"jax": 0.05, "tensorflow": 0.05}


def quietly(make, *args, **kwargs):
    """What is made, without Keras's warning that a layer loses the mask, which is what these tests are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make(*args, **kwargs)


def chain(*layers, shape=(None, 4), dtype="float32"):
    return quietly(keras.Sequential, [keras.Input(shape, dtype=dtype), *layers], name="net")


def masked(*layers, **options):
    return chain(stock.Masking(name="masking"), *layers, **options)


def with_mask(layer, shape):
    """A model of sequences with axes of space, whose masks are an input."""
    x, mask = keras.Input(shape), keras.Input((None,), dtype="bool")
    return quietly(lambda: keras.Model([x, mask], layer(kseq.Identity()(kseq.Sequence(x, mask)).values)))


def found(report):
    return [(fault.layer, fault.fault, fault.padding, fault.training) for fault in report]


@keras.saving.register_keras_serializable("tests")
class Backwards(stock.Layer):
    """Turns time round, padding included, and keeps the mask as it is."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        return keras.ops.flip(x, axis=1)


class TimesMask(stock.Layer):
    """The mean of valid steps, which it multiplies by the mask: zero times NaN is NaN."""

    def __init__(self):
        super().__init__(name="layer")
        self.supports_masking = True

    def call(self, x, mask=None):
        weights = keras.ops.ones_like(x[..., :1]) if mask is None else keras.ops.cast(mask, x.dtype)[..., None]
        return keras.ops.sum(x * weights, axis=1) / keras.ops.sum(weights, axis=1)

    def compute_mask(self, inputs, mask=None):
        return None


class ShortMask(stock.Layer):
    def __init__(self):
        super().__init__(name="layer")
        self.supports_masking = True

    def call(self, x):
        return x + 0.0

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[:, 1:]


FAULTY = {
    "Conv1D same": (stock.Conv1D(2, 3, padding="same", name="layer"), {(LOST, None), (LEAK, LARGE)}),
    "Conv1D causal": (stock.Conv1D(2, 3, padding="causal", name="layer"), {(LOST, None)}),
    "Conv1D strided same": (stock.Conv1D(2, 3, strides=2, padding="same", name="layer"), {(LOST, None), (LEAK, OWN)}),
    "DepthwiseConv1D": (stock.DepthwiseConv1D(3, padding="same", name="layer"), {(LOST, None), (LEAK, LARGE)}),
    "SeparableConv1D": (stock.SeparableConv1D(2, 3, name="layer"), {(LOST, None)}),
    "MaxPooling1D": (stock.MaxPooling1D(2, name="layer"), {(LOST, None)}),
    "AveragePooling1D": (stock.AveragePooling1D(2, padding="same", name="layer"), {(LOST, None), (LEAK, OWN)}),
    "ZeroPadding1D": (stock.ZeroPadding1D(1, name="layer"), {(LOST, None), (LEAK, LARGE)}),
    "UpSampling1D": (stock.UpSampling1D(2, name="layer"), {(LOST, None)}),
    "EinsumDense": (stock.EinsumDense("btc,cd->btd", (None, 2), name="layer"), {(LOST, None)}),
    "RMSNormalization": (stock.RMSNormalization(name="layer"), {(LOST, None)}),
    "GroupNormalization": (stock.GroupNormalization(2, name="layer"), {(LEAK, OWN)}),
    "GlobalMaxPooling1D": (stock.GlobalMaxPooling1D(name="layer"), {(LEAK, LARGE)}),
    "Flatten": (stock.Flatten(name="layer"), {(LOST, None)}),
    "Permute": (stock.Permute((2, 1), name="layer"), {(LOST, None)}),
    "Softmax": (stock.Softmax(name="layer"), {(REFUSED, None)}),
    "backwards": (stock.GRU(2, return_sequences=True, go_backwards=True, name="layer"), {(LEAK, OWN)}),
    "custom": (Backwards(name="layer"), {(LEAK, OWN)}),
    "NaN": (TimesMask(), {(LEAK, NAN)}),
    "wrong mask": (ShortMask(), {(WRONG, None)}),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_planted_fault_is_found(name):
    layer, wanted = FAULTY[name]
    report = kseq.masks.check(masked(layer))
    assert report
    assert not report.unchecked
    assert {(fault.layer, fault.fault, fault.padding) for fault in report} == {("layer", *row) for row in wanted}
    for fault in report:
        assert fault.type == type(layer).__name__
        assert not fault.training
        assert (fault.size is not None) == (fault.padding in (OWN, LARGE))
        assert str(fault) in str(report)


@pytest.mark.parametrize(
    ("layer", "twin"),
    [
        (stock.Conv1D(2, 3, padding="same"), "kseq.Conv1D"),
        (stock.AveragePooling1D(2, padding="same"), "kseq.AveragePooling1D(masked_average=True)"),
        (stock.GroupNormalization(2), "kseq.GroupNormalization"),
    ],
)
def test_what_to_use_instead(layer, twin):
    assert {fault.instead for fault in kseq.masks.check(masked(layer))} == {twin}


FAULTLESS = {
    "recurrent": lambda: masked(
        stock.Bidirectional(stock.GRU(2, return_sequences=True)), stock.Dropout(0.5), stock.LSTM(2), stock.Dense(2)
    ),
    "tokens": lambda: chain(stock.Embedding(5, 3, mask_zero=True), stock.LSTM(2), shape=(None,), dtype="int32"),
    "statistics": lambda: masked(stock.BatchNormalization(), stock.LayerNormalization(), stock.GaussianNoise(0.1)),
    "mean": lambda: masked(stock.Dense(2), stock.GlobalAveragePooling1D()),
    "ours": lambda: masked(
        kseq.Conv1D(3, 3, strides=2, padding="reverse_causal"),
        kseq.BatchNormalization(),
        kseq.MaxPooling1D(2),
        kseq.GroupNormalization(3),
        kseq.SelfAttention(1, 2, max_future_horizon=None),
    ),
    "causal, without any mask": lambda: chain(kseq.Conv1D(2, 2), stock.LSTM(2, return_sequences=True), stock.Dense(1)),
    "not compiled by shape": lambda: masked(stock.Dense(3), stock.TimeDistributed(stock.Dense(2)), shape=(9, 4)),
}


@pytest.mark.parametrize("name", FAULTLESS)
def test_no_fault_no_row(name):
    report = kseq.masks.check(FAULTLESS[name]())
    assert not report, str(report)
    assert report.ok
    assert len(report) == 0
    assert not report.unchecked
    assert "no faults" in str(report)
    assert [output.size for output in report.outputs] == [0.0] * len(report.outputs)


def test_windows_over_space():
    report = kseq.masks.check(with_mask(stock.Conv2D(2, 3, padding="same", name="conv"), (None, 5, 2)))
    assert found(report) == [("conv", LOST, None, False), ("conv", LEAK, LARGE, False)]


def _within(layer, x):
    given = keras.Input((None, 4))
    return keras.Model(given, layer(stock.Dense(4)(given)), name="inner")(x)


class Doubled(stock.Layer):
    """A layer of somebody's that keeps the mask."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, x):
        return 2 * x


# Where a layer at fault stands, of what reads a masked sequence and tokens.
PLACES = {
    "two inputs": lambda layer, x, ids: layer(stock.Add()([x, stock.Embedding(5, 4, mask_zero=True)(ids)])),
    "a model in the model": lambda layer, x, ids: _within(layer, x),
    "before a recurrence": lambda layer, x, ids: stock.LSTM(3, return_sequences=True)(layer(x)),
    "after somebody's layer": lambda layer, x, ids: layer(Doubled()(x)),
    "called twice": lambda layer, x, ids: stock.LSTM(2)(stock.Concatenate()([layer(x), layer(Doubled()(x))])),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "name", ["Conv1D same", "Conv1D causal", "MaxPooling1D", "ZeroPadding1D", "EinsumDense", "GroupNormalization"]
)
def test_wherever_it_stands_it_alone_is_named(name, place):
    made, wanted = FAULTY[name]
    layer = type(made).from_config(made.get_config())
    x, ids = keras.Input((None, 4), name="x"), keras.Input((None,), dtype="int32", name="ids")
    y = quietly(PLACES[place], layer, stock.Masking()(x), ids)
    report = kseq.masks.check(
        quietly(keras.Model, {"x": x, "ids": ids}, {"y": y, "tokens": stock.Embedding(5, 2, mask_zero=True)(ids)})
    )
    own = [fault for fault in report if fault.fault != MISSING]  # of what reads a mask that is lost before
    assert {fault.layer.split("/")[-1] for fault in own} == {"layer"}
    assert {fault.fault for fault in own} == {fault for fault, _ in wanted}
    assert all(fault.instead for fault in own)
    assert all(fault.size > 0 for fault in own if fault.fault == LEAK)
    assert {fault.layer.partition("_")[0] for fault in report if fault.fault == MISSING} <= {"lstm"}


def test_the_size_is_what_valid_steps_are_off_by():
    dense, conv = stock.Dense(2, use_bias=False), stock.Conv1D(1, 3, padding="same", name="conv")
    model = masked(dense, stock.Lambda(lambda x: x + 1.0), conv)
    conv.set_weights([np.full((3, 2, 1), 0.5), np.zeros(1)])  # the last valid step sees one step of padding, ones
    leaks = [fault for fault in kseq.masks.check(model) if fault.fault == LEAK]
    assert [fault.layer for fault in leaks] == ["conv"]
    assert leaks[0].padding == OWN
    assert leaks[0].size == pytest.approx(1.0, rel=1e-5)


def test_what_a_lost_mask_does_later():
    conv = stock.Conv1D(3, 2, padding="causal", name="conv")
    report = kseq.masks.check(masked(conv, stock.BatchNormalization(name="norm"), stock.LSTM(2, name="last")))
    assert found(report) == [
        ("conv", LOST, None, False),
        ("norm", MISSING, OWN, True),
        ("last", MISSING, OWN, False),
    ]


def test_statistics_of_a_model_without_any_mask():
    assert found(kseq.masks.check(chain(stock.BatchNormalization(name="norm")))) == [("norm", MISSING, OWN, True)]


def test_a_mask_comes_with_x():
    model = chain(stock.BatchNormalization(name="norm"))
    x = kseq.Sequence.from_lengths(np.ones((2, 6, 4), "float32") * np.arange(6)[:, None], [6, 3])
    assert not kseq.masks.check(model, x)
    assert kseq.masks.check(model, x.values)


def test_operations():
    given = stock.Masking()(keras.Input((None, 3)))
    added = given + stock.Dense(3)(given)
    report = kseq.masks.check(keras.Model(given, keras.ops.relu(stock.Dense(2)(added))))
    assert [(fault.type, fault.fault, fault.instead) for fault in report] == [
        ("Add", LOST, "keras.layers.Add"),
        ("Relu", LOST, "kseq.Lambda or another layer that keeps the mask"),
    ]


def test_values_whose_mask_is_given_beside_them_have_lost_none():
    x = kseq.Sequence(keras.Input((None, 2)), keras.Input((None,), dtype="bool"))
    y = kseq.Conv1D(2, 3, padding="same")(x)
    y = kseq.LSTM(2)(kseq.Sequence(keras.ops.relu(y.values) + 1.0, y.mask))
    assert not kseq.masks.check(keras.Model(x, y))


def test_layers_within_models_and_shared_ones():
    inner = chain(stock.Dense(4), stock.Conv1D(4, 2, padding="causal", name="conv"))
    inner.name = "inner"
    given = keras.Input((None, 4))
    shared = stock.ZeroPadding1D((1, 0), name="padding")
    model = quietly(lambda: keras.Model(given, shared(shared(inner(inner(stock.Masking()(given)))))))
    assert found(kseq.masks.check(model)) == [("inner/conv", LOST, None, False), ("padding", LOST, None, False)]


def test_a_subclassed_model():
    class Tagger(keras.Model):
        def __init__(self):
            super().__init__(name="named")
            self.embedding = stock.Embedding(9, 4, mask_zero=True)
            self.conv = stock.Conv1D(4, 3, padding="same", name="conv")
            self.inner = chain(stock.Conv1D(4, 2, padding="causal", name="inner_conv"))

        def call(self, x):
            return self.inner(self.conv(self.embedding(x)))

    model, x = Tagger(), np.random.default_rng(0).integers(1, 9, (3, 8))
    quietly(model, x)
    report = kseq.masks.check(model, x)
    assert found(report) == [
        ("conv", LOST, None, False),
        ("conv", LEAK, OWN, False),
        ("net/inner_conv", LOST, None, False),
    ]
    assert "call" not in vars(model.conv)
    with pytest.raises(ValueError, match=r"the model 'named' has no keras\.Input .* give rows as `x`"):
        kseq.masks.check(model)


def test_a_subclassed_model_whose_own_call_is_at_fault():
    class Reversing(keras.Model):
        def __init__(self):
            super().__init__(name="reversing")
            self.dense = stock.Dense(2)

        def call(self, x):
            return keras.ops.flip(self.dense(x), axis=1)

    model, x = Reversing(), np.ones((2, 5, 3), "float32") * np.arange(5)[:, None]
    model(x)
    assert [(fault.layer, fault.fault) for fault in kseq.masks.check(model, x)] == [
        ("reversing", LOST),
        ("reversing", LEAK),
    ]


def test_several_inputs_by_name():
    values, tokens, size = keras.Input((None, 3), name="values"), keras.Input((None,), name="tokens", dtype="int32"), 5
    once = keras.Input((2,), name="once")
    both = stock.Concatenate()([stock.Masking()(values), stock.Embedding(size, 2, mask_zero=True)(tokens)])
    y = stock.LSTM(3)(quietly(stock.Conv1D(2, 1, name="conv"), both))
    y = stock.Dense(2)(stock.Concatenate()([y, once]))
    model = keras.Model({"values": values, "tokens": tokens, "once": once}, {"y": y})
    assert [fault.layer for fault in kseq.masks.check(model) if fault.fault != MISSING] == ["conv"]
    rng = np.random.default_rng(0)
    x = {"values": rng.normal(size=(2, 6, 3)), "tokens": rng.integers(1, size, (2, 6)), "once": rng.normal(size=(2, 2))}
    assert [fault.layer for fault in kseq.masks.check(model, x) if fault.fault != MISSING] == ["conv"]
    with pytest.raises(ValueError, match="`x` must have the structure of the inputs of the model: values, tokens"):
        kseq.masks.check(model, [x["values"]])
    with pytest.raises(ValueError, match=r"for the input 'values'; received \(2, 6, 2\)"):
        kseq.masks.check(model, x | {"values": x["values"][..., 1:]})
    with pytest.raises(ValueError, match="equally many rows and steps"):
        kseq.masks.check(model, x | {"tokens": x["tokens"][:, 1:]})


def test_what_cannot_be_tried_is_said():
    report = kseq.masks.check(masked(stock.Flatten(name="flatten"), stock.Dense(2, name="dense"), shape=(6, 4)))
    assert found(report) == [("flatten", LOST, None, False)]
    assert [row.layer for row in report.unchecked] == ["dense"]
    assert "dense (Dense): not checked: it fails on a row alone" in str(report)


def test_strides_get_rows_that_are_long_enough():
    strided = [stock.Conv1D(2, 4, strides=4, name=f"conv{i}") for i in range(3)]
    assert [row[:2] for row in found(kseq.masks.check(chain(*strided)))] == [(conv.name, LOST) for conv in strided]


def test_nothing_changes():
    model = masked(stock.BatchNormalization(), stock.Dropout(0.5), stock.LSTM(2, return_sequences=True, dropout=0.5))
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
    kseq.masks.check(model)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_rounding_is_no_leak(policy):
    layers = [stock.Dense(4, dtype=policy), stock.LSTM(4, return_sequences=True, dtype=policy)]
    last = kseq.Conv1D(2, 3, padding="same", dtype=policy)
    assert not kseq.masks.check(masked(*layers, stock.LayerNormalization(dtype=policy), last))


def test_as_data():
    report = kseq.masks.check(masked(TimesMask()))
    data = json.loads(report.to_json())
    assert data == report.to_dict()
    assert data["model"] == "net"
    assert data["ok"] is False
    assert [(row["layer"], row["fault"], row["padding"], row["size"]) for row in data["faults"]] == [
        ("layer", LEAK, NAN, None)
    ]
    assert isinstance(report, MaskReport)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: 3, TypeError, "expected a Keras model; received 3 of type int"),
        (lambda: keras.Sequential([stock.Dense(2)]), ValueError, "must be built"),
        (lambda: chain(stock.Dense(2), shape=(4,)), ValueError, "an input with a time axis"),
        (lambda: chain(stock.Dense(2), shape=(1, 4)), ValueError, "rows of 2 or more"),
        (lambda: chain(stock.Identity(), shape=(None,), dtype="string"), ValueError, "give them as `x`"),
    ],
)
def test_bad_models(make, error, match):
    with pytest.raises(error, match=match):
        kseq.masks.check(make())


def test_x_of_one_step():
    with pytest.raises(ValueError, match=r"a row of 2 time steps or more; received shapes \[\(2, 1, 4\)\]"):
        kseq.masks.check(chain(stock.Dense(2)), np.zeros((2, 1, 4), "float32"))
