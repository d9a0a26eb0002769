"""`Network`: layers that read one another's outputs, run once; latencies are aligned wherever branches meet."""

import dataclasses
import math
from collections.abc import Hashable
from typing import Any

from keras import ops

from .. import timing as algebra
from ..obstacles import Obstacle
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from .base import SequenceLayer
from .delay import Delay
from .leaves import leaves
from .limits import Limit, least
from .nodes import End, named_apart
from .nodes import LayerNode as LayerNode
from .nodes import Read as Read
from .nodes import chain as chain
from .nodes import node_of as node_of
from .structures import each, first, parts


class Network(SequenceLayer):
    """A layer of layers. A subclass makes its nodes in the constructor and hands them to `connect`.

    Mask, specs and timing follow from the nodes'. A node whose inputs come late by different latencies, or not at the
    start of its block, reads them through delays in step mode; where nothing has to be delayed nothing is.

    Attributes:
        nodes: the `LayerNode`s, each after those whose outputs it reads.
        ends: an `End` for each output.
    """

    static_context: tuple[str, ...]

    num_inputs: int
    nodes: tuple[LayerNode, ...]
    ends: tuple[End, ...]
    context_names: tuple[str, ...]

    invalid_value: float | None = None  # the layers within see to it
    takes_any_channels = True

    def connect(self, nodes: Any, outputs: Any, num_inputs: Any = 1) -> None:
        """Set the nodes of the network, whose inputs have the keys 0, 1, ...

        Raises:
            ValueError: branches of unequal ratio that meet, by the names of the layers.
        """
        self.num_inputs = num_inputs
        self._names: dict[Hashable, str] = {i: f"input {i}" for i in range(num_inputs)}
        timings: dict[Hashable, Timing] = dict.fromkeys(range(num_inputs), Timing())
        aligned = []
        for node in named_apart(nodes):
            joined, delays = self._align(timings, node.sources, node.layer.timing.block_size)
            timings |= zip(node.outputs, (algebra.serial([joined, t]) for t in node.layer.timings), strict=True)
            self._names |= dict.fromkeys(node.outputs, node.layer.name)
            aligned.append(dataclasses.replace(node, delays=delays, ratio=joined.ratio))
        self.nodes = tuple(aligned)
        self.ends = tuple(End(read, *self._align(timings, read.values)) for read in outputs)
        reads = [(key, name in node.layer.static_context) for node in self.nodes for name, key in node.context.items()]
        self.context_names = tuple(dict.fromkeys(key for key, _ in reads))
        self.static_context = tuple(key for key in self.context_names if (key, False) not in reads)

    def _align(self, timings, keys, block_size=1):
        """The timing of values that are read together by a layer of blocks, and the delays that make them meet."""
        found = [timings[key] for key in keys]
        joined = algebra.parallel(found, [self._names[key] for key in keys])
        before_block = -joined.output_latency % block_size
        waits = (wait + before_block for wait in algebra.parallel_delays(found))
        delays = {key: _delay(wait) for key, wait in zip(keys, waits, strict=True) if wait}
        return algebra.serial([joined, algebra.delay(before_block)]) if before_block else joined, delays

    @property
    def outputs(self) -> tuple[Read, ...]:
        """What each output reads."""
        return tuple(end.read for end in self.ends)

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        shapes: dict[Hashable, Any] = dict(enumerate((input_shape,) if self.num_inputs == 1 else input_shape))
        for node in self.nodes:
            given = [tuple(shapes[read.value])[: 2 if read.part == "mask" else None] for read in node.reads]
            for shape in given:
                node.layer.check_rank(shape)
            given = given[0] if node.layer.num_inputs == 1 else given
            if not node.layer.built:
                named = {name: context_shape[key] for name, key in node.context.items()} if context_shape else {}
                node.layer.build(given, **({"context_shape": named} if named else {}))
            made = node.layer.compute_output_shape(given)
            shapes |= zip(node.outputs, made if len(node.outputs) > 1 else (made,), strict=True)

    @property
    def timings(self) -> tuple[Timing, ...]:
        return tuple(dataclasses.replace(end.timing, input_latency=self._input_latency(end)) for end in self.ends)

    def _input_latency(self, end):
        """Invalid inputs that make the last of an output come out: by a walk from it back to the inputs."""
        needed = {key: _wait(end.delays, key) for key in end.read.values}
        for node in reversed(self.nodes):
            found = [
                math.ceil(needed[key] / timing.ratio) + timing.input_latency
                for key, timing in zip(node.outputs, node.layer.timings, strict=True)
                if key in needed
            ]
            for key in node.sources if found else ():
                needed[key] = max(needed.get(key, 0), max(found) + _wait(node.delays, key))
        return max(needed.get(i, 0) for i in range(self.num_inputs))

    @property
    def timing(self) -> Timing:
        return algebra.joint(self.timings)

    def obstacles(self) -> list[Obstacle]:
        return list(dict.fromkeys(row for node in self.nodes for row in node.layer.obstacles()))

    @property
    def step_obstacle(self) -> str | None:
        return "; ".join(map(str, self.obstacles())) or None

    @property
    def creates_mask(self) -> bool:
        return any(node.layer.creates_mask for node in self.nodes)

    @property
    def mask_reads_values(self) -> bool:
        return any(node.layer.mask_reads_values for node in self.nodes)

    @property
    def mask_reads_context(self) -> bool:
        return any(node.layer.mask_reads_context for node in self.nodes)

    @property
    def counts_steps(self) -> bool:
        return any(node.layer.counts_steps for node in self.nodes)

    def output_spec(self, input_spec: Any) -> Any:
        specs = self._input_specs(input_spec)
        for node in self.nodes:
            given = node.given_specs(specs)
            each(node.layer.cast_spec, given)  # which refuses what the layer does not take
            node.give(specs, node.layer.output_spec(given))
        return _one_or_several(
            SequenceSpec((), "bool") if read.part == "mask" else specs[read.value] for read in self.outputs
        )

    def _input_specs(self, input_spec) -> dict[Hashable, Any]:
        return dict(enumerate(parts(each(self.cast_spec, input_spec))))

    def output_length(self, length: Any) -> Any:
        if isinstance(length, int):
            self._check_branches(length)
        return super().output_length(length)

    def _check_branches(self, length):
        """Refuse branches whose lengths differ although their ratios agree: in a delay, or a window without padding."""
        found: dict[Hashable, Any] = dict.fromkeys(range(self.num_inputs), length)
        for node in self.nodes:
            self._check_equal(found, node.sources, node.layer.name)
            node.give(found, node.layer.output_length(found[node.sources[0]]))
        for read in self.outputs:
            self._check_equal(found, read.values, self.name)

    def _check_equal(self, lengths, keys, name):
        if len({lengths[key] for key in keys}) > 1:
            raise ValueError(
                f"the branches of {name} must give outputs of equal length; received "
                + ", ".join(f"{lengths[key]} from {self._names[key]}" for key in keys)
            )

    def output_mask(self, mask: Any) -> Any:
        # Only masks are known: values are where they are masks themselves, those of an operation on masks.
        found: dict[Hashable, Sequence] = {i: Sequence(None, m) for i, m in enumerate(parts(mask))}
        for node in self.nodes:
            given = tuple(_mask_read(read, found) for read in node.reads)
            masks = tuple(x.mask for x in given)
            made = node.layer.output_mask(masks[0] if node.layer.num_inputs == 1 else masks)
            if all(x.values is not None for x in given):
                y = node.layer.call_layer(each(_as_values, given[0] if node.layer.num_inputs == 1 else given))
                made = tuple(Sequence(part.values, m) for part, m in zip(parts(y), parts(made), strict=True))
            else:
                made = tuple(Sequence(None, m) for m in parts(made))
            found.update(zip(node.outputs, made, strict=True))
        return _one_or_several(_mask_read(read, found).mask for read in self.outputs)

    def call_layer(self, x: Any, *, training: bool = False, context: Any = None) -> Any:
        time = first(x).values.shape[1]
        if isinstance(time, int):
            self._check_branches(time)
        context = self.derive_context(context)
        found = dict(enumerate(parts(x)))
        for node in self.nodes:
            y = node.layer(node.given(found), training=node.trains(training), **node.read_context(context))
            node.give(found, y)
        return _one_or_several(read.of(found) for read in self.outputs)

    # State: by the name of a node the state of its layer, and by `NAME.delay` those of the delays of what it reads.

    def initial_state(self, batch_size: int, input_spec: Any, context: Any = None) -> Any:
        context = self.derive_context(self.check_context(context))
        state, specs = {}, self._input_specs(input_spec)
        for node in self.nodes:
            given = node.given_specs(specs)
            own = node.layer.initial_state(batch_size, given, **node.read_context(context))
            if leaves(own):
                state[node.name] = own
            _add_delays(state, node.name, node.delays, batch_size, specs)
            node.give(specs, node.layer.output_spec(given))
        for i, end in enumerate(self.ends):
            _add_delays(state, _end_name(i), end.delays, batch_size, specs)
        return state

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        return self.hold_step(x, state, None, training=training)

    def hold_step(self, x: Any, state: Any, active: Any, *, training: bool = False) -> tuple[Any, Any]:
        found, state, new_state = dict(enumerate(parts(x))), state or {}, {}
        for node in self.nodes:
            given = node.given(_delayed(found, node.delays, node.name, state, new_state, active))
            trains = node.trains(training)
            y, own = node.layer.advance(given, state.get(node.name, ()), training=trains, active=active)
            if node.name in state:
                new_state[node.name] = own
            node.give(found, y)
        outputs = [
            end.read.of(_delayed(found, end.delays, _end_name(i), state, new_state, active))
            for i, end in enumerate(self.ends)
        ]
        return _one_or_several(outputs), new_state

    # How far the states of its nodes go, forwards and back, in its own input steps.

    @property
    def may_be_full(self) -> bool:
        return any(node.layer.may_be_full for node in self.nodes)

    def room(self, state: Any) -> Any:
        return least(self.limits(state))

    def limits(self, state: Any) -> list[Limit]:
        found = [(node, node.layer.limits(state[node.name])) for node in self.nodes if node.name in state]
        return [_scaled(limit, node.ratio) for node, limits in found for limit in limits]

    def history(self, state: Any) -> Any:
        return least(self.histories(state))

    def histories(self, state: Any) -> list[Limit]:
        found = [(node, node.layer.histories(state[node.name])) for node in self.nodes if node.name in state]
        return [_scaled(limit, node.ratio) for node, limits in found for limit in limits]

    def rollback_obstacles(self, state: Any = None) -> list[Obstacle]:
        rows = []
        for node in self.nodes:
            own = None if state is None else (state or {}).get(node.name, ())
            rows += node.layer.rollback_obstacles(own)
            rows += [_late(node.layer)] * bool(node.delays)
        return list(dict.fromkeys(rows + [_late(self) for end in self.ends if end.delays]))

    @property
    def rollback_obstacle(self) -> str | None:
        return "; ".join(map(str, self.rollback_obstacles())) or None

    def call_rollback(self, state: Any, steps: Any) -> Any:
        new_state = {}
        for node in self.nodes:
            if node.name in state:
                own = steps * node.ratio.numerator // node.ratio.denominator
                new_state[node.name] = node.layer.call_rollback(state[node.name], own)
        return new_state

    def call_context(self, state: Any, input_spec: Any, context: dict[str, Any]) -> Any:
        context, new_state, specs = self.derive_context(context), dict(state or {}), self._input_specs(input_spec)
        for node in self.nodes:
            given = node.given_specs(specs)
            read = {name: context[key] for name, key in node.context.items() if key in context}
            if read and node.name in new_state:
                new_state[node.name] = node.layer.call_context(new_state[node.name], given, read)
            node.give(specs, node.layer.output_spec(given))
        return new_state

    def derive_context(self, context: Any) -> Any:
        """What the nodes read as context, of what the network is given."""
        return context


def _scaled(limit, ratio) -> Limit:
    """A limit of a layer that reads `ratio` steps for each of the network's."""
    return limit._replace(steps=limit.steps * ratio.denominator // ratio.numerator)


def _late(layer) -> Obstacle:
    return Obstacle(layer.name, type(layer).__name__, "it reads a branch late, by a delay that keeps no older steps")


def _delay(length) -> Delay:
    """A delay between layers, which keeps the dtype that they give."""
    return Delay(length, delay_layer_output=False, autocast=False)


def _wait(delays, key) -> int:
    return delays[key].length if key in delays else 0


def _add_delays(state, name, delays, batch_size, specs):
    for n, (key, delay) in enumerate(delays.items()):
        state[_delay_name(name, n)] = delay.initial_state(batch_size, specs[key])


def _delayed(found, delays, name, state, new_state, active):
    """The values, with those that are read late delayed."""
    if not delays:
        return found
    found = dict(found)
    for n, (key, delay) in enumerate(delays.items()):
        place = _delay_name(name, n)
        found[key], new_state[place] = delay.advance(found[key], state[place], active=active)
    return found


def _delay_name(name, n):
    return f"{name}.delay{n or ''}"


def _end_name(i):
    return f"output_{i}"


def _one_or_several(items):
    items = tuple(items)
    return items[0] if len(items) == 1 else items


def _mask_read(read, found) -> Sequence:
    """What is read where only masks are known."""
    y = found[read.value]
    if read.part == "mask":
        return Sequence(y.mask, ops.ones_like(y.mask))
    known = None if read.mask is None else _known_mask(read.mask, found)
    return y if known is None else Sequence(y.values, known)


def _known_mask(read, found):
    """What a read says as a mask where only masks are known, or `None` where it follows from values."""
    if read.part == "mask":
        return found[read.value].mask
    values, mask = _mask_read(read, found)
    return None if values is None else ops.logical_and(values, mask)


def _as_values(x):
    return Sequence(x.values)
