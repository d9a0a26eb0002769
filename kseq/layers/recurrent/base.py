"""What recurrent layers with weights of their own share: weights, noise, state, and both modes."""

from typing import Any, ClassVar

import keras
from keras import ops

from ...annotations import Shape
from ...arguments import as_number, as_size
from ...sequence import Sequence, SequenceSpec
from ..complex_values import real_dtype
from ..parameters import Only
from .recurrence import Recurrence
from .steps import StateNoise, many_steps, one_step

# Derivatives of activations as functions of their outputs.
_DERIVATIVES = {
    keras.activations.tanh: lambda y: 1 - y * y,
    keras.activations.sigmoid: lambda y: y * (1 - y),
    keras.activations.linear: ops.ones_like,
    keras.activations.relu: lambda y: ops.cast(y > 0, y.dtype),
}
#: What of Keras's recurrent layers has one meaning alone where every step is given and the state is a value.
FIXED: dict[str, Only] = {
    "return_sequences": Only((True,), "take the last step of the output, `y[:, -1]`, or train on every step"),
    "return_state": Only((False,), "`y, state = layer(x, return_state=True)` gives the state"),
    "go_backwards": Only(
        (False,),
        "what reads backwards, as a half of `keras.layers.Bidirectional` does, needs the end first and does not "
        "stream; for whole sequences use `kseq.Bidirectional`, or Keras's layer of this name, which takes the same "
        "weights",
    ),
    "stateful": Only((False,), "the state is a value, of `layer.step(x, state)`, and `kseq.Stream` keeps one"),
    "unroll": Only((False,), "leave it out, the numbers are the same"),
    "zero_output_for_mask": Only((False,), "`mask_invalid` of a `kseq.Sequence` sets invalid steps to zero"),
}


def checked_rate(name: str, rate: float) -> float:
    """A fraction that is at least 0 and below 1.

    Raises:
        ValueError: another.
    """
    return as_number(name, rate, "at least 0 and below 1", lambda rate: 0 <= rate < 1)


def orthogonal_in_float32(initializer: Any) -> Any:
    """An initializer of matrices that come from a decomposition, which no backend has in half precision."""

    def initialize(shape, dtype=None):
        wide = real_dtype(dtype or "float32")
        return ops.cast(initializer(shape, dtype=wide), dtype or wide)

    return initialize


def with_forget_bias(initializer: Any, units: int) -> Any:
    """An initializer of the bias of four gates, whose second is 1."""

    def initialize(shape, dtype=None):
        gates = [initializer((units,), dtype=dtype) for _ in range(4)]
        gates[1] = ops.ones((units,), dtype=dtype)
        return ops.concatenate(gates)

    return initialize


class Recurrent(Recurrence):
    """Weights, state and both modes of a recurrence of vectors; a subclass names its cell and adds weights."""

    seed_generator: Any
    kernel: Any
    recurrent_kernel: Any
    bias: Any

    input_rank: int | None = 3
    fixed_arguments: ClassVar[dict[str, Only]] = FIXED
    kernels: int  # gates with a kernel, in units
    units: int
    use_bias: bool
    dropout: float
    recurrent_dropout: float
    zoneout: float
    seed: int | None
    recurrent_initializer: Any
    bias_initializer: Any
    cell: Any

    def prepare(self) -> None:
        """Check what all have, and make the generator of what noise needs."""
        self.units = as_size("units", self.units)
        for name in ("dropout", "recurrent_dropout", "zoneout"):
            setattr(self, name, checked_rate(name, getattr(self, name)))
        noisy = self.dropout or self.recurrent_dropout or self.zoneout
        self.seed_generator = keras.random.SeedGenerator(self.seed) if noisy else None

    def set_cell(self, make: Any, *functions: Any, **options: Any) -> None:
        """Make the cell of activations, with their derivatives where it has a gradient of its own.

        Args:
            make: `make(units, functions, ...)`.
            functions: activations.
            options: of the cell.
        """
        derivatives = tuple(map(_DERIVATIVES.get, functions))
        if self.compute_dtype == "float64":
            functions = tuple(map(_in_float64, functions))
        self.cell = make(self.units, functions, **options)
        if self.cell.gates and None not in derivatives:
            self.cell.derivatives = derivatives
        if keras.backend.backend() == "tensorflow" and (self.zoneout or not self.cell.has_gradient):
            self.supports_jit = False  # XLA does not compile the gradient of Keras's scan there

    def build(self, input_shape: Shape) -> None:
        size = self.kernels * self.units
        self.kernel = self.add_parameter("kernel", (input_shape[-1], size))
        initialize = orthogonal_in_float32(self.recurrent_initializer)
        self.recurrent_kernel = self.add_parameter(
            "recurrent_kernel", (self.cell.sizes[0], size), "recurrent", initializer=initialize
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_parameter("bias", self.bias_shape, initializer=self.initial_bias)

    @property
    def bias_shape(self) -> Shape:
        return (self.kernels * self.units,)

    @property
    def initial_bias(self) -> Any:
        return self.bias_initializer

    def weights_by_name(self) -> dict[str, Any]:
        """What the cell reads, in the compute dtype."""
        found = {"kernel": self.weight(self.kernel), "recurrent_kernel": self.weight(self.recurrent_kernel)}
        return found if self.bias is None else found | {"bias": self.weight(self.bias)}

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.cell.sizes[0],), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        pairs = zip(self.cell.states, self.cell.sizes, strict=True)
        return {name: ops.zeros((batch_size, size), dtype=self.compute_dtype) for name, size in pairs}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        if training and self.dropout:
            x = x.apply(self._drop)
        names, noise, weights = self.cell.states, self._noise(x.values, training), self.weights_by_name()
        states = tuple(state[name] for name in names)
        if x.values.shape[1] == 1:
            mask = None if x.mask is None else x.mask[:, 0]
            output, states = one_step(self.cell, ops.squeeze(x.values, 1), mask, states, weights, noise)
            outputs = ops.expand_dims(output, 1)
        else:
            outputs, states = many_steps(self.cell, x.values, x.mask, states, weights, noise)
        return Sequence(outputs, x.mask), dict(zip(names, states, strict=True))

    def _drop(self, values):
        batch, _, channels = ops.shape(values)
        return values * self._kept((batch, 1, channels), self.dropout, values.dtype)  # the same at every step

    def _noise(self, values, training):
        batch, time, _ = ops.shape(values)
        kept = zoned = None
        if training and self.recurrent_dropout:
            kept = self._kept((batch, self.cell.sizes[0]), self.recurrent_dropout, self.compute_dtype)
        if self.zoneout:
            zoned = self.zoneout
        if self.zoneout and training:
            shape = (batch, time, sum(self.cell.sizes))
            zoned = keras.random.uniform(shape, seed=self.seed_generator) < self.zoneout
        return StateNoise(kept, zoned)

    def _kept(self, shape, rate, dtype):
        return keras.random.dropout(ops.ones(shape, dtype=dtype), rate, seed=self.seed_generator)


def _in_float64(function):
    """An activation that gives float64; of Keras's own tanh, which narrows it on jax, all digits."""
    if function is keras.activations.tanh and keras.backend.backend() == "jax":
        return lambda x: 2 * ops.sigmoid(2 * x) - 1
    return lambda x: ops.cast(function(x), "float64")
