"""Whole sequences in every format: lengths, masks, structures, and what is refused."""

import keras
import numpy as np
import pytest
from exported_formats import ALL, HERE, file_of, needs

import kseq

TODAYS = {"jax": 0.3, "tensorflow": 0.3}
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype("float32")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def exported(model, tmp_path, format, **options):
    needs(format)
    path = file_of(tmp_path, format)
    kseq.export(model, path, format, mode="layer", **options)
    return kseq.open_whole(path)


def stack():
    layer = kseq.Serial([kseq.Conv1D(4, 3, padding="causal"), kseq.LayerNormalization(), kseq.Dense(2)])
    layer.build((None, None, 3))
    return layer


@pytest.mark.parametrize("format", ALL)
def test_any_length_or_one(format, tmp_path):
    layer = stack()
    whole = exported(layer, tmp_path, format, batch_size=2)
    assert whole.manifest.block == 0 and whole.manifest.mode == "layer"
    for time in (1, 5, 40):
        x = normal(2, time, 3)
        np.testing.assert_allclose(whole(x), numpy(layer(x)), atol=1e-5)
    with pytest.raises(ValueError, match="of whole sequences"):
        kseq.ExportedStream(file_of(tmp_path, format))
    whole = exported(layer, tmp_path, format, length=7)
    x = normal(1, 7, 3)
    np.testing.assert_allclose(whole(x), numpy(layer(x)), atol=1e-5)
    np.testing.assert_allclose(whole(x[0]), whole(x)[0], atol=1e-6)  # of one row, as a stream takes it
    for wrong, message in (
        (x[:, :6], "of sequences of 7 steps; received 6"),
        (normal(2, 7, 3), "batch"),
        (x[..., :2], "channels"),
        (x[None], "must have shape"),
        (x[0, :, 0], "must have shape"),
        ({"y": x}, "must be a dict of x; received a dict of y"),
    ):
        with pytest.raises(ValueError, match=message):
            whole(wrong)
    with pytest.raises(TypeError, match="castable to float32; received complex128"):
        whole(x.astype("complex128"))
    np.testing.assert_allclose(whole(x.astype("float64")), whole(x), atol=1e-6)
    np.testing.assert_allclose(whole({"x": x}), whole(x))
    y = whole(np.where(np.arange(7)[:, None] == 6, np.nan, x))
    assert np.isnan(y[:, 6:]).all()
    np.testing.assert_allclose(y[:, :6], whole(x)[:, :6], atol=1e-6)  # what is no number goes no way back
    y[...] = 0  # the caller's


@pytest.mark.parametrize("format", ALL)
def test_masks(format, tmp_path):
    layer, x = stack(), normal(2, 6, 3)
    whole = exported(layer, tmp_path, format, batch_size=2, masks=True)
    mask = np.array([[True] * 6, [True, False, True, True, False, False]])
    wanted, found = layer(kseq.Sequence(x, mask)), whole(kseq.Sequence(x, mask))
    np.testing.assert_array_equal(found.mask, numpy(wanted.mask))
    np.testing.assert_allclose(found.values[found.mask], numpy(wanted.values)[found.mask], atol=1e-5)
    np.testing.assert_allclose(whole(x), numpy(layer(x)), atol=1e-5)  # without one all is valid
    for wrong in (mask[:1], mask[:, :5]):
        with pytest.raises(ValueError, match="mask must have the shape"):
            whole(kseq.Sequence(x, wrong))
    with pytest.raises(TypeError, match="mask must be bool"):
        whole(kseq.Sequence(x, mask.astype("int8")))
    whole = exported(layer, tmp_path, format, batch_size=2)
    with pytest.raises(ValueError, match=r"export it with `masks=True`"):
        whole(kseq.Sequence(x, mask))
    np.testing.assert_allclose(whole(kseq.Sequence(x, np.ones((2, 6), bool))).values, numpy(layer(x)), atol=1e-5)


def nested():
    """Two inputs in a dict, one of them of integers, and outputs in a structure."""
    a, b = keras.Input((None, 3), name="a"), keras.Input((None,), dtype="int32", name="b")
    joined = keras.layers.Add()([a, keras.layers.Embedding(5, 3)(b)])
    outputs = {"sum": joined, "both": [keras.layers.Dense(2)(joined), a * 2.0]}
    return keras.Model({"a": a, "b": b}, outputs)


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("masks", [False, True])
def test_structures(format, masks, tmp_path):
    model = nested()
    whole = exported(model, tmp_path, format, length=4, masks=masks)
    x = {"a": normal(1, 4, 3), "b": np.array([[0, 4, 2, 1]])}
    found, wanted = whole(x), model(x)
    for ours, theirs in (
        (found["sum"], wanted["sum"]),
        (found["both"][0], wanted["both"][0]),
        (found["both"][1], wanted["both"][1]),
    ):
        np.testing.assert_allclose(ours, numpy(theirs), atol=1e-5)
    for wrong, message in (
        ({"a": x["a"]}, "must be a dict of a, b; received a dict of a"),
        (x["a"], "must be a dict of a, b"),
        ([x["a"], x["b"]], "must be a dict of a, b"),
        (x | {"c": x["b"]}, "must be a dict of a, b"),
        ({"a": x["a"], "b": x["b"][:, :3]}, "equally many"),
    ):
        with pytest.raises(ValueError, match=message):
            whole(wrong)
    with pytest.raises(TypeError, match="castable to int32"):
        whole(x | {"b": x["b"] * 1.5})


@pytest.mark.parametrize("format", ALL)
def test_a_mask_that_is_an_input(format, tmp_path):
    x, mask = keras.Input((None, 3), name="x"), keras.Input((None,), dtype="bool", name="there")
    model = keras.Model([x, mask], kseq.MinGRU(2)(x, mask=mask))
    given = {"x": normal(1, 5, 3), "there": np.array([[True, True, False, True, False]])}
    wanted = numpy(model([given["x"], given["there"]]))
    as_input = exported(model, tmp_path, format, length=5)
    np.testing.assert_allclose(as_input([given["x"], given["there"]]), wanted, atol=1e-5)
    np.testing.assert_allclose(as_input(given), wanted, atol=1e-5)
    as_mask = exported(model, tmp_path, format, length=5, masks=True)
    found = as_mask(kseq.Sequence(given["x"], given["there"]))
    np.testing.assert_allclose(found.values[found.mask], wanted[found.mask], atol=1e-5)
    for form in (given, [given["x"], given["there"]]):
        found = as_mask(form)
        found = getattr(found, "values", found)
        np.testing.assert_allclose(found[given["there"]], wanted[given["there"]], atol=1e-5)


def test_what_has_no_time_any_more_and_what_is_subclassed(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(2), keras.layers.Dense(1)])
    x = normal(2, 6, 3)
    whole = exported(model, tmp_path, HERE[-1], batch_size=2, length=6)
    np.testing.assert_allclose(whole(x), numpy(model(x)), atol=1e-5)

    class Two(keras.Model):
        def build(self, shape):
            self.dense = keras.layers.Dense(2)
            self.dense.build(shape)

        def call(self, x):
            return {"one": self.dense(x), "two": (x, x * 2.0)}

    model = Two()
    model.build((2, None, 3))
    whole = exported(model, tmp_path, HERE[-1], batch_size=2)
    found = whole(x)
    np.testing.assert_allclose(found["one"], numpy(model(x)["one"]), atol=1e-5)
    np.testing.assert_allclose(found["two"][1], 2 * x)
