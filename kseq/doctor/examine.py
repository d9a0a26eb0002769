"""One call of a model on padded rows: does the mask come through, and does what is in the padding stay there?"""

from collections.abc import Iterator

import keras

from ..keras_errors import unframed
from ..layers.base import SequenceLayer
from .advice import instead_of
from .distance import larger, worst
from .padded import NoRows
from .replay import Replay
from .report import LARGE, LEAK, LOST, MISSING, NAN, OWN, REFUSED, WRONG, MaskFault
from .runs import LayerRun

_A_MASK = "keras.layers.Masking, mask_zero or a mask as an input, and layers that keep it"
_WORDS = {
    OWN: "what the model leaves in the padding",
    LARGE: "10,000 in the padding",
    NAN: "NaN in the padding",
}


def examine(runs: list[LayerRun], padded: LayerRun | None) -> list[MaskFault]:
    """The faults of one call.

    What each row alone gives is the truth; the call is made again of all those rows, padded, with their mask.

    Args:
        runs: the call in a run of each row alone, the longest row first.
        padded: the call in a run of all rows padded, for what the model leaves in the padding; `None` where it failed.

    Raises:
        NoRows: a call that is not of rows, or that fails without padding.
    """
    for run in runs:
        if run.outputs is None:
            failed = isinstance(run.error, Exception)
            raise NoRows(f"it fails on a row alone: {_line(run.error)}" if failed else run.error)
    faults = _Faults(runs, Replay(runs, padded))
    return list(faults.found())


class _Faults:
    """The faults of one call, found one after the other."""

    def __init__(self, runs: list[LayerRun], replay: Replay) -> None:
        self.run, self.replay = runs[0], replay
        self.errors = [run.error for run in runs if run.error is not None]

    def found(self) -> Iterator[MaskFault]:
        if not self.replay.has_time:
            return
        if self.errors:  # with the masks that the model itself makes, of rows without padding
            yield self._refused(self.errors[0])
            return
        try:
            outputs = self.replay.outputs(OWN)
        except Exception as error:  # of any layer
            yield self._refused(error)
            return
        yield from self._of_masks(outputs)
        leaks = [*self._leaks(), *self._leaks_in_training()]
        yield from leaks[:1]
        if not leaks:
            yield from self._unmasked()

    def _fault(self, fault, reason, **found):
        instead = instead_of(self.run.operation, self.replay.num_inputs, found.get("padding") == NAN)
        return MaskFault(self.run.name, type(self.run.operation).__name__, fault, reason, instead=instead, **found)

    def _refused(self, error, **found):
        return self._fault(
            REFUSED, f"it raises {type(error).__name__} where its input has a mask: {_line(error)}", **found
        )

    # Masks.

    def _of_masks(self, outputs):
        """A fault where an output with a time axis has no right mask."""
        if not self.run.needs_mask:
            return
        for (_, mask), truth in zip(outputs, self.replay.truth, strict=True):
            if not truth.axes or (truth.dtype == "bool" and not isinstance(self.run.operation, keras.layers.Layer)):
                continue  # masks themselves, and what they are made of
            if 1 not in truth.axes:
                yield self._fault(LOST, "time is no longer axis 1 of its output, where a mask belongs")
                return
            if (reason := self._wrong(mask, truth.mask())) is not None:
                yield self._fault(LOST if mask is None else WRONG, reason)
                return

    def _wrong(self, mask, wanted):
        if mask is None:
            return "its output has time steps, and no mask that tells which are padding"
        if mask.shape != wanted.shape:
            return f"its mask has shape {mask.shape}, for outputs of {wanted.shape[1]} steps"
        counts, alone = mask.sum(axis=1).tolist(), wanted.sum(axis=1).tolist()
        # A window of ours may count an output as padding that a row alone has: it would have seen padding.
        fewer = counts != alone and not isinstance(self.run.operation, SequenceLayer)
        if fewer or any(n > m for n, m in zip(counts, alone, strict=True)):
            return f"its mask counts {counts} steps of rows that alone have {alone}"
        return None

    # Leaks.

    def _leaks(self):
        """A fault for the mildest padding that reaches valid outputs."""
        for padding in self.replay.paddings:
            size = self._off(self.replay.outputs(padding))
            if size is not None:
                yield self._leak(padding, size)
                return

    def _off(self, outputs):
        """How far valid outputs are from those of rows alone."""
        pairs = zip(outputs, self.replay.truth, strict=True)
        return worst(
            truth.difference(y, mask, self.replay.tolerance(truth)) for (y, mask), truth in pairs if not truth.is_mask
        )

    def _leaks_in_training(self):
        """The same where training changes the outputs, and rows may depend on each other.

        Then padding must change nothing, and more of it neither.
        """
        replay = self.replay
        try:
            if not replay.trains():
                return
            reference = replay.outputs(OWN, training=True)
        except Exception as error:  # of any layer
            yield self._refused(error, training=True)
            return
        if (size := self._changed(reference, replay.outputs(OWN, training=True, extra=replay.steps + 1))) is not None:
            yield self._leak(OWN, size, training=True)
            return
        for padding in replay.paddings[1:]:
            if (size := self._changed(reference, replay.outputs(padding, training=True))) is not None:
                yield self._leak(padding, size, training=True)
                return

    def _changed(self, reference, outputs):
        found = None
        for (y, _), (other, _), truth in zip(reference, outputs, self.replay.truth, strict=True):
            if not truth.is_mask:
                found = larger(found, truth.change(y, other, self.replay.tolerance(truth)))
        return found

    def _unmasked(self):
        """A fault where padding reaches valid outputs because of a layer before, which has lost the mask."""
        replay = self.replay
        if not replay.lost_mask:
            return
        try:
            size, training = self._off(replay.outputs(OWN, masked=False)), False
            if size is None and replay.trains():
                masks = {"training": True, "masked": False}
                reference = replay.outputs(OWN, **masks)
                size, training = self._changed(reference, replay.outputs(OWN, extra=replay.steps + 1, **masks)), True
        except Exception as error:
            yield self._fault(MISSING, f"it raises {type(error).__name__} where no mask reaches it: {_line(error)}")
            return
        if size is not None:
            row = self._leak(OWN, size, training)
            yield row._replace(fault=MISSING, reason=f"no mask reaches it, and {row.reason}", instead=_A_MASK)

    def _leak(self, padding, size, training=False):
        changes = "reaches valid steps" if padding == NAN else f"changes valid steps by up to {size:.2g}"
        in_training = " in training" if training else ""
        number = float(size) if padding != NAN and size < float("inf") else None
        reason = f"{_WORDS[padding]} {changes}{in_training}"
        return self._fault(LEAK, reason, size=number, padding=padding, training=training)


def _line(error):
    text = " ".join(unframed(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
