"""The layer under test with its data, its compiled functions, and what its outputs must be."""

import collections
import functools
import json
import math
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from ..annotations import Shape
from ..layers.complex_values import has_fractions, is_complex
from ..layers.leaves import leaves, map_leaves, named_leaves
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from . import transforms
from .errors import attempt, expect_same, fail, numpy, said
from .given import KerasMask, draw_context, rows_of

# Relative to the largest output. Layer and step may sum in different orders.
_TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2}
# Blocks in the calls of a masked step: few, because every size is compiled. All of a stream in one call comes on top.
_SIZES = (1, 3)


class Subject:
    """What the properties share: every compiled function and every expected output is made once.

    Attributes:
        values, mask: the masked input [B, T, ...] and [B, T]; values are zero at invalid steps.
        full: values [B, T, ...] that are valid everywhere.
        is_float, output_is_float: whether inputs and outputs have fractions: floats and complex numbers do.
        is_complex, output_is_complex: whether they are complex.
        blocks: blocks that a stream of T steps needs until its last output has come out.
        total: blocks in the streams of the tests, some of them beyond the end.
    """

    layer: Any
    dtype: str
    integers: int
    rng: np.random.Generator
    batch: int
    time: int
    channels: Shape
    spec: SequenceSpec
    input_shape: Shape
    timing: Timing
    ratio: Any
    block: int
    steps: bool
    is_float: bool
    is_complex: bool
    output_spec: SequenceSpec
    output_is_float: bool
    output_is_complex: bool
    rtol: float
    atol: float
    full: Any
    mask: NDArray[np.bool_]
    values: NDArray[Any]
    blocks: int
    total: int
    traces: Any
    layer_mode: Any
    field_is_bound: bool = False

    def __init__(
        self,
        layer: Any,
        input_shape: Any,
        dtype: Any,
        rtol: Any,
        atol: Any,
        seed: Any,
        integers: Any,
        context: Any = None,
    ) -> None:
        if len(input_shape) < 2 or min(input_shape) < 1:
            raise ValueError(f"`input_shape` must be (batch, time, *channels), all at least 1; received {input_shape}")
        self.layer, self.dtype, self.integers = layer, dtype, integers
        self.rng = np.random.default_rng(seed)
        self.batch = 2 * max(4, -(-input_shape[0] // 2))
        self.time, self.channels = input_shape[1], tuple(input_shape[2:])
        self.spec = SequenceSpec(self.channels, dtype)
        self.input_shape = (self.batch, self.time, *self.channels)
        self._context = draw_context(self.rng, layer, self.batch, context or {})
        self.build(layer)
        self.randomize()
        self.timing = layer.timing
        self.ratio, self.block = self.timing.ratio, self.timing.block_size
        self.steps = layer.supports_step
        self.is_complex = is_complex(dtype)
        self.is_float = has_fractions(dtype)
        self.output_spec = layer.output_spec(self.spec)
        self.output_is_complex = is_complex(self.output_spec.dtype)
        self.output_is_float = has_fractions(self.output_spec.dtype)
        tolerance = max(_TOLERANCES.get(d, 0.0) for d in (layer.compute_dtype, self.output_spec.dtype))
        self.rtol = tolerance if rtol is None else rtol
        self.atol = tolerance if atol is None else atol
        self.full = self.draw(self.input_shape)
        self.mask = draw_mask(self.rng, self.batch, self.time)
        self.values = Sequence(self.full, self.mask).mask_invalid().values
        self.blocks = self.blocks_for(self.time)
        self.total = self.blocks + 6
        self.traces = collections.Counter()
        self.layer_mode = self.compile(lambda values, mask: self._both_doors(values, mask), "layer")
        self._step = self.compile(self._step_function, "step")
        self._expected = None

    def compile(self, fn: Any, name: str) -> Any:
        """A compiled function of NumPy arrays that gives tensors, and whose traces are counted by its input shapes."""

        def traced(*arguments):
            shapes = [tuple(leaf.shape) for leaf in tree.flatten(arguments) if leaf is not None]
            self.traces[name, str(shapes), str([a is None for a in arguments])] += 1
            return fn(*arguments)

        function = transforms.jit(traced, quick=True)

        def run(*arguments):
            with transforms.no_gradients():
                return function(*arguments)

        return run

    def _both_doors(self, values, mask):
        """Layer mode, the call on a tensor with its mask, and the mask rule."""
        x = Sequence(values, ops.convert_to_tensor(mask))
        y = self.layer(values, mask=x.mask, **self.context())
        mask = KerasMask()(y) if self.layer.mask_reads_context else self.layer.compute_mask(values, x.mask)
        return self.call(x), y, mask, self.output_mask(x)

    def output_mask(self, x: Any) -> Any:
        """The mask rule, which takes masks alone where it can; of a mask that context makes only a call knows."""
        layer = self.layer
        if layer.mask_reads_context:
            return self.call(x).mask
        return layer.compute_mask(x.values, x.mask) if layer.mask_reads_values else layer.output_mask(x.mask)

    def _step_function(self, values, mask, state, active):
        return self.layer.step(Sequence(values, mask), state, active=active)

    def context(self, rows: Any = slice(None)) -> dict[str, Any]:
        """The keyword argument `context` of a call on some rows, if there is any."""
        if not self._context:
            return {}
        return {"context": {k: rows_of(x, rows) for k, x in self._context.items()}}

    def call(self, x: Any, layer: Any = None, rows: Any = slice(None)) -> Any:
        """Layer mode of a sequence or tensor, of the layer or of a copy of it."""
        return (self.layer if layer is None else layer)(x, **self.context(rows))

    def build(self, layer: Any) -> None:
        shapes = {name: x.values.shape for name, x in self._context.items()}
        if not layer.built:
            layer.build(self.input_shape, **({"context_shape": shapes} if shapes else {}))

    def randomize(self) -> None:
        """Move every weight away from where its initialiser put it: zero biases hide mistakes."""
        for variable in self.layer.trainable_variables:
            value = numpy(variable)
            noise = 0.5 * self.rng.standard_normal(value.shape)
            variable.assign((value.astype("float64") + noise).astype(value.dtype))

    def draw(self, shape: Any) -> Any:
        """Random values of the input's dtype."""
        if self.is_float:
            found = self.rng.standard_normal(shape)
            return (found + 1j * self.rng.standard_normal(shape) if self.is_complex else found).astype(self.dtype)
        high = 2 if self.dtype == "bool" else self.integers
        return self.rng.integers(0, high, shape).astype(self.dtype)

    def weights(self) -> Any:
        return [numpy(v) for v in self.layer.trainable_variables]

    # Layer mode.

    def expected(self) -> Any:
        """Layer mode of the masked input, in NumPy, with a mask that is an array."""
        if self._expected is None:
            with attempt("1", "layer mode"):
                try:
                    y = self.layer_mode(self.values, self.mask)[0]
                except Exception as error:
                    # An eager call says better what is wrong, if it is wrong there too.
                    self.call(Sequence(ops.convert_to_tensor(self.values), ops.convert_to_tensor(self.mask)))
                    fail(
                        "S11",
                        f"layer mode runs eagerly; compiled it raised {said(error)}. NumPy, and Python's `if` or `for` "
                        "over values, see no numbers while a call is compiled: use keras.ops",
                    )
            self._expected = to_numpy(y)
        return self._expected

    def blocks_for(self, time: Any) -> Any:
        """Blocks that a stream of `time` steps needs until its last output has come out.

        More than the input latency gives where a layer had to drop more steps than there are: `streaming.check_latency`
        sees to it that this is the only case.
        """
        outputs = self.timing.output_latency + self.layer.output_length(time)
        return max(
            -(-(time + self.timing.input_latency) // self.block), math.ceil(outputs / self.output_steps(self.block))
        )

    def output_steps(self, steps: Any) -> Any:
        return int(steps * self.ratio)

    # Step mode.

    def initial_state(self, batch: Any = None) -> Any:
        with attempt("S6", "initial_state"):
            rows = self.batch if batch is None else batch
            return self.layer.initial_state(rows, self.spec, **self.context(slice(None, rows)))

    def step(self, values: Any, mask: Any, state: Any, active: Any = None) -> Any:
        """One compiled step, checked for what holds of every step."""
        with attempt("2", f"a step over {values.shape[1]} steps"), transforms.no_gradients():
            y, new = self._step(values, mask, state, active)
        self.check_step(y, new, state, values.shape[1])
        return to_numpy(y), new

    def check_step(self, y: Any, new: Any, old: Any, steps: Any) -> None:
        shape = (old_batch(old, y), self.output_steps(steps), *self.output_spec.shape)
        self.check_values(y, shape, f"step over {steps} steps")
        check_state(new, old, shape[0], f"after a step over {steps} steps")

    def check_values(self, y: Any, shape: Any, what: Any) -> None:
        """Shape and dtype of outputs and mask."""
        if not isinstance(y, Sequence):
            fail("1", f"{what}: received {type(y).__name__}, wanted a Sequence")
        found = tuple(y.values.shape), keras.backend.standardize_dtype(y.values.dtype)
        if found != (tuple(shape), self.output_spec.dtype):
            fail(
                "1",
                f"{what}: values of shape {found[0]} and dtype {found[1]} (received) against shape {tuple(shape)} "
                f"and dtype {self.output_spec.dtype} (declared)",
            )
        if y.mask is not None:
            found = tuple(y.mask.shape), keras.backend.standardize_dtype(y.mask.dtype)
            if found != (tuple(shape[:2]), "bool"):
                fail(
                    "1",
                    f"{what}: mask of shape {found[0]} and dtype {found[1]} (received) against shape "
                    f"{tuple(shape[:2])} and dtype bool (wanted)",
                )

    def padded(self, x: Sequence, blocks: Any = None) -> Sequence:
        """A sequence with invalid steps after it, up to a number of blocks."""
        steps = (self.total if blocks is None else blocks) * self.block
        return x.pad_time(0, steps - x.values.shape[1])

    def stream(self, x: Sequence, partition: Any, state: Any = None) -> Any:
        """Step through a sequence by calls of the given numbers of blocks; returns outputs in NumPy and the state."""
        state = self.initial_state() if state is None else state
        outputs, start = [], 0
        for blocks in partition:
            stop = start + blocks * self.block
            chunk = x.slice_time(start, stop)
            # Two ways through `step`: with every row active, and without saying so.
            active = np.ones(len(chunk.values), bool) if blocks in _SIZES and chunk.mask is not None else None
            y, state = self.step(chunk.values, chunk.mask, state, active)
            outputs.append(y)
            start = stop
        return Sequence.concatenate(outputs), state

    def partition(self, blocks: Any, first: Any = ()) -> Any:
        """A random partition of a number of blocks into the sizes that are compiled."""
        parts = list(first) if sum(first) <= blocks else []
        while sum(parts) < blocks:
            parts.append(int(self.rng.choice([n for n in _SIZES if n <= blocks - sum(parts)])))
        return parts

    def expect_stream(
        self, key: Any, y: Sequence, what: Any, *, start: Any = 0, rows: Any = None, latency: Any = True
    ) -> None:
        """Fail unless a stream's outputs from output `start` on are warm-up, layer mode, and nothing valid after it."""
        wanted = self.wanted_stream(start + y.values.shape[1])
        wanted = wanted.slice_time(start, None)
        if rows is not None:
            wanted = Sequence(wanted.values[rows], wanted.mask[rows])
        index = start + np.arange(y.values.shape[1])
        first = self.timing.output_latency
        last = first + self.expected().values.shape[1]
        if latency:
            expect_same("S7", y.mask & (index < first), wanted.mask & False, f"{what}: mask of the warm-up")
            expect_same("S7", y.mask & (index >= last), wanted.mask & False, f"{what}: mask beyond the last output")
        names = ("step", f"layer, {first} later")
        close = {"where": wanted.mask, "names": names, "rtol": self.rtol, "atol": self.atol}
        expect_same(key, y.mask, wanted.mask, f"{what}: mask", names=names)
        expect_same(key, y.values, wanted.values, f"{what}: values", **close)

    def wanted_stream(self, length: Any) -> Sequence:
        """What the first outputs of a stream of the masked input must be."""
        y, first = self.expected(), self.timing.output_latency
        y = Sequence(np.where(y.expanded_mask(), y.values, np.zeros((), y.values.dtype)), y.mask)
        return y.pad_time(first, max(0, length - first - y.values.shape[1])).slice_time(0, length)

    # Copies.

    @functools.cache  # noqa: B019 - a subject lives as long as its test
    def twin(self) -> Any:
        """The layer from its configuration, with the same weights."""
        return self.copy()

    @functools.cache  # noqa: B019 - a subject lives as long as its test
    def exact(self) -> Any:
        """A copy in float64, or `None`: see `numerics.find_exact`."""
        from .numerics import find_exact

        return find_exact(self)

    def copy(self, policy: Any = None) -> Any:
        """The layer built anew from its configuration as JSON, with its weights, under another policy if given."""
        with attempt("S17", "the round trip through JSON"):
            config = json.loads(json.dumps(self.layer.get_config()))
            config = config if policy is None else with_policy(config, policy)
            twin = type(self.layer).from_config(config)
            self.build(twin)
            twin.set_weights([numpy(w) for w in self.layer.weights])
        return twin


def draw_mask(rng: Any, batch: Any, time: Any) -> Any:
    """A mask of rows that are all valid, shorter, of one step and none, with holes, with leading invalid steps."""
    steps = np.arange(time)
    lead = min(3, time - 1)
    holes = rng.random((batch, time)) < 0.6
    kinds = [
        steps < time,
        steps < time - 4,
        steps < 1,
        steps < 0,
        holes[4],
        steps >= lead,
        holes[6] & (steps >= lead),
        steps == time - 1,
    ]
    lengths = rng.integers(0, time + 1, batch)
    return np.stack([kinds[i] if i < len(kinds) else steps < lengths[i] for i in range(batch)])


def to_numpy(y: Sequence) -> Sequence:
    return Sequence(numpy(y.values), numpy(y.mask)).with_mask()


def old_batch(state: Any, y: Any) -> Any:
    found = leaves(state)
    return found[0].shape[0] if found else y.values.shape[0]


def check_state(new: Any, old: Any, batch: Any, what: Any) -> None:
    """Fail unless a state has the structure, shapes and dtypes of another, the batch first in every leaf."""
    names = [[name for name, _ in named_leaves(state)] for state in (new, old)]
    if names[0] != names[1]:
        fail("S6", f"{what}: the state has the leaves {names[0]} (received), had {names[1]} before")
    for (name, a), b in zip(named_leaves(new), leaves(old), strict=True):
        for leaf in (a, b):
            if not hasattr(leaf, "shape") or len(leaf.shape) < 1 or leaf.shape[0] != batch:
                shape = tuple(getattr(leaf, "shape", ()))
                fail(
                    "S6", f"{what}: state leaf {name} has shape {shape} (received), wanted ({batch}, ...): batch first"
                )
        found = [(tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype)) for leaf in (a, b)]
        if found[0] != found[1]:
            fail("S6", f"{what}: state leaf {name} is {found[0]} (received), was {found[1]} before")


def map_rows(fn: Any, *states: Any) -> Any:
    """Apply a function of NumPy arrays to the leaves of states, and give tensors."""
    return map_leaves(lambda *found: ops.convert_to_tensor(fn(*map(numpy, found))), *states)


def with_policy(config: Any, policy: Any) -> Any:
    """A layer's configuration with every dtype policy in it replaced, and initialisers by one that costs nothing."""
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return {**config, "config": {"name": policy}}
        return {k: "zeros" if k.endswith("_initializer") else with_policy(v, policy) for k, v in config.items()}
    return [with_policy(v, policy) for v in config] if isinstance(config, list) else config


def finite_extent(interval: Any) -> Any:
    """The finite ends of a receptive field."""
    return [end for end in interval or () if math.isfinite(end)]
