"""Models of Keras's own layers, as a stream gives them and as a whole."""

import keras
import numpy as np
from keras import ops

import kseq


def model_of(build, shape=(None, 4), dtype="float32", batch_size=None):
    """A functional model of one input, with weights of which none is what it was made as."""
    x = keras.Input(shape, batch_size=batch_size, dtype=dtype, name="x")
    model = keras.Model(x, build(x))
    rng = np.random.default_rng(1)
    for w in model.weights:
        if keras.backend.is_float_dtype(w.dtype):
            # Of a normalisation there is a variance, which must not be negative.
            w.assign(rng.uniform(0.5, 1.5, w.shape) if "variance" in w.path else rng.normal(0, 0.5, w.shape))
    return model


def streamed(stream, x, cuts=(1, 2, 0, 4)):
    """All outputs of a stream of x [B, T, ...], cut after some steps, and after those into single steps of three."""
    found, at = [], 0
    for size in (*cuts, *[3] * x.shape[1]):
        found.append(stream.push(x[:, at : at + size]))
        at += size
    return np.concatenate([*found, stream.flush()], axis=1)


def check_streams(model, x, tolerance=1e-4, **options):
    """Check that a stream gives what the model gives of the whole, twice, and give its timing."""
    wanted = ops.convert_to_numpy(model(x))
    stream = kseq.Stream(model, len(x), **options)
    for cuts in ((1, 2, 0, 4), (x.shape[1],)):
        found = streamed(stream, x, cuts)
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        scale = max(1, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(found, wanted, atol=tolerance * scale)
    return stream.timing
