"""`StepFunction`: the step of a layer as a pure function of arrays, with a name for every leaf of its state."""

import functools
from typing import Any, overload

import numpy as np
from keras import ops

from ..arguments import as_integer
from ..dtypes import numpy_dtype
from ..layers.base import SequenceLayer
from ..layers.leaves import leaves, order_made, pack
from ..layers.limits import Limit
from ..layers.structures import as_sequence
from ..sequence import Sequence, SequenceSpec
from . import state as states
from .context import as_long_as


class StepFunction:
    """The step of a layer at a batch size and for given inputs: `(inputs, state, active) -> (outputs, state)`.

    It is what is compiled, exported, saved and served: no state is anywhere but in its arguments.

    Args:
        layer: a kseq layer that steps.
        batch_size: B.
        input_spec: `SequenceSpec` of the input, or a tuple of them.
        block: steps of a call; by default the layer's block. A multiple of it.
        context: what the layer reads as context, by name: sequences or arrays whose first axis is the batch.

    Attributes:
        state: a `LeafSpec` (name, shape, dtype) for every leaf of the state.
        context: a `Sequence` by name.
        structure: hash of what the layer is made of.

    Raises:
        ValueError: a block that is no multiple of the layer's, or a context without a name that the layer reads.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Serial([kseq.Conv1D(2, 3, name="conv"), kseq.GRU(4, name="memory")])
        >>> layer.build((None, None, 5))
        >>> step = kseq.StepFunction(layer, 1, kseq.SequenceSpec((5,)))
        >>> [leaf.name for leaf in step.state]
        ['conv/values', 'memory/hidden']
        >>> y, state = step(kseq.Sequence(np.zeros((1, 1, 5), "float32")), step.initial_state())
        >>> y.values.shape
        (1, 1, 4)
    """

    layer: SequenceLayer
    batch_size: int
    input_spec: Any
    block: int
    context: dict[str, Sequence]
    state: list[states.LeafSpec]

    def __init__(
        self,
        layer: SequenceLayer,
        batch_size: int,
        input_spec: SequenceSpec | tuple[SequenceSpec, ...],
        *,
        block: int | None = None,
        context: dict[str, Any] | None = None,
    ) -> None:
        self.layer, self.batch_size, self.input_spec = layer, batch_size, input_spec
        least = layer.timing.block_size
        self.block = least if block is None else as_integer("`block`", block, least)
        if self.block % least:
            raise ValueError(f"`block` must be a multiple of the layer's block, {least}; received {block}")
        given = {"context": layer.check_context(context)} if layer.context_names or context else {}
        self.context = {name: as_sequence(value) for name, value in (context or {}).items()}
        self._example = layer.initial_state(batch_size, self.input_spec, **given)
        self.state = states.specs(self._example)

    @property
    def num_inputs(self) -> int:
        """Sequences that it takes."""
        return self.layer.num_inputs

    @property
    def output_spec(self) -> Any:
        """`SequenceSpec` of the output, or a tuple of them."""
        return self.layer.output_spec(self.input_spec)

    @functools.cached_property
    def structure(self) -> str:
        return states.structure_of(self.layer)

    @functools.cached_property
    def _initial(self):
        return [np.asarray(ops.convert_to_numpy(leaf)) for leaf in leaves(self._example)]

    def initial_state(self) -> list[np.ndarray]:
        """The leaves of the state before the first step, in NumPy; bfloat16 as the backend gives it."""
        return [leaf.copy() for leaf in self._initial]

    @overload
    def __call__(self, inputs: Sequence, state: list[Any], active: Any = None) -> tuple[Sequence, list[Any]]: ...
    @overload
    def __call__(self, inputs: Any, state: list[Any], active: Any = None) -> tuple[Any, list[Any]]: ...
    def __call__(self, inputs: Any, state: list[Any], active: Any = None) -> tuple[Any, list[Any]]:
        """One step.

        Args:
            inputs: a `Sequence` [B, n * block, ...], or a tuple of them.
            state: the leaves, a list in the order of the attribute `state`.
            active: bool [B] or `None`: rows that have data.

        Returns:
            The output, a `Sequence` or a tuple of them, and the next state's leaves.

        Raises:
            ValueError: a chunk that does not fit the layer, or the room that the state has.
        """
        y, new_state = self.layer.step(inputs, self.tree(state), active=active)
        return y, leaves(new_state)

    def advance(self, inputs: Any, state: list[Any], active: Any = None) -> tuple[Any, list[Any]]:
        """One step where it is known that the state has room for it, at which this one does not look."""
        y, new_state = self.layer.step_in_room(inputs, self.tree(state), active=active)
        return y, leaves(new_state)

    def tree(self, state: list[Any]) -> Any:
        """The layer's state of its leaves."""
        return pack(self._example, [ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x for x in state])

    def limits(self, state: list[Any]) -> list[Limit]:
        """How many steps each layer with a limit still takes."""
        return self.layer.limits(self.tree(state))

    @functools.cached_property
    def is_limited(self) -> bool:
        """Whether some layer takes so many steps and no more."""
        return bool(self.layer.limits(self._example))

    def rollback(self, state: list[Any], steps: Any) -> list[Any]:
        """The leaves of a state as if the last steps of each row, a number or int32 [B], had not been fed.

        Raises:
            ValueError: a layer that cannot, or more steps than it remembers.
        """
        new_state = self.layer.rollback(self.tree(state), steps)
        states.check(new_state, self.state)
        return leaves(new_state)

    def replace_context(self, state: list[Any], context: dict[str, Any], active: Any = None) -> list[Any]:
        """The leaves of a state in which other context stands in the place of that from which it began.

        Args:
            state: the leaves.
            context: one or several of the names, of the shapes of the first; a `Sequence` may be shorter.
            active: bool [B] or `None`: rows that get it, by default all.

        Raises:
            ValueError: names or shapes that are not those of the first context, or a layer that cannot exchange it.
        """
        if isinstance(context, dict):
            context = {name: as_long_as(self.context.get(name), name, value) for name, value in context.items()}
        new_state = self.layer.replace_context(self.tree(state), self.input_spec, context, active)
        states.check(new_state, self.state)
        return leaves(new_state)

    @functools.cached_property
    def order(self) -> tuple[int, ...]:
        """The numbers of the leaves in an order that does not depend on the names that Keras gives layers."""
        return tuple(order_made(self._example))

    def to_bytes(self, state: list[Any]) -> bytes:
        """The leaves of a state as bytes: `state.to_bytes`."""
        return states.to_bytes(self.in_order(state), [self.state[i] for i in self.order], self.structure)

    def from_bytes(self, data: bytes) -> list[np.ndarray]:
        """The leaves of a state that `to_bytes` gave, here, on another backend or on another machine."""
        found = states.from_bytes(data, [self.state[i] for i in self.order], self.structure)
        return self.of_order(found)

    def in_order(self, state: list[Any]) -> list[np.ndarray]:
        """The leaves of a state in NumPy, of their dtypes, in the order of the layers whatever the names of these."""
        arrays = [np.asarray(ops.convert_to_numpy(leaf)) for leaf in state]
        return [arrays[i].astype(numpy_dtype(self.state[i].dtype)) for i in self.order]

    def of_order(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The leaves that `in_order` was given."""
        return [array for _, array in sorted(zip(self.order, arrays, strict=True), key=lambda pair: pair[0])]
