"""`DescribedExport`: what an exported file takes and gives, in the terms in which a layer says it."""

import dataclasses
from typing import Any, NamedTuple

from ..sequence import SequenceSpec
from ..timing import Timing, joint
from .manifest import Manifest


class FileInput(NamedTuple):
    """An input as `Ends` reads it."""

    name: str
    mask: str | None
    spec: SequenceSpec


class DescribedExport:
    """How what was exported is described: by its manifest, a step in blocks of the file's.

    Args:
        manifest: of the file.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.reads_presence = manifest.presence_tensor is not None
        self.num_inputs = len(manifest.inputs) + self.reads_presence
        self.num_outputs = len(manifest.outputs)
        self.inputs = [
            FileInput(port.name, port.mask, SequenceSpec(port.shape, port.dtype)) for port in manifest.inputs
        ]
        self.input_names, self.compute_dtype = list(manifest.input_names), manifest.compute_dtype
        self.input_structure, self.output_structure = manifest.input_structure, manifest.output_structure
        shapes: tuple[Any, ...] = (*[port.shape for port in manifest.inputs], *[()] * self.reads_presence)
        self.channel_shape = shapes[0] if self.num_inputs == 1 else shapes
        self.timings = list(manifest.timings)
        if manifest.mode == "step":
            self.timings = [dataclasses.replace(timing, block_size=manifest.block) for timing in self.timings]
        self._outputs: tuple[Any, ...] = tuple(SequenceSpec(port.shape, port.dtype) for port in manifest.outputs)

    @property
    def timing(self) -> Timing:
        """Of all outputs together."""
        return joint(self.timings)

    def output_spec(self, input_spec: Any) -> Any:
        """Of the outputs, which are of the file's dtypes."""
        return self._outputs[0] if self.num_outputs == 1 else self._outputs
