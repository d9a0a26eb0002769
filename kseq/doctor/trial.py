"""A model run on rows: each alone, without padding, and all of them padded, as one batch."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from ..model_graph import in_words
from .given import given_rows
from .padded import NoRows, RowsOf
from .report import OutputCheck
from .rows import STEPS, InputRows, draw_rows
from .runs import LayerRun, ModelRuns, has_graph
from .tensors import leaves_of, masks_of, to_numpy, values_of

_OF_MODEL = 1e-3  # rounding adds up over layers


@dataclasses.dataclass
class PaddedTrial:
    """The runs of a model: of each row alone, the longest first, and of all padded; of each the calls and outputs.

    Attributes:
        runs: what ran it.
        inputs: what it was given for each row, by input or in its own structure.
        alone: the calls and outputs of each of those runs.
        padded: those of the run of all rows as one batch.
    """

    runs: ModelRuns
    inputs: list[Any]
    alone: list[tuple[list[LayerRun], Any]]
    padded: tuple[list[LayerRun], Any]

    @classmethod
    def of(cls, model: Any, x: Any = None) -> "PaddedTrial":
        """The runs of a model on what is given, or on rows that are drawn for it.

        Nothing of the model changes: neither its variables nor its random numbers.

        Raises:
            TypeError: something else than a Keras model or layer.
            ValueError: a model that is not built, or rows that do not fit it or cannot be drawn.
        """
        if not isinstance(model, keras.layers.Layer):
            raise TypeError(f"expected a Keras model; received {model!r} of type {type(model).__name__}")
        if not model.built:
            raise ValueError(f"{in_words(model)} must be built before it is looked at: give it a keras.Input")
        if not has_graph(model) and x is None:
            raise ValueError(f"{in_words(model)} has no keras.Input to draw rows for; give rows as `x`")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's own, of masks that are lost
            return cls._of(ModelRuns(model), x)

    @classmethod
    def _of(cls, runs, x):
        if x is not None:
            return cls._made(runs, given_rows(x, runs.model, runs.graph, runs.readers))
        trials = []
        for steps in STEPS:
            trials.append(cls._made(runs, draw_rows(runs.graph, steps, runs.readers)))
            if not trials[-1]._problems():
                return trials[-1]
        return min(trials, key=lambda trial: len(trial._problems()))

    @classmethod
    def _made(cls, runs, rows):
        leaves: list[InputRows] = leaves_of(rows)
        inputs = [_each(lambda leaf, i=i: leaf.alone(i), rows) for i in range(len(leaves[0].rows))]
        alone = [_run(runs, given) for given in inputs]
        padded = _each(lambda leaf: leaf.mask() if leaf.is_mask else leaf.padded(), rows)
        masks = _each(lambda leaf: leaf.mask() if leaf.has_mask else None, rows)
        return cls(runs, inputs, alone, _run(runs, padded, masks))

    def _problems(self):
        """Calls that fail, or whose outputs are not the shorter the shorter the row, where the model says no length."""
        found = []
        for runs, _ in self.calls():
            if any(run.outputs is None for run in runs):
                found.append(runs)
                continue
            outputs = zip(*(values_of(run.outputs) for run in runs), strict=True)
            for shape, rows in zip(runs[0].shapes, outputs, strict=False):
                sizes = [row.shape[1] for row in rows if len(shape) > 1 and shape[1] is None]
                # Of a row that is shorter than a window, a backend may give anything.
                if sizes and (0 in sizes or sizes != sorted(set(sizes), reverse=True)):
                    found.append(runs)
        return found

    def calls(self) -> Iterator[tuple[list[LayerRun], LayerRun | None]]:
        """Each call in the run of each row alone, and in that of all of them."""
        alone, padded = [calls for calls, _ in self.alone], self.padded[0]
        for i, runs in enumerate(zip(*alone, strict=False)):
            same = i < len(padded) and padded[i].name == runs[0].name
            yield list(runs), padded[i] if same else None

    def outputs(self) -> Iterator[OutputCheck]:
        """How far each output is from what rows give alone; nothing where the model could not be run."""
        if self.padded[1] is None or any(outputs is None for _, outputs in self.alone):
            return
        found = zip(values_of(self.padded[1]), masks_of(self.padded[1]), strict=True)
        alone = [list(zip(values_of(y), masks_of(y), strict=True)) for _, y in self.alone]
        for i, ((y, mask), rows) in enumerate(zip(found, zip(*alone, strict=True), strict=True)):
            try:
                truth = RowsOf.of([values for values, _ in rows], [mask for _, mask in rows])
            except NoRows:
                continue
            if not truth.is_mask:
                size = truth.difference(to_numpy(y), mask, _OF_MODEL)
                number = 0.0 if size is None else float(size) if size < float("inf") else None
                yield OutputCheck(i, _is_right(mask, truth) if 1 in truth.axes else None, number)


def _is_right(mask, truth):
    """Whether the mask of an output counts no more steps than rows alone have."""
    if mask is None or mask.shape != truth.shape[:2]:
        return False
    return bool((mask.sum(axis=1) <= truth.mask().sum(axis=1)).all())


def _run(runs, given, masks=None):
    with keras.StatelessScope():
        return runs.run(given, masks)


def _each(fn, rows):
    if isinstance(rows, dict):
        return {key: _each(fn, value) for key, value in rows.items()}
    return [_each(fn, value) for value in rows] if isinstance(rows, list) else fn(rows)
