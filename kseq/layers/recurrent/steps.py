"""A recurrence over one step and over many, with what training adds to it."""

from typing import Any, NamedTuple

from keras import ops

from ..loops import over_time
from .pullback import history


class StateNoise(NamedTuple):
    """What training adds to a recurrence, and zoneout to inference, too.

    `kept` [B, size] multiplies the hidden state before its product, the same at every step. `zoned` says where states
    keep their values: bool [B, T, sum of sizes], or a number, which is how much of the old value is in the new one.
    """

    kept: Any = None
    zoned: Any = None


def one_step(cell: Any, x: Any, mask: Any, states: Any, weights: Any, noise: StateNoise) -> Any:
    """Advance by one step: x [B, C] and states [B, size] to the output and the next states."""
    zoned = noise.zoned
    if zoned is not None and not isinstance(zoned, float):
        zoned = zoned[:, 0]
    output, states, _ = cell.advance(x, mask, states, weights, noise.kept, zoned)
    return output, states


def many_steps(cell: Any, x: Any, mask: Any, states: Any, weights: Any, noise: StateNoise) -> Any:
    """Advance through x [B, T, C] with mask [B, T]: outputs [B, T, size] and the last states."""
    x = ops.transpose(x, (1, 0, 2))  # [T, B, C]
    mask = None if mask is None else ops.transpose(mask)  # [T, B]
    if cell.has_gradient and noise.zoned is None:
        found = history(cell, x, mask, states, weights, noise.kept)
        outputs, last = found[..., : cell.units], cell.split(found[-1], len(states))
    else:
        outputs, last = _scanned(cell, x, mask, states, weights, noise)
    return ops.transpose(outputs, (1, 0, 2)), tuple(last)


def _scanned(cell, x, mask, states, weights, noise):
    """The same with the backend's own gradient."""
    inputs, constant = {"x": x}, None
    if mask is not None:
        inputs["mask"] = mask
    if isinstance(noise.zoned, float):
        constant = noise.zoned
    elif noise.zoned is not None:
        inputs["zoned"] = ops.transpose(noise.zoned, (1, 0, 2))

    def step(states, inputs):
        zoned = inputs.get("zoned", constant)
        output, states, _ = cell.advance(inputs["x"], inputs.get("mask"), states, weights, noise.kept, zoned)
        return output, states

    return over_time(step, states, inputs, ops.zeros_like(states[0]))
