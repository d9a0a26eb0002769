"""All that is wrong with the masks of a model."""

from typing import Any

import keras

from .examine import examine
from .padded import NoRows
from .report import LARGE, NAN, OWN, MaskFault, MaskReport, Unchecked
from .trial import PaddedTrial


def check_masks(model: Any, x: Any = None) -> MaskReport:
    """The faults of a model's masks; see `kseq.masks.check`."""
    trial = PaddedTrial.of(model, x)
    faults: list[MaskFault] = []
    unchecked: list[Unchecked] = []
    for alone, padded in trial.calls():
        one = alone[0]
        if isinstance(one.operation, keras.Model) and faults:
            continue  # one without a graph, whose layers come before it and say where its faults are
        try:
            faults += examine(alone, padded)
        except NoRows as reason:
            unchecked.append(Unchecked(one.name, type(one.operation).__name__, str(reason)))
    return MaskReport(model.name, tuple(_once(faults)), tuple(dict.fromkeys(unchecked)), tuple(trial.outputs()))


def _once(faults):
    """Each fault of a layer once, where it is worst: a layer may be called several times."""
    found: dict[Any, MaskFault] = {}
    for fault in faults:
        key = fault.layer, fault.fault, fault.training
        known = found.get(key)
        if known is None or _size(fault) > _size(known):
            found[key] = fault
    return found.values()


def _size(fault):
    return (OWN, LARGE, NAN, None)[::-1].index(fault.padding), fault.size or 0
