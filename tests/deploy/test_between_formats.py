"""A stream that goes on from its bytes: in any format's runtime, and in `kseq.Stream`, from any of them."""

import functools
import itertools

import keras
import numpy as np
import pytest
from exported_formats import HERE, file_of, needs

import kseq
from kseq.deploy.entry import FORMATS
from kseq.runtime.golden import golden_error
from kseq.runtime.manifest import Manifest
from kseq.runtime.runners import open_runner

TODAYS = {"jax": 0.5, "tensorflow": 0.5}
X = np.random.default_rng(0).standard_normal((2, 13, 3)).astype("float32")


@pytest.fixture(scope="module")
def layer():
    keras.utils.set_random_seed(0)
    layer = kseq.Serial([kseq.Conv1D(4, 3, padding="reverse_causal"), kseq.LocalSelfAttention(2, 2, 4), kseq.GRU(2)])
    layer.build((None, None, 3))
    return layer


@pytest.fixture(scope="module")
def file(layer, tmp_path_factory):
    """The file of a format, in blocks of 1 or 2."""

    @functools.cache
    def exported(format, block):
        path = file_of(tmp_path_factory.mktemp("files"), format)
        kseq.export(layer, path, format, batch_size=2, block=block)
        return path

    return exported


def pairs():
    names = ["keras", *FORMATS]
    for pair in itertools.product(names, repeat=2):
        is_here = all(name in ("keras", *HERE) for name in pair)
        yield pytest.param(*pair, marks=[] if is_here else [pytest.mark.slow])


@pytest.mark.parametrize(("first", "second"), list(pairs()))
def test_a_stream_goes_on(first, second, layer, file):
    for format in {first, second} - {"keras"}:
        needs(format)
    stream = kseq.Stream(layer, 2) if first == "keras" else kseq.ExportedStream(file(first, 1))
    found = [stream.push(X[:, :5])]
    saved = stream.save()
    other = kseq.Stream.load(layer, saved) if second == "keras" else kseq.ExportedStream.load(file(second, 2), saved)
    assert other.pushed == 5
    found += [other.push(X[:, 5:6]), other.push(X[:, 6:]), other.flush()]
    np.testing.assert_allclose(np.concatenate(found, axis=1), keras.ops.convert_to_numpy(layer(X)), atol=1e-4)
    if second == "keras":
        return
    with pytest.raises(ValueError, match="another model"):
        kseq.ExportedStream.load(file(second, 2), kseq.Stream(small(), 2).save())
    with pytest.raises(ValueError, match="damaged or cut off"):
        kseq.ExportedStream.load(file(second, 2), saved[:-3])


@functools.cache
def small():
    layer = kseq.Conv1D(2, 3)
    layer.build((None, None, 3))
    return layer


@pytest.mark.parametrize("format", HERE)
def test_golden_data_tell_a_file_that_is_wrong(format, file):
    needs(format)
    manifest, runner = open_runner(file(format, 1))
    assert golden_error(manifest, runner) < 1e-5
    wrong = Manifest.from_bytes(manifest.to_bytes())
    wrong.golden_outputs[0][0, 0, 0] += 1
    assert golden_error(wrong, runner) > 1e-2
    wrong.golden_outputs[0][0, 0, 0] = np.nan
    assert golden_error(wrong, runner) == np.inf
    wrong.golden_outputs[1][0, -1] ^= True
    with pytest.raises(ValueError, match="another mask"):
        golden_error(wrong, runner)
    wrong.golden_outputs[0] = wrong.golden_outputs[0][:, :, :1]
    with pytest.raises(ValueError, match="shape"):
        golden_error(wrong, runner)
