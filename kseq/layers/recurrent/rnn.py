"""RNN: any cell of Keras's."""

from typing import Any, ClassVar, Unpack

import keras
from keras import ops, tree

from ...annotations import RecurrentOptions, Shape
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..parameters import Only
from ..rematerialize import of_variables, values_of
from .base import FIXED, of_whole_past
from .keras_cells import build_cell, call_cell, check_cell, initial_state_of, output_shape, without_masks
from .scan import over_time


@register
class RNN(SequenceLayer):
    """Runs a cell over time; gives its output at every step.  [B, T, ...] -> [B, T, ...].

    A cell is what `keras.layers.RNN` takes: Keras's `LSTMCell`, `GRUCell`, `SimpleRNNCell` and `StackedRNNCells`, and
    any layer with `state_size` and `call(x, states) -> output, states` on one step, x [B, ...]. Its weights are the
    layer's, as in Keras. Mask: unchanged; an invalid step leaves the state untouched, and gives the output before it in
    the same call, or zeros. Timing: none; depends on the whole past.  Source: `keras.layers.RNN`.

    Args:
        cell: a cell, or a list of cells, each of which reads the output of the one before.

    Raises:
        TypeError: something that is no cell.
        ValueError: another of Keras's arguments with a value that does not stream.

    Example:
        >>> import keras, kseq, numpy as np
        >>> kseq.RNN([keras.layers.LSTMCell(5), keras.layers.GRUCell(3)])(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 3)
    """

    takes_complex = False
    in_specs = False

    fixed_arguments: ClassVar[dict[str, Only]] = FIXED
    cell: Any

    def __init__(self, cell: Any, **kwargs: Unpack[RecurrentOptions]) -> None:
        super().__init__(**kwargs)
        for each in cell if isinstance(cell, (list, tuple)) else [cell]:
            check_cell(each)
        self.keep({"cell": keras.layers.StackedRNNCells(list(cell)) if isinstance(cell, (list, tuple)) else cell})
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA does not compile the gradient of Keras's scan there

    def build(self, input_shape: Shape) -> None:
        build_cell(self.cell, (input_shape[0], *input_shape[2:]))

    @property
    def timing(self) -> Timing:
        return of_whole_past()

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec(output_shape(self.cell, input_spec.shape), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        build_cell(self.cell, (batch_size, *input_spec.shape))
        return initial_state_of(self.cell, batch_size)

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        with without_masks(self.cell):
            if x.values.shape[1] != 1:
                outputs, state = self._many_steps(x, state, training)
            else:
                output, new = call_cell(self.cell, x.values[:, 0], state, training)
                if x.mask is not None:
                    new = _where(x.mask[:, 0], new, state)
                outputs, state = output[:, None], new
        return Sequence(ops.cast(outputs, self.compute_dtype), x.mask), state

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        state = self.initial_state(ops.shape(x.values)[0], x.spec)
        return self.call_step(x, state, training=training)[0]

    def _many_steps(self, x, state, training):
        """All steps by a scan, which carries what the cell draws from or counts while it trains."""
        values = ops.moveaxis(x.values, 1, 0)
        inputs = (values,) if x.mask is None else (values, ops.transpose(x.mask))
        like = ops.zeros((ops.shape(values)[1], *output_shape(self.cell, x.spec.shape)), dtype=self.compute_dtype)
        counted = self.cell.non_trainable_variables if training else []
        if training:  # Keras's cells drop the same of every step, which they choose at the first
            call_cell(self.cell, values[0], state, training)
        call = of_variables(lambda x, state: call_cell(self.cell, x, state, training), counted)

        def step(carry, inputs):
            (before, state, counts), (x, *mask) = carry, inputs
            (output, new), _, written = call(counts, x, state)
            output = ops.cast(output, self.compute_dtype)
            counts = [old if value is None else value for value, old in zip(written, counts, strict=True)]
            if mask:
                output, new = _where(mask[0], (output, new), (before, state))
            return output, (output, new, counts)

        outputs, (_, state, counts) = over_time(step, (like, state, values_of(counted)), inputs, like)
        for variable, value in zip(counted, counts, strict=True):
            variable.assign(value)
        return ops.moveaxis(outputs, 0, 1), state

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"cell": keras.layers.GRUCell(3)}),
            Example({"cell": [keras.layers.LSTMCell(2), keras.layers.SimpleRNNCell(3)]}),
        ]


def _where(valid, new, old):
    """New arrays [B, ...] in rows that are valid, old ones in others."""

    def choose(n, o):
        return ops.where(ops.reshape(valid, (-1, *[1] * (len(n.shape) - 1))), n, o)

    return tree.map_structure(choose, new, old)
