"""What exports would be, without a converter: a layer's manifest, and its exported function run where it is."""

import keras
import numpy as np

from kseq.deploy import manifests, traced
from kseq.runtime.ends import PRESENCE, Ends
from kseq.runtime.manifest import Manifest
from kseq.sequence import SequenceSpec
from kseq.streaming.step import StepFunction


def manifest_of(layer, batch=1, block=None, masked=False):
    """What `kseq.export` would write of a layer."""
    ends = Ends(layer, "the layer", batch, "float32")
    specs = ends.layer_specs
    step = StepFunction(layer, batch, specs[0] if len(specs) == 1 else specs, block=block)
    function = traced.ExportedFunction(step, masked)
    options = {"max_length": 1024, "window": None}
    found = manifests.manifest_of(function, "onnx", "float32", options)
    return Manifest.from_bytes(found.to_bytes())


class OfFunction:
    """A runner of the exported function itself, with the weights that the layer has now."""

    def __init__(self, layer, manifest):
        spec = [SequenceSpec(port.shape, port.dtype) for port in manifest.inputs]
        spec += [PRESENCE] if layer.reads_presence else []
        spec = spec[0] if len(spec) == 1 else tuple(spec)
        step = StepFunction(layer, manifest.batch_size, spec, block=manifest.block)
        self.function, self.count = traced.ExportedFunction(step, manifest.is_masked), len(manifest.state)

        self.weights = [(v, keras.ops.copy(v.value)) for v in layer.variables]

    def state(self, leaves):
        return [np.array(leaf) for leaf in leaves]

    def leaves(self, state):
        return [leaf.copy() for leaf in state]

    def __call__(self, inputs, state):
        given = [keras.ops.convert_to_tensor(x) for x in [*inputs, *state]]
        with keras.StatelessScope(self.weights):
            found = [np.array(keras.ops.convert_to_numpy(y)) for y in self.function(*given)]
        cut = len(found) - self.count
        return found[:cut], found[cut:]
