"""The rows of what a model is called with: the longest of them, and a shorter one."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ..model_graph import ModelGraph, Tensor, in_words, tensors
from ..ragged import Ragged
from ..sequence import Sequence
from .rows import InputRows, padding_of, shorter, timed_inputs


def given_rows(x: Any, model: Any, graph: ModelGraph | None, readers: Any) -> Any:
    """Rows of the values that a model is called with: by input, or, of a model without a graph, in their structure.

    They are the longest row and the shortest; where all are of one length, one of them is cut.

    Args:
        x: arrays [B, T, ...], `kseq.Sequence`s or `kseq.Ragged`s, in the structure of the model's inputs.
        model: for errors.
        graph: of the model, or `None` where it has none.
        readers: as for `draw_rows`.

    Raises:
        ValueError: values that do not fit the model's inputs, or each other, or of fewer than 2 steps.
    """
    x = _as_arrays(x)
    if graph is None:
        chosen = _chosen(list(_leaves(x)), model)
        return _map(lambda leaf: _rows(leaf, chosen, _may_have_time(leaf)), x)
    pairs = _pairs(x, graph, model)
    timed = timed_inputs(graph)
    chosen = _chosen([leaf for t, leaf in pairs if t in timed], model)
    return {t: _rows(leaf, chosen, t in timed, *padding_of(readers(t))) for t, leaf in pairs}


def _rows(leaf, chosen, has_time, padding=0, makes_mask=False):
    values, mask = (leaf.values, leaf.mask) if isinstance(leaf, Sequence) else (leaf, None)
    if not has_time:
        return InputRows(tuple(values[i] for i, _ in chosen), False)
    rows = tuple(values[i][slice(None) if mask is None else mask[i]][:n] for i, n in chosen)
    return InputRows(rows, True, padding, makes_mask, mask is not None and not makes_mask, _is_mask(values))


def _chosen(leaves, model):
    """Two rows, each with how many steps of it: the longest, and the shortest that is shorter, or one that is cut."""
    lengths = _lengths(leaves, in_words(model))
    full = max(lengths, default=0)
    if full < 2:
        shapes = [np.shape(leaf.values if isinstance(leaf, Sequence) else leaf) for leaf in leaves]
        raise ValueError(f"`x` must have a row of 2 time steps or more; received shapes {shapes}")
    longest = lengths.index(full)
    if uneven := [i for i, n in enumerate(lengths) if 0 < n < full]:
        i = min(uneven, key=lengths.__getitem__)
        return (longest, full), (i, lengths[i])
    others = [i for i, n in enumerate(lengths) if n == full and i != longest]
    return (longest, full), ((others or [longest])[-1], shorter(full))


def _lengths(leaves, words):
    """The valid steps of each row, of masks where there are any."""
    arrays = [leaf.values if isinstance(leaf, Sequence) else leaf for leaf in leaves]
    if len({array.shape[:2] for array in arrays if array.ndim > 1}) != 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"the sequences of `x` for {words} must have equally many rows and steps; received {shapes}")
    masks = [leaf.mask for leaf in leaves if isinstance(leaf, Sequence) and leaf.mask is not None]
    masks += [array for array in arrays if _is_mask(array)]
    if masks:
        return masks[0].sum(axis=1).tolist()
    batch, time = next(array.shape[:2] for array in arrays if array.ndim > 1)
    return [time] * batch


def _may_have_time(leaf):
    return isinstance(leaf, Sequence) or leaf.ndim > 1


def _is_mask(array):
    return array.dtype == bool and array.ndim == 2


def _as_arrays(x):
    """The structure with NumPy arrays, and sequences of them, as leaves, and lists and dicts around them."""
    if isinstance(x, Ragged):
        return _as_arrays(Sequence.from_ragged(x))
    if isinstance(x, Sequence):
        return Sequence(_as_array(x.values), None if x.mask is None else _as_array(x.mask))
    if isinstance(x, dict):
        return {key: _as_arrays(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)) and any(hasattr(part, "shape") or isinstance(part, (tuple, dict)) for part in x):
        return [_as_arrays(part) for part in x]
    return _as_array(x)


def _as_array(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def _pairs(x, graph, model):
    """Each of the model's inputs with what is given for it, of the right shape."""
    try:
        pairs = list(_paired(graph.inputs, x))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        names = ", ".join(graph.input_layers[t].name for t in tensors(graph.inputs))
        raise ValueError(f"`x` must have the structure of the inputs of {in_words(model)}: {names}") from None
    for t, leaf in pairs:
        shape = np.shape(leaf.values if isinstance(leaf, Sequence) else leaf)
        if len(shape) != len(t.shape) or any(a not in (None, b) for a, b in zip(t.shape[2:], shape[2:], strict=True)):
            name = graph.input_layers[t].name
            raise ValueError(f"`x` must have shape {t.shape} for the input {name!r}; received {shape}")
    return pairs


def _paired(wanted, x) -> Iterator[tuple[Tensor, Any]]:
    """Each tensor of a structure with what stands for it, a sequence for its values, or for values and mask."""
    if isinstance(wanted, Tensor):
        if isinstance(x, (list, dict)):
            raise TypeError
        yield wanted, x
    elif isinstance(wanted, dict):
        for key, part in wanted.items():
            yield from _paired(part, x[key])
    elif isinstance(x, Sequence) and len(wanted) == 2:
        yield wanted[0], x
        yield wanted[1], x.with_mask().mask
    else:
        for part, own in zip(wanted, x if isinstance(x, list) else [x], strict=True):
            yield from _paired(part, own)


def _leaves(x):
    if isinstance(x, (dict, list)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _leaves(part)
    else:
        yield x


def _map(fn, x):
    if isinstance(x, dict):
        return {key: _map(fn, value) for key, value in x.items()}
    return [_map(fn, value) for value in x] if isinstance(x, list) else fn(x)
