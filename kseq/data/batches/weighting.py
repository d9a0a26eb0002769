"""What the rows and steps of a batch weigh, such that Keras's mean is the mean over what is valid."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseq.masks import lengths_to_mask

from ..errors import RecordError
from .plan import BatchRows, record_ids

if TYPE_CHECKING:
    from .layout import BatchLayout
    from .lengths import RowLengths

_NO_BOUND = np.iinfo(np.int64).max


class BatchReader(typing.NamedTuple):
    """Who reads a batch.

    Attributes:
        keras: whether Keras does, in `fit`, `evaluate` or `predict`.
        scaled: whether the loss is divided by all cells of a target that is a sequence, not by the valid ones.
    """

    keras: bool
    scaled: bool


class Whole(typing.NamedTuple):
    """Of a batch that hosts share: its rows on all of them, how many those are, and who reads it."""

    rows: BatchRows
    hosts: int
    reader: BatchReader


class Weighting:
    """Weights of targets.

    Args:
        layout: the `BatchLayout`.
        lengths: the `RowLengths`.
        left: whether the padding comes before the sequences.
    """

    def __init__(self, layout: BatchLayout, lengths: RowLengths, left: bool) -> None:
        self._layout, self._lengths, self._left = layout, lengths, left

    def of_targets(
        self,
        arrays: Sequence[NDArray[Any]],
        rows: BatchRows,
        whole: Whole,
        weighed: bool,
        output_mask: NDArray[np.bool_] | None,
    ) -> Any:
        """The weights of a batch by target; None if none has any.

        Args:
            arrays: of the batch.
            rows: its `BatchRows`.
            whole: the `Whole` that it is a part of.
            weighed: whether its rows have weights.
            output_mask: that of the model, or None.
        """
        targets = self._layout.targets
        if targets is None or not (weighed or targets.ragged):
            return None
        weights = self.of_rows(arrays, rows, whole) if weighed else None
        by_field = []
        for slot in targets.slots:
            target = arrays[slot.at]
            if slot.ragged:
                found = self._of_steps(slot, arrays, output_mask, rows, whole)
            else:
                found = np.ones(len(target), np.float32) if weights is None else weights
            # Keras aligns weights with the losses of cells, whatever the rank of those, only if they are of the
            # target's rank.
            by_field.append(found.reshape(*found.shape, *(1,) * (target.ndim - found.ndim)))
        return targets.of(by_field)

    def of_rows(self, arrays: Sequence[NDArray[Any]], rows: BatchRows, whole: Whole) -> NDArray[np.float32]:
        """A weight a row, float32 [B].

        Keras divides by all rows: for it those that count make up for filled ones, on whichever host those are.
        """
        weights = np.full(rows.size, whole.rows.size / whole.rows.used if whole.reader.keras else 1, np.float32)
        weights[rows.used :] = 0
        return weights if self._layout.weights is None else weights * arrays[self._layout.weights.at]

    def _of_steps(self, slot, arrays, output_mask, rows, whole):
        """A weight a step of a sequence, float32 [B, U], such that Keras's mean is that of the valid steps.

        Keras divides by all cells, or by the steps of its own mask, which filled rows have too.
        """
        mask = arrays[slot.mask_at]
        if output_mask is not None:
            if mask.shape != output_mask.shape:
                raise RecordError(
                    f"the target must have a step for each of the model's outputs, {output_mask.shape[1]}; "
                    f"received {mask.shape[1]}",
                    field=slot.name,
                )
            mask = mask & output_mask
        steps = mask.astype(np.float32)
        steps[rows.used :] = 0
        scaled, keras = whole.reader.scaled, whole.reader.keras
        if scaled or (keras and (whole.hosts > 1 or rows.used < rows.size or slot.shift)):
            divisor = whole.hosts * (mask.size if scaled else self._steps_of_model(slot, mask, output_mask, rows))
            valid = np.count_nonzero(steps) if whole.hosts == 1 else self._valid_steps(slot, mask.shape[1], whole.rows)
            steps *= divisor / max(valid, 1)
        return steps if self._layout.weights is None else steps * arrays[self._layout.weights.at][:, None]

    def _steps_of_model(self, slot, mask, output_mask, rows):
        """Steps of the mask that the model's output carries: those of the target before it was shifted."""
        if not slot.shift:
            return np.count_nonzero(mask)
        if output_mask is not None:
            return np.count_nonzero(output_mask)
        if rows.ends is not None:
            return mask.size
        steps = np.minimum(self._lengths.steps(slot.name, record_ids(rows)), mask.shape[1])
        return int(steps.sum() + steps[0] * (rows.size - len(steps)))

    def _valid_steps(self, slot, length, whole):
        """Valid steps of a target on all hosts."""
        ids, layout = record_ids(whole), self._layout
        steps = self._lengths.steps(slot.name, ids)
        if whole.ends is not None:
            return int(slot.shown_steps(steps, _NO_BOUND).sum())
        shown = slot.shown_steps(steps, length)
        rule, ruled = layout.rule, layout.ruled
        if rule is None or ruled is None:
            return int(shown.sum())
        leader = self._lengths.steps(ruled.name, ids)
        padded = whole.bound if whole.bound >= 0 else int(leader.max())
        output_mask = np.asarray(rule(self._mask(ruled.shown_steps(leader, padded), padded)))
        return np.count_nonzero(output_mask & self._mask(shown, length))

    def _mask(self, lengths, padded):
        mask = lengths_to_mask(lengths, padded)
        return mask[:, ::-1] if self._left else mask
