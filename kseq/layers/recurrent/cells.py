"""The cells of gated recurrences: what happens between the matrix products, and its derivatives."""

from typing import Any

from keras import ops


class GatedCell:
    """One step of a gated recurrence from the input's product on.

    A cell that keeps its gates also says what a scan needs for a gradient of its own. It is a chain of two parts: the
    gates are functions of the products (`through_gates`), the next states are functions of the gates and the states
    before (`linearize`, `pull`). All of it is pointwise, so it works on one step and on all steps at once.

    Args:
        units: size of the hidden state.
        activation, recurrent_activation: functions of the candidate and of the gates.
        derivatives: their derivatives as functions of their *outputs*, or `None` where one is not known: then
            the cell has no gradient of its own.
    """

    derivatives: Any

    #: Names of the states of `units`, the hidden state first, and how many gates of `units` are kept for the gradient.
    states: tuple[str, ...]
    gates: int

    def __init__(self, units: Any, activation: Any, recurrent_activation: Any, derivatives: Any = None) -> None:
        self.units = units
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.derivatives = derivatives

    @property
    def has_gradient(self) -> bool:
        return self.gates > 0 and self.derivatives is not None

    def forward(self, from_input: Any, states: Any, recurrent_kernel: Any, recurrent_bias: Any = None) -> Any:
        """Next states and the gates to keep, of the input's product [B, units * n] and the states [B, units]."""
        raise NotImplementedError

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        """Of gradients of the gates, those of the input's and of the hidden state's product, both [..., units * n]."""
        raise NotImplementedError

    def linearize(self, gates: Any, old: Any, new: Any) -> Any:
        """By what gradients of the next states are multiplied: for each gate, and a tuple of what `pull` needs."""
        raise NotImplementedError

    def pull(self, factors: Any, gradients: Any) -> Any:
        """For each part of the products the gradient that is multiplied; and those that go past the gates.

        The latter are gradients of the old states, `None` for a state that is read by the gates alone.
        """
        raise NotImplementedError

    def split(self, x: Any, parts: Any) -> Any:
        return [x[..., i * self.units : (i + 1) * self.units] for i in range(parts)]


class LSTMCell(GatedCell):
    """Gates input, forget, candidate, output; all of them functions of the sum of both products."""

    states: tuple[str, ...] = ("hidden", "cell")
    gates: int = 4

    def forward(self, from_input: Any, states: Any, recurrent_kernel: Any, recurrent_bias: Any = None) -> Any:
        i, f, g, o = self.split(from_input + ops.matmul(states[0], recurrent_kernel), 4)
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        g = self.activation(g)
        c = f * states[1] + i * g
        return (o * self.activation(c), c), (i, f, g, o)

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        d_act, d_gate = self.derivatives
        slopes = (d_gate, d_gate, d_act, d_gate)
        d = ops.concatenate([d * slope(y) for d, slope, y in zip(gradients, slopes, gates, strict=True)], axis=-1)
        return d, d

    def linearize(self, gates: Any, old: Any, new: Any) -> Any:
        i, f, g, o = gates
        squashed = self.activation(new[1])
        return (g, old[1], i, squashed), (o * self.derivatives[0](squashed), f)

    def pull(self, factors: Any, gradients: Any) -> Any:
        (of_cell, f), (dh, dc) = factors, gradients
        dc = dc + dh * of_cell
        return (dc, dc, dc, dh), (None, dc * f)


class GRUCell(GatedCell):
    """Keras's `reset_after` form: the reset gate multiplies the product with the recurrent kernel.

    Gates update, reset, candidate, and the candidate's part of the product with the hidden state.
    """

    states: tuple[str, ...] = ("hidden",)
    gates: int = 4

    def forward(self, from_input: Any, states: Any, recurrent_kernel: Any, recurrent_bias: Any = None) -> Any:
        from_hidden = ops.matmul(states[0], recurrent_kernel)
        if recurrent_bias is not None:
            from_hidden = from_hidden + recurrent_bias
        z, r, g = self.split(from_input, 3)
        hz, hr, hg = self.split(from_hidden, 3)
        z, r = self.recurrent_activation(z + hz), self.recurrent_activation(r + hr)
        g = self.activation(g + r * hg)
        return (z * states[0] + (1 - z) * g,), (z, r, g, hg)

    def through_gates(self, gates: Any, gradients: Any) -> Any:
        d_act, d_gate = self.derivatives
        (z, r, g, hg), (dz, dr, dg, d_hg) = gates, gradients
        dz, dg = dz * d_gate(z), dg * d_act(g)
        dr = (dr + dg * hg) * d_gate(r)
        return ops.concatenate([dz, dr, dg], axis=-1), ops.concatenate([dz, dr, d_hg + dg * r], axis=-1)

    def linearize(self, gates: Any, old: Any, new: Any) -> Any:
        z, _, g, _ = gates
        none = ops.zeros_like(z)
        return (old[0] - g, none, 1 - z, none), (z,)

    def pull(self, factors: Any, gradients: Any) -> Any:
        (z,), (dh,) = factors, gradients
        return (dh, dh, dh), (dh * z,)


class ResetBeforeGRUCell(GatedCell):
    """The form of Cho et al.: the reset gate multiplies the hidden state, before the product."""

    states: tuple[str, ...] = ("hidden",)
    gates: int = 0

    def forward(self, from_input: Any, states: Any, recurrent_kernel: Any, recurrent_bias: Any = None) -> Any:
        (h,), gates = states, 2 * self.units
        z, r = self.split(from_input[..., :gates] + ops.matmul(h, recurrent_kernel[:, :gates]), 2)
        z, r = self.recurrent_activation(z), self.recurrent_activation(r)
        g = self.activation(from_input[..., gates:] + ops.matmul(r * h, recurrent_kernel[:, gates:]))
        return (z * h + (1 - z) * g,), ()
