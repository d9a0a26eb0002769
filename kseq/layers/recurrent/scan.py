"""Gated recurrences over many steps, with a gradient that accumulates each weight's in one product.

Differentiating a scan adds every step's contribution to the weight gradients one at a time, which reads and writes the
whole of them at every step. Here the forward pass keeps what the gates were, the backward scan only finds the
gradients of the states, and one matrix product over all steps makes the weight gradients of them.
"""

import functools
import itertools
from typing import Any

from keras import ops, tree

from ...gradients import with_gradient


def one_step(cell: Any, x: Any, mask: Any, states: Any, parameters: Any) -> Any:
    """Advance by one step: x [B, C] and states [B, units] to the next states; rows where `mask` [B] is false stay.

    Args:
        parameters: kernel, recurrent kernel, and the biases of the input's product and of the hidden state's, if any.
    """
    return _advance(cell, x, mask, states, parameters)[0]


def many_steps(cell: Any, x: Any, mask: Any, states: Any, parameters: Any) -> Any:
    """Advance through x [B, T, C] with mask [B, T]; returns the states after every step, each [B, T, units]."""
    x = ops.transpose(x, (1, 0, 2))  # [T, B, C]
    mask = None if mask is None else ops.transpose(mask)  # [T, B]
    if not cell.has_gradient:
        history, _ = _scan(cell, x, mask, states, parameters)
    else:  # one array for all states: more would not pass through the torch backend
        # The scan itself is hidden from the backend's gradients.
        hidden = ops.stop_gradient
        fixed = hidden(x), mask, tuple(map(hidden, states)), tuple(map(hidden, parameters))
        history, gates = _scan(cell, *fixed)
        pullback = functools.partial(_pull_states, cell)
        given = mask, ops.concatenate(gates, axis=-1)
        history = with_gradient(ops.stack(history), pullback, x, ops.stack(states), *parameters, given=given)
    return [ops.transpose(history[i], (1, 0, 2)) for i in range(len(cell.states))]


def _advance(cell, x, mask, states, parameters):
    kernel, recurrent_kernel, *biases = parameters
    from_input = ops.matmul(x, kernel)
    if biases:
        from_input = from_input + biases[0]
    new, gates = cell.forward(from_input, states, recurrent_kernel, *biases[1:])
    if mask is not None:
        new = tuple(ops.where(mask[:, None], n, old) for n, old in zip(new, states, strict=True))
    return tuple(new), tuple(gates)


def _scan(cell, x, mask, states, parameters):
    """States after every step and gates of every step, two tuples of [T, B, units].

    The input's product is not taken out of the scan: the kernel stays in the cache, all steps' products would not.
    """

    def step(carry, inputs):
        x, mask = inputs if isinstance(inputs, tuple) else (inputs, None)
        carry = _advance(cell, x, mask, carry[0], parameters)
        return carry, carry  # the TensorFlow backend wants outputs of the carry's structure

    carry = (tuple(states), tuple(ops.zeros_like(states[0]) for _ in range(cell.gates)))
    _, (states, gates) = _scan_time(step, carry, x if mask is None else (x, mask))
    return states, gates


def _pull_states(cell, mask, gates, history, x, start, *parameters):
    """The gradient of all steps' states [S, T, B, units], which follow from x, the start and the weights."""
    before = ops.concatenate([start[:, None], history[:, :-1]], axis=1)
    gates = with_gradient(gates, functools.partial(_pull_gates, cell), x, before[0], *parameters)
    gates, old, new = cell.split(gates, cell.gates), _each(before), _each(history)
    slopes, factors = cell.linearize(gates, old, new)
    of_sides = cell.through_gates(gates, slopes)  # by what comes from the input, and from the hidden state
    if mask is not None:  # an invalid step reads nothing, and passes its states on
        valid = mask[..., None]
        of_sides, factors = tree.map_structure(lambda f: ops.where(valid, f, ops.zeros_like(f)), (of_sides, factors))
    from_hidden = ops.transpose(parameters[1])

    def step(later, inputs):
        upstream, of_hidden, factors, *valid = inputs
        gradients = tuple(u + g for u, g in zip(upstream, later, strict=True))
        of_gates, direct = cell.pull(factors, gradients)
        hidden = ops.matmul(ops.concatenate(of_gates, axis=-1) * of_hidden, from_hidden)
        earlier = [hidden if direct[0] is None else hidden + direct[0], *direct[1:]]
        if valid:
            keep = valid[0][:, None]
            earlier = [e + ops.where(keep, ops.zeros_like(g), g) for e, g in zip(earlier, gradients, strict=True)]
        return tuple(earlier), gradients

    def pull(upstream):
        inputs = (_each(upstream), of_sides[1], factors) + (() if mask is None else (mask,))
        end = tuple(ops.zeros_like(s) for s in _each(start))
        at_start, gradients = _scan_time(step, end, inputs, reverse=True)
        of_gates = ops.concatenate(cell.pull(factors, gradients)[0], axis=-1)
        d_input, d_hidden = (of_gates * side for side in of_sides)
        d_x, d_parameters = _pull_products(d_input, d_hidden, x, before[0], parameters)
        return d_x, ops.stack(at_start), *d_parameters

    return pull


def _pull_gates(cell, gates, x, hidden, *parameters):
    """The gradient of all steps' gates [T, B, units * gates], which follow from x, hidden states and weights."""
    gates = cell.split(gates, cell.gates)

    def pull(upstream):
        d_input, d_hidden = cell.through_gates(gates, cell.split(upstream, cell.gates))
        d_x, d_parameters = _pull_products(d_input, d_hidden, x, hidden, parameters)
        return d_x, ops.matmul(d_hidden, ops.transpose(parameters[1])), *d_parameters

    return pull


def _pull_products(d_input, d_hidden, x, hidden, parameters):
    """Gradients of x and of the weights, of those of their products with x and with the hidden states."""
    biases = [ops.sum(d, axis=(0, 1)) for d in (d_input, d_hidden)][: len(parameters) - 2]
    d_x = ops.matmul(d_input, ops.transpose(parameters[0]))
    return d_x, (_outer(x, d_input), _outer(hidden, d_hidden), *biases)


def _each(states):
    return tuple(states[i] for i in range(states.shape[0]))


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
