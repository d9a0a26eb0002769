"""`SequenceLayer`: write the step, get the layer."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from ..masks import mask_rule
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from .config import ConfigFromSignature


class Example(NamedTuple):
    """Constructor arguments of a layer with an input [batch, time, ...] on which the contract test runs it."""

    config: dict
    input_shape: tuple[int, ...] = (4, 12, 3)
    dtype: str = "float32"


class SequenceLayer(ConfigFromSignature, keras.layers.Layer):
    """A Keras layer with two modes that give the same numbers: whole sequence and step by step.

    Whole sequence: `layer(x)`. Called on a tensor [B, T, ...] it reads and sets Keras's mask like any Keras layer;
    called on a `Sequence` it returns a `Sequence`. Step by step: `state = layer.initial_state(B, spec)`, then
    `y, state = layer.step(x, state)` for chunks of any multiple of `timing.block_size` steps. The state is a value, a
    tree of arrays whose first axis is the batch; the layer holds none.

    An author writes `build`, `timing`, `initial_state` and `call_step`; `call_layer` is derived from them and is
    overridden only where another algorithm is faster on whole sequences. Invalid steps of the input arrive as zeros.
    What cannot stream overrides `call_layer` alone and gives the reason as `step_obstacle`.

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
    #: Channel shape that the weights were built for; set in `build` by layers whose weights depend on it.
    channel_shape: tuple[int, ...] | None = None
    #: Whether values at invalid steps must be zero before `call_step` and `call_layer` see them.
    zeroes_invalid: bool = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    # What an author writes.

    @property
    def timing(self) -> Timing:
        """Block, ratio, latencies and receptive field; by default those of a layer without memory."""
        return Timing()

    @property
    def step_obstacle(self) -> str | None:
        """Why the layer cannot step and what to use instead, or `None` where it can."""
        return None

    @property
    def creates_mask(self) -> bool:
        """Whether outputs may be invalid although every input is valid."""
        return False

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        """Channel shape and dtype of the output; by default the input's, floats in the compute dtype."""
        dtype = input_spec.dtype
        return SequenceSpec(tuple(input_spec.shape), self.compute_dtype if self._casts(dtype) else dtype)

    def output_length(self, length: int) -> int:
        """Outputs of layer mode for `length` inputs."""
        return self.timing.output_length(length)

    def output_mask(self, mask):
        """Mask of layer mode's outputs, bool [B, U], from that of its inputs, bool [B, T]."""
        ratio = self.timing.ratio
        if ratio.denominator > 1:
            mask = mask[:, :: ratio.denominator]
        return ops.repeat(mask, ratio.numerator, axis=1) if ratio.numerator > 1 else mask

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, constants=None) -> Any:
        """State before the first step: arrays of distinct buffers, batch first; `()` where there is none."""
        return ()

    def call_step(self, x: Sequence, state, *, training=False, constants=None) -> tuple[Sequence, Any]:
        """Process a chunk and return the outputs with the next state."""
        raise NotImplementedError(f"{type(self).__name__} must implement call_step, or call_layer and step_obstacle")

    def call_layer(self, x: Sequence, *, training=False, constants=None) -> Sequence:
        """Process a whole sequence; derived from one step over everything."""
        timing, time = self.timing, x.values.shape[1]
        if time is None:
            raise ValueError(
                f"{type(self).__name__} derives layer mode from its step and needs a known number of time steps; "
                f"received values of shape {tuple(x.values.shape)}"
            )
        flush = timing.input_latency + -(time + timing.input_latency) % timing.block_size
        state = self.initial_state(ops.shape(x.values)[0], x.spec, constants)
        y, _ = self.call_step(x.pad_time(0, flush), state, training=training, constants=constants)
        return y.slice_time(timing.output_latency, timing.output_latency + self.output_length(time))

    @classmethod
    def examples(cls) -> list[Example]:
        """Configurations that the contract test and the documentation run."""
        return [Example({})]

    # What a user calls.

    @property
    def supports_step(self) -> bool:
        """Whether `step` works."""
        return self.step_obstacle is None

    def __call__(self, x, mask=None, training=None, constants=None):
        """Layer mode on a tensor (gives a tensor) or on a `Sequence` (gives a `Sequence`)."""
        if not isinstance(x, (tuple, list)):
            if constants is not None:
                raise ValueError(f"constants need a kseq.Sequence as input; received {type(x).__name__}")
            return super().__call__(x, mask=mask, training=training)
        x = _as_sequence(x).check()
        if not self.built:
            # Keras would pass `build` the shapes of both parts.
            self.build(tuple(x.values.shape))
        kwargs = {} if constants is None else {"constants": constants}
        return super().__call__(x, training=training, **kwargs)

    def call(self, x, mask=None, training=None, constants=None):
        given = _as_sequence(x) if isinstance(x, (tuple, list)) else Sequence(x, mask)
        given = self._prepare(given)
        batch, length = self.compute_output_shape(tuple(given.values.shape))[:2]
        if 0 in (batch, length):
            y = self._nothing(given, length)
        else:
            y = self.call_layer(given, training=bool(training), constants=constants)
        return y if isinstance(x, (tuple, list)) else y.values

    def compute_mask(self, inputs, previous_mask=None):
        if isinstance(inputs, (tuple, list)):
            return None  # a Sequence carries its own
        if previous_mask is None:
            if not self.creates_mask:
                return None
            previous_mask = ops.ones_like(inputs[(..., *[0] * (len(inputs.shape) - 2))], dtype="bool")
        return self.output_mask(previous_mask)

    def compute_output_shape(self, input_shape):
        batch, time = input_shape[:2]
        length = None if time is None else self.output_length(time)
        return (batch, length, *self.output_spec(SequenceSpec(tuple(input_shape[2:]))).shape)

    def compute_output_spec(self, x, mask=None, training=None, constants=None):
        given = _as_sequence(x) if isinstance(x, (tuple, list)) else Sequence(x, mask)
        self._check_input(given)
        spec = self.output_spec(given.spec)
        batch, time = given.values.shape[:2]
        length = None if time is None else self.output_length(time)
        values = keras.KerasTensor((batch, length, *spec.shape), spec.dtype)
        if not isinstance(x, (tuple, list)):
            return values
        masked = given.mask is not None or self.creates_mask
        return Sequence(values, keras.KerasTensor((batch, length), "bool") if masked else None)

    def step(self, x: Sequence, state, *, training=False, constants=None, active=None) -> tuple[Sequence, Any]:
        """Step mode: process a chunk [B, n * block_size, ...] and return (outputs, next state).

        Args:
            x: the chunk, a `Sequence` or values that are all valid.
            state: what `initial_state` or the last step returned.
            training: as in Keras.
            constants: arrays that the whole model can read, by name.
            active: bool [B]: rows that receive data in this call. The state of every other row stays bit for bit what
                it was, and its outputs are invalid.

        Raises:
            ValueError: a layer that cannot step, a wrong rank, channel shape or mask shape, or a number of steps that
                is no multiple of the block.
            TypeError: a mask that is not bool.
        """
        if not self.supports_step:
            raise ValueError(f"{self.name} ({type(self).__name__}) cannot step: {self.step_obstacle}")
        x = self._prepare(_as_sequence(x))
        timing, time = self._timing, x.values.shape[1]
        if time is not None and time % timing.block_size:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) steps over blocks of {timing.block_size}: the number of time "
                f"steps must be a multiple of it; received {time}"
            )
        if not self.built:
            self.build(tuple(x.values.shape))
        if 0 in (time, x.values.shape[0]):
            y, new_state = self._nothing(x, int(time * timing.ratio)), state
        else:
            y, new_state = self.call_step(x, state, training=training, constants=constants)
        if time is not None and y.values.shape[1] != time * timing.ratio:
            raise ValueError(
                f"{type(self).__name__}.call_step must give {time * timing.ratio} outputs for {time} inputs "
                f"(ratio {timing.ratio}); received {y.values.shape[1]}"
            )
        if active is None:
            return y, new_state
        mask = ops.logical_and(y.with_mask().mask, active[:, None])
        return Sequence(y.values, mask), hold_rows(active, new_state, state)

    # What layers share.

    @functools.cached_property
    def _timing(self):
        # Composing timings costs more than an eager step of a small layer.
        return self.timing

    def weight(self, variable):
        """A variable's value in the compute dtype."""
        return ops.cast(variable, self.compute_dtype)

    def _nothing(self, x: Sequence, length: int) -> Sequence:
        """The outputs of no rows or no steps, which few algorithms, and fewer backends, can compute."""
        spec, batch = self.output_spec(x.spec), ops.shape(x.values)[0]
        masked = x.mask is not None or self.creates_mask
        mask = ops.zeros((batch, length), dtype="bool") if masked else None
        return Sequence(ops.zeros((batch, length, *spec.shape), dtype=spec.dtype), mask)

    def _prepare(self, x: Sequence) -> Sequence:
        self._check_input(x.check())
        # Tensors from here on: not every backend adds one to a NumPy array.
        x = Sequence(ops.convert_to_tensor(x.values), None if x.mask is None else ops.convert_to_tensor(x.mask))
        if self._casts(x.spec.dtype):
            x = x.astype(self.compute_dtype)
        return x.mask_invalid() if self.zeroes_invalid else x

    def _casts(self, dtype) -> bool:
        """Whether an input of this dtype is cast to the compute dtype."""
        return self.autocast and _is_float(dtype)

    def _check_input(self, x: Sequence):
        shape = tuple(x.values.shape)
        if self.input_rank is not None and len(shape) != self.input_rank:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) takes values of rank {self.input_rank}; received shape {shape}"
            )
        if self.channel_shape is not None and shape[2:] != self.channel_shape:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) was built for channel shape {self.channel_shape}; "
                f"received {shape[2:]} in values of shape {shape}"
            )


def hold_rows(active, new_state, old_state):
    """The new state in rows where `active`, bool [B], is true, the old state bit for bit in the others."""

    def choose(new, old):
        return ops.where(ops.reshape(active, (-1, *[1] * (len(new.shape) - 1))), new, old)

    return tree.map_structure(choose, new_state, old_state)


def _as_sequence(x) -> Sequence:
    """A Sequence from itself, from values, or from the plain pair that a NamedTuple becomes in a saved model."""
    if isinstance(x, Sequence):
        return x
    if isinstance(x, (tuple, list)):
        if len(x) != 2:
            raise ValueError(f"a sequence is a pair (values, mask); received {len(x)} parts")
        return Sequence(*x)
    return Sequence(x)


def _is_float(dtype) -> bool:
    return keras.backend.is_float_dtype(dtype)


@mask_rule.register
def _(layer: SequenceLayer):
    return layer.output_mask
