"""RNN: any cell of Keras's."""

from typing import Any, ClassVar, Unpack

import keras
from keras import ops, tree

from ...annotations import RecurrentOptions, Shape
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..loops import over_time
from ..parameters import Only
from ..rematerialize import of_variables, values_of
from .base import FIXED
from .keras_cells import build_cell, call_cell, check_cell, draws, initial_state_of, output_shape, still, without_masks
from .recurrence import Recurrence


@register
class RNN(Recurrence):
    """Runs a cell over time; gives its output at every step.  [B, T, ...] -> [B, T, ...].

    A cell is what `keras.layers.RNN` takes: Keras's `LSTMCell`, `GRUCell`, `SimpleRNNCell` and `StackedRNNCells`, and
    any layer with `state_size` and `call(x, states) -> output, states` on one step, x [B, ...]. Its weights are the
    layer's, as in Keras. Mask: unchanged; an invalid step leaves the state untouched, and gives the output before
    it, or zeros. Timing: none; depends on the whole past.  Source: `keras.layers.RNN`.

    Args:
        cell: a cell, or a list of cells, each of which reads the output of the one before.

    Raises:
        TypeError: something that is no cell.
        ValueError: a list of none, or another of Keras's arguments with a value that does not stream.

    Example:
        >>> import keras, kseq, numpy as np
        >>> kseq.RNN([keras.layers.LSTMCell(5), keras.layers.GRUCell(3)])(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 3)
    """

    in_specs = False

    fixed_arguments: ClassVar[dict[str, Only]] = FIXED
    cell: Any
    _shapes: tuple[Shape | None, Shape] = (None, ())  # of a step that the cell was built for, and of its output

    def __init__(self, cell: Any, **kwargs: Unpack[RecurrentOptions]) -> None:
        super().__init__(**kwargs)
        cells = cell if isinstance(cell, (list, tuple)) else [cell]
        if not cells:
            raise ValueError(f"`cell` must be a cell or a list of at least one; received {cell!r}")
        for each in cells:
            check_cell(each)
        self.keep({"cell": keras.layers.StackedRNNCells(list(cell)) if isinstance(cell, (list, tuple)) else cell})
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA does not compile the gradient of Keras's scan there

    def build(self, input_shape: Shape) -> None:
        build_cell(self.cell, (input_shape[0], *input_shape[2:]))
        self._shapes = tuple(input_shape[2:]), output_shape(self.cell, tuple(input_shape[2:]))

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        given, found = self._shapes
        shape = tuple(input_spec.shape)
        # A cell that is built has no word on steps of other channels than those; what asks may not know them yet.
        known = given is not None and len(shape) == len(given) and shape[:-1] == given[:-1]
        return SequenceSpec(found if known else output_shape(self.cell, shape), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        build_cell(self.cell, (batch_size, *input_spec.shape))
        output = ops.zeros((batch_size, *self.output_spec(input_spec).shape), dtype=self.compute_dtype)
        # Copies, for a cell may give one array twice.
        states = tree.map_structure(ops.copy, initial_state_of(self.cell, batch_size))
        return {"cell": states, "output": output}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        inputs = (x.values,) if x.mask is None else (x.values, x.mask)
        with without_masks(self.cell):
            if x.values.shape[1] == 1:
                output, state = self._step(tuple(part[:, 0] for part in inputs), state, training)
                outputs = output[:, None]
            else:
                outputs, state = self._many_steps(tuple(ops.moveaxis(part, 1, 0) for part in inputs), state, training)
        return Sequence(outputs, x.mask), state

    def _many_steps(self, inputs, state, training):
        """All steps by a scan, which carries what the cell draws from or counts while it trains."""
        # In a scope of its own the cell reads no values but those that it is given.
        weights, counted = (self.cell.trainable_variables, self.cell.non_trainable_variables) if training else ([], [])
        # Keras's cells drop the same of every step, which they choose at the first.
        if training or draws(still(self.cell)):
            call_cell(self.cell, inputs[0][0], state["cell"], training)
        call = of_variables(lambda inputs, state: self._step(inputs, state, training), [*weights, *counted])
        fixed = values_of(weights)

        def step(carry, inputs):
            (state, counts) = carry
            (output, state), _, written = call([*fixed, *counts], inputs, state)
            written = zip(written[len(fixed) :], counts, strict=True)
            return output, (state, [old if new is None else new for new, old in written])

        outputs, (state, counts) = over_time(step, (state, values_of(counted)), inputs, state["output"])
        for variable, value in zip(counted, counts, strict=True):
            variable.assign(value)
        return ops.moveaxis(outputs, 0, 1), state

    def _step(self, inputs, state, training):
        x, *mask = inputs
        output, new = call_cell(self.cell, x, state["cell"], training)
        new = {"cell": new, "output": ops.cast(output, self.compute_dtype)}
        if mask:

            def choose(n, o):
                return ops.where(ops.reshape(mask[0], (-1, *[1] * (len(n.shape) - 1))), n, o)

            new = tree.map_structure(choose, new, state)
        return new["output"], new

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"cell": keras.layers.GRUCell(3)}),
            Example({"cell": [keras.layers.LSTMCell(2), keras.layers.SimpleRNNCell(3)]}),
        ]
