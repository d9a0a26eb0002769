"""How far predicted sequences are from what they should be, in lengths and in values."""

from typing import Any

import numpy as np


def nmse(outputs: Any, predicted: Any, mean: Any = None) -> float:
    """Squared error of predicted sequences, divided by the squared distance of the true ones from their mean.

    Where a predicted sequence is too short, the mean stands in the place of what it lacks; where it is too long, the
    mean is what it should have been. So 0 is perfect, 1 is what the mean of everything would give, and a wrong length
    costs. Where the true ones are the mean itself it is 0 or infinite.

    Args:
        outputs: a list of arrays [T_i, D], the true ones.
        predicted: a list of arrays [U_i, D].
        mean: array [D] to count from, as that of the data of training; by default that of `outputs`.

    Raises:
        ValueError: another number of sequences, or other channels.

    Example:
        >>> import numpy as np
        >>> x = [np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]])]
        >>> nmse(x, x), nmse(x, [row[:0] for row in x])
        (0.0, 1.0)
    """
    outputs, predicted = _matched(outputs, predicted)
    mean = np.mean(np.concatenate(outputs), axis=0, dtype=np.float64) if mean is None else np.asarray(mean, np.float64)
    error = energy = 0.0
    for i, (true, made) in enumerate(zip(outputs, predicted, strict=True)):
        if true.shape[1:] != made.shape[1:]:
            raise ValueError(f"predicted[{i}] must have shape [U, {true.shape[1]}]; received {made.shape}")
        steps = max(len(true), len(made))
        both = np.zeros((2, steps, *true.shape[1:]))
        both[0, : len(true)], both[1, : len(made)] = true - mean, made - mean
        error += np.sum((both[0] - both[1]) ** 2)
        energy += np.sum(both[0] ** 2)
    if not energy:  # sequences that are the mean
        return float("inf") if error else 0.0
    return float(error / energy)


def length_errors(outputs: Any, predicted: Any) -> dict[str, float]:
    """How far predicted lengths are off: `length_mae`, the mean, and `length_exact`, the share of those that are right.

    Args:
        outputs: a list of arrays [T_i, ...], the true ones.
        predicted: a list of arrays [U_i, ...].

    Raises:
        ValueError: another number of sequences.

    Example:
        >>> length_errors([[1, 2], [1, 2, 3]], [[1, 2], [1]])
        {'length_mae': 1.0, 'length_exact': 0.5}
    """
    outputs, predicted = _matched(outputs, predicted)
    off = np.abs([len(true) - len(made) for true, made in zip(outputs, predicted, strict=True)])
    return {"length_mae": float(off.mean()), "length_exact": float((off == 0).mean())}


def _matched(outputs, predicted):
    outputs, predicted = ([np.asarray(row) for row in rows] for rows in (outputs, predicted))
    if len(outputs) != len(predicted) or not outputs:
        raise ValueError(f"there must be one predicted sequence for each; received {len(predicted)} for {len(outputs)}")
    return outputs, predicted
