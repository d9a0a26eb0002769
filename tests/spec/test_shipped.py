"""Every shipped spec: drawn, trained for a few steps, streamed; loading and dumping are tested with all models."""

import xml.etree.ElementTree as ElementTree

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays
from small_specs import SMALL

import kseq
from kseq.show import timeline_svg
from kseq.spec import shipped

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6}

# What has weights to train.
TRAINED = [name for name in SMALL if name != "log_mel"]
TIME = 16  # two blocks of the U-Net


def data(model):
    """Inputs and targets of a model, random, for two rows."""
    random = np.random.default_rng(0)
    values, *masks = model.inputs
    shape = (2, TIME, *values.shape[2:])
    if values.dtype == "int32":
        x = random.integers(0, 16, shape).astype("int32")
    else:
        x = random.normal(size=shape).astype("float32")
    outputs = ops.convert_to_numpy(model([x, np.ones((2, TIME), bool)] if masks else x)).shape
    framewise = "Sparse" in str(model.get_compile_config()["loss"])
    y = random.integers(0, outputs[-1], outputs[:2]) if framewise else random.normal(size=outputs).astype("float32")
    return [x, np.ones((2, TIME), bool)] if masks else x, y


def test_all_are_tested():
    assert shipped().keys() == SMALL.keys()


@pytest.mark.parametrize(
    "name", todays([pytest.param(name, id=name) for name in SMALL], of="shipped specs", jax=0.45, tensorflow=0.45)
)
def test_a_shipped_spec_trains_and_streams(name):
    model = kseq.load_spec(shipped()[name], vars=SMALL[name])
    assert model.name == name
    if name in TRAINED:
        x, y = data(model)
        losses = model.fit(x, y, epochs=10, batch_size=2, verbose=0).history["loss"]
        assert np.isfinite(losses).all() and losses[-1] < losses[0]
    else:
        x = np.random.default_rng(0).normal(size=(2, TIME)).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    stream = kseq.Stream(model, batch_size=2)
    values = x[0] if isinstance(x, list) else x
    streamed = np.concatenate([stream.push(values[:, :5]), stream.push(values[:, 5:]), stream.flush()], axis=1)
    np.testing.assert_allclose(streamed, expected, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_shipped_spec_is_drawn(name):
    picture = ElementTree.fromstring(timeline_svg(kseq.load_spec(shipped()[name])))
    assert name in "".join(picture.itertext())


def test_a_trained_spec_is_saved_and_loaded(tmp_path):
    model = kseq.load_spec(shipped()["tcn"], vars=SMALL["tcn"])
    model.fit(*data(model), verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = np.random.normal(size=(1, 4, 8)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)))
    assert kseq.dump_spec(loaded) == kseq.dump_spec(model)
