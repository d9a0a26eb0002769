"""A transformer block of KerasHub's: its attention, of kseq's with its variables, between what treats steps alone."""

from collections.abc import Callable
from typing import Any

from keras import ops

from ...layers.attention import SelfAttention, SynchronousAttention
from ...layers.base import SequenceLayer
from ...layers.network import Network, Read, node_of
from ...layers.position import PositionLayer
from ...layers.structures import joint_mask
from ...sequence import Sequence, SequenceSpec
from .adapted import Adapted
from .call_site import CallSite
from .operation import Held


class HubDecoder(Adapted, Network):
    """A block of a causal transformer, with the variables of KerasHub's.

    Args:
        layer: the block.
        attention: makes the attention, given its class.
        before: what attention reads, of the input's values.
        after: the output's values, of the input's and of what attention gives, and whether it is training.
        has_padding: whether there is a second input, numbers [B, T] that are zero where no step is to be seen.
    """

    read_slots: tuple[int, ...]  # which of the call's tensors it reads

    def __init__(
        self,
        layer: Any,
        attention: Callable[[type], SequenceLayer],
        before: Callable[..., Any],
        after: Callable[..., Any],
        has_padding: bool,
    ) -> None:
        super().__init__(name=layer.name, autocast=False)
        self.adapted = layer
        first = node_of(OfEachStep(layer, "before", lambda x, training: before(x)), [Read(0)])
        given = Read(first.outputs[0])
        nodes, sources = [first], []
        if has_padding:
            seen = node_of(Seen(layer), [given, Read(1)], hidden=True)
            nodes, sources = [*nodes, seen], [Read(seen.outputs[0])]
        made = attention(SynchronousAttention if has_padding else SelfAttention)
        nodes.append(node_of(made, [given, *sources]))
        nodes.append(node_of(OfEachStep(layer, "after", after, 2), [Read(0), Read(nodes[-1].outputs[0])]))
        self.connect(nodes, [Read(nodes[-1].outputs[0])], 1 + has_padding)
        self.built = True


class OfEachStep(SequenceLayer):
    """A part of a layer that treats every step by itself: a function of values, which are of one shape."""

    num_inputs: int

    def __init__(self, layer: Any, part: str, function: Callable[..., Any], num_inputs: int = 1) -> None:
        super().__init__(name=f"{layer.name}_{part}", dtype=layer.dtype_policy)
        self.num_inputs, self._function = num_inputs, Held(function)
        self.built = True

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        spec = input_spec[0] if self.num_inputs > 1 else input_spec
        return SequenceSpec(spec.shape, self.compute_dtype)

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        given = x if self.num_inputs > 1 else (x,)
        values = self._function.value(*(part.values for part in given), training=training)
        return Sequence(values, joint_mask(given))

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self.call_layer(x, training=training), state


class Seen(SequenceLayer):
    """A sequence of which only those steps are there whose number, in the second input, is not zero."""

    num_inputs: int = 2

    def __init__(self, layer: Any) -> None:
        super().__init__(name=f"{layer.name}_seen", autocast=False)
        self.built = True

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return input_spec[0]

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        sequence, padding = x
        there = padding.values != 0
        mask = joint_mask(x)
        return Sequence(sequence.values, there if mask is None else ops.logical_and(mask, there))

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self.call_layer(x, training=training), state


class HubRotary(Adapted, PositionLayer):
    """KerasHub's rotation of channels by positions.

    Args:
        layer: KerasHub's, of any kind that takes `positions`.
        name: of this one.
        start: the position of the first step.
        of_heads: whether all steps are counted, valid or not: queries and keys that are masked unlike each other are
            turned alike.
    """

    reads_every_step: bool = True

    def __init__(self, layer: Any, name: str, start: int = 0, of_heads: bool = False) -> None:
        super().__init__(name=name, dtype=layer.dtype_policy)
        self.adapted, self._start, self._of_heads = layer, start, of_heads
        self._set_positions("all")
        self.built = True

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        y, state = super().call_step(Sequence(x.values) if self._of_heads else x, state, training=training)
        return Sequence(y.values, x.mask), state

    def call_values(self, values: Any, positions: Any) -> Any:
        return self.adapted(values, positions=positions + self._start)


def horizons(site: CallSite) -> dict[str, Any]:
    """The arguments of causal attention that say how far it sees, as the stream's options have it."""
    window = site.options.window
    past = None if window is None else window - 1
    return {"max_past_horizon": past, "max_future_horizon": 0, "max_length": site.options.max_length}
