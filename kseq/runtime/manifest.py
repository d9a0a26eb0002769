"""`Manifest`: what travels with an exported model, so that it streams where Keras is not."""

import dataclasses
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np

from ..sequence import Sequence
from ..timing import Timing
from . import packed
from .soundness import problems

_FORMAT = packed.ByteFormat(b"kseq-export\n", 1, "manifest of an exported model")
#: Under which name a manifest lies in what was exported.
MEMBER = "kseq.manifest"


class Port(NamedTuple):
    """An input or an output: its channels, and the tensors of the file that hold it.

    Attributes:
        name: of the `keras.Input`, or a name of its own.
        shape: of the channels.
        dtype: of the values.
        tensor: the name of the values in the file, [B, block, ...].
        mask_tensor: the name of the mask in the file, bool [B, block]; `None` where there is none.
        mask: the name of the `keras.Input` that the mask comes in, if there is one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensor: str
    mask_tensor: str | None = None
    mask: str | None = None


class StateTensor(NamedTuple):
    """A leaf of the state: what it is, and the tensors of the file that take it and give it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensor: str
    new_tensor: str


class Allowance(NamedTuple):
    """How many steps a layer has room for.

    Attributes:
        layer: its name and type, in words.
        steps: input steps from the initial state on, of each row.
        advice: what to change where more are wanted, or `None`.
        counts_valid: whether invalid steps are free.
    """

    layer: str
    steps: tuple[int, ...]
    advice: str | None
    counts_valid: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is known of an exported model besides its computation.

    Attributes:
        format: `"litert"`, `"onnx"`, `"saved_model"` or `"stablehlo"`.
        mode: `"step"`, or `"layer"` for whole sequences.
        precision: `"float32"`, or what its weights were rounded to.
        batch_size, block: of a call; of whole sequences `block` is their length, 0 for any.
        inputs, outputs: a `Port` for each sequence.
        state: the leaves, in the order of the file.
        order: the numbers of the leaves in the order in which a stream saves them.
        presence_tensor: the name of the mask, bool [B, block], that says which steps are there, where that is read.
        input_names, input_structure, output_structure: as Keras names and nests them; numbers stand for sequences.
        compute_dtype: that of the layer.
        timings: a `Timing` for each output.
        allowances: of every layer that takes so many steps and no more.
        model: of a step, `structure`, `layers` and `weights` of the model, by which saved streams are told apart.
        options: `max_length` and `window`.
        kseq_version: which wrote it.
        initial_state: leaves, in the order of `state`.
        seeds: values of variables that a stream saves, by number.
        context: what the stream began with, by name: a `Sequence` in NumPy.
        golden_inputs, golden_outputs: of a stream from its beginning: values, then the masks that there are, as a call
            takes and gives them, of several calls one after the other in time.
        golden_error: how far the file was from the golden outputs when it was written, as a part of the largest of
            them; `None` of float32, and where what runs it was not there.
    """

    format: str
    mode: str
    precision: str
    batch_size: int
    block: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    state: tuple[StateTensor, ...] = ()
    order: tuple[int, ...] = ()
    presence_tensor: str | None = None
    input_names: tuple[str, ...]
    input_structure: Any
    output_structure: Any
    compute_dtype: str
    timings: tuple[Timing, ...] = ()
    allowances: tuple[Allowance, ...] = ()
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any]
    kseq_version: str
    initial_state: list[np.ndarray] = dataclasses.field(default_factory=list, repr=False)
    seeds: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    context: dict[str, Sequence] = dataclasses.field(repr=False)
    golden_inputs: list[np.ndarray] = dataclasses.field(repr=False)
    golden_outputs: list[np.ndarray] = dataclasses.field(repr=False)
    golden_error: float | None = None

    @property
    def is_masked(self) -> bool:
        """Whether a call takes masks."""
        return any(port.mask_tensor for port in self.inputs)

    @property
    def takes(self) -> list[str]:
        """The tensors that a call takes, but for the state."""
        masks = [port.mask_tensor for port in self.inputs if port.mask_tensor]
        return [
            *[port.tensor for port in self.inputs],
            *masks,
            *([self.presence_tensor] if self.presence_tensor else []),
        ]

    @property
    def gives(self) -> list[str]:
        """The tensors that a call gives, but for the state."""
        masks = [port.mask_tensor for port in self.outputs if port.mask_tensor]
        return [*[port.tensor for port in self.outputs], *masks]

    def pairs(self, made: Any) -> list[tuple[Any, Any]]:
        """Of what a call gives, values of all outputs and then the masks that there are: each with its mask."""
        masks = iter(made[len(self.outputs) :])
        values = zip(self.outputs, made, strict=False)
        return [(y, next(masks) if port.mask_tensor else None) for port, y in values]

    def to_bytes(self) -> bytes:
        """The manifest as bytes, which hold no code."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        arrays: dict[str, Any] = {}
        for name in ("initial_state", "golden_inputs", "golden_outputs"):
            arrays |= {f"{name}/{n}": a for n, a in enumerate(fields.pop(name))}
        arrays |= {f"seeds/{n}": a for n, a in fields.pop("seeds").items()}
        arrays |= packed.named("context", fields.pop("context"))
        fields["timings"] = [_plain_timing(timing) for timing in self.timings]
        return packed.pack(_FORMAT, fields, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` was given.

        Raises:
            TypeError: no bytes.
            ValueError: bytes of something else, damaged, of another version, or such as no export writes.
        """
        header, arrays = packed.unpack(_FORMAT, data)
        with packed.reading(_FORMAT):
            found = cls._read(header, arrays)
            if problem := next(problems(found), None):
                raise ValueError(f"the manifest of the exported model cannot be: {problem}")
        return found

    @classmethod
    def _read(cls, header, arrays):
        fields = {f.name: header[f.name] for f in dataclasses.fields(cls) if f.name in header}
        fields["inputs"], fields["outputs"] = (tuple(map(_port, header[name])) for name in ("inputs", "outputs"))
        fields["state"] = tuple(StateTensor(n, tuple(s), d, a, b) for n, s, d, a, b in header["state"])
        fields["allowances"] = tuple(Allowance(a, tuple(steps), *rest) for a, steps, *rest in header["allowances"])
        fields |= {name: tuple(header[name]) for name in ("order", "input_names")}
        fields["timings"] = tuple(map(_timing, header["timings"]))
        lists = {name: packed.of_kind(arrays, name) for name in ("initial_state", "golden_inputs", "golden_outputs")}
        fields |= {name: list(found.values()) for name, found in lists.items()}
        fields["seeds"] = {int(n): a for n, a in packed.of_kind(arrays, "seeds").items()}
        fields["context"] = packed.sequences_of(arrays, "context")
        return cls(**fields)


def _port(row):
    name, shape, *rest = row
    return Port(name, tuple(shape), *rest)


def _plain_timing(timing):
    stages = [[ratio.numerator, ratio.denominator, change] for ratio, change in timing.length_stages]
    ratio, field = timing.ratio, timing.receptive_field_per_step
    latencies = timing.input_latency, timing.output_latency
    return [timing.block_size, [ratio.numerator, ratio.denominator], *latencies, field, stages]


def _timing(row):
    block, ratio, input_latency, output_latency, field, stages = row
    field = [None if interval is None else tuple(interval) for interval in field]
    stages = [(Fraction(n, d), change) for n, d, change in stages]
    return Timing(block, Fraction(*ratio), input_latency, output_latency, field, stages)
