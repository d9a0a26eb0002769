"""What tests of exported files share: which can be written here, and what is to be computed by them."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.deploy.entry import FORMATS
from kseq.deploy.functions import function_of
from kseq.deploy.traced import drawn
from kseq.runtime.runners import open_runner
from kseq.runtime.whole import open_whole
from kseq.streaming.tracing import Scope, State, advance, in_row

HERE = [name for name, form in FORMATS.items() if form.backend == keras.backend.backend()]
_PACKAGES = {
    "litert": ("ai_edge_litert",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "saved_model": (),
    "stablehlo": (),
}
# Steps that are compared are so many calls, in which the caches of examples come round.
_CALLS = 8


def needs(format):
    """Skip where a package is not there that the format needs."""
    for package in _PACKAGES[format]:
        pytest.importorskip(package)


class EagerStep:
    """The step without a compiler, which the few calls of golden data are not worth."""

    def __init__(self, step):
        self.step = step

    def initial_state(self):
        return State(self.step.initial_state(), {})

    def __call__(self, values, masks, active, state):
        variables = self.step.layer.variables
        with Scope(variables, [v.value for v in variables]) as scope:
            outputs, leaves = advance(self.step, in_row(values, masks, active), masks, active, state.leaves)
        found = [(_numpy(y.values), None if y.mask is None else _numpy(y.mask)) for y in outputs]
        return found, State(leaves, dict(scope.updates))


def weighted(layer, rng):
    """The layer, with weights of which none is what it was made as."""
    for v in layer.trainable_variables:
        if keras.backend.is_float_dtype(v.dtype):
            v.assign(v + 0.3 * rng.standard_normal(v.shape))
    return layer


def check_step(model, path, tolerance=1e-4):
    """Check that a file gives, call by call, what the model's step gives, also where inputs have holes."""
    manifest, run = open_runner(path)
    function, rng = function_of(model, manifest), np.random.default_rng(0)
    state = run.state(manifest.initial_state)
    leaves = [ops.convert_to_tensor(x) for x in manifest.initial_state]
    count = len(manifest.outputs)
    shape = manifest.batch_size, manifest.block
    for call in range(_CALLS):
        given = [drawn(rng, (*shape, *port.shape), port.dtype) for port in manifest.inputs]
        if manifest.is_masked:
            holes = rng.random(shape) < 0.7
            holes[0] = call > 1  # a row that begins with nothing
            masks = [holes & (rng.random(shape) < 0.9) for _ in given] if len(given) > 1 else [holes]
            given += masks + [np.ones(shape, bool)] * (manifest.presence_tensor is not None)
        found, state = run([np.ascontiguousarray(x) for x in given], state)
        wanted = function(*[ops.convert_to_tensor(x) for x in given], *leaves)
        wanted, leaves = [_numpy(y) for y in wanted[: len(found)]], wanted[len(found) :]
        valid = iter(wanted[count:])
        for port, y, want in zip(manifest.outputs, found[:count], wanted[:count], strict=True):
            close(y, want, next(valid) if port.mask_tensor else None, tolerance)
        for y, want in zip(found[count:], wanted[count:], strict=True):
            np.testing.assert_array_equal(y, want)


def check_whole(layer, path, lengths, tolerance=1e-4, **options):
    """Check that a file gives of whole sequences what the layer gives."""
    whole, rng = open_whole(path), np.random.default_rng(0)
    ports, manifest = whole.manifest.inputs, whole.manifest
    golden = whole(manifest.golden_inputs if len(ports) > 1 else manifest.golden_inputs[0])
    for y, want in zip([golden] if isinstance(golden, np.ndarray) else golden, manifest.golden_outputs, strict=False):
        close(y, want, None, tolerance)
    for time in lengths:
        given = [drawn(rng, (whole.manifest.batch_size, time, *port.shape), port.dtype) for port in ports]
        x = tuple(kseq.Sequence(ops.convert_to_tensor(part)) for part in given)
        wanted = layer(x if len(x) > 1 else x[0], **options)
        wanted = [wanted] if isinstance(wanted, kseq.Sequence) else wanted
        found = whole(given if len(given) > 1 else given[0])
        for y, want in zip([found] if isinstance(found, np.ndarray) else found, wanted, strict=True):
            close(y, _numpy(want.values), None if want.mask is None else _numpy(want.mask), tolerance)


def close(found, wanted, valid, tolerance):
    """Check values, relative to the largest of them, where they are valid."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if valid is not None:
        found, wanted = found[valid], wanted[valid]
    kind = "complex128" if found.dtype.kind == "c" else "float64"
    found, wanted = found.astype(kind), wanted.astype(kind)
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * largest)


def _numpy(x):
    return np.array(ops.convert_to_numpy(x))
