"""Gated recurrences that are linear in their state, because no gate reads it: minGRU and minLSTM."""

from typing import Any, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..complex_values import real_dtype
from ..float64 import product
from .linear_scan import linear_scan
from .recurrence import Recurrence


class _Minimal(Recurrence):
    """One product of the input, whose parts are gates and a candidate, and the scan of what they say."""

    input_rank: int | None = 3
    parts: int  # of `units` each, the candidate last
    units: int
    kernel: Any
    bias: Any

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_parameter("kernel", (input_shape[-1], self.parts * self.units))
        self.bias = self.add_parameter("bias", (self.parts * self.units,)) if self.use_bias else None

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.units,), self.compute_dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        return {"hidden": ops.zeros((batch_size, self.units), dtype=real_dtype(self.compute_dtype))}

    def weigh(self, gates: Any) -> tuple[Any, Any]:
        """What the old state and the candidate are multiplied by, of the products of the gates."""
        raise NotImplementedError

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        y = product(x.values, self.weight(self.kernel))
        y = ops.cast(y if self.bias is None else y + self.weight(self.bias), real_dtype(self.compute_dtype))
        *gates, candidate = (y[..., i * self.units : (i + 1) * self.units] for i in range(self.parts))
        if self.positive_candidate:
            candidate = ops.where(candidate >= 0, ops.relu(candidate) + 0.5, ops.sigmoid(candidate))
        old, new = self.weigh(gates)
        h, last = linear_scan(old, new * candidate, state["hidden"], x.mask)
        return Sequence(ops.cast(h, self.compute_dtype), x.mask), {"hidden": last}

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"units": 4}), Example({"units": 2, "positive_candidate": False, "use_bias": False})]


@register
class MinGRU(_Minimal):
    """Average of candidates with a gated rate; no gate reads the state.  [B, T, C] -> [B, T, units].

    h[t] = (1 - z[t]) h[t - 1] + z[t] g(c[t]), where a sigmoid gives z and this and c are products of the input, the
    parts of `kernel` in this order, and h before the first step is zero. Whole sequences are one parallel scan; the sum
    is accumulated in float32 at least. Mask: unchanged; an invalid step leaves the state untouched. Timing: none;
    depends on the whole past.  Source: Feng et al., 2024, "Were RNNs All We Needed?".

    Args:
        units: size of the state.
        positive_candidate: whether g(c) is c + 1/2 from zero up and sigmoid(c) below, which keeps the state positive,
            as the paper's form in logarithms has it; else g(c) = c. Neither is computed in logarithms here.
        use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: as in Keras.

    Raises:
        ValueError: `units` below 1.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MinGRU(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    units: int

    parts = 2

    def __init__(
        self,
        units: int,
        positive_candidate: bool = True,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.units = as_size("units", units)

    def weigh(self, gates: Any) -> tuple[Any, Any]:
        (z,) = gates
        return ops.sigmoid(-z), ops.sigmoid(z)


@register
class MinLSTM(_Minimal):
    """Average of candidates by gates that forget and admit; no gate reads the state.  [B, T, C] -> [B, T, units].

    h[t] = f h[t - 1] / (f + i) + i g(c) / (f + i), where sigmoids give f[t] and i[t] and these and c[t] are products of
    the input, the parts of `kernel` in this order, and h before the first step is zero. The quotients are sigmoids of
    the gates' difference in logarithms, so that closed gates divide nothing by zero. Whole sequences are one parallel
    scan; the sum is accumulated in float32 at least. Mask: unchanged; an invalid step leaves the state untouched.
    Timing: none; depends on the whole past.  Source: Feng et al., 2024, "Were RNNs All We Needed?".

    Args:
        units: size of the state.
        positive_candidate: as in `MinGRU`.
        use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: as in Keras.

    Raises:
        ValueError: `units` below 1.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MinLSTM(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    units: int

    parts = 3

    def __init__(
        self,
        units: int,
        positive_candidate: bool = True,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.units = as_size("units", units)

    def weigh(self, gates: Any) -> tuple[Any, Any]:
        f, i = gates
        difference = ops.softplus(-i) - ops.softplus(-f)  # of log f and log i
        return ops.sigmoid(difference), ops.sigmoid(-difference)
