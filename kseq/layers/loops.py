"""Loops over time that carry states along."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from ..hints import is_exporting

# Steps of a loop that become as many copies of it, where it is exported.
_UNROLLED = 16


def over_time(step: Callable[[Any, Any], Any], states: Any, inputs: Any, like: Any, *, reverse: bool = False) -> Any:
    """`step(states, inputs) -> outputs, states` over inputs [T, B, ...]; gives all outputs and the last states.

    Args:
        step: one step; the next states are of the structure of the last.
        states: a structure of arrays.
        inputs: a structure of arrays [T, B, ...], of floats of one dtype and of masks.
        like: what outputs of one step look like, arrays of any values.
        reverse: from the last step to the first.
    """
    if _is_unrolled(inputs):
        return _unrolled(step, states, inputs, reverse)
    if keras.backend.backend() != "tensorflow":

        def next_of(states, inputs):
            outputs, states = step(states, inputs)
            return states, outputs

        states, outputs = ops.scan(next_of, states, inputs, reverse=reverse)
        return outputs, states

    def next_pair(carry, inputs):  # there outputs are of the structure of what is carried
        carry = step(carry[1], inputs)
        return carry, carry

    (_, states), (outputs, _) = scan(next_pair, (like, states), inputs, reverse=reverse)
    return outputs, states


def scan(step: Callable[[Any, Any], Any], carry: Any, inputs: Any, *, reverse: bool = False) -> Any:
    """`keras.ops.scan`, also over several inputs of unknown T, of which Keras takes but one on TensorFlow.

    They are joined to one.

    Args:
        step: gives the next carry and an output, on TensorFlow of the carry's structure.
        carry: a structure of arrays.
        inputs: a structure of arrays [T, B, ...], of floats of one dtype and of masks.
        reverse: from the last step to the first.
    """
    if _is_unrolled(inputs):

        def turned(carry, inputs):
            carry, y = step(carry, inputs)
            return y, carry

        outputs, carry = _unrolled(turned, carry, inputs, reverse)
        return carry, outputs
    leaves = tree.flatten(inputs)
    if len(leaves) == 1 or leaves[0].shape[0] is not None:
        return ops.scan(step, carry, inputs, reverse=reverse)
    lead = ops.shape(leaves[0])[:2]
    dtype = next(leaf.dtype for leaf in leaves if leaf.dtype != "bool")
    sizes = [math.prod(leaf.shape[2:]) for leaf in leaves]
    wide = [ops.reshape(ops.cast(leaf, dtype), (*lead, size)) for leaf, size in zip(leaves, sizes, strict=True)]
    ends = [0, *itertools.accumulate(sizes)]

    def part(joined, leaf, start, end):
        x = ops.reshape(joined[:, start:end], (-1, *leaf.shape[2:]))
        return x > 0 if leaf.dtype == "bool" else ops.cast(x, leaf.dtype)

    def step_of_one(carry, joined):
        parts = [part(joined, leaf, *pair) for leaf, pair in zip(leaves, itertools.pairwise(ends), strict=True)]
        return step(carry, tree.pack_sequence_as(inputs, parts))

    return ops.scan(step_of_one, carry, ops.concatenate(wide, axis=-1), reverse=reverse)


def _is_unrolled(inputs):
    """Whether a loop becomes its few steps, one after the other: other runtimes have no fast loops."""
    time = tree.flatten(inputs)[0].shape[0]
    return is_exporting() and isinstance(time, int) and 0 < time <= _UNROLLED


def _unrolled(step, states, inputs, reverse):
    found, times = [], range(tree.flatten(inputs)[0].shape[0])
    for t in reversed(times) if reverse else times:
        outputs, states = step(states, tree.map_structure(lambda x, t=t: x[t], inputs))
        found.append(outputs)
    found = found[::-1] if reverse else found
    return tree.map_structure(lambda *row: ops.stack(row), *found), states
