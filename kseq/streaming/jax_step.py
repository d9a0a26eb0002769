"""A `StepFunction` compiled by jax."""

from typing import Any

import numpy as np

from .compiled import CompiledStep
from .products import merged
from .tracing import State, in_row


class JaxStep(CompiledStep):
    """Jitted with the weights closed over and the state donated; NumPy goes straight in."""

    closes_over_weights = True

    @staticmethod
    def copy(value: Any) -> Any:
        import jax.numpy as jnp

        return jnp.array(value, copy=True)

    def leaf(self, x: Any, dtype: Any) -> Any:
        import jax.numpy as jnp

        return jnp.array(x, dtype=dtype)  # a copy: the step is given its buffer

    def function(self, trace: Any, values: Any, masks: Any, active: Any, written: Any) -> Any:
        function = _JaxFunction(trace, self.weights, written)
        state = self.initial_state()
        function.call.eval_shape(state.leaves, function.arguments(state.seeds), *in_row(values, masks, active))
        if written or not trace.written:
            function(self, values, masks, active, state)  # compiles, before anything has moved
        return function

    def changed(self, state: State, leaves: Any) -> State:
        import jax.numpy as jnp

        made, taken = [], set()
        for x, spec in zip(leaves, self.step.state, strict=True):
            # Strong types, or the step would be compiled again; and buffers of their own, since it is given each.
            leaf = jnp.array(x, dtype=spec.dtype) if id(x) in taken else jnp.asarray(x, dtype=spec.dtype)
            taken.add(id(leaf))
            made.append(leaf)
        return super().changed(state, made)

    def leaves(self, state: State) -> list[Any]:
        _check_unspent(state)
        return super().leaves(state)

    def fork(self, state: State) -> State:
        import jax.numpy as jnp

        _check_unspent(state)
        return State([jnp.array(x, copy=True) for x in state.leaves], state.seeds, state.more)

    def to_numpy(self, state: Any) -> Any:
        return super().to_numpy(self.leaves(state))


def _check_unspent(state):
    if state.is_spent:
        _refuse_spent()


def _refuse_spent():
    raise RuntimeError("the state of this stream went with a step that was broken off; `reset()` begins anew")


class _JaxFunction:
    def __init__(self, trace: Any, weights: Any, written: Any) -> None:
        import jax

        values = weights.values

        def flat(leaves, seeds, *row):
            given = dict(zip(written, seeds, strict=True))
            outputs, leaves, updates = trace(leaves, [given.get(i, v) for i, v in enumerate(values)], row)
            return [tuple(y) for y in outputs], leaves, updates

        self.trace, self.call = trace, jax.jit(merged(flat), donate_argnums=0)
        self.written = [(i, values[i]) for i in written]

    def bound_to(self, weights: Any) -> Any:
        return self.call_plain if self.trace.is_plain else self

    def arguments(self, seeds: Any) -> Any:
        return tuple([seeds.get(i, value) for i, value in self.written])

    def __call__(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        _check_unspent(state)
        state.is_spent = True
        outputs, leaves, updates = self.call(state.leaves, self.arguments(state.seeds), *in_row(values, masks, active))
        return _in_numpy(outputs), State(leaves, state.seeds | updates)

    def call_plain(self, run: Any, values: Any, masks: Any, active: Any, state: Any) -> Any:
        """The same of a plain trace: a tenth of a small step is saved."""
        if state.is_spent:
            _refuse_spent()
        state.is_spent = True
        [(y, mask)], leaves, _ = self.call(state.leaves, (), *values)
        y.block_until_ready()
        return [(np.array(y), None if mask is None else np.array(mask))], State(leaves, state.seeds)


def _in_numpy(outputs):
    """Outputs of a call, once it is done: all at once, so that what it was given is the caller's again."""
    outputs[0][0].block_until_ready()  # quicker than to read what is not there yet
    return [(np.array(y), None if mask is None else np.array(mask)) for y, mask in outputs]
