"""`SequenceLayer`: write the step, get the layer."""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import keras
import numpy as np
from keras import ops

from ..annotations import LayerOptions
from ..masks import mask_rule
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from .complex_values import complex_dtype, is_complex
from .door import spec_of
from .parameters import Parameters
from .step_door import StepDoor
from .step_door import hold_rows as hold_rows
from .structures import as_sequence, each, first, parts, to_tensors


class Example(NamedTuple):
    """Constructor arguments of a layer with an input [batch, time, ...] on which the contract test runs it.

    `context` has, by name, the shape (time, ...) of every sequence that the layer reads as context, and of an array
    that is the same for all steps its channel shape.
    """

    config: dict[str, Any]
    input_shape: tuple[int, ...] = (4, 12, 3)
    dtype: str = "float32"
    context: dict[str, tuple[int, ...]] | None = None


class SequenceLayer(Parameters, StepDoor):
    """A Keras layer with two modes that give the same numbers: whole sequence and step by step.

    Whole sequence: `layer(x)`. Called on a tensor [B, T, ...] it reads and sets Keras's mask like any Keras layer;
    called on a `Sequence` it returns a `Sequence`. Step by step: `state = layer.initial_state(B, spec)`, then
    `y, state = layer.step(x, state)` for chunks of any multiple of `timing.block_size` steps. The state is a value, a
    tree of arrays whose first axis is the batch; the layer holds none. Such a step is also the call
    `y, state = layer(x, initial_state=state, return_state=True)`; of that by `layer.peek` nothing is kept, and
    `layer.rollback` undoes steps.

    An author writes `build`, `timing`, `initial_state` and `call_step`; `call_layer` is derived from them and is
    overridden only where another algorithm is faster on whole sequences. Invalid steps of the input arrive as
    `invalid_value`. A state that takes so many steps and no more says so by `room`, one that can be rolled back has
    `call_rollback`, and says by `history` how far. What cannot stream overrides `call_layer` alone and gives the reason
    as `step_obstacle`.

    A layer of several inputs says how many by `num_inputs`: where this text says a sequence, a spec, a shape or a mask
    of the input, it is then a tuple of them, all of one length. What does not flow along with the input but is known
    when a stream begins (a source to attend to, the vector of a speaker) is *context*: a layer names what it reads in
    `context_names`, is given it as `context={name: sequence or array}`, and puts what its step needs into the state.

    Rules for an author's `call_step`: leading invalid steps are as if absent, the first `timing.output_latency` outputs
    of a stream are invalid, and every state leaf keeps its shape and dtype, batch first. `kseq.testing.check_layer`
    tests them all.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Conv1D(2, kernel_size=3, padding="causal")
        >>> x = np.ones((1, 4, 5), "float32")
        >>> whole = layer(kseq.Sequence(x))
        >>> state = layer.initial_state(1, kseq.SequenceSpec((5,)))
        >>> step, state = layer.step(kseq.Sequence(x[:, :2]), state)
        >>> bool(np.allclose(step.values, whole.values[:, :2]))
        True
    """

    #: Rank of the input with batch and time, or `None` where any will do.
    input_rank: int | None = None
    #: Sequences that the layer reads.
    num_inputs: int = 1
    #: Whether the last of these is no data: its mask says which steps are there, where a model loses masks.
    reads_presence: bool = False
    #: Whether every step counts that is there, whatever its mask: so it is for layers of Keras's that look at none.
    reads_every_step: bool = False
    #: Names of what the layer reads from the context.
    context_names: tuple[str, ...] = ()
    #: Those of them that are arrays [B, ...], one value for all steps of a row, rather than sequences.
    static_context: tuple[str, ...] = ()
    #: Names in the state, a dict, of what is made of the context alone, and may be made anew in the middle of a stream.
    context_state: tuple[str, ...] = ()
    #: What stands at invalid steps when `call_step` and `call_layer` see them: a number, of which infinities become the
    #: ends of an integer's range, or `None` for whatever was there.
    invalid_value: float | None = 0
    #: Whether a call of the step takes any number of steps, also one that is not known when it is traced, and gives its
    #: outputs at once: then layer mode is one such call.
    takes_any_length: bool = False
    #: Whether an input may be complex; where not, it is refused when a model is made and when the layer is called.
    takes_complex: bool = True
    #: Whether specs may name the layer: not where what it is given, as a function, is no data.
    in_specs: bool = True
    #: Whether a layer that has weights takes other channels than those that it was built for.
    takes_any_channels: bool = False

    def __init__(self, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    # What an author writes.

    @property
    def timing(self) -> Timing:
        """Block, ratio, latencies and receptive field; by default those of a layer without memory."""
        return Timing()

    @property
    def training_obstacle(self) -> str | None:
        """Why step mode cannot train as layer mode does, or `None` where it can."""
        return None

    @property
    def creates_mask(self) -> bool:
        """Whether outputs may be invalid although every input is valid."""
        return False

    @property
    def mask_reads_values(self) -> bool:
        """Whether some values make outputs invalid: then `output_mask`, which knows none, is that of all others."""
        return False

    @property
    def mask_reads_context(self) -> bool:
        """Whether the context makes outputs invalid: then `output_mask`, which knows none, is that of all others."""
        return False

    @property
    def counts_steps(self) -> bool:
        """Whether outputs depend on how many valid steps came before, whatever they hold; fields then reach there."""
        return False

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        """Channel shape and dtype of the output; by default the input's, floats in the compute dtype."""
        return self.cast_spec(first(input_spec))

    def output_length(self, length: Any) -> Any:
        """Outputs of layer mode for `length` inputs, as the timing says: of several outputs a tuple."""
        found = tuple(timing.output_length(length) for timing in self._timings)
        return found[0] if len(found) == 1 else found

    def output_mask(self, mask: Any) -> Any:
        """Mask of layer mode's outputs, bool [B, U], from that of its inputs, bool [B, T].

        By default an output is valid where its input step is: of every input, where there are several.
        """
        mask = functools.reduce(ops.logical_and, mask) if type(mask) is tuple else mask
        ratio = self.timing.ratio
        if ratio.denominator > 1:
            mask = mask[:, :: ratio.denominator]
        return ops.repeat(mask, ratio.numerator, axis=1) if ratio.numerator > 1 else mask

    if TYPE_CHECKING:  # of authors' methods only those of layers with `context_names` need take the context

        def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
            """Process a whole sequence; derived from one step over everything."""
            ...

    else:

        def call_layer(self, x, *, training=False, context=None):
            """Process a whole sequence; derived from one step over everything."""
            given = {"context": context} if self.context_names else {}
            if self.takes_any_length:
                state = self.initial_state(ops.shape(first(x).values)[0], each(spec_of, x), **given)
                return self._call_step(x, state, training)[0]
            timing, time = self.timing, first(x).values.shape[1]
            if not isinstance(time, int):
                raise ValueError(
                    f"{type(self).__name__} derives layer mode from its step and needs a known number of time steps; "
                    f"received values of shape {tuple(first(x).values.shape)}"
                )
            flush = timing.input_latency + -(time + timing.input_latency) % timing.block_size
            state = self.initial_state(ops.shape(first(x).values)[0], each(spec_of, x), **given)
            y, _ = self._call_step(each(lambda part: part.pad_time(0, flush), x), state, training)
            ends = zip(parts(y), self.timings, parts(self.output_length(time)), strict=True)
            cut = [y.slice_time(t.output_latency, t.output_latency + length) for y, t, length in ends]
            return cut[0] if len(cut) == 1 else tuple(cut)

    @classmethod
    def examples(cls) -> list[Example]:
        """Configurations that the contract test and the documentation run."""
        return [Example({})]

    # What a user calls, and what layers and networks of them share.

    def origin(self) -> Any:  # no property: Keras's loading would follow it in a circle
        """What the layer stands for, where it is a Keras layer, operation or model; else itself."""
        return self

    @property
    def timings(self) -> tuple[Timing, ...]:
        """The timing of every output."""
        return (self.timing,)

    @property
    def channel_shape(self) -> Any:
        """Channel shape of the input that the layer was built for, a tuple, or `None` where there is none."""
        config = (self.get_build_config() if self.built else None) or {}
        shape = config.get("shapes_dict", config).get("input_shape")
        if shape is None:
            return None
        return tuple(shape[2:]) if self.num_inputs == 1 else tuple(tuple(part[2:]) for part in shape)

    def standardize(self, x: Sequence) -> Sequence:
        """What `call_step` is given of an input: cast to the compute dtype, `invalid_value` at invalid steps."""
        dtype = keras.backend.standardize_dtype(x.values.dtype)
        wanted = self._cast_dtype(dtype)
        if dtype != wanted:
            x, dtype = x.astype(wanted), wanted
        if self.invalid_value is None or x.mask is None:
            return x
        return x.mask_invalid(representable(self.invalid_value, dtype))

    def standardize_context(self, context: dict[str, Any] | None) -> dict[str, Sequence]:
        """What the layer reads from the context, each a `Sequence`: cast, zero at invalid steps.

        Raises:
            ValueError: a name that is missing, or one that the layer does not read.
        """
        found = {}
        for name, value in self.check_context(context).items():
            value = to_tensors(as_sequence(value))
            dtype = keras.backend.standardize_dtype(value.values.dtype)
            wanted = self._cast_dtype(dtype)
            found[name] = (value if dtype == wanted else value.astype(wanted)).mask_invalid()
        return found

    def _cast_dtype(self, dtype) -> str:
        """The dtype that an input of this one is cast to: floats to the compute dtype, complex numbers as precise.

        Raises:
            TypeError: complex numbers, of which backends would drop the imaginary part, where the layer takes none.
        """
        if is_complex(dtype) and not self.takes_complex:
            raise TypeError(f"{self._named} takes real numbers; received {dtype}: `kseq.Abs` makes them real")
        if not self.autocast:
            return dtype
        if is_complex(dtype):
            return complex_dtype(self.compute_dtype)
        return self.compute_dtype if keras.backend.is_float_dtype(dtype) else dtype

    def cast_spec(self, spec: SequenceSpec) -> SequenceSpec:
        """The spec of an input after the cast to the compute dtype."""
        return SequenceSpec(tuple(spec.shape), self._cast_dtype(spec.dtype))

    def weight(self, variable: Any) -> Any:
        """A variable's value in the compute dtype."""
        return ops.cast(variable, self.compute_dtype)

    @property
    def num_outputs(self) -> int:
        """Sequences that the layer gives."""
        return len(self._timings)

    # Composing timings costs more than an eager step of a small layer.

    @property
    def _named(self) -> str:
        return f"{self.name} ({type(self).__name__})"

    @functools.cached_property
    def _timing(self):
        return self.timing

    @functools.cached_property
    def _timings(self):
        return self.timings


def representable(value: float, dtype: str) -> Any:
    """A number in a dtype: infinities become the ends of an integer's range."""
    if not math.isinf(value) or keras.backend.is_float_dtype(dtype):
        return value
    if dtype == "bool":
        return value > 0
    if dtype.startswith("complex"):
        raise TypeError(f"the largest or smallest of complex numbers is not defined; received values of dtype {dtype}")
    return (np.iinfo(dtype).min, np.iinfo(dtype).max)[value > 0]


@mask_rule.register
def _(layer: SequenceLayer):
    def rule(mask):
        several = layer.num_inputs > 1 and type(mask) is not tuple
        return layer.output_mask((mask,) * layer.num_inputs if several else mask)  # one mask is that of every input

    return rule
