"""`ExportedFunction`: the step of a model as a flat function of tensors, with a name for each."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..layers.base import SequenceLayer
from ..layers.structures import parts
from ..runtime.manifest import Port, StateTensor
from ..sequence import Sequence
from ..streaming.compiled import compile_step
from ..streaming.presence import SPEC as PRESENCE
from ..streaming.step import StepFunction


class TensorSpec(NamedTuple):
    """What a tensor of the file is."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class ExportedFunction:
    """The step of a layer as a flat function of tensors, in `keras.ops`: what a format writes.

    It takes the values of all inputs, then their masks where it is `masked`, then the leaves of the state, and gives
    the values of all outputs, then the masks of those that have one, then the new leaves. Weights are the variables of
    the layer, which a format may make constants.

    Args:
        step: the step, of the batch size, block, inputs and context that the file is for.
        masked: whether it takes a mask for every input.
        golden: as the attribute, where it is known; by default the step is run for it.
        given: values and masks of the calls that the step is run for; by default values are drawn.

    Attributes:
        step: as given.
        layer: whose variables are the weights.
        inputs, outputs: a `Port` for every sequence.
        state: a `StateTensor` for every leaf.
        takes, gives: a `TensorSpec` for every tensor.
        golden: pairs of what calls take and give, the state left out, from the beginning of a stream on.

    Raises:
        ValueError: a step that draws random numbers.
    """

    step: StepFunction
    layer: SequenceLayer
    takes: list[TensorSpec]
    gives: list[TensorSpec]

    def __init__(self, step: StepFunction, masked: bool, golden: list[Any] | None = None, given: Any = None) -> None:
        self.step, self.layer, self.masked = step, step.layer, masked
        self._reads_presence = step.layer.reads_presence
        specs = [spec for spec in parts(step.input_spec) if spec is not PRESENCE]
        self._shape = step.batch_size, step.block
        self.golden = self._run_golden(given or self._drawn(specs), len(specs)) if golden is None else golden
        [(_, made), *_] = self.golden
        names = namer()
        named = getattr(step.layer, "inputs", None) or [None] * len(specs)
        self.inputs = tuple(self._input(names, n, spec, named[n]) for n, spec in enumerate(specs))
        self.presence_tensor = names("presence") if masked and self._reads_presence else None
        self.outputs = tuple(output_port(names, n, *y, several=len(made) > 1) for n, y in enumerate(made))
        self.state = tuple(StateTensor(*leaf, names(leaf.name), names(f"new/{leaf.name}")) for leaf in step.state)
        self.takes = [TensorSpec(port.tensor, (*self._shape, *port.shape), port.dtype) for port in self.inputs]
        masks = [port.mask_tensor for port in self.inputs if port.mask_tensor]
        masks += [self.presence_tensor] if self.presence_tensor else []
        self.takes += [TensorSpec(name, self._shape, "bool") for name in masks]
        self.takes += [TensorSpec(leaf.tensor, leaf.shape, leaf.dtype) for leaf in self.state]
        self.gives = [TensorSpec(p.tensor, y.shape, p.dtype) for p, (y, _) in zip(self.outputs, made, strict=True)]
        self.gives += [
            TensorSpec(p.mask_tensor, mask.shape, "bool")
            for p, (_, mask) in zip(self.outputs, made, strict=True)
            if p.mask_tensor
        ]
        self.gives += [TensorSpec(leaf.new_tensor, leaf.shape, leaf.dtype) for leaf in self.state]

    def _input(self, names, number, spec, given):
        name = given.name if given else "x" if len(parts(self.step.input_spec)) == 1 else f"x_{number}"
        mask_tensor = names(f"{name}_mask") if self.masked else None
        return Port(name, spec.shape, spec.dtype, names(name), mask_tensor, given.mask if given else None)

    def __call__(self, *tensors: Any) -> list[Any]:
        """The tensors of `gives`, of those of `takes`."""
        given, count = list(tensors), len(self.inputs)
        values, given = given[:count], given[count:]
        masks = [given.pop(0) for _ in range(count + self._reads_presence)] if self.masked else []
        y, leaves = self.advance(values, masks, given)
        found = parts(y)
        return as_specified(
            [*[s.values for s in found], *[s.mask for s in found if s.mask is not None], *leaves], self.gives
        )

    def advance(self, values: list[Any], masks: list[Any], leaves: list[Any]) -> tuple[Any, list[Any]]:
        """The outputs and the new leaves; of masks there are none, or one for each input, and for presence."""
        x = [Sequence(v, m) for v, m in zip(values, masks or [None] * len(values), strict=False)]
        if self._reads_presence:
            x.append(Sequence(ops.zeros(self._shape, dtype="bool"), masks[-1] if masks else None))
        return self.step.advance(tuple(x) if len(x) > 1 else x[0], leaves)

    def _drawn(self, specs):
        rng, beside = np.random.default_rng(0), (np.zeros(self._shape, bool),) * self._reads_presence
        masks = (np.ones(self._shape, bool) if self.masked else None,) * (len(specs) + len(beside))
        for _ in range(GOLDEN_CALLS):
            yield (*[drawn(rng, (*self._shape, *spec.shape), spec.dtype) for spec in specs], *beside), masks

    def _run_golden(self, given, count):
        """Calls from the beginning of a stream on: what each takes, of so many inputs, and gives."""
        run = compile_step(self.step)
        state, calls = run.initial_state(), []
        for values, masks in given:
            outputs, state = run(values, masks, None, state)
            calls.append(([*values[:count], *(masks if self.masked else ())], outputs))
        if state.seeds:
            names = [self.step.layer.variables[i].path for i in state.seeds]
            raise ValueError(
                f"the step draws random numbers from {', '.join(names)}, which no file can go on with: export the "
                "model as it is without training"
            )
        return calls


def output_port(names: Callable[[str], str], number: int, values: Any, mask: Any, several: bool) -> Port:
    """The port of an output, of what a call gave there: values, and a mask or `None`."""
    name = f"y_{number}" if several else "y"
    dtype = keras.backend.standardize_dtype(values.dtype)
    return Port(name, tuple(values.shape[2:]), dtype, names(name), None if mask is None else names(f"{name}_mask"))


def as_specified(tensors: list[Any], specs: list[TensorSpec]) -> list[Any]:
    """Tensors that are what specs say; integers of another width, which backends do not agree on, become these.

    Raises:
        ValueError: others.
    """
    if len(tensors) != len(specs):
        raise ValueError(f"{len(specs)} tensors are to be written; {keras.backend.backend()} gives {len(tensors)}")
    found = []
    for x, spec in zip(tensors, specs, strict=True):
        dtype = keras.backend.standardize_dtype(x.dtype)
        if dtype != spec.dtype and "int" in dtype and "int" in spec.dtype:
            x, dtype = ops.cast(x, spec.dtype), spec.dtype
        fits = len(x.shape) == len(spec.shape) and all(
            n is None or not isinstance(size, int) or n == size for n, size in zip(spec.shape, x.shape, strict=True)
        )
        if not fits or dtype != spec.dtype:
            raise ValueError(
                f"the tensor {spec.name!r} is to be {spec.dtype} {spec.shape}; {keras.backend.backend()} gives "
                f"{dtype} {tuple(x.shape)}"
            )
        found.append(x)
    return found


#: Calls of golden data.
GOLDEN_CALLS = 8


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Values of a golden stream: numbers of a normal distribution, or integers 0 and 1."""
    if "int" in dtype or dtype == "bool":
        return rng.integers(0, 2, shape).astype(dtype)
    if "complex" in dtype:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype("float32" if dtype == "bfloat16" else dtype)


def namer() -> Callable[[str], str]:
    """A function that makes of each text a name that every format takes, each once."""
    taken: set[str] = set()

    def name(text: str) -> str:
        found = base = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "t"
        base = found = f"t_{base}" if base[0].isdigit() else base
        number = 1
        while found in taken:
            found, number = f"{base}_{number}", number + 1
        taken.add(found)
        return found

    return name
