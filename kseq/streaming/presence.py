"""Which steps of a model's values are there, where the model has lost their mask.

A Keras model may lose a mask on its way: then every step counts. In a stream some steps are nevertheless not there: the
warm-up before the first output of a layer, and what is pushed after the last input to make the last outputs come out.
What is there is known at the input of a model and followed through its layers by their timings.
"""

from typing import Any

from keras import ops

from ..layers.base import SequenceLayer
from ..layers.network import LayerNode, Read
from ..layers.structures import parts
from ..padding import started, valid_so_far
from ..runtime.ends import PRESENCE as SPEC
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from .adapters import Held

# Steps that are counted before the counts are set back, which keeps them small in a stream without end.
_MANY = 2**24


class Presence:
    """The nodes of a model that say by their mask which steps of its values are there.

    Args:
        source: key of the network's input that says which of the model's inputs are there.
        add: adds a node to the network.
    """

    source: Any
    is_used: bool

    def __init__(self, source: Any, add: Any) -> None:
        self.source, self.is_used = source, False
        self._add, self._made, self._known = add, {}, {}

    def follow(self, node: LayerNode) -> None:
        """Note which node makes a value."""
        for number, key in enumerate(node.outputs):
            self._made[key] = (node, number)

    def of(self, key: Any) -> Read:
        """Reads a sequence whose mask says which steps of a value are there."""
        if key not in self._known:
            self._known[key] = self._find(key)
        return self._known[key]

    def mask_of(self, key: Any) -> Read:
        """Reads that mask."""
        return self.of(key)._replace(part="mask")

    def _find(self, key):
        if key not in self._made:  # an input
            self.is_used = True
            return Read(self.source)
        node, number = self._made[key]
        # What comes latest: the network would have to delay anything else.
        read = self.of(max((read.value for read in node.reads), key=self._latency))
        if _keeps_steps(node.layer.timings[number]):
            return read
        layer = Present(node.layer, number)
        end = object()
        self._add(LayerNode(layer, (read,), (end,), layer.name, hidden=True))
        return Read(end)

    def _latency(self, key):
        if key not in self._made:
            return 0
        node, number = self._made[key]
        timing = node.layer.timings[number]
        return max(self._latency(read.value) for read in node.reads) * timing.ratio + timing.output_latency


def _keeps_steps(timing) -> bool:
    """Whether outputs are there where inputs are."""
    return timing.output_latency == 0 and timing.length_stages == ((1, 0),)


class Present(SequenceLayer):
    """Which outputs of a layer are there, of which inputs are: the mask, of values that say nothing.

    An output is there if it is one of layer mode's: after the warm-up, and before the end of all outputs.

    State: int32 [B, 2], the inputs that were there so far and the outputs since the first of them.
    """

    invalid_value: float | None = None

    def __init__(self, layer: SequenceLayer, number: int) -> None:
        super().__init__(name=f"{layer.name}_present", autocast=False)
        self._of = Held((layer, number))
        self.built = True

    @property
    def timing(self) -> Timing:
        layer, number = self._of.value
        return layer.timings[number]

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return SPEC

    def output_length(self, length: Any) -> Any:
        return self.timing.output_length(length)

    def output_mask(self, mask: Any) -> Any:
        layer, number = self._of.value
        return parts(layer.output_mask((mask,) * layer.num_inputs if layer.num_inputs > 1 else mask))[number]

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        batch, time = ops.shape(x.values)[:2]
        values = ops.zeros((batch, self.output_length(time)), dtype="bool")
        return Sequence(values, None if x.mask is None else self.output_mask(x.mask))

    def initial_state(self, batch_size: int, input_spec: Any, context: Any = None) -> Any:
        return {"counts": ops.zeros((batch_size, 2), dtype="int32")}

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        timing, mask = self.timing, x.with_mask().mask
        inputs, outputs = state["counts"][:, :1], state["counts"][:, 1:]
        began = ops.logical_or(started(mask), inputs > 0)[:, :: timing.ratio.denominator]
        began = ops.repeat(began, timing.ratio.numerator, axis=1)
        number = outputs + valid_so_far(began) - 1 - timing.output_latency
        inputs = inputs + ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        there = ops.logical_and(began, ops.logical_and(number >= 0, number < timing.output_length(inputs)))
        outputs = outputs + ops.sum(ops.cast(began, "int32"), axis=1, keepdims=True)
        periods = ops.where(inputs > 2 * _MANY, _MANY // timing.ratio.denominator, 0)
        back = ops.concatenate([periods * timing.ratio.denominator, periods * timing.ratio.numerator], axis=1)
        counts = ops.concatenate([inputs, outputs], axis=1) - back
        return Sequence(there, there), {"counts": ops.cast(counts, "int32")}
