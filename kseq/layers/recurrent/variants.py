"""Cells whose gradient is the backend's: projected, peeping and normalised ones, and a reset gate that comes first."""

from typing import Any

import keras
from keras import ops

from ..float64 import mean, product
from .cells import Cell

#: What Keras's LayerNormalization adds to a variance.
EPSILON = 1e-3


def normalized(x: Any, gamma: Any, beta: Any = None) -> Any:
    """Layer normalisation over the last axis, in float32 at least."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    wide = x if dtype == "float64" else ops.cast(x, "float32")
    centred = wide - mean(wide)
    variance = mean(centred * centred)
    y = ops.cast(centred * ops.rsqrt(variance + EPSILON), dtype) * gamma
    return y if beta is None else y + beta


class ExtendedLSTMCell(Cell):
    """An LSTM with what its weights ask for: `projection_kernel`, `peephole_kernel`, and gains of normalisation."""

    states: tuple[str, ...] = ("hidden", "cell")

    def __init__(self, units: int, activations: Any, projection_units: int | None = None) -> None:
        super().__init__(units, activations)
        self.projection_units = projection_units

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.projection_units or self.units, self.units)

    def from_input(self, x: Any, weights: Any) -> Any:
        y = product(x, weights["kernel"])
        if "kernel_gamma" in weights:
            y = normalized(y, weights["kernel_gamma"])
        return y + weights["bias"] if "bias" in weights else y

    def forward(self, from_input: Any, hidden: Any, states: Any, weights: Any) -> Any:
        act, gate = self.activations
        from_hidden = product(hidden, weights["recurrent_kernel"])
        if "recurrent_gamma" in weights:
            from_hidden = normalized(from_hidden, weights["recurrent_gamma"])
        i, f, g, o = self.split(from_input + from_hidden, 4)
        c, peephole = states[1], weights.get("peephole_kernel")
        if peephole is not None:
            i, f = i + peephole[0] * c, f + peephole[1] * c
        c = gate(f) * c + gate(i) * act(g)
        if peephole is not None:
            o = o + peephole[2] * c
        seen = normalized(c, weights["cell_gamma"], weights["cell_beta"]) if "cell_gamma" in weights else c
        h = gate(o) * act(seen)
        if "projection_kernel" in weights:
            h = product(h, weights["projection_kernel"])
        return (h, c), ()


class ExtendedGRUCell(Cell):
    """A GRU that may be normalised, with its reset gate after the product or, as Cho et al. have it, before."""

    states: tuple[str, ...] = ("hidden",)

    def __init__(self, units: int, activations: Any, reset_after: bool) -> None:
        super().__init__(units, activations)
        self.reset_after = reset_after

    def from_input(self, x: Any, weights: Any) -> Any:
        y = product(x, weights["kernel"])
        if "kernel_gamma" in weights:
            gamma, gates = weights["kernel_gamma"], 2 * self.units
            parts = [normalized(y[..., s], gamma[s]) for s in (slice(gates), slice(gates, None))]
            y = ops.concatenate(parts, axis=-1)
        return y + weights["bias"] if "bias" in weights else y

    def forward(self, from_input: Any, hidden: Any, states: Any, weights: Any) -> Any:
        act, gate = self.activations
        of_gates, of_candidate = slice(2 * self.units), slice(2 * self.units, None)
        z, r = self.split(from_input[..., of_gates] + _from_hidden(hidden, weights, of_gates), 2)
        z, r = gate(z), gate(r)
        if self.reset_after:
            from_hidden = r * _from_hidden(hidden, weights, of_candidate)
        else:
            from_hidden = _from_hidden(r * hidden, weights, of_candidate)
        g = act(from_input[..., of_candidate] + from_hidden)
        return (z * states[0] + (1 - z) * g,), ()


def _from_hidden(hidden, weights, columns):
    y = product(hidden, weights["recurrent_kernel"][:, columns])
    if "recurrent_gamma" in weights:
        y = normalized(y, weights["recurrent_gamma"][columns])
    return y + weights["recurrent_bias"][columns] if "recurrent_bias" in weights else y
