"""A call of a model made again, of all rows at once, with something in their padding."""

import contextlib
import inspect
import warnings
from typing import Any

import keras
import numpy as np

from ..layers.base import SequenceLayer
from .distance import EPSILON
from .padded import NoRows, RowsOf
from .report import LARGE, NAN, OWN
from .runs import LayerRun
from .tensors import masks_of, refilled, to_numpy, values_of, with_mask


class Replay:
    """A call that can be made again.

    Args:
        runs: the call in a run of each row alone, the longest row first.
        padded: the call in a run of all rows padded, or `None`.

    Attributes:
        leaves: of each place in its arguments a `RowsOf`, or `None` where something stands that is not of rows.
        truth: its outputs of rows alone.
        makes_mask: whether it reads off its input what is padding; then nothing else may stand there.

    Raises:
        NoRows: a call that is not of rows.
    """

    run: Any
    operation: Any
    padded: Any
    leaves: Any
    truth: Any
    makes_mask: bool

    def __init__(self, runs: list[LayerRun], padded: LayerRun | None) -> None:
        self.run, self.operation = runs[0], runs[0].operation
        if len({len(run.leaves) for run in runs}) > 1 or len({len(run.output_masks) for run in runs}) > 1:
            raise NoRows("rows of other lengths are given other arguments, or give other outputs")
        places = len(self.run.leaves)
        self.padded = padded if padded is not None and len(padded.leaves) == places else None
        self.leaves = [
            self._leaf([run.leaves[i] for run in runs], [r.masks[i] for r in runs], i) for i in range(places)
        ]
        made = [list(zip(values_of(run.outputs), run.output_masks, strict=True)) for run in runs]
        self.truth = [RowsOf.of([y for y, _ in rows], [m for _, m in rows]) for rows in zip(*made, strict=True)]
        self.makes_mask = self._makes_mask()
        self._made: dict[Any, list[Any]] = {}

    def _leaf(self, parts, masks, i):
        if not all(map(keras.ops.is_tensor, parts)) or all(part is parts[0] for part in parts[1:]):
            return None  # an option, or a constant
        own = None if self.padded is None else self.padded.leaves[i]
        own = own if keras.ops.is_tensor(own) else None
        if not parts[0].shape or len({part.shape[0] for part in parts}) > 1:
            # It has time where others have the batch, as numbers of steps do. Or is it both in one?
            if own is not None and tuple(own.shape) == tuple(parts[0].shape):
                return None
            raise NoRows("what it is given has no batch axis of its own")
        return RowsOf.of(parts, masks, own)

    def _makes_mask(self):
        if isinstance(self.operation, SequenceLayer):
            return self.operation.mask_reads_values
        made = any(mask is not None for truth in self.truth for mask in truth.masks)
        return made and all(mask is None for mask in self.run.masks) and not any(leaf.is_mask for leaf in self._rows())

    def _rows(self) -> list[RowsOf]:
        return [leaf for leaf in self.leaves if leaf is not None]

    @property
    def has_time(self) -> bool:
        """Whether it is given anything of which a mask can tell what is padding."""
        return any(leaf.has_time for leaf in self._rows())

    @property
    def num_inputs(self) -> int:
        return len(self._rows())

    @property
    def steps(self) -> int:
        return max(max(leaf.lengths()) for leaf in self._rows() if leaf.has_time)

    @property
    def paddings(self) -> tuple[str, ...]:
        """What may stand in the padding, the mildest first."""
        if self.makes_mask:
            return (OWN,)
        return (OWN, LARGE, NAN) if any(leaf.takes_nan for leaf in self._rows()) else (OWN, LARGE)

    @property
    def lost_mask(self) -> bool:
        """Whether no mask has reached it where rows were padded."""
        if self.makes_mask or self.padded is None:
            return False
        given = [mask for leaf, mask in zip(self.leaves, self.padded.masks, strict=True) if leaf and leaf.has_time]
        return any(mask is None for mask in given) and not any(leaf.is_mask for leaf in self._rows())

    def outputs(self, padding: str, *, training: bool = False, extra: int = 0, masked: bool = True) -> list[Any]:
        """Its outputs for all rows, each a pair of NumPy arrays, values and mask; the mask may be `None`.

        Args:
            padding: what stands in the padding.
            training: whether this is training.
            extra: steps of padding more than the rows need.
            masked: whether inputs have their masks.
        """
        key = padding, training, extra, masked
        if key not in self._made:
            with _quietly():
                self._made[key] = self._outputs(*key)
        return self._made[key]

    def _outputs(self, padding, training=False, extra=0, masked=True):
        filled = iter([self._tensor(i, padding, extra, masked) for i in range(len(self.leaves))])
        arguments, keywords = refilled((self.run.arguments, self.run.keywords), filled)
        y = self.operation(*arguments, **{**keywords, **({"training": True} if training else {})})
        return [(to_numpy(values), mask) for values, mask in zip(values_of(y), masks_of(y), strict=True)]

    def _tensor(self, i, padding, extra, masked):
        leaf = self.leaves[i]
        if leaf is None:
            return self.run.leaves[i]
        values = leaf.padded(padding)
        mask = leaf.mask() if leaf.has_time and masked and not self.makes_mask else None
        if extra and leaf.axes == (1,):
            values, mask = (None if x is None else _longer(x, extra) for x in (values, mask))
        return with_mask(values, mask, leaf.dtype)

    def trains(self) -> bool:
        """Whether training changes its outputs, and not at random.

        Raises:
            Exception: what it raises in training.
        """
        takes = isinstance(self.operation, keras.layers.Layer)
        if not takes or "training" not in inspect.signature(type(self.operation).call).parameters or self.makes_mask:
            return False
        first, still = self.outputs(OWN, training=True), self.outputs(OWN)
        if _equal(first, still):
            return False
        with _quietly():
            _, second = (self._outputs(OWN, training=True) for _ in range(2))  # of random numbers the next ones
        return _equal(first, second)

    def tolerance(self, truth: RowsOf) -> float:
        """Of a difference, relative to the numbers: half of the digits of the shortest that are used."""
        computed = getattr(self.operation, "compute_dtype", None) or "float32"
        dtypes = (computed, "float32", *(leaf.dtype for leaf in (*self._rows(), truth)))
        return max(EPSILON.get(dtype, 0) for dtype in dtypes) ** 0.5


@contextlib.contextmanager
def _quietly():
    """Nothing changes, and Keras does not say that masks are lost."""
    with warnings.catch_warnings(), keras.StatelessScope():
        warnings.simplefilter("ignore")
        yield


def _longer(x, extra):
    return np.pad(x, [(0, 0), (0, extra), *[(0, 0)] * (x.ndim - 2)])


def _equal(a, b):
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind in "fc") for (x, _), (y, _) in zip(a, b, strict=True))
