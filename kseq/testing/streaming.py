"""Properties of step mode: chunking, warm-up, held and moved rows, resuming, and what is compiled."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ..dtypes import numpy_dtype
from ..layers.leaves import leaves, pack
from ..sequence import Sequence
from ..streaming import state as states
from . import transforms
from .errors import attempt, expect_same, fail, numpy
from .subject import Subject, check_state, map_rows, to_numpy
from .whole import garbage


def check_initial_state(s: Subject) -> None:
    """Property S6 before and after the first step; that of every later step is checked wherever one is made."""
    state = s.initial_state()
    check_state(state, state, s.batch, "initial_state")
    s.stream(s.padded(Sequence(s.values, s.mask)), [s.blocks, 1, 3])


def check_resume(s: Subject) -> None:
    """Property S5: a copy of the layer goes on from bytes, bit for bit; and S17: it started as the layer did.

    It runs eagerly: what a layer hides in Python would be frozen in a compiled step.
    """
    twin, start = s.twin(), s.initial_state()
    first = _eager_step(s, s.layer, 0, start)
    _expect_identical("S17", _eager_step(s, twin, 0, start), first, ("copy", "layer"), 0)
    state = _eager_step(s, s.layer, 1, first[1])[1]
    moved = from_bytes(to_bytes(state), state)
    for i in (2, 3):
        wanted, found = _eager_step(s, s.layer, i, state), _eager_step(s, twin, i, moved)
        _expect_identical("S5", found, wanted, ("resumed in a copy", "uninterrupted"), i)
        state, moved = wanted[1], found[1]


def check_repeatable(s: Subject) -> None:
    """Property S5: the same step from the same state gives the same bits, and changes no variable."""
    before, start = [numpy(v) for v in s.layer.variables], s.initial_state()
    wanted, found = _eager_step(s, s.layer, 0, start), _eager_step(s, s.layer, 0, start)
    _expect_identical("S5", found, wanted, ("second run", "first run"), 0)
    for variable, value in zip(s.layer.variables, before, strict=True):
        expect_same("S5", numpy(variable), value, f"variable {variable.path} after a step", names=("after", "before"))


def _eager_step(s, layer, i, state):
    """Outputs, in NumPy, and state after block `i`."""
    chunk = s.padded(Sequence(s.values, s.mask)).slice_time(i * s.block, (i + 1) * s.block)
    with attempt("S11", "an eager step"), transforms.no_gradients():
        y, state = layer.step(chunk, state)
    return to_numpy(y), state


def _expect_identical(key, found, wanted, names, i):
    (y, state), (wanted_y, wanted_state) = found, wanted
    expect_same(key, y.mask, wanted_y.mask, f"mask of block {i}", names=names)
    expect_same(key, y.values, wanted_y.values, f"values of block {i}", where=wanted_y.mask, names=names)
    for leaf, (a, b) in enumerate(zip(leaves(state), leaves(wanted_state), strict=True)):
        expect_same(
            key, as_bytes(numpy(a)), as_bytes(numpy(b)), f"bytes of state leaf {leaf} after block {i}", names=names
        )


def as_bytes(x: Any) -> Any:
    """The bytes of each number of an array, on an axis of their own."""
    return np.frombuffer(np.ascontiguousarray(x).tobytes(), np.uint8).reshape(*x.shape, x.dtype.itemsize)


def to_bytes(state: Any) -> bytes:
    """The leaves of a state as bytes."""
    wanted = states.specs(state)
    arrays = zip(leaves(state), wanted, strict=True)
    return states.to_bytes([numpy(a).astype(numpy_dtype(leaf.dtype)) for a, leaf in arrays], wanted, "")


def from_bytes(data: Any, like: Any) -> Any:
    """The state that `to_bytes` was given, with the structure of another."""
    found = states.from_bytes(data, states.specs(like), "")
    return pack(like, [ops.convert_to_tensor(a) for a in found])


def check_agreement(s: Subject) -> None:
    """Properties 2 and S7: one long step gives layer mode, its warm-up and all that follows the end are invalid."""
    y, _ = s.stream(s.padded(Sequence(s.values, s.mask)), [s.blocks, *[1] * (s.total - s.blocks)])
    s.expect_stream("2", y, f"one step over {s.blocks} blocks, then single ones")
    check_latency(s)


def _speeds_up(layer) -> bool:
    """Whether a network has a layer that gives more steps than it takes."""
    return any(node.layer.timing.ratio > 1 or _speeds_up(node.layer) for node in getattr(layer, "nodes", ()))


def check_latency(s: Subject) -> None:
    """Property S7: the input latency is enough for the last output, and no whole block too long."""
    timing, spare = s.timing, []
    for time in range(max(1, s.time - s.block + 1), s.time + 1):
        outputs = s.layer.output_length(time)
        if not outputs or math.ceil(time * s.ratio) <= timing.output_latency:
            continue  # a layer that drops steps has nothing to drop
        outputs += timing.output_latency
        blocks = -(-(time + timing.input_latency) // s.block)
        if s.output_steps(blocks * s.block) < outputs:
            fail(
                "S7",
                f"input_latency={timing.input_latency} lets {s.output_steps(blocks * s.block)} outputs out after "
                f"{time} inputs (received), wanted {outputs}: those of layer mode, {timing.output_latency} later",
            )
        spare.append(s.output_steps((blocks - 1) * s.block) >= outputs)
    # Where a rate goes up, blocks after it end nowhere but where theirs do; the sum of latencies does not know that.
    if timing.input_latency and spare and all(spare) and not _speeds_up(s.layer):
        fail(
            "S7",
            f"input_latency={timing.input_latency} (declared) is a block more than the last output needs, after "
            f"{s.time} inputs as after fewer",
        )


def check_chunking(s: Subject) -> None:
    """Property S2: single blocks, three at once, and random partitions; without a mask pairs of blocks."""
    x = s.padded(Sequence(s.values, s.mask))
    partitions = [1] * s.total, [3] * (s.total // 3), s.partition(s.total), s.partition(s.total, first=(3, 1))
    for partition in partitions:
        y, _ = s.stream(x, partition)
        s.expect_stream("S2", y, f"chunks of {partition} blocks")
    pairs = s.time // (2 * s.block)
    if pairs:
        full = Sequence(s.full[:, : 2 * pairs * s.block])
        unmasked, _ = s.stream(full, [2] * pairs)
        masked, _ = s.stream(full.with_mask(), s.partition(2 * pairs))
        names = ("mask None", "mask all True")
        expect_same("S2", unmasked.mask, masked.mask, "mask of a stream without a mask", names=names)
        expect_same(
            "S2",
            unmasked.values,
            masked.values,
            "values of a stream without a mask",
            where=masked.mask,
            names=names,
            rtol=s.rtol,
            atol=s.atol,
        )


def check_prefix(s: Subject) -> None:
    """Property S1: leading invalid blocks, as many in every row and a different number in each."""
    x = s.padded(Sequence(s.values, s.mask))
    for counts in ([3] * s.batch, [7] * s.batch, [row % 8 for row in range(s.batch)]):
        blocks = s.total + max(counts)
        values = np.zeros((s.batch, blocks * s.block, *s.channels), s.dtype)
        mask = np.zeros((s.batch, blocks * s.block), bool)
        for row, count in enumerate(counts):
            start = count * s.block
            values[row, start : start + x.values.shape[1]] = x.values[row]
            mask[row, start : start + x.values.shape[1]] = x.mask[row]
        y, _ = s.stream(Sequence(values, mask), s.partition(blocks))
        for row, count in enumerate(counts):
            start = s.output_steps(count * s.block)
            length = s.output_steps(s.total * s.block)
            what = f"row {row} after {count} leading invalid blocks"
            alone = slice(row, row + 1)
            before, nothing = y.mask[alone, :start], np.zeros((1, start), bool)
            expect_same("S1", before, nothing, f"{what}: mask of the leading outputs", names=("step", "invalid"))
            found = Sequence(y.values[alone], y.mask[alone]).slice_time(start, start + length)
            s.expect_stream("S1", found, what, rows=alone, latency=False)


def check_prefill(s: Subject) -> None:
    """Property S10: from the middle of a stream, one step over everything that is left, and single steps after it."""
    x = s.padded(Sequence(s.values, s.mask))
    for first in ([1], [1, 1], [3]):
        partition = [*first, s.blocks, *[1] * (s.total - sum(first) - s.blocks)]
        y, _ = s.stream(x, partition)
        s.expect_stream("S10", y, f"chunks of {partition} blocks")


def check_call(s: Subject) -> None:
    """Property S10: a call that goes on from a state is a step, bit for bit."""
    start, chunk = s.initial_state(), s.padded(Sequence(s.values, s.mask)).slice_time(0, s.block)
    with attempt("S10", "a call from a state"), transforms.no_gradients():
        y, state = s.layer(chunk, initial_state=start, return_state=True)
    _expect_identical("S10", (to_numpy(y), state), _eager_step(s, s.layer, 0, start), ("call", "step"), 0)


def check_compiled(s: Subject) -> None:
    """Property S11: eager and compiled agree; checked after everything else: no shape was compiled twice."""
    if keras.backend.backend() == "torch":
        return  # nothing is compiled
    for name, count in s.traces.items():
        if count > 1:
            fail("S11", f"{name[0]} was traced {count} times (received) for inputs of shapes {name[1]}, wanted once")


def check_eager(s: Subject) -> None:
    """Property S11: the first blocks of a stream, or layer mode of what cannot stream."""
    if not s.steps:
        with attempt("S11", "an eager call"), transforms.no_gradients():
            y = to_numpy(s.call(Sequence(s.values, s.mask)))
        wanted = s.expected()
    else:
        state, outputs = s.initial_state(), []
        for i in range(2):
            y, state = _eager_step(s, s.layer, i, state)
            outputs.append(y)
        y = Sequence.concatenate(outputs)
        wanted, _ = s.stream(s.padded(Sequence(s.values, s.mask)).slice_time(0, 2 * s.block), [1, 1])
    names = ("eager", "compiled")
    expect_same("S11", y.mask, wanted.mask, "mask", names=names)
    expect_same("S11", y.values, wanted.values, "values", where=wanted.mask, names=names, rtol=s.rtol, atol=s.atol)


class _Slots:
    """Rows of a batch, each at its own place of its own stream.

    Attributes:
        source: the row of the test's input that each slot reads.
        position: blocks that each slot has read.
    """

    def __init__(self, s: Subject) -> None:
        self.s, self.x = s, s.padded(Sequence(s.values, s.mask))
        self.source, self.position = np.arange(s.batch), np.zeros(s.batch, int)
        self.state = s.initial_state()

    def take(self, rows: Any) -> None:
        """Slots and state rows at these indices."""
        self.source, self.position = self.source[rows], self.position[rows]
        self.state = map_rows(lambda leaf: leaf[rows], self.state)

    def step(self, key: Any, what: Any, active: Any = None, blocks: Any = 1) -> None:
        """Advance the active slots and compare their outputs."""
        s, steps = self.s, blocks * self.s.block
        active = np.ones(len(self.source), bool) if active is None else active
        position = np.where(active, self.position, 0)
        at = position[:, None] * s.block + np.arange(steps)
        values, mask = self.x.values[self.source[:, None], at], self.x.mask[self.source[:, None], at]
        values[~active] = garbage(s, values[~active].shape)
        mask[~active] = s.rng.random(mask[~active].shape) < 0.5
        y, state = s.step(values, mask, self.state, active)
        outputs = s.output_steps(steps)
        out_at = position[:, None] * s.output_steps(s.block) + np.arange(outputs)
        wanted = s.wanted_stream(s.output_steps(s.total * s.block))
        wanted_mask = wanted.mask[self.source[:, None], out_at] & active[:, None]
        names = ("step", "layer")
        what = f"{what}, slots with streams {self.source.tolist()} at blocks {self.position.tolist()}"
        expect_same(key, y.mask, wanted_mask, f"{what}: mask", names=names)
        wanted_values = wanted.values[self.source[:, None], out_at]
        close = {"where": wanted_mask, "names": names, "rtol": s.rtol, "atol": s.atol}
        expect_same(key, y.values, wanted_values, f"{what}: values", **close)
        for leaf, (new, old) in enumerate(zip(leaves(state), leaves(self.state), strict=True)):
            held, before = (as_bytes(numpy(a))[~active] for a in (new, old))
            expect_same(
                key, held, before, f"{what}: bytes of state leaf {leaf} of held rows", names=("after", "before")
            )
        self.state = state
        self.position = self.position + blocks * active


def check_ragged(s: Subject) -> None:
    """Property S3: random rows receive one block or three; the others receive garbage that must not count."""
    slots = _Slots(s)
    for _ in range(8):
        blocks = int(s.rng.choice([1, 3]))
        active = (s.rng.random(s.batch) < 0.6) & (slots.position + blocks <= s.total)
        slots.step("S3", "ragged stepping", active, blocks)
    slots.step("S3", "a step with no active row", np.zeros(s.batch, bool))


def check_row_operations(s: Subject) -> None:
    """Property S4: permute, copy over, insert fresh streams, split, step the halves apart, merge."""
    slots, half = _Slots(s), s.batch // 2
    slots.step("S4", "before any row moves", blocks=3 if s.total >= 9 else 1)
    slots.take(s.rng.permutation(s.batch))
    slots.step("S4", "after a permutation")
    slots.take(np.array([0, 0, *range(2, s.batch)]))
    slots.step("S4", "after row 0 was copied over row 1")
    fresh = np.arange(s.batch) % 3 == 0
    new = s.initial_state()
    slots.state = map_rows(lambda a, b: np.where(fresh.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, slots.state)
    slots.source[fresh], slots.position[fresh] = np.flatnonzero(fresh), 0
    slots.step("S4", "after fresh streams were put into every third row")
    left, right = _part(slots, slice(half, None)), _part(slots, slice(None, half))
    left.step("S4", "in a batch of half the rows")
    right.step("S4", "in a batch of the other half")
    slots.source = np.concatenate([left.source, right.source])
    slots.position = np.concatenate([left.position, right.position])
    slots.state = map_rows(lambda a, b: np.concatenate([a, b]), left.state, right.state)
    slots.step("S4", "after the halves were merged")


def _part(slots, rows):
    part = _Slots(slots.s)
    part.source, part.position, part.state = slots.source, slots.position, slots.state
    part.take(rows)
    return part
