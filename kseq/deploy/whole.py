"""`WholeFunction`: a model on whole sequences as a flat function of tensors, with a name for each."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..arguments import as_size
from ..dtypes import real_dtype
from ..layers.base import SequenceLayer
from ..layers.structures import as_sequence, parts
from ..model_graph import in_words, is_graph
from ..runtime.ends import is_name_of_keras, listed
from ..runtime.manifest import Port, StateTensor
from ..sequence import Sequence, SequenceSpec
from ..streaming.adapters import StreamOptions
from ..streaming.model_layer import streamable
from ..streaming.step import StepFunction
from .traced import TensorSpec, as_specified, drawn, namer, output_port

# Steps of the golden data where any number will do.
_GOLDEN_LENGTH = 32


class WholeFunction:
    """A model on whole sequences as a flat function of tensors, in `keras.ops`: what a format writes.

    It takes the values of all inputs, then their masks where it is `masked`, and gives the values of all outputs, then
    the masks of those that have one. Without masks a Keras model is called as it is, whether it streams or not; with
    them it is what `kseq.streamable` gives.

    Args:
        model: a kseq layer or a Keras model.
        batch_size: B.
        length: T, or `None` for any.
        masked: whether it takes a mask for every input.
        dtype: of the inputs of a kseq layer.
        context: by name, constants of the function.
        options: of what a model does not say.
        golden: as the attribute, where it is known.

    Attributes:
        layer: whose variables are the weights.
        batch_size, length: as given.
        inputs, outputs: a `Port` for every sequence.
        takes, gives: a `TensorSpec` for every tensor; `None` in a shape is a length of any size.
        input_names, input_structure, output_structure: of a Keras model, as Keras names and nests them.
        golden: one pair of what a call takes, and gives.

    Raises:
        ValueError: a model that is not built, or an input without a time axis.
    """

    layer: Any
    state: tuple[StateTensor, ...] = ()
    output_structure: Any

    def __init__(
        self,
        model: Any,
        batch_size: int,
        length: int | None,
        masked: bool,
        *,
        dtype: str | None = None,
        context: Any = None,
        options: StreamOptions,
        golden: list[Any] | None = None,
    ) -> None:
        self.layer, self.masked, self.context = model, masked, dict(context or {})
        self.batch_size, self.length = batch_size, None if length is None else as_size("length", length)
        of_sequences = masked or isinstance(model, SequenceLayer)
        self._callee: Any = (_OfSequences if of_sequences else _OfTensors)(model, dtype, self.context, options)
        self.input_names, self.input_structure = self._callee.input_names, self._callee.input_structure
        names = namer()
        self.inputs = tuple(
            Port(name, shape, kind, names(name), names(f"{name}_mask") if masked else None, mask)
            for name, shape, kind, mask in self._callee.inputs
        )
        time = self.length
        self.takes = [TensorSpec(p.tensor, (batch_size, time, *p.shape), p.dtype) for p in self.inputs]
        self.takes += [TensorSpec(p.mask_tensor, (batch_size, time), "bool") for p in self.inputs if p.mask_tensor]
        self.golden = self._run_golden() if golden is None else golden
        [(_, made)] = self.golden
        self.outputs = tuple(output_port(names, n, *y, several=len(made) > 1) for n, y in enumerate(made))
        self.output_structure = self._callee.output_structure
        pairs = list(zip(self.outputs, made, strict=True))
        self.gives = [TensorSpec(port.tensor, self._shape_of(y), port.dtype) for port, (y, _) in pairs]
        self.gives += [TensorSpec(p.mask_tensor, self._shape_of(m), "bool") for p, (_, m) in pairs if p.mask_tensor]

    def _shape_of(self, y):
        """The shape of what is given, as far as it is the same for all lengths."""
        shape = tuple(y.shape)
        return shape if self.length is not None or len(shape) < 2 else (shape[0], None, *shape[2:])

    def __call__(self, *tensors: Any) -> list[Any]:
        """The tensors of `gives`, of those of `takes`."""
        outputs = self._call(tensors)
        found = [*[y for y, _ in outputs], *[mask for _, mask in outputs if mask is not None]]
        return as_specified(found, self.gives)

    def _call(self, tensors):
        count = len(self.inputs)
        return self._callee(tensors[:count], tensors[count:] if self.masked else [None] * count)

    def _run_golden(self):
        rng, time = np.random.default_rng(0), self.length or self._golden_length()
        count = len(self.inputs)
        given = [drawn(rng, (self.batch_size, time, *port.shape), port.dtype) for port in self.inputs]
        given += [np.ones((self.batch_size, time), bool)] * (count if self.masked else 0)
        made = self._call([ops.convert_to_tensor(x) for x in given])
        numpy = [(_in_numpy(y), None if mask is None else _in_numpy(mask)) for y, mask in made]
        return [(given, numpy)]

    def _golden_length(self):
        """Steps where any number will do: those that there is room for."""
        layer, specs = self._callee.layer, tuple(SequenceSpec(port.shape, port.dtype) for port in self.inputs)
        if not (isinstance(layer, SequenceLayer) and layer.supports_step):
            return _GOLDEN_LENGTH
        spec = specs[0] if len(specs) == 1 else specs
        step = StepFunction(layer, self.batch_size, spec, context=self.context or None)
        room = [ops.min(limit.steps) for limit in step.limits(step.initial_state())]
        return min([_GOLDEN_LENGTH, *[int(_in_numpy(steps)) for steps in room]])


def _in_numpy(x):
    return np.asarray(ops.convert_to_numpy(x))


class _OfSequences:
    """A layer of sequences as a function of values and masks.

    Attributes:
        layer: of sequences.
        inputs: name, channel shape, dtype, and the name of the input that the mask comes in, of each.
        input_names, input_structure, output_structure: as those of `WholeFunction`.
    """

    def __init__(self, model: Any, dtype: str | None, context: dict[str, Any], options: StreamOptions) -> None:
        self.layer: Any = streamable(model, options.max_length, options.window)
        self._context = context
        if isinstance(model, SequenceLayer):
            self.inputs = [(*spec, None) for spec in _specs(self.layer, dtype)]
            self.input_names = tuple(name for name, *_ in self.inputs)
            self.input_structure, self.output_structure = map(listed, (len(self.inputs), self.layer.num_outputs))
        else:
            read = getattr(self.layer, "layer", self.layer)  # of a model that loses masks
            self.inputs = [(x.name, tuple(x.spec.shape), dtype or x.spec.dtype, x.mask) for x in read.inputs]
            self.input_names = tuple(read.input_names)
            self.input_structure, self.output_structure = read.input_structure, read.output_structure

    def __call__(self, values: Any, masks: Any) -> list[Any]:
        x: Any = tuple(map(Sequence, values, masks))
        context = {name: as_sequence(value) for name, value in self._context.items()}
        y = self.layer(x if len(x) > 1 else x[0], **({"context": context} if context else {}))
        return [tuple(part) for part in parts(y)]


class _OfTensors:
    """A Keras model as it is called, as a function of values.

    Attributes:
        layer: the model.
        inputs, input_names, input_structure: as of `_OfSequences`.
        output_structure: as that, of what the last call gave.
    """

    output_structure: Any = None

    def __init__(self, model: Any, dtype: str | None, context: dict[str, Any], options: StreamOptions) -> None:
        self.layer, specs = model, _specs(model, dtype)
        self.input_names = tuple(name for name, *_ in specs)
        self._context = context
        taken = [n for n, name in enumerate(self.input_names) if name not in context]
        self.inputs = [(*specs[n], None) for n in taken]
        self._structure: Any = 0
        if is_graph(model) and not isinstance(model, keras.Sequential):
            self._structure = keras.tree.pack_sequence_as(model.input, list(range(len(specs))))
        self.input_structure = _renumbered(self._structure, {n: i for i, n in enumerate(taken)})

    def __call__(self, values: Any, masks: Any) -> list[Any]:
        given = {name: ops.convert_to_tensor(as_sequence(value).values) for name, value in self._context.items()}
        given |= {name: x for (name, *_), x in zip(self.inputs, values, strict=True)}
        row = [given[name] for name in self.input_names]
        y = self.layer(keras.tree.map_structure(lambda n: row[n], self._structure), training=False)
        found = keras.tree.flatten(y)
        self.output_structure = keras.tree.pack_sequence_as(y, list(range(len(found))))
        return [(part, None) for part in found]


def _specs(model, dtype):
    """Name, channel shape and dtype of every input."""
    if isinstance(model, SequenceLayer):
        shapes = model.channel_shape
        if shapes is None:
            raise ValueError(f"{in_words(model)} must be built before it is exported: call it once")
        shapes = (shapes,) if model.num_inputs == 1 else shapes
        pairs = zip(_counted(len(shapes)), shapes, strict=True)
        return [(name, tuple(shape), dtype or real_dtype(model.compute_dtype)) for name, shape in pairs]
    if is_graph(model) and model.built:
        named = [x for x in model.inputs if not is_name_of_keras(x.name)]
        names = [x.name for x in named] if len(named) == len(model.inputs) else _counted(len(model.inputs))
        found = [(name, tuple(x.shape), dtype or x.dtype) for name, x in zip(names, model.inputs, strict=True)]
    else:
        shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
        if shape is None:
            raise ValueError(f"{in_words(model)} must be built before it is exported: call it once")
        found = [("x", tuple(shape), dtype or real_dtype(model.compute_dtype))]
    for name, shape, _ in found:
        if len(shape) < 2 or None in shape[2:]:
            raise ValueError(f"an input must be [batch, time, ...] with known channels; {name!r} is {shape}")
    return [(name, shape[2:], kind) for name, shape, kind in found]


def _counted(count):
    return ["x"] if count == 1 else [f"x_{n}" for n in range(count)]


def _renumbered(structure, numbers):
    """A structure with other numbers; what has none is left out."""
    if isinstance(structure, int):
        return numbers.get(structure)
    pairs = structure.items() if isinstance(structure, dict) else enumerate(structure)
    found = {key: n for key, part in pairs if (n := _renumbered(part, numbers)) is not None}
    return found if isinstance(structure, dict) else list(found.values())
