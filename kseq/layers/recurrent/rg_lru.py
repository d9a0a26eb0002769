"""The real-gated linear recurrent unit of Griffin."""

import functools
import math
from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_number, as_size
from ...gradients import with_gradient
from ...padding import valid_so_far
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..complex_values import real_dtype
from .linear_scan import linear_scan
from .recurrence import Recurrence

# Of the paper: the power of the decay that an open gate gives, and the ring in which decays begin.
_POWER, _MAX_RADIUS, _MAX_ANGLE = 8.0, 0.999, 0.1 * math.pi
_MAX_SLOPE = 1000.0


@register
class RGLRU(Recurrence):
    """Decaying sum whose decay and whose input are gated, real or complex.  [B, T, units] -> [B, T, units].

    Each channel is h[t] = a[t] h[t - 1] + sqrt(1 - |a[t]|^2) i[t] x[t], with the gates i[t] and r[t] sigmoids of
    products of x[t] with a matrix for each head, and log a[t] = -8 r[t] softplus(`a_param`); on the first valid step
    the square root is 1. Complex channels are the halves (real, imaginary) of the values, and r[t] `a_imag_param` is
    the angle of a[t]. Whole sequences are one parallel scan; the sum is accumulated in float32 at least. Mask:
    unchanged; an invalid step leaves the state untouched. Timing: none; depends on the whole past.
    Source: De et al., 2024, "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language
    Models".

    Args:
        units: channels of the input and of the output.
        num_heads: blocks into which the channels are divided for the gates, whose matrices are block-diagonal.
        only_real: whether channels are real; else there are half as many, complex.
        min_rad: least size of the decays at the start, per power of an open gate; the greatest is 0.999.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            of both gates, as in Keras; the inputs that an initialiser counts are those of one head.

    Raises:
        ValueError: sizes below 1, heads that do not divide the channels, an odd number of units where channels are
            complex, `min_rad` outside 0 to 0.999, an input of other channels.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.RGLRU(6, num_heads=2)(np.zeros((1, 7, 6), "float32")).shape
        (1, 7, 6)
    """

    num_heads: int
    min_rad: float

    input_rank: int | None = 3
    units: int
    a_param: Any
    a_imag_param: Any

    def __init__(
        self,
        units: int,
        num_heads: int = 1,
        only_real: bool = True,
        min_rad: float = 0.9,
        kernel_initializer: InitializerLike = "lecun_normal",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.units, self.num_heads = as_size("units", units), as_size("num_heads", num_heads)
        if not only_real and self.units % 2:
            raise ValueError(f"`units` must be even where `only_real` is false; received {units}")
        if self._channels % self.num_heads:
            raise ValueError(
                f"`num_heads` (={num_heads}) must divide the {'real' if only_real else 'complex'} channels "
                f"(={self._channels})"
            )
        wanted = f"at least 0 and below {_MAX_RADIUS}"
        self.min_rad = as_number("min_rad", min_rad, wanted, lambda radius: 0 <= radius < _MAX_RADIUS)

    @property
    def _channels(self):
        return self.units if self.only_real else self.units // 2

    def build(self, input_shape: Shape) -> None:
        if input_shape[-1] != self.units:
            raise ValueError(f"`units` (={self.units}) must be the channels of the input (={input_shape[-1]})")
        add = functools.partial(self.add_weight, shape=(self._channels,), autocast=False)
        self.a_param = add(name="a_param", initializer=self._initialize_decay)
        self.a_imag_param = None
        if not self.only_real:
            self.a_imag_param = add(name="a_imag_param", initializer=keras.initializers.RandomUniform(0, _MAX_ANGLE))
        heads = self.num_heads
        shape = heads, self.units // heads, self._channels // heads
        self._gates = [
            (
                self.add_parameter(
                    f"{gate}_kernel", shape, "kernel", initializer=_of_one_head(self.kernel_initializer)
                ),
                self.add_parameter(f"{gate}_bias", (heads, shape[-1]), "bias"),
            )
            for gate in ("input_gate", "a_gate")
        ]

    def _initialize_decay(self, shape, dtype=None):
        """Decays exp(-softplus(p)) that are uniform in the area of a ring."""
        squares = keras.initializers.RandomUniform(self.min_rad**2 + 1e-8, _MAX_RADIUS**2)
        logarithms = 0.5 * ops.log(squares(shape, dtype=real_dtype(dtype or "float32")))
        return ops.cast(ops.log(ops.expm1(-logarithms)), dtype or "float32")

    @property
    def counts_steps(self) -> bool:
        return True

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.units,), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        return {
            "hidden": ops.zeros((batch_size, self.units), dtype=real_dtype(self.compute_dtype)),
            "started": ops.zeros((batch_size,), dtype="bool"),
        }

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        gate_x, gate_a = self._through_gates(x.values)
        wide = gate_x.dtype
        log_a = -_POWER * gate_a * ops.softplus(ops.cast(self.a_param, wide))
        first, started = _first_step(x, state["started"])
        scale = ops.where(first[..., None], ops.ones_like(log_a), _square_root(-ops.expm1(2 * log_a))) * gate_x
        values, size = ops.cast(x.values, wide), ops.exp(log_a)
        if self.only_real:
            h, last = linear_scan(size, scale * values, state["hidden"], x.mask)
        else:
            angle = gate_a * ops.cast(self.a_imag_param, wide)
            a = size * ops.cos(angle), size * ops.sin(angle)
            summands = tuple(scale * half for half in self._halves(values))
            pairs = self._complex_scan(a, summands, self._halves(state["hidden"]), x.mask)
            h, last = (ops.concatenate(pair, axis=-1) for pair in pairs)
        return Sequence(ops.cast(h, self.compute_dtype), x.mask), {"hidden": last, "started": started}

    def _through_gates(self, values):
        """Both gates [B, T, channels]; products in the compute dtype, sigmoids in float32 at least."""
        shape = ops.shape(values)[:2]
        heads = ops.reshape(values, (*shape, self.num_heads, self.units // self.num_heads))
        gates = []
        for kernel, bias in self._gates:
            y = ops.einsum("bthi,hij->bthj", heads, self.weight(kernel)) + self.weight(bias)
            gates.append(ops.reshape(y, (*shape, self._channels)))
        return [ops.sigmoid(ops.cast(y, real_dtype(self.compute_dtype))) for y in gates]

    def _complex_scan(self, a, summands, initial, mask):
        return linear_scan(a, summands, initial, mask)

    def _halves(self, x):
        return x[..., : self._channels], x[..., self._channels :]

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"units": 4, "num_heads": 2}, (4, 12, 4)),
            Example({"units": 4, "only_real": False, "min_rad": 0.5}, (4, 12, 4)),
        ]


def _first_step(x, started):
    """Where each row's first valid step is, bool [B, T], and whether there was one by now."""
    valid = x.with_mask().mask
    count = valid_so_far(valid)
    first = ops.logical_and(valid, ops.logical_and(count == 1, ops.logical_not(started)[:, None]))
    return first, ops.logical_or(started, ops.any(valid, axis=1))


def _square_root(x):
    """The root of what is at most one, whose slope at zero is bounded."""

    def pull(root, x):
        return lambda upstream: (0.5 * upstream * ops.rsqrt(ops.clip(x, 0.25 / _MAX_SLOPE**2, 1.0)),)

    return with_gradient(ops.sqrt(ops.stop_gradient(x)), pull, x)


def _of_one_head(initializer):
    """An initialiser of a kernel [heads, inputs, outputs]: it counts those of a head, and draws anew for each gate."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    varies = isinstance(initializer, keras.initializers.VarianceScaling)
    counted = {"input_axes": [1], "output_axes": [2]} if varies else {}
    return type(initializer).from_config(initializer.get_config() | counted)
