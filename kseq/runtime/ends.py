"""What goes into a stream and comes out of it, in the structure of the model and in the form of the caller's chunks."""

import re
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import host_dtype, real_dtype
from ..sequence import Sequence, SequenceSpec
from .protocols import Described

# Of what says which steps are there, where a model reads it: an input more.
PRESENCE = SequenceSpec((), "bool")


class Form(NamedTuple):
    """What the chunks so far have said.

    Attributes:
        specs: of every input; the dtype may be unknown (`None`) until a chunk says it.
        as_sequence: whether the caller's chunks are `Sequence`s.
        batched: whether the last one had a batch axis.
    """

    specs: tuple[SequenceSpec, ...]
    as_sequence: bool = False
    batched: bool = True


class Ends:
    """The inputs and outputs of a stream.

    Args:
        layer: what is streamed.
        name: of it, in words.
        batch_size: rows.
        dtype: of the inputs, or `None` where a model or the first chunk says it.
        chunk: what errors call what is given.

    Attributes:
        form: a `Form`, a value that may be set back.
    """

    layer: Described
    batch_size: int
    inputs: Any
    input_names: Any
    input_structure: Any
    output_structure: Any
    form: Form

    def __init__(
        self, layer: Described, name: str, batch_size: int, dtype: str | None, *, chunk: str = "a chunk"
    ) -> None:
        self.layer, self.batch_size, self._chunk = layer, batch_size, chunk
        self.inputs = getattr(layer, "inputs", None)  # of a Keras model
        self.input_names = getattr(layer, "input_names", ())
        self.input_structure = getattr(layer, "input_structure", listed(layer.num_inputs))
        self.output_structure = getattr(layer, "output_structure", listed(layer.num_outputs))
        shapes = layer.channel_shape
        if shapes is None:
            raise ValueError(f"{name} must be built before it can stream: call it once, or call `build(input_shape)`")
        shapes = (shapes,) if layer.num_inputs == 1 else shapes
        self._presence = (PRESENCE,) if layer.reads_presence else ()
        self._output_specs: dict[Any, tuple[SequenceSpec, ...]] = {}
        shapes = shapes[: len(shapes) - len(self._presence)]
        known: list[Any] = [given.spec.dtype for given in self.inputs] if self.inputs else [None] * len(shapes)
        self._declared = tuple(SequenceSpec(s, dtype or found) for s, found in zip(shapes, known, strict=True))
        # Nothing of a chunk is lost to a layer of float64; what computes in less casts for itself.
        self._float = real_dtype(layer.compute_dtype)
        self.reset()

    def reset(self) -> None:
        """Forget what chunks have said."""
        self.form = Form(self._declared)

    def set_form(self, form: Form) -> None:
        """Take what chunks have said elsewhere.

        Raises:
            ValueError: inputs of other channels.
        """
        found, wanted = [spec.shape for spec in form.specs], [spec.shape for spec in self._declared]
        if found != wanted:
            raise ValueError(f"the stream must be of inputs of channels {wanted}; received one of channels {found}")
        self.form = form

    @property
    def specs(self) -> tuple[SequenceSpec, ...]:
        return self.form.specs

    @property
    def dtypes_known(self) -> bool:
        return all(spec.dtype is not None for spec in self.specs)

    @property
    def layer_specs(self) -> tuple[SequenceSpec, ...]:
        """Of every input of the layer: of those of the model, and of what says which steps are there."""
        return self.specs + self._presence

    def all_there(self, steps: Any) -> Any:
        """What says that steps are there, where the layer reads it."""
        return [Sequence(np.zeros((self.batch_size, steps), bool)) for _ in self._presence]

    @property
    def gives_one(self) -> bool:
        """Whether there is one output, in no list or dict."""
        return not isinstance(self.output_structure, (list, dict))

    @property
    def numpy_dtypes(self) -> Any:
        return [host_dtype(spec.dtype) for spec in self._known_specs]

    @property
    def _known_specs(self):
        """The specs, with floats where no chunk has said a dtype."""
        return tuple(SequenceSpec(s.shape, s.dtype or self._float) for s in self.specs)

    def take(self, chunk: Any) -> list[Sequence]:
        """A chunk as a `Sequence` [B, T, ...] for every input, in NumPy.

        Raises:
            ValueError: a wrong structure, rank, batch size, channel shape or mask shape, or unequal lengths.
            TypeError: a dtype that cannot be cast safely, or a mask that is not bool.
        """
        parts_given = self._split(chunk)
        several = len(parts_given) > 1
        names = [
            f"{self._input_in_words(n)} of {self._chunk}" if several else self._chunk for n in range(len(self.specs))
        ]
        given = [self._standard(*part) for part in zip(parts_given, self.specs, names, strict=True)]
        inputs, batched = [x for x, _ in given], all(b for _, b in given)
        if len({x.values.shape[1] for x in inputs}) > 1:
            raise ValueError(
                f"the inputs of {self._chunk} must have equally many time steps; received "
                f"{' and '.join(str(x.values.shape[1]) for x in inputs)}"
            )
        specs = tuple(map(self._settled, self.specs, inputs))
        inputs = list(map(_cast, inputs, specs, names))
        as_sequence = self.form.as_sequence or any(isinstance(x, Sequence) for x in parts_given)
        self.form = Form(specs, as_sequence, batched)
        return inputs + self.all_there(inputs[0].values.shape[1])

    def _settled(self, spec, x) -> SequenceSpec:
        """The spec of an input with the dtype that its first chunk says; one of no steps says none."""
        if spec.dtype or not x.values.shape[1]:
            return spec
        return SequenceSpec(spec.shape, "int32" if x.values.dtype.kind in "iu" else self._float)

    def _split(self, chunk) -> list[Any]:
        """The chunk of every input."""
        chunk = self._by_names(chunk)
        if len(self.specs) == 1 and not isinstance(chunk, dict):
            return [chunk]
        structure, masks = self.input_structure, {}
        if isinstance(chunk, dict) and self.inputs:
            numbers = {given.mask: n for n, given in enumerate(self.inputs) if given.mask}
            masks = {numbers[name]: chunk[name] for name in numbers.keys() & chunk.keys()}
            chunk = {name: part for name, part in chunk.items() if name not in numbers}
            if not isinstance(structure, dict):
                structure = {given.name: n for n, given in enumerate(self.inputs)}
        found = dict(self._matched(structure, chunk))
        return [Sequence(found[n], masks[n]) if n in masks else found[n] for n in range(len(self.specs))]

    def _by_names(self, chunk):
        """A list of all of a model's inputs, masks among them as arrays, as a dict; anything else as it is."""
        masks = {given.mask for given in self.inputs or ()} - {None}
        if not masks or type(chunk) not in (list, tuple) or len(chunk) != len(self.input_names):
            return chunk
        by_name = dict(zip(self.input_names, chunk, strict=True))
        given = [by_name[name] for name in masks]
        are_masks = (m is None or (isinstance(m, np.ndarray) and m.dtype.kind == "b") for m in given)
        return by_name if all(are_masks) else chunk

    def _matched(self, structure, chunk):
        """The numbers of inputs, each with its part of a chunk."""
        if isinstance(structure, dict):
            fits, wanted = (
                isinstance(chunk, dict) and chunk.keys() == structure.keys(),
                f"a dict of {_in_words(structure)}",
            )
            pairs = [(part, chunk[key]) for key, part in structure.items()] if fits else ()
        elif isinstance(structure, list):
            fits = isinstance(chunk, (list, tuple)) and not isinstance(chunk, Sequence) and len(chunk) == len(structure)
            names = f" ({_in_words(given.name for given in self.inputs)})" if self.inputs else ""
            pairs, wanted = (
                zip(structure, chunk, strict=False) if fits else (),
                f"a list of {len(structure)} inputs{names}",
            )
        else:
            yield structure, chunk
            return
        if not fits:
            raise ValueError(f"{self._chunk} must be {wanted}; received {_described(chunk)}")
        for part in pairs:
            yield from self._matched(*part)

    def _input_in_words(self, number):
        name = self.inputs[number].name if self.inputs else ""
        own = name and not is_name_of_keras(name)
        return f"the input {name!r}" if own else f"input {number + 1}"

    def _standard(self, chunk, spec, what):
        """A `Sequence` of NumPy arrays [B, T, ...], and whether the caller gave a batch axis."""
        is_sequence, rank = isinstance(chunk, Sequence), len(spec.shape)
        values, mask = chunk if is_sequence else (chunk, None)
        values, mask = np.asarray(values), None if mask is None else np.asarray(mask)
        shape = values.shape
        batched = values.ndim == rank + 2
        if not batched and (values.ndim != rank + 1 or self.batch_size != 1):
            short = "[time, ...] or " if self.batch_size == 1 else ""
            raise ValueError(
                f"{what} must have shape {short}[batch (={self.batch_size}), time, ...] with channels "
                f"{spec.shape}; received {shape}"
            )
        if shape[values.ndim - rank :] != spec.shape or (batched and shape[0] != self.batch_size):
            raise ValueError(
                f"{what} must have batch {self.batch_size} and channels {spec.shape}; received shape {shape}"
            )
        if mask is not None and not batched:
            if mask.shape != shape[:1]:
                raise ValueError(f"mask must have the shape [time] of the values, {shape[:1]}; received {mask.shape}")
            mask = mask[None]
        return Sequence(values if batched else values[None], mask).check(), batched

    def nothing(self, steps: Any) -> list[Sequence]:
        """Invalid steps for every input."""
        mask = np.zeros((self.batch_size, steps), bool)
        return [
            Sequence(np.zeros((self.batch_size, steps, *spec.shape), dtype), mask)
            for spec, dtype in zip(self.specs, self.numpy_dtypes, strict=True)
        ] + [Sequence(mask, mask) for _ in self._presence]

    def no_output(self, number: Any) -> Any:
        """Values [B, 0, ...] of an output."""
        specs: Any = self._known_specs + self._presence
        if specs not in self._output_specs:  # which takes a network longer than a step
            found = self.layer.output_spec(specs[0] if len(specs) == 1 else specs)
            self._output_specs[specs] = found if type(found) is tuple else (found,)
        spec = self._output_specs[specs][number]
        return np.zeros((self.batch_size, 0, *spec.shape), host_dtype(spec.dtype))

    def give(self, outputs: Any) -> Any:
        """Outputs in the structure of the model and the form of the caller's chunks."""
        return filled(self.output_structure, [self._formed(y) for y in outputs])

    def _formed(self, y):
        as_sequence, batched = self.form.as_sequence, self.form.batched
        if isinstance(y, list):  # a row each
            return y if as_sequence else [values for values, _ in y]
        if not as_sequence:
            return y.values if batched else y.values[0]
        y = y.with_mask()
        return y if batched else Sequence(y.values[0], y.mask[0])


def is_name_of_keras(name: str) -> bool:
    """Whether an input has a name that Keras made: it is another in every process."""
    return bool(re.fullmatch(r"(input_layer|keras_tensor)(_[0-9]+)?", name))


def _in_words(names):
    return ", ".join(map(str, names)) or "nothing"


def _described(chunk):
    if isinstance(chunk, dict):
        return f"a dict of {_in_words(chunk)}"
    several = isinstance(chunk, (list, tuple)) and not isinstance(chunk, Sequence)
    return str(len(chunk)) if several else type(chunk).__name__


def _cast(x, spec, what) -> Sequence:
    if spec.dtype is None:
        return x  # of no steps
    dtype = host_dtype(spec.dtype)
    if x.values.dtype == dtype:
        return x
    if not np.can_cast(x.values.dtype, dtype, "same_kind"):
        raise TypeError(f"{what} must be castable to {dtype}; received {x.values.dtype}")
    return Sequence(x.values.astype(dtype), x.mask)


def listed(count: int) -> Any:
    """The structure of so many sequences, where no model nests them: a list, or one by itself."""
    return 0 if count == 1 else list(range(count))


def filled(structure: Any, items: Any) -> Any:
    """Items in a structure of lists and dicts, which holds their numbers."""
    if isinstance(structure, dict):
        return {key: filled(value, items) for key, value in structure.items()}
    if isinstance(structure, list):
        return [filled(value, items) for value in structure]
    return items[structure]
