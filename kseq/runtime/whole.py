"""`open_whole`: a file of a whole computation, called on sequences."""

from typing import Any

import numpy as np

from ..annotations import AnyPath
from ..sequence import Sequence
from .described import DescribedExport
from .ends import Ends
from .manifest import Manifest
from .runners import open_runner


def open_whole(path: AnyPath) -> "ExportedWhole":
    """Open what `kseq.export(..., mode="layer")` wrote, for calls on whole sequences. Needs no Keras.

    Args:
        path: of the file or folder.

    Returns:
        A function of values [B, T, ...], or of a `Sequence` with a mask [B, T] where the file takes masks.

    Raises:
        ValueError: a file of something else, or that of a step.
        ImportError: what runs the format is not installed.

    Example:
        >>> import kseq, tempfile, numpy as np
        >>> layer = kseq.Conv1D(2, 3)
        >>> layer.build((None, None, 5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = kseq.export(layer, f"{folder}/conv.stablehlo", mode="layer")
        ...     whole = kseq.open_whole(f"{folder}/conv.stablehlo")
        >>> whole(np.ones((1, 7, 5), "float32")).shape
        (1, 7, 2)
    """
    manifest, runner = open_runner(path)
    if manifest.mode != "layer":
        raise ValueError(f"{path} holds a step, which `kseq.ExportedStream` streams; `mode='layer'` exports the whole")
    return ExportedWhole(manifest, runner)


class ExportedWhole:
    """A computation on whole sequences from a file.

    Attributes:
        manifest: of the file.
    """

    manifest: Manifest

    def __init__(self, manifest: Manifest, runner: Any) -> None:
        self.manifest, self._runner = manifest, runner
        described = DescribedExport(manifest)
        self._ends = Ends(described, "the exported model", manifest.batch_size, None, chunk="a sequence")

    def __call__(self, x: Any) -> Any:
        """The outputs for whole sequences, in the structure in which the model gives them.

        Args:
            x: values [B, T, ...] or a `Sequence` of these and a mask [B, T], of a file of one row also without the
                batch axis. Of several inputs a list or dict of them, as the Keras model takes them, or a dict by the
                names of the inputs.

        Returns:
            Arrays, or `Sequence`s where one was given.

        Raises:
            ValueError: another structure or other shapes, inputs of unequal length, steps that are invalid where the
                file takes no mask.
            TypeError: a dtype that cannot be cast safely, or a mask that is not bool.
        """
        manifest = self.manifest
        self._ends.reset()
        given = self._ends.take(x)
        length = given[0].values.shape[1]
        if manifest.block not in (0, length):
            raise ValueError(f"the file is of sequences of {manifest.block} steps; received {length}")
        if manifest.is_masked:
            given = [sequence.with_mask() for sequence in given]
        elif not all(mask is None or mask.all() for _, mask in given):
            raise ValueError(
                "the file takes every step as valid; received a mask that does not: export it with `masks=True`"
            )
        tensors = [values for values, _ in given] + [mask for _, mask in given if manifest.is_masked]
        try:
            made, _ = self._runner(list(map(np.ascontiguousarray, tensors)), self._runner.state([]))
        except Exception as error:  # each runtime has its own, of a length that the model does not take
            raise ValueError(f"the file gives nothing of sequences of {length} steps: {error}") from error
        return self._ends.give([Sequence(*pair) for pair in manifest.pairs(made)])
