"""`convert`: a model with kseq's layers in the places of Keras's."""

import collections
import warnings
from typing import Any, Literal, overload

import keras

from ..doctor.check import check_masks
from ..doctor.distance import distance, worst
from ..doctor.runs import LayerRun, has_graph
from ..doctor.tensors import to_numpy, values_of
from ..doctor.trial import PaddedTrial
from ..keras_errors import unframed
from ..layers.base import SequenceLayer
from ..model_graph import in_words, map_structure
from ..obstacles import NotStreamable, Obstacle
from ..streaming.model_layer import streamable
from .outcome import ConversionReport, Converted
from .rebuild import Rebuilding
from .twins import NoTwin, Twin, twin_of
from .verify import verify

_TOLERANCE = 1e-3  # relative; rounding adds up over layers


@overload
def convert(model: keras.Model, x: Any = None, return_report: Literal[False] = False) -> keras.Model: ...
@overload
def convert(
    model: keras.Model, x: Any = None, *, return_report: Literal[True]
) -> tuple[keras.Model, ConversionReport]: ...
def convert(model: Any, x: Any = None, return_report: bool = False) -> Any:
    """A Keras model with each stock layer that has a kseq twin replaced by the twin, with its weights.

    On rows without padding the new model gives the same; on padded ones, where Keras's layers lose masks and let
    padding leak, it is right as far as its layers are kseq's: the report says what is left. Each twin is tried on
    what the layer is given in a run of the model, in training too where that is not random, and is not used where it
    gives something else. Merges and activations that are operations, as `x + y`, become layers that keep the mask;
    `MultiHeadAttention` and `GroupQueryAttention` of a sequence to itself become `kseq.SelfAttention`. Layers within
    models, and those that are shared, are converted alike. Where another padding gives the same and streams, as a pair
    of steps for `same` and `causal` for `valid` of one tap, the twin has it; the report says whether the new model
    streams, and what to use where it does not. The new model shares nothing with the old one; it is compiled as that
    was, with a new state of the optimizer.

    Args:
        model: a built sequential or functional Keras model.
        x: what the model is called with, if not random rows, as in `kseq.masks.check`.
        return_report: whether to return what was replaced, and what was not and why, as well.

    Returns:
        The new model, or a pair of it and a `kseq.conversion.ConversionReport`.

    Raises:
        TypeError: something else than a sequential or functional model.
        ValueError: a model that is not built, whose rows cannot be drawn, or with a layer that has no configuration.

    Example:
        >>> import kseq, keras
        >>> layers = [keras.layers.Conv1D(2, 3, padding="causal", name="conv"), keras.layers.LSTM(2, name="last")]
        >>> model = keras.Sequential([keras.Input((None, 4)), *layers], name="net")
        >>> model, report = kseq.convert(model, return_report=True)
        >>> print(report)  # doctest: +ELLIPSIS
        net: 1 replaced, 1 as before
          conv (Conv1D): now kseq.Conv1D
          last (LSTM): stays: ...
    """
    if not has_graph(model) or isinstance(model, SequenceLayer):
        raise TypeError(
            f"expected a sequential or functional Keras model; received {model!r} of type {type(model).__name__}"
        )
    trial = PaddedTrial.of(model, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras's own, of masks that are lost
        rows, twins = _twins(trial)
        rebuilding = Rebuilding(trial.runs.graph_of, twins)
        made = rebuilding.model(model)
        rebuilding.copy_weights(model)
        _check_same(made, model, trial)
        compiled, problem = _compile_like(made, model)
    if not return_report:
        return made
    found = {"masks": check_masks(made, x), "obstacles": _obstacles_since(made, model)}
    return made, ConversionReport(model.name, tuple(rows), compiled, problem, **found)


def _obstacles_since(made, model) -> tuple[Obstacle, ...]:
    """A row for each layer of the new model that does not stream, where the one before may have."""
    rows = _obstacles(made)
    before = {row.layer for row in _obstacles(model)} if rows else set()
    return tuple(row if row.layer in before else _or_before(row) for row in rows)


def _obstacles(model):
    try:
        return tuple(streamable(model).obstacles())
    except NotStreamable as error:
        return error.obstacles
    except ValueError as error:  # of layers that each stream: branches of other ratios
        return (Obstacle(model.name, type(model).__name__, str(error)),)


def _or_before(row):
    as_before = "the model as it was, which streams where rows are not padded"
    return row._replace(instead=f"{row.instead}, or {as_before}" if row.instead else as_before)


def _twins(trial: PaddedTrial) -> tuple[list[Converted], dict[int, Twin]]:
    """A row for each layer and operation, and the twins by the identity of what they replace."""
    calls: dict[int, list[Any]] = collections.defaultdict(list)
    for graph in trial.runs.graphs():
        for call in graph.calls:
            calls[id(call.operation)].append(call)
    runs: dict[int, list[list[LayerRun]]] = collections.defaultdict(list)
    for of_rows, _ in trial.calls():
        runs[id(of_rows[0].operation)].append(of_rows)
    rows, twins = [], {}
    for key, of_calls in runs.items():
        first = of_calls[0][0]
        of_masks = not isinstance(first.operation, keras.layers.Layer) and not first.needs_mask
        if isinstance(first.operation, SequenceLayer) or of_masks:
            continue
        name, kind = first.name, type(first.operation).__name__
        try:
            twin = twin_of(first.operation, calls[key])
            for of_rows in of_calls:
                if failed := next((run for run in of_rows if run.outputs is None), None):
                    raise NoTwin(f"it could not be tried: {failed.error}")
                verify(twin, of_rows)
        except NoTwin as reason:
            rows.append(Converted(name, kind, None, str(reason)))
        else:
            twins[key] = twin
            rows.append(Converted(name, kind, twin.name))
    return rows, twins


def _check_same(made, model, trial):
    """Refuse a model that gives something else, which no layer by itself has done."""
    graph = trial.runs.graph_of(model)
    for given, (_, outputs) in zip(trial.inputs, trial.alone, strict=True):
        if outputs is None:
            continue
        with keras.StatelessScope():
            found = made(map_structure(lambda t, given=given: keras.ops.convert_to_tensor(given[t]), graph.inputs))
        pairs = zip(map(to_numpy, values_of(found)), map(to_numpy, values_of(outputs)), strict=True)
        size = worst(distance(y, wanted, _TOLERANCE) for y, wanted in pairs)
        if size is not None:
            raise ValueError(
                f"{in_words(model)} with kseq's layers gives something else, by up to {size:.2g}: a layer that stays "
                f"keeps something that is neither in its configuration nor in its weights"
            )


def _compile_like(made, model) -> tuple[bool, str | None]:
    if not model.compiled:
        return False, None
    try:
        made.compile_from_config(model.get_compile_config())
    except Exception as error:  # what cannot be said in a configuration, as functions of one's own
        return False, f"its settings cannot be copied: {' '.join(unframed(error).split())}"
    return made.compiled, None if made.compiled else "its settings cannot be copied"
