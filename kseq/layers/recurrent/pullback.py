"""Recurrences with a gradient that accumulates each weight's in one product.

Differentiating a scan adds every step's contribution to the weight gradients one at a time, which reads and writes the
whole of them at every step. Here the forward pass keeps what the gates were, the backward scan finds the gradients of
the states and of the products alone, and one matrix product over all steps makes the weight gradients of them.
"""

import functools
from typing import Any

from keras import ops

from ...gradients import with_gradient
from ...hints import computed_again
from ..float64 import product
from ..loops import over_time


def history(cell: Any, x: Any, mask: Any, states: Any, weights: Any, kept: Any = None) -> Any:
    """The states after every step of x [T, B, C], side by side: [T, B, states * units].

    Args:
        cell: one that has a gradient.
        mask: [T, B], or `None`.
        states: tuple of [B, units].
        weights: by name.
        kept: what multiplies the hidden state before its product, [B, units], or `None`.
    """
    hidden = ops.stop_gradient  # the scan itself is hidden from the backend's gradients
    fixed = {name: hidden(weight) for name, weight in weights.items()}
    found, gates = _forward(cell, hidden(x), mask, tuple(map(hidden, states)), fixed, kept)
    pullback = functools.partial(_pull_states, cell, tuple(weights))
    # One array for all states: more would not pass through the torch backend.
    given, start = (mask, kept, gates), ops.concatenate(states, axis=-1)
    return with_gradient(found, pullback, x, start, *weights.values(), given=given)


def _forward(cell, x, mask, states, weights, kept):
    """States after every step and gates of every step.

    The input's product is not taken out of the scan: the kernel stays in the cache, all steps' products would not.
    """

    def step(states, inputs):
        x, mask = inputs if isinstance(inputs, tuple) else (inputs, None)
        _, states, gates = cell.advance(x, mask, states, weights, kept)
        return tuple(ops.concatenate(part, axis=-1) for part in (states, gates)), states

    like = tuple(ops.concatenate([ops.zeros_like(states[0])] * n, axis=-1) for n in (len(states), cell.gates))
    return over_time(step, states, x if mask is None else (x, mask), like)[0]


def _pull_states(cell, names, mask, kept, gates, history, x, start, *weights):
    """The gradient of all steps' states, which follow from x, the start and the weights."""
    count = len(cell.states)
    before = ops.concatenate([start[None], history[:-1]], axis=0)
    hidden = before[..., : cell.units]
    pull_gates = functools.partial(_pull_gates, cell, names)
    gates = with_gradient(gates, pull_gates, x, hidden, *weights, given=(kept,))
    from_hidden = ops.transpose(weights[names.index("recurrent_kernel")])

    def products(gates, old, new, gradients, valid):
        """Gradients of the products, [..., units * n], and of old states that go past the gates."""
        gates, old, new = cell.split(gates, cell.gates), cell.split(old, count), cell.split(new, count)
        of_gates, direct = cell.pull(gates, old, new, gradients)
        d_input, d_hidden = cell.through_gates(gates, of_gates)
        if valid is None:
            return d_input, d_hidden, direct
        d_input = ops.where(valid, d_input, ops.zeros_like(d_input))  # an invalid step reads nothing
        return d_input, d_input if cell.sums else ops.where(valid, d_hidden, ops.zeros_like(d_hidden)), direct

    def step(later, inputs):
        upstream, gates, old, new, *mask = inputs
        gradients = tuple(u + g for u, g in zip(cell.split(upstream, count), later, strict=True))
        valid = mask[0][:, None] if mask else None
        _, d_hidden, direct = products(gates, old, new, gradients, valid)
        through = _kept(product(d_hidden, from_hidden), kept)
        earlier = [through if direct[0] is None else through + direct[0], *direct[1:]]
        if mask:  # and it passes its states on
            earlier = [ops.where(valid, e, g) for e, g in zip(earlier, gradients, strict=True)]
        return d_hidden if cell.sums else ops.concatenate(gradients, axis=-1), tuple(earlier)

    # What is computed of the gates in a step would be kept of all steps, in more room than the gates themselves.
    step = computed_again(step)

    def pull(upstream):
        inputs = (upstream, gates, before, history) + (() if mask is None else (mask,))
        end = tuple(ops.zeros_like(s) for s in cell.split(start, count))
        parts = from_hidden.shape[0] // cell.units if cell.sums else count
        like = ops.concatenate([ops.zeros_like(end[0])] * parts, axis=-1)
        found, at_start = over_time(step, end, inputs, like, reverse=True)
        if cell.sums:
            d_input = d_hidden = found
        else:  # two arrays of products take longer to write and to read than to compute
            valid = None if mask is None else mask[..., None]
            d_input, d_hidden, _ = products(gates, before, history, cell.split(found, count), valid)
        d_x, d_weights = _pull_products(names, d_input, d_hidden, x, _kept(hidden, kept), weights)
        return d_x, ops.concatenate(at_start, axis=-1), *d_weights

    return pull


def _pull_gates(cell, names, kept, gates, x, hidden, *weights):
    """The gradient of all steps' gates, which follow from x, hidden states and weights."""
    gates, from_hidden = cell.split(gates, cell.gates), ops.transpose(weights[names.index("recurrent_kernel")])

    def pull(upstream):
        d_input, d_hidden = cell.through_gates(gates, cell.split(upstream, cell.gates))
        d_x, d_weights = _pull_products(names, d_input, d_hidden, x, _kept(hidden, kept), weights)
        return d_x, _kept(product(d_hidden, from_hidden), kept), *d_weights

    return pull


def _pull_products(names, d_input, d_hidden, x, hidden, weights):
    """Gradients of x and of the weights, of those of their products with x and with the hidden states."""
    of = {
        "kernel": lambda: _outer(x, d_input),
        "recurrent_kernel": lambda: _outer(hidden, d_hidden),
        "bias": lambda: ops.sum(d_input, axis=(0, 1)),
        "recurrent_bias": lambda: ops.sum(d_hidden, axis=(0, 1)),
    }
    d_x = product(d_input, ops.transpose(weights[names.index("kernel")]))
    return d_x, [of[name]() for name in names]


def _outer(x, gradient):
    """Sum over time and batch of outer products: [T, B, C] and [T, B, G] to [C, G] in one matrix product."""
    x, gradient = (ops.reshape(part, (-1, part.shape[-1])) for part in (x, gradient))
    return product(ops.transpose(x), gradient)


def _kept(hidden, kept):
    return hidden if kept is None else hidden * kept
