"""Whether a twin does what a layer does: on what the layer was given, without padding, and in training too."""

from typing import Any

import keras

from ..doctor.distance import EPSILON, distance, worst
from ..doctor.padded import NoRows
from ..doctor.replay import Replay
from ..doctor.runs import LayerRun
from ..doctor.tensors import to_numpy, values_of
from ..keras_errors import unframed
from .twins import NoTwin, Twin


def verify(twin: Twin, runs: list[LayerRun]) -> None:
    """Give a twin the weights of a layer, and refuse it where it does something else.

    Args:
        twin: not built.
        runs: a call of the layer, or operation, on each of some rows alone.

    Raises:
        NoTwin: with what is different.
    """
    operation = runs[0].operation
    try:
        replay = Replay(runs, None)
    except NoRows as reason:
        raise NoTwin(f"it could not be tried: {reason}") from None
    if not replay.has_time:
        raise NoTwin("what it is given has no time axis")
    try:
        _call(twin, runs[0])
        if isinstance(operation, keras.layers.Layer):
            twin.layer.set_weights(operation.get_weights())
        with keras.StatelessScope():
            found = [_difference(run.outputs, _call(twin, run), operation) for run in runs]
            if replay.trains():
                own = [_again(run) for run in runs]
                found += [
                    _difference(y, _call(twin, run, training=True), operation) for y, run in zip(own, runs, strict=True)
                ]
    except NoTwin:
        raise
    except Exception as error:  # of a layer that takes another input, or has other weights
        raise NoTwin(f"{twin.name} raises {type(error).__name__}: {' '.join(unframed(error).split())}") from None
    if (size := worst(found)) is not None:
        raise NoTwin(f"{twin.name} gives something else, by up to {size:.2g}")


def _call(twin, run, **options):
    arguments, keywords = twin.called(run.arguments, run.keywords)
    return twin.layer(*arguments, **(keywords | options))


def _again(run):
    return run.operation(*run.arguments, **(run.keywords | {"training": True}))


def _difference(outputs: Any, of_twin: Any, operation: Any) -> float | None:
    mine, theirs = ([to_numpy(y) for y in values_of(part)] for part in (of_twin, outputs))
    shapes = [[y.shape for y in part] for part in (theirs, mine)]
    if shapes[0] != shapes[1]:
        raise NoTwin(f"its outputs have shapes {shapes[0]}, those of the twin {shapes[1]}")
    computed = getattr(operation, "compute_dtype", "float32")
    tolerance = max(EPSILON.get(computed, 0), EPSILON["float32"]) ** 0.5
    return worst(distance(y, wanted, tolerance) for y, wanted in zip(mine, theirs, strict=True))
