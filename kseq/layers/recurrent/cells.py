"""The cells of recurrences that have a gradient of their own: what happens in a step, and its derivatives."""

import itertools
import math
from typing import Any

from keras import ops

from ...hints import is_exporting
from ..float64 import product


def zone_out(old: Any, new: Any, zoned: Any) -> tuple[Any, ...]:
    """New states, some values of which are the old ones.

    Args:
        old, new: arrays [B, ...], as many of one as of the other.
        zoned: true where values are the old ones, bool [B, sum of sizes]; or a number, which is how much of the old
            value is in every new one.
    """
    if isinstance(zoned, float):
        return tuple(n + zoned * (o - n) for o, n in zip(old, new, strict=True))
    ends = [0, *itertools.accumulate(math.prod(o.shape[1:]) for o in old)]
    parts = [ops.reshape(zoned[:, start:end], ops.shape(o)) for o, start, end in zip(old, ends, ends[1:], strict=False)]
    return tuple(ops.where(z, o, n) for z, o, n in zip(parts, old, new, strict=True))


class Cell:
    """One step of a recurrence, in two parts: the product of the input, and what is made of it and of the states.

    A cell that keeps gates also says what a scan needs for a gradient of its own. It is a chain of two parts: the gates
    are functions of the products (`through_gates`), the next states are functions of the gates and the states before
    (`pull`). Both are pointwise.

    Args:
        units: size of the state.
        activations: functions, as the cell reads them.
        derivatives: their derivatives as functions of their *outputs*, or `None` where one is not known: then the cell
            has no gradient of its own.
    """

    #: Names of the states, the first of which is the output, and how many gates of `units` are kept for the gradient.
    states: tuple[str, ...]
    gates: int = 0
    #: Whether gates are functions of the sum of both products, whose gradients are then one.
    sums: bool = True
    #: Whether that sum may be one product of the input and the hidden state next to each other: it reads `total`.
    joins: bool = False

    def __init__(self, units: int, activations: Any, derivatives: Any = None) -> None:
        self.units = units
        self.activations = activations
        self.derivatives = derivatives

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the states."""
        return (self.units,) * len(self.states)

    @property
    def has_gradient(self) -> bool:
        return self.gates > 0 and self.derivatives is not None

    def from_input(self, x: Any, weights: Any) -> Any:
        """The input's product [B, units * n], and what is added to it."""
        y = product(x, weights["kernel"])
        return y + weights["bias"] if "bias" in weights else y

    def total(self, from_input: Any, hidden: Any, weights: Any) -> Any:
        """The sum of both products, where `sums`; the hidden state's may be in that of the input already."""
        if "recurrent_kernel" not in weights:
            return from_input
        return from_input + product(hidden, weights["recurrent_kernel"])

    def forward(self, from_input: Any, hidden: Any, states: Any, weights: Any) -> Any:
        """Next states and the gates to keep, of the input's product, of what is multiplied and of the old states.

        Args:
            from_input: [B, units * n].
            hidden: the first of the states, of which some values may be dropped.
            states: tuple of [B, size].
            weights: by name.
        """
        raise NotImplementedError

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        """Of gradients of the gates, those of the input's and of the hidden state's product, both [..., units * n].

        One and the same array where `sums`.
        """
        raise NotImplementedError

    def pull(self, gates: Any, old: Any, new: Any, gradients: Any) -> Any:
        """Of gradients of the new states those of the gates, and those of the old states that go past the gates.

        The latter are `None` for a state that is read by the gates alone.
        """
        raise NotImplementedError

    def advance(self, x: Any, mask: Any, states: Any, weights: Any, kept: Any = None, zoned: Any = None) -> Any:
        """The output of a step x [B, C], the next states, and the gates; rows not in `mask` [B] give what they gave.

        Args:
            kept: what multiplies the hidden state before its product, [B, size].
            zoned: where states keep their values, as `zone_out` reads it.
        """
        hidden = states[0] if kept is None else states[0] * kept
        if self.joins and is_exporting():  # one product of both, which other runtimes do not make of two
            kernels = [weights[name] for name in ("kernel", "recurrent_kernel")]
            weights = {name: w for name, w in weights.items() if name == "bias"} | {"kernel": ops.concatenate(kernels)}
            x = ops.concatenate([x, hidden], axis=-1)
        new, gates = self.forward(self.from_input(x, weights), hidden, states, weights)
        output = new[0]
        if zoned is not None:
            new = zone_out(states, new, zoned)
        if mask is not None:
            valid = mask[:, None]
            output = ops.where(valid, output, states[0])
            new = tuple(ops.where(valid, n, old) for n, old in zip(new, states, strict=True))
        return output, tuple(new), gates

    def split(self, x: Any, parts: int) -> list[Any]:
        return [x[..., i * self.units : (i + 1) * self.units] for i in range(parts)]


class SimpleCell(Cell):
    """A function of the sum of both products, which is the state and the one gate."""

    states: tuple[str, ...] = ("hidden",)
    gates: int = 1
    joins: bool = True

    def forward(self, from_input: Any, hidden: Any, states: Any, weights: Any) -> Any:
        h = self.activations[0](self.total(from_input, hidden, weights))
        return (h,), (h,)

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        d = gradients[0] * self.derivatives[0](gates[0])
        return d, d

    def pull(self, gates: Any, old: Any, new: Any, gradients: Any) -> Any:
        return gradients, (None,)


class LSTMCell(Cell):
    """Gates input, forget, candidate, output; all of them functions of the sum of both products."""

    states: tuple[str, ...] = ("hidden", "cell")
    gates: int = 4
    joins: bool = True

    def forward(self, from_input: Any, hidden: Any, states: Any, weights: Any) -> Any:
        act, gate = self.activations
        i, f, g, o = self.split(self.total(from_input, hidden, weights), 4)
        i, f, g, o = gate(i), gate(f), act(g), gate(o)
        c = f * states[1] + i * g
        return (o * act(c), c), (i, f, g, o)

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        d_act, d_gate = self.derivatives
        slopes = (d_gate, d_gate, d_act, d_gate)
        d = ops.concatenate([d * slope(y) for d, slope, y in zip(gradients, slopes, gates, strict=True)], axis=-1)
        return d, d

    def pull(self, gates: Any, old: Any, new: Any, gradients: Any) -> Any:
        (i, f, g, o), (dh, dc) = gates, gradients
        squashed = self.activations[0](new[1])
        dc = dc + dh * (o * self.derivatives[0](squashed))
        return (dc * g, dc * old[1], dc * i, dh * squashed), (None, dc * f)


class GRUCell(Cell):
    """Keras's `reset_after` form: the reset gate multiplies the product with the recurrent kernel.

    Gates update, reset, candidate, and the candidate's part of the product with the hidden state.
    """

    states: tuple[str, ...] = ("hidden",)
    gates: int = 4
    sums: bool = False

    def forward(self, from_input: Any, hidden: Any, states: Any, weights: Any) -> Any:
        act, gate = self.activations
        from_hidden = product(hidden, weights["recurrent_kernel"])
        if "recurrent_bias" in weights:
            from_hidden = from_hidden + weights["recurrent_bias"]
        z, r, g = self.split(from_input, 3)
        hz, hr, hg = self.split(from_hidden, 3)
        z, r = gate(z + hz), gate(r + hr)
        g = act(g + r * hg)
        return (z * states[0] + (1 - z) * g,), (z, r, g, hg)

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        d_act, d_gate = self.derivatives
        (z, r, g, hg), (dz, dr, dg, d_hg) = gates, gradients
        dz, dg = dz * d_gate(z), dg * d_act(g)
        dr = (dr + dg * hg) * d_gate(r)
        d_hg = dg * r if d_hg is None else d_hg + dg * r
        return ops.concatenate([dz, dr, dg], axis=-1), ops.concatenate([dz, dr, d_hg], axis=-1)

    def pull(self, gates: Any, old: Any, new: Any, gradients: Any) -> Any:
        (z, _, g, _), (dh,) = gates, gradients
        return (dh * (old[0] - g), ops.zeros_like(dh), dh * (1 - z), None), (dh * z,)
