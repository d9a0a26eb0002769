"""`Bidirectional`: one layer forwards and one backwards over each row's own steps."""

import dataclasses
import math
from typing import Any, ClassVar, Literal, Self, Unpack

from ...annotations import BidirectionalOptions
from ...obstacles import Obstacle
from ...registry import register, registered_layers
from ...sequence import Sequence
from ...timing import Interval, Timing
from ..base import Example, SequenceLayer
from ..network import Read, node_of
from ..parameters import Only
from ..recurrent import GRU
from ..reordering import after_last_valid, flipped, reversed_rows
from ..windowed import Conv1D
from .base import Combinator, combining
from .combine import checked_combination
from .repeat import copied

MergeMode = Literal["concat", "sum", "mul", "ave", "stack", "concat_first", "add", "mean", "product"]
_KERAS_MODES = {"sum": "add", "mul": "product", "ave": "mean"}
_MODES = ("concat", "sum", "mul", "ave", "stack", "concat_first", "add", "mean", "product")


@register
class Bidirectional(Combinator):
    """Combines what a layer makes of a sequence with what another makes of it backwards.  [B, T, C] -> [B, U, D].

    The backward layer reads each row from its last valid step to its first step, and its outputs are turned round
    likewise: padding changes nothing. Invalid steps between valid ones stay where they are, and count for each of the
    layers as they do for it alone. Mask: an output is valid where both layers' is. Timing: the layer's, its receptive
    field in both directions; it does not step, since the backward layer needs the end first. Where the layers have
    strides, output `u` of `n` is made of the forward layer's output `u` and of the backward layer's output `n - 1 - u`.

    The weights are those of `keras.layers.Bidirectional`, and so are the numbers (of LSTM and GRU, with
    `return_sequences=True`).  Source: Schuster and Paliwal, 1997, "Bidirectional Recurrent Neural Networks".

    Args:
        layer: the forward layer, a kseq layer.
        merge_mode: how the outputs are combined: Keras's "concat", "sum", "mul" or "ave", or a `combination` of
            `kseq.Parallel`.
        backward_layer: the backward layer; by default made of the configuration of `layer`, with weights of its own.

    Raises:
        TypeError: not a kseq layer.
        ValueError: another merge mode, layers of unequal ratio, or another of Keras's arguments with a value that has
            no meaning here.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Bidirectional(kseq.GRU(5))(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 10)
    """

    merge_mode: Any
    sublayers: tuple[Any, ...]

    layer: SequenceLayer
    backward_layer: SequenceLayer | None

    fixed_arguments: ClassVar[dict[str, Only]] = {"weights": Only((None,), "`set_weights` once the layer is built")}

    def __init__(
        self,
        layer: SequenceLayer,
        merge_mode: MergeMode = "concat",
        backward_layer: SequenceLayer | None = None,
        **kwargs: Unpack[BidirectionalOptions],
    ) -> None:
        super().__init__(**kwargs)
        if merge_mode is None:
            raise ValueError(
                "`merge_mode` must be a text; received None, which would give both outputs: call a layer, and one with "
                "`kseq.ReverseSequence` before and after it, on the same input"
            )
        self.merge_mode = checked_combination("merge_mode", merge_mode, _MODES)
        self.layer = self._checked_one(layer)
        self.backward_layer = None if backward_layer is None else self._checked_one(backward_layer, "backward_layer")
        backward = self.backward_layer or copied(layer, 1, f"backward_{layer.name.removeprefix('forward_')}")
        self.sublayers = (self.layer, backward)
        nodes = [
            node_of(self.layer, [Read(0)]),
            node_of(Backward(backward, name=f"{backward.name}_backwards", autocast=False), [Read(0)], hidden=True),
        ]
        combination = _KERAS_MODES.get(merge_mode, merge_mode)
        last = combining([part.name for part in self.sublayers], [Read(n.outputs[0]) for n in nodes], combination)
        self.connect([*nodes, last], [Read(last.outputs[0])])

    @property
    def step_obstacle(self) -> str | None:
        return _REASON

    @property
    def step_remedy(self) -> str | None:
        return "the forward layer alone, or after it `kseq.Lookahead`, with which it sees some steps ahead"

    def obstacles(self) -> list[Obstacle]:
        return [*SequenceLayer.obstacles(self), *(row for part in self.sublayers for row in part.obstacles())]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer of a configuration, its own or that of Keras's layer of this name around LSTM or GRU."""
        config = dict(config)
        for name in ("layer", "backward_layer"):
            if isinstance(config.get(name), dict):
                config[name] = _of_keras(config[name], backwards=name == "backward_layer")
        return super().from_config(config)

    @classmethod
    def examples(cls) -> list[Example]:
        strided = Conv1D(2, 3, strides=2, padding="causal")
        return [Example({"layer": GRU(2)}), Example({"layer": strided, "merge_mode": "sum"})]


_REASON = "its backward layer reads each row from the end"


class Backward(SequenceLayer):
    """A layer applied to each row backwards, from its last valid step to its first step, and turned round again."""

    context_names: tuple[str, ...]

    invalid_value: float | None = None
    takes_any_channels = True

    def __init__(self, layer: SequenceLayer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.context_names = layer.context_names

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape, **({"context_shape": context_shape} if context_shape else {}))

    @property
    def timing(self) -> Timing:
        timing = self.layer.timing
        block, fields = _mirrored(timing)
        return dataclasses.replace(timing, block_size=block, receptive_field_per_step=fields)

    @property
    def step_obstacle(self) -> str | None:
        return _REASON

    @property
    def creates_mask(self) -> bool:
        return self.layer.creates_mask

    @property
    def mask_reads_values(self) -> bool:
        return self.layer.mask_reads_values

    def output_spec(self, input_spec: Any) -> Any:
        return self.layer.output_spec(input_spec)

    def output_mask(self, mask: Any) -> Any:
        steps = after_last_valid(mask)
        made = self.layer.output_mask(reversed_rows(mask, 0, steps))
        return reversed_rows(made, 0, self._outputs(steps))

    def call_layer(self, x: Sequence, *, training: bool = False, context: Any = None) -> Sequence:
        given: dict[str, Any] = {"training": training}
        if self.context_names:
            given["context"] = context
        if x.mask is None:
            y = self.layer(x.apply(flipped), **given)
            return Sequence(*(None if part is None else flipped(part) for part in y))
        steps = after_last_valid(x.mask)
        y: Any = self.layer(Sequence(*(reversed_rows(part, 0, steps) for part in x)), **given)
        return Sequence(*(reversed_rows(part, 0, self._outputs(steps)) for part in y.with_mask()))

    def _outputs(self, steps):
        """Outputs of each row, int32 [B]: those of a sequence that ends with its last valid step."""
        return self.layer.timing.output_length(steps)


def _mirrored(timing: Timing) -> tuple[int, tuple[Interval, ...]]:
    """Of a layer run backwards the receptive field by phase, and after how many steps of length it repeats.

    Which inputs an output reads depends on the length of the row: the field is that of all lengths.
    """
    fields, ratio = timing.receptive_field_per_step, timing.ratio
    phases = math.lcm(len(fields), ratio.numerator)
    period = math.lcm(timing.block_size, (phases / ratio).numerator)
    far = 2 * phases * period * (1 + sum(abs(change) for _, change in timing.length_stages))  # so long is a row
    found: list[Interval] = [None] * phases
    for length in range(far, far + period):
        outputs = timing.output_length(length)
        first = outputs // (2 * phases) * phases
        for u in range(first, first + phases):
            field = fields[(outputs - 1 - u) % len(fields)]
            if field is None:
                continue
            start = math.floor((outputs - 1 - u) / ratio)
            here = length - 1 - math.floor(u / ratio) - start
            own = here - field[1], here - field[0]
            before = found[u % phases] or own
            found[u % phases] = min(before[0], own[0]), max(before[1], own[1])
    return period, tuple(found)


def _of_keras(config, backwards):
    """The layer of a configuration of Keras's that kseq has as well, or the configuration itself."""
    own = registered_layers().get(config.get("class_name"))
    if own is None or not str(config.get("module")).startswith("keras."):
        return config
    # What Keras's layer sets itself: it sees to the direction, and invalid outputs are invalid here.
    set_by_keras = {"zero_output_for_mask"} | ({"go_backwards"} if backwards else set())
    return own.from_config({k: v for k, v in config["config"].items() if k not in set_by_keras})
