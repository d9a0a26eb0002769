"""`Autoregressive`: a layer that reads beside each block what it gave for the one before."""

import math
from typing import Any, Unpack

from keras import ops

from ...annotations import LayerOptions
from ...obstacles import Obstacle
from ...padding import valid_so_far
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..leaves import leaves
from ..network import Read, node_of
from ..recurrent import GRU
from ..structures import first
from ..windowed import Conv1D
from .by_blocks import ByBlocks


@register
class Autoregressive(ByBlocks):
    """A layer that reads its own output of the block before beside its input.  [B, T, ..., C] -> [B, U, ..., D].

    The input and what is fed back are joined along the last axis. What is fed back is the output of the block before,
    or what `feedback_layer` makes of it; where there are fewer outputs than inputs each is read several times. Before
    the first block it is zero; an invalid output is not fed back, but the last valid one in its place. Mask and timing
    are the layer's, but that all the past is seen. Layer mode goes from block to block, since each needs the one
    before.

    With `teacher_forcing` there is a second input, what the layer is to give, and it is that which is fed back: layer
    mode is then one parallel call, as training wants it. Another `Autoregressive` of the same layers, without it, has
    their weights and goes on by itself.
    Source: Williams and Zipser, 1989, "A Learning Algorithm for Continually Running Fully Recurrent Neural Networks".

    Args:
        layer: a kseq layer that steps, looks not ahead and gives no more steps than it reads.
        feedback_layer: what the outputs go through before they are fed back; one that gives as many steps as `layer`
            reads, or a part of that.
        teacher_forcing: whether a second input [B, T, ..., D] is fed back in the place of the output.

    Raises:
        TypeError: not a kseq layer.
        ValueError: a layer that looks ahead, or of a ratio above 1, or with `teacher_forcing` not 1; when it is built a
            layer whose channels follow from those of its input, or outputs that do not fit beside the input.
        NotStreamable: when it is built, a layer that cannot step.

    Example:
        >>> import kseq, numpy as np
        >>> layers = kseq.GRU(4), kseq.Dense(2)
        >>> forced = kseq.Autoregressive(*layers, teacher_forcing=True)
        >>> x, target = np.zeros((1, 7, 3), "float32"), np.zeros((1, 7, 4), "float32")
        >>> forced([x, target]).shape, kseq.Autoregressive(*layers)(x).shape
        ((1, 7, 4), (1, 7, 4))
    """

    teacher_forcing: bool
    sublayers: tuple[Any, ...]
    block_size: int

    takes_complex = False

    layer: SequenceLayer
    feedback_layer: SequenceLayer | None

    def __init__(
        self,
        layer: SequenceLayer,
        feedback_layer: SequenceLayer | None = None,
        teacher_forcing: bool = False,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.layer, self.teacher_forcing = self._checked_one(layer), bool(teacher_forcing)
        self.feedback_layer = None if feedback_layer is None else self._checked_one(feedback_layer, "feedback_layer")
        self.sublayers = tuple(part for part in (self.layer, self.feedback_layer) if part is not None)
        for part in self.sublayers:
            self._check_layer(part)
        self.block_size = self.layer.timing.block_size
        if self.feedback_layer is not None:  # whole blocks of both
            made, block = int(self.block_size * self.layer.timing.ratio), self.feedback_layer.timing.block_size
            self.block_size *= block // math.gcd(block, made)
        node = node_of(self.layer, [Read(0)])
        nodes = [node]
        if self.feedback_layer is not None:
            nodes.append(node_of(self.feedback_layer, [Read(node.outputs[0])]))
        self._steps_fed()
        self.connect(nodes, [Read(node.outputs[0])], 2 if teacher_forcing else 1)

    def _check_layer(self, part):
        timing, named = part.timing, f"{part.name} ({type(part).__name__})"
        if part.num_inputs != 1 or part.num_outputs != 1:
            raise ValueError(f"{self._named} feeds back one output of a layer of one input; received {named}")
        if timing.output_latency:
            raise ValueError(f"{self._named} feeds back outputs at once; received {named}, which looks ahead")
        if part is self.layer and (timing.ratio > 1 or (self.teacher_forcing and timing.ratio != 1)):
            wanted = "1 with `teacher_forcing`" if self.teacher_forcing else "at most 1"
            raise ValueError(f"{self._named} takes a layer of a ratio of {wanted}; {named} has {timing.ratio}")

    def _steps_fed(self) -> int:
        """Steps of a block that are fed back, each as often as it takes to be as many as the inputs."""
        steps = self.block_size * self.layer.timing.ratio
        steps *= 1 if self.feedback_layer is None else self.feedback_layer.timing.ratio
        if steps > self.block_size or self.block_size % steps:
            raise ValueError(
                f"{self._named} must feed back {self.block_size} steps for a block of {self.block_size}, or a part of "
                f"them; it would feed back {steps}: give a `feedback_layer` of another ratio"
            )
        return int(steps)

    @property
    def timings(self) -> tuple[Timing, ...]:
        timing = self.layer.timing
        ends = [0 if field is None else field[1] for field in timing.receptive_field_per_step]
        return (
            Timing(
                block_size=self.block_size,
                ratio=timing.ratio,
                input_latency=timing.input_latency,
                receptive_field_per_step=tuple((-math.inf, end) for end in ends),
                length_stages=timing.length_stages,
            ),
        )

    @property
    def creates_mask(self) -> bool:
        return self.layer.creates_mask

    def rollback_obstacles(self, state: Any = None) -> list[Obstacle]:
        return [Obstacle(self.name, type(self).__name__, "it keeps nothing of what it fed back before")]

    # Shapes.

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        shape = tuple(input_shape[0] if self.teacher_forcing else input_shape)
        if len(shape) < 3:
            raise ValueError(f"{self._named} takes values of rank 3 at least; received shape {shape}")
        channels = self._fed_spec(SequenceSpec(shape[2:], self.compute_dtype)).shape[-1]
        shape = (*shape[:-1], shape[-1] + channels)
        for node in self.nodes:
            node.layer.check_rank(shape)
            if not node.layer.built:
                named = {name: context_shape[key] for name, key in node.context.items()} if context_shape else {}
                node.layer.build(shape, **({"context_shape": named} if named else {}))
            shape = node.layer.compute_output_shape(shape)
        self._check_steps_within()

    def _fed_spec(self, spec):
        """The spec of what is fed back, of that of the input; the layer's own input has its channels as well."""
        channels = 1
        for _ in range(2):
            fed = self._made_spec(spec, channels)
            if self.feedback_layer is not None:
                fed = self.feedback_layer.output_spec(fed)
            if len(fed.shape) != len(spec.shape) or fed.shape[:-1] != spec.shape[:-1]:
                raise ValueError(
                    f"{self._named} joins what it feeds back to its input along the last axis; received channels "
                    f"{spec.shape}, and {fed.shape} to feed back"
                )
            if fed.shape[-1] == channels:
                return SequenceSpec(tuple(fed.shape), self.compute_dtype)
            channels = fed.shape[-1]
        fed = self._made_spec(spec, channels)
        fed = fed if self.feedback_layer is None else self.feedback_layer.output_spec(fed)
        if fed.shape[-1] != channels:
            raise ValueError(
                f"{self._named} must have a layer whose channels do not follow from those of its input, of which what "
                f"it feeds back is a part; received {self.layer.name} ({type(self.layer).__name__})"
            )
        return SequenceSpec(tuple(fed.shape), self.compute_dtype)

    def _made_spec(self, spec, channels):
        joined = (*spec.shape[:-1], spec.shape[-1] + channels)
        return self.layer.output_spec(SequenceSpec(joined, self.compute_dtype))

    def output_spec(self, input_spec: Any) -> Any:
        spec = self.cast_spec(first(input_spec))
        return self._made_spec(spec, self._fed_spec(spec).shape[-1])

    def output_mask(self, mask: Any) -> Any:
        return self.layer.output_mask(first(mask))

    def output_length(self, length: Any) -> Any:
        return self.layer.output_length(length)

    # Layer mode, where it is parallel.

    def call_layer(self, x: Any, *, training: bool = False, context: Any = None) -> Any:
        if not self.teacher_forcing:
            return super().call_layer(x, training=training, context=context)
        x, target = x
        spec, (batch, time) = self._fed_spec(x.spec), ops.shape(x.values)[:2]
        last = ops.zeros((batch, self._steps_fed(), *spec.shape), dtype=spec.dtype)
        target = _valid_with(target, x)
        if self.block_size > 1:  # whole blocks
            rest = -time % self.block_size
            x, target = (part.pad_time(0, rest) for part in (x, target))
        node, *others = self.nodes
        fed = target
        for other in others:
            fed = other.layer(fed, training=training, **other.read_context(context))
        fed, _ = self._held(fed, last)
        y: Any = node.layer(self._joined(x, fed), training=training, **node.read_context(context))
        return y if self.block_size == 1 else y.slice_time(0, time)

    # Step by step. State: those of the layers by the names of their nodes, and what is fed back next.

    @property
    def _place(self):
        return f"{self.nodes[0].name}.feedback"

    def initial_state(self, batch_size: int, input_spec: Any, context: Any = None) -> Any:
        context = self.check_context(context)
        spec = self.cast_spec(first(input_spec))
        fed = self._fed_spec(spec)
        state: dict[str, Any] = {self._place: ops.zeros((batch_size, self._steps_fed(), *fed.shape), dtype=fed.dtype)}
        spec = SequenceSpec((*spec.shape[:-1], spec.shape[-1] + fed.shape[-1]), self.compute_dtype)
        for node in self.nodes:
            own = node.layer.initial_state(batch_size, spec, **node.read_context(context))
            if leaves(own):
                state[node.name] = own
            spec = node.layer.output_spec(spec)
        return state

    def hold_step(self, x: Any, state: Any, active: Any, *, training: bool = False) -> tuple[Any, Any]:
        return SequenceLayer.hold_step(self, x, state, active, training=training)

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        if self.teacher_forcing:
            return self._forced_step(x, state, training)
        blocks = ops.shape(x.values)[1] // self.block_size
        if isinstance(blocks, int) and blocks == 1:
            return self._block(x, state, training)
        return self._through_blocks(x, blocks, state, training, x.mask is not None or self.creates_mask)

    def _block(self, x, state, training):
        last = state[self._place]
        y, new_state = self._advance(0, self._joined(x, last), state, training)
        fed = y
        if self.feedback_layer is not None:
            fed, of_feedback = self._advance(1, fed, state, training)
            new_state |= of_feedback
        _, new_state[self._place] = self._held(fed, last)
        return y, new_state

    def _forced_step(self, x, state, training):
        x, target = x
        fed, new_state = _valid_with(target, x), {}
        if self.feedback_layer is not None:
            fed, new_state = self._advance(1, fed, state, training)
        fed, last = self._held(fed, state[self._place])
        y, of_layer = self._advance(0, self._joined(x, fed), state, training)
        return y, new_state | of_layer | {self._place: last}

    def _advance(self, number, x, state, training):
        """The output of a layer, and its new state by its name, if it has one."""
        node = self.nodes[number]
        y, own = node.layer.advance(x, state.get(node.name, ()), training=node.trains(training))
        return y, {node.name: own} if node.name in state else {}

    def _joined(self, x, fed):
        """The layer's input: what is fed back beside the input, each step of it as often as it takes."""
        times = self.block_size // self._steps_fed()
        fed = ops.repeat(fed, times, axis=1) if times > 1 else fed
        return Sequence(ops.concatenate([ops.cast(x.values, self.compute_dtype), fed], axis=-1), x.mask)

    def _held(self, fed, last):
        """What each block is fed of the blocks before it, and what is fed to the next one.

        Args:
            fed: of all blocks what they feed back, a `Sequence` [B, blocks * steps, ...].
            last: what the first block is fed, [B, steps, ...].
        """
        values, steps = ops.cast(fed.values, self.compute_dtype), self._steps_fed()
        joined = ops.concatenate([last, values], axis=1)
        if fed.mask is None:
            return joined[:, :-steps], joined[:, -steps:]
        shape = ops.shape(joined)
        batch, blocks = shape[0], shape[1] // steps
        marks = ops.concatenate([ops.ones((batch, steps), dtype="bool"), fed.mask], axis=1)
        marks = ops.transpose(ops.reshape(marks, (batch, blocks, steps)), (0, 2, 1))  # [B, steps, blocks]
        # The last valid block up to each, found by sorting: scans lose shapes on tensorflow.
        places = ops.arange(0, blocks, dtype="int32")
        order = ops.cast(ops.argsort(ops.where(marks, places, places + blocks), axis=-1), "int32")
        place = ops.take_along_axis(order, valid_so_far(marks) - 1, axis=-1)
        step = ops.transpose(place, (0, 2, 1)) * steps + ops.arange(0, steps, dtype="int32")
        step = ops.reshape(step, (batch, -1, *[1] * (len(shape) - 2)))
        held = ops.take_along_axis(joined, step, axis=1)
        return held[:, :-steps], held[:, -steps:]

    @classmethod
    def examples(cls) -> list[Example]:
        strided = Conv1D(2, 3, strides=2, padding="causal")
        return [Example({"layer": GRU(2)}), Example({"layer": strided})]


def _valid_with(target, x):
    """The target where the input is valid, too; zero elsewhere."""
    if x.mask is None and target.mask is None:
        return target
    mask = ops.logical_and(target.with_mask().mask, x.with_mask().mask)
    return Sequence(target.values, mask).mask_invalid()
