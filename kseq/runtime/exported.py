"""`ExportedStream`: a file that `kseq.export` wrote, fed chunk by chunk without Keras."""

import os
from typing import Any, Self

import numpy as np

from ..sequence import SequenceSpec
from .base import BaseStream
from .described import DescribedExport
from .ends import filled
from .engine_step import EngineStep
from .golden import golden_calls
from .manifest import Manifest
from .runners import of_file, open_runner
from .saved import ModelId, Saved, from_bytes

# Blocks that are pushed and forgotten before the first push: memory is allocated, and code is loaded.
_WARM_UP = 3


class ExportedStream(BaseStream):
    """Feeds a stream through an exported step in chunks of any length: `kseq.Stream` where Keras is not.

    Takes and gives what `kseq.Stream` of the model does. What runs the file is what its format needs: LiteRT,
    onnxruntime, tensorflow or jax, and of these nothing else is loaded. A file is data: nothing in it is executed as
    Python. The file's block is what is held until it is full.

    Args:
        path: of the file, or of the folder of a SavedModel.

    Attributes:
        manifest: what `kseq.export` wrote of the model.

    Raises:
        OSError: a file that cannot be read.
        ValueError: a file that is damaged, that `kseq.export` did not write, or that is of whole sequences.
        ImportError: what runs the format is not installed, with what to install.

    Example:
        >>> import kseq, numpy as np, tempfile
        >>> layer, x = kseq.GRU(2), np.random.rand(4, 3).astype("float32")
        >>> layer.build((None, None, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = kseq.export(layer, f"{folder}/gru.stablehlo")
        ...     y = kseq.ExportedStream(f"{folder}/gru.stablehlo").push(x)
        >>> bool(np.allclose(y, kseq.Stream(layer).push(x), atol=1e-4))
        True
    """

    manifest: Manifest

    def __init__(self, path: str | os.PathLike[str]) -> None:
        manifest, runner = open_runner(path)
        if manifest.mode != "step":
            raise ValueError(f"{path} is of whole sequences (`mode={manifest.mode!r}`): `kseq.open_whole` runs it")
        with of_file(path):
            self._begin(manifest, EngineStep(manifest, runner))

    @classmethod
    def of(cls, manifest: Manifest, step: EngineStep) -> Self:
        """A stream of a step that is there already."""
        stream = cls.__new__(cls)
        stream._begin(manifest, step)
        return stream

    def _begin(self, manifest, step):
        described = DescribedExport(manifest)
        super().__init__(described, "the exported step", manifest.batch_size, None, FixedRoom(manifest))
        self.manifest, self._exported, self._id = manifest, step, ModelId(**manifest.model)
        self._use_step()
        self._warm_up()

    def _step_now(self):
        return self._exported

    def _warm_up(self):
        block = self.manifest.block
        values = [x.values for x in self._ends.nothing(block)]
        made, _ = self._step(tuple(values), (None,) * len(values), None, self._step.initial_state())
        for (y, _), wanted in zip(made, golden_calls(self.manifest)[0][1], strict=False):
            if y.shape != wanted.shape:
                raise ValueError(f"a call of the file gives shape {y.shape}, and its manifest says {wanted.shape}")
        if any(min(allowed.steps) < block for allowed in self.manifest.allowances):
            return  # no push comes to the step
        for _ in range(_WARM_UP):
            self._push(filled(self._ends.input_structure, values), None, None)
            self._state = None  # so that the next one is where it was
            self._reset()

    def _replace_context(self, context: Any, active: Any) -> None:
        raise ValueError("an exported step keeps the context that it was exported with; received another one")

    @property
    def _made_with(self):
        return self.batch_size, self._dtype, self.manifest.context or None, self.manifest.options

    @classmethod
    def load(cls, path: str | os.PathLike[str], saved: bytes, *, other_weights: bool = False) -> Self:
        """A stream that goes on where another was saved, of the exported model: here, or of `kseq.Stream`, anywhere.

        Args:
            path: of the file.
            saved: what `save` gave.
            other_weights: whether the weights may be others.

        Raises:
            TypeError: no bytes.
            ValueError: what the class says, or bytes that no stream was saved as, damaged ones, or such of another
                version, model, batch size, dtype, context or weights; with the reason.
        """
        stream = cls(path)
        found = from_bytes(saved, lambda options: stream._id, other_weights)
        stream._go_on(stream._checked(found))
        return stream

    def _checked(self, saved: Saved) -> Saved:
        """What was saved, with the dtypes of the file where it says none; what does not fit the file is refused."""
        if saved.batch_size != self.batch_size:
            raise ValueError(
                f"the stream was saved with a batch of {saved.batch_size}, and the file is of {self.batch_size}"
            )
        if not _is_same_context(saved.context, self._made_with[2]):
            raise ValueError("the stream was saved with another context than that with which the file was exported")
        own = self._ends.specs
        specs = tuple(SequenceSpec(s.shape, s.dtype or o.dtype) for s, o in zip(saved.form.specs, own, strict=True))
        for spec, wanted in zip(specs, own, strict=True):
            if spec.dtype != wanted.dtype:
                raise ValueError(f"the file takes inputs of {wanted.dtype}; the stream was one of {spec.dtype}")
        self._dtype = saved.dtype
        return saved._replace(form=saved.form._replace(specs=specs))


class FixedRoom:
    """How many steps the rows of an exported step take from the beginning on: those that the manifest says.

    Every step counts, also one that is not valid, but for what a flush pads, where layers count valid ones alone.

    Args:
        manifest: of the file.
    """

    left = None

    def __init__(self, manifest: Manifest) -> None:
        self._allowances = manifest.allowances

    def forget(self) -> None:
        """Know nothing of a state: nothing is known but how far a stream has come."""

    def feed(self, steps: Any, limits: Any, what: str, at: Any) -> bool:
        """Refuse more steps than a row takes.

        Raises:
            ValueError: more, by the layer's name, with what to change.
        """
        for allowed in self._allowances:
            if allowed.counts_valid and what == "a flush":
                continue
            left = np.maximum(np.array(allowed.steps) - at, 0)
            wanted, begun = np.broadcast_to(steps, left.shape), np.broadcast_to(at, left.shape)
            for row in np.flatnonzero(wanted > left)[:1]:
                of_row = f" in row {row}" if len(left) > 1 else ""
                advice = f": {allowed.advice}" if allowed.advice else ""
                raise ValueError(
                    f"{allowed.layer} takes {left[row]} more steps after {begun[row]} of the stream{of_row}; "
                    f"received {what} of {wanted[row]}{advice}"
                )
        return False

    def check(self, limits: Any, before: Any, what: str) -> None:
        """Nothing: what is too much was refused before."""


def _is_same_context(a, b):
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(_is_same(a[name].with_mask(), b[name].with_mask()) for name in a)


def _is_same(x, y):
    return np.array_equal(x.values, y.values) and np.array_equal(x.mask, y.mask)
