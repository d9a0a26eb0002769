"""`open_whole`: a file of a whole computation, called on sequences."""

from typing import Any

import numpy as np

from ..annotations import AnyPath
from ..sequence import Sequence
from .ends import filled
from .manifest import Manifest, Port
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

    def __call__(self, x: Any) -> Any:
        """The outputs for whole sequences, in the structure in which the model gives them.

        Args:
            x: values [B, T, ...] or a `Sequence`; of several inputs a list of them, or a dict by their names.

        Returns:
            An array, or for a `Sequence` one, where the output has a mask.

        Raises:
            ValueError: other shapes, or a mask where the file takes none.
            TypeError: a dtype that cannot be cast safely.
        """
        ports = self.manifest.inputs
        given = [self._standard(part, port) for part, port in zip(self._split(x), ports, strict=True)]
        lengths = {values.shape[1] for values, _ in given}
        if len(lengths) > 1:
            raise ValueError(f"all inputs must be equally long; received lengths {sorted(lengths)}")
        masks = [mask for _, mask in given] if self.manifest.is_masked else []
        found, _ = self._runner([*[values for values, _ in given], *masks], self._runner.state([]))
        outputs = self.manifest.outputs
        values, masks = found[: len(outputs)], iter(found[len(outputs) :])
        as_sequence = any(isinstance(part, Sequence) for part in self._split(x))
        made = [(y, next(masks) if port.mask_tensor else None) for port, y in zip(outputs, values, strict=True)]
        return filled(self.manifest.output_structure, [Sequence(*y) if as_sequence else y[0] for y in made])

    def _split(self, x):
        ports = self.manifest.inputs
        if isinstance(x, dict):
            names = [port.name for port in ports]
            if set(x) != set(names):
                raise ValueError(f"the inputs are {', '.join(names)}; received {', '.join(map(str, x)) or 'none'}")
            return [x[name] for name in names]
        several = isinstance(x, (list, tuple)) and not isinstance(x, Sequence)
        row = list(x) if several and len(ports) > 1 else [x]
        if len(row) != len(ports):
            raise ValueError(f"there are {len(ports)} inputs; received {len(row)}")
        return row

    def _standard(self, x: Any, port: Port) -> tuple[np.ndarray, np.ndarray]:
        values, mask = x if isinstance(x, Sequence) else (x, None)
        values = np.asarray(values)
        batch, length = self.manifest.batch_size, self.manifest.block
        time = length or "time"
        fits = values.ndim == 2 + len(port.shape) and values.shape[0] == batch and values.shape[2:] == port.shape
        if not fits or (length and values.shape[1] != length):
            wanted = ", ".join(map(str, (batch, time, *port.shape)))
            raise ValueError(f"the input {port.name!r} must have shape [{wanted}]; received {values.shape}")
        if not np.can_cast(values.dtype, port.dtype, "same_kind"):
            raise TypeError(f"the input {port.name!r} must be castable to {port.dtype}; received {values.dtype}")
        if mask is not None and not port.mask_tensor:
            raise ValueError("the file takes no masks: `kseq.export(..., masks=True)` writes one that does")
        mask = np.ones(values.shape[:2], bool) if mask is None else np.asarray(mask)
        if mask.shape != values.shape[:2] or mask.dtype != bool:
            raise ValueError(
                f"the mask of {port.name!r} must be bool of shape {values.shape[:2]}; received {mask.dtype} "
                f"{mask.shape}"
            )
        return np.ascontiguousarray(values, port.dtype), mask
