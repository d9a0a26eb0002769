"""Gated recurrences over many steps, with a backward pass that accumulates each weight gradient in one product.

Differentiating a scan adds every step's contribution to the weight gradients one at a time, which reads and writes the
whole of them at every step. Here the forward pass keeps what the gates were, the backward scan only finds the
gradients of the gates' inputs, and one matrix product over all steps makes the weight gradients of them.
"""

import itertools

from keras import ops, tree


class GatedCell:
    """The pointwise half of a gated recurrence; the matrix products are the scan's.

    Args:
        units: size of the hidden state.
        activation, recurrent_activation: functions of the candidate and of the gates.
        derivatives: their derivatives as functions of their *outputs*, or `None` where one is not known: then gradients
            go through the scan.
    """

    #: Names of the states of `units`, the hidden state first, and how many gates of `units` are kept.
    states: tuple[str, ...]
    gates: int
    #: How many different gradients the gates' inputs have: 1 where both sides are only ever added.
    gradients: int

    def __init__(self, units, activation, recurrent_activation, derivatives=None):
        self.units = units
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.derivatives = derivatives

    def forward(self, from_input, from_hidden, states):
        """Next states and the gates to keep, of the gates' inputs from either side, all [B, units * n]."""
        raise NotImplementedError

    def backward(self, gates, old, new, gradients):
        """Gradients of (from_input, from_hidden, old states) of those of the new states.

        The one of `from_hidden` is `None` where it is that of `from_input`.
        """
        raise NotImplementedError

    def split(self, x, parts):
        return [x[..., i * self.units : (i + 1) * self.units] for i in range(parts)]


class LSTMCell(GatedCell):
    states, gates, gradients = ("hidden", "cell"), 4, 1

    def forward(self, from_input, from_hidden, states):
        i, f, g, o = self.split(from_input + from_hidden, 4)
        i, f, o = (self.recurrent_activation(gate) for gate in (i, f, o))
        g = self.activation(g)
        c = f * states[1] + i * g
        return (o * self.activation(c), c), (i, f, g, o)

    def backward(self, gates, old, new, gradients):
        d_act, d_gate = self.derivatives
        (i, f, g, o), (_, c_old), (_, c), (dh, dc) = gates, old, new, gradients
        squashed = self.activation(c)
        dc = dc + dh * o * d_act(squashed)
        dz = ops.concatenate(
            [dc * g * d_gate(i), dc * c_old * d_gate(f), dc * i * d_act(g), dh * squashed * d_gate(o)], axis=-1
        )
        return dz, None, (ops.zeros_like(dh), dc * f)


class GRUCell(GatedCell):
    """Keras's `reset_after` form: the reset gate multiplies the product with the recurrent kernel."""

    states, gates, gradients = ("hidden",), 4, 2

    def forward(self, from_input, from_hidden, states):
        z, r, g = self.split(from_input, 3)
        hz, hr, hg = self.split(from_hidden, 3)
        z, r = self.recurrent_activation(z + hz), self.recurrent_activation(r + hr)
        g = self.activation(g + r * hg)
        return (z * states[0] + (1 - z) * g,), (z, r, g, hg)

    def backward(self, gates, old, new, gradients):
        d_act, d_gate = self.derivatives
        (z, r, g, hg), (h,), (dh,) = gates, old, gradients
        dz = dh * (h - g) * d_gate(z)
        dg = dh * (1 - z) * d_act(g)
        dr = dg * hg * d_gate(r)
        return ops.concatenate([dz, dr, dg], -1), ops.concatenate([dz, dr, dg * r], -1), (dh * z,)


def one_step(cell, x, mask, states, kernel, recurrent_kernel, input_bias, recurrent_bias):
    """Advance by one step: x [B, C] and states [B, units] to the next states; rows where `mask` [B] is false stay."""
    (new, _) = _advance(cell, x, mask, states, kernel, recurrent_kernel, input_bias, recurrent_bias)
    return new


def many_steps(cell, x, mask, states, kernel, recurrent_kernel, input_bias, recurrent_bias):
    """Advance through x [B, T, C]; returns the states after every step, each [B, T, units]."""
    x = ops.transpose(x, (1, 0, 2))  # [T, B, C]
    mask = None if mask is None else ops.transpose(mask)  # [T, B]
    parameters = [p for p in (kernel, recurrent_kernel, input_bias, recurrent_bias) if p is not None]

    def with_gradient(x, start, *parameters):
        history, gates = _scan(cell, x, mask, start, *_named(parameters))

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return _backward(cell, x, mask, start, history, gates, upstream, parameters)

        return ops.stack(history), gradient

    start = ops.stack(states)
    if cell.derivatives is None:
        history = _scan(cell, x, mask, start, *_named(parameters))[0]
    else:  # one array in and out for all states: more would not pass through the torch backend
        history = ops.custom_gradient(with_gradient)(x, start, *parameters)
    return [ops.transpose(history[i], (1, 0, 2)) for i in range(len(cell.states))]


def _named(parameters):
    """Kernel, recurrent kernel and biases, of which the recurrent one or both may be missing."""
    return (*parameters, *[None] * (4 - len(parameters)))


def _advance(cell, x, mask, states, kernel, recurrent_kernel, input_bias, recurrent_bias):
    from_input = ops.matmul(x, kernel)
    if input_bias is not None:
        from_input = from_input + input_bias
    from_hidden = ops.matmul(states[0], recurrent_kernel)
    if recurrent_bias is not None:
        from_hidden = from_hidden + recurrent_bias
    new, gates = cell.forward(from_input, from_hidden, states)
    if mask is not None:
        new = tuple(ops.where(mask[:, None], n, old) for n, old in zip(new, states, strict=True))
    return tuple(new), tuple(gates)


def _scan(cell, x, mask, start, kernel, recurrent_kernel, input_bias, recurrent_bias):
    """States after every step and gates of every step, two tuples of [T, B, units].

    The input's product is not taken out of the scan: the kernel stays in the cache, all steps' products would not.
    """

    def step(carry, inputs):
        states, _ = carry
        x, mask = inputs if isinstance(inputs, tuple) else (inputs, None)
        carry = _advance(cell, x, mask, states, kernel, recurrent_kernel, input_bias, recurrent_bias)
        return carry, carry  # the TensorFlow backend wants outputs of the carry's structure

    states = tuple(start[i] for i in range(len(cell.states)))
    carry = (states, tuple(ops.zeros_like(states[0]) for _ in range(cell.gates)))
    _, (states, gates) = _scan_time(step, carry, x if mask is None else (x, mask))
    return states, gates


def _backward(cell, x, mask, start, history, gates, upstream, parameters):
    kernel, recurrent_kernel, *biases = parameters
    start = [start[i] for i in range(len(cell.states))]
    before = tuple(ops.concatenate([s[None], h[:-1]], axis=0) for s, h in zip(start, history, strict=True))
    upstream = tuple(upstream[i] for i in range(len(cell.states)))

    def step(carry, inputs):
        upstream, gates, old, new, *mask = inputs
        gradients = [u + g for u, g in zip(upstream, carry[0], strict=True)]
        d_input, d_hidden, (d_old, *d_others) = cell.backward(gates, old, new, gradients)
        found = [d for d in (d_input, d_hidden) if d is not None]
        if mask:  # an invalid step passed its states on
            valid = mask[0][:, None]
            found = [ops.where(valid, d, ops.zeros_like(d)) for d in found]
        d_old = [d_old + ops.matmul(found[-1], ops.transpose(recurrent_kernel)), *d_others]
        if mask:
            d_old = [ops.where(valid, d, g) for d, g in zip(d_old, gradients, strict=True)]
        carry = (tuple(d_old), *found)
        return carry, carry

    inputs = (upstream, gates, before, history) + (() if mask is None else (mask,))
    like_input = ops.zeros((ops.shape(start[0])[0], kernel.shape[1]), dtype=start[0].dtype)
    carry = (tuple(ops.zeros_like(s) for s in start), *[like_input] * cell.gradients)
    (d_start, *_), (_, *found) = _scan_time(step, carry, inputs, reverse=True)
    d_input, d_hidden = found[0], found[-1]
    d_biases = [ops.sum(d, axis=(0, 1)) for d in (d_input, d_hidden)][: len(biases)]
    return (
        ops.matmul(d_input, ops.transpose(kernel)),
        ops.stack(d_start),
        _outer(x, d_input),
        _outer(before[0], d_hidden),
        *d_biases,
    )


def _scan_time(step, carry, inputs, reverse=False):
    """`ops.scan`, also over several inputs [T, B, ...] of unknown T, of which Keras takes but one on TensorFlow."""
    leaves = tree.flatten(inputs)
    if len(leaves) == 1 or leaves[0].shape[0] is not None:
        return ops.scan(step, carry, inputs, reverse=reverse)
    wide = [leaf if len(leaf.shape) == 3 else ops.cast(leaf, leaves[0].dtype)[..., None] for leaf in leaves]
    ends = list(itertools.accumulate(leaf.shape[-1] for leaf in wide))

    def step_of_one(carry, joined):
        parts = [joined[..., start:end] for start, end in itertools.pairwise([0, *ends])]
        parts = [p if len(leaf.shape) == 3 else p[..., 0] > 0 for p, leaf in zip(parts, leaves, strict=True)]
        return step(carry, tree.pack_sequence_as(inputs, parts))

    return ops.scan(step_of_one, carry, ops.concatenate(wide, axis=-1), reverse=reverse)


def _outer(x, gradient):
    """Sum over time and batch of outer products: [T, B, C] and [T, B, G] to [C, G] in one matrix product."""
    return ops.matmul(ops.transpose(ops.reshape(x, (-1, x.shape[-1]))), ops.reshape(gradient, (-1, gradient.shape[-1])))
