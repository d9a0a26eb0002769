"""Linear attention that forgets: of a head's speed, or of gates that read the input."""

import math
from typing import Any, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_number, as_size
from ...padding import valid_so_far
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..rotary import rotate_at
from .matrix_products import scan_decayed
from .mixers import MatrixMixer, where_valid


class LinearAttention(MatrixMixer):
    """Heads whose queries read a matrix of what keys wrote, normalised each by itself, times a gate, and projected."""

    num_heads: int
    key_dim: int
    value_dim: Any
    query_kernel: Any
    key_kernel: Any
    value_kernel: Any
    gate_kernel: Any
    out_kernel: Any

    def read_heads(self) -> None:
        """Check what all constructors take."""
        self.read_epsilon()
        self.num_heads, self.key_dim = as_size("num_heads", self.num_heads), as_size("key_dim", self.key_dim)
        if self.value_dim is not None:
            self.value_dim = as_size("value_dim", self.value_dim)

    @property
    def _value_dim(self) -> int:
        return 2 * self.key_dim if self.value_dim is None else self.value_dim

    def build_projections(self, channels: int) -> None:
        """Add the weights that all of them have."""
        keys, values = self.num_heads * self.key_dim, self.num_heads * self._value_dim
        self.query_kernel = self.add_kernel("query_kernel", channels, keys)
        self.key_kernel = self.add_kernel("key_kernel", channels, keys)
        self.value_kernel = self.add_kernel("value_kernel", channels, values)
        self.gate_kernel = self.add_kernel("gate_kernel", channels, values)
        self.out_kernel = self.add_kernel("out_kernel", values, channels)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        shape = (batch_size, self.num_heads, self.key_dim, self._value_dim)
        return {"matrix": ops.zeros(shape, dtype=self.wide_dtype)}

    def heads_of(self, values: Any) -> tuple[Any, Any, Any]:
        """Queries, scaled keys and values [B, T, H, D]."""
        kernels = self.query_kernel, self.key_kernel, self.value_kernel
        q, k, v = (self.by_heads(self.project(values, kernel), self.num_heads) for kernel in kernels)
        return q, k * self.key_dim**-0.5, v


@register
class Retention(LinearAttention):
    """Multi-scale retention, the mixer of RetNet.  [B, T, C] -> [B, T, C].

    Heads write keys and values into a matrix each, and read it by queries; head `h` forgets `2 ** (-5 - h)` of it at
    every step. Queries and keys are rotated by the position, as in xPos. Each head is normalised, multiplied by a
    swish gate, and all are projected.

    Mask: unchanged; an invalid step leaves the state untouched, wherever it stands, and is not counted by positions.
    Timing: none; depends on the whole past. State: a matrix for each head, [B, num_heads, key_dim, value_dim], in
    float32 at least, and the position of the next step. Whole sequences and chunks are computed in parallel.
    Source: Sun et al., 2023, "Retentive Network: A Successor to Transformer for Large Language Models".

    Args:
        num_heads: matrices.
        key_dim: of the queries and keys of a head, even.
        value_dim: of the values of a head, by default twice as many, as in the source.
        epsilon: added to the variance that heads are normalised by.
        kernel_initializer, kernel_regularizer, kernel_constraint: of all projections, as in Keras.

    Raises:
        ValueError: sizes below 1, an odd `key_dim`, or an `epsilon` that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Retention(num_heads=2, key_dim=4)(np.zeros((1, 7, 8), "float32")).shape
        (1, 7, 8)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        epsilon: float = 1e-6,
        kernel_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.read_heads()
        if self.key_dim % 2:
            raise ValueError(f"`key_dim` must be even, since pairs of channels are rotated; received {key_dim}")

    def build(self, input_shape: Shape) -> None:
        self.build_projections(input_shape[-1])

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        return super().initial_state(batch_size, input_spec) | {"position": ops.zeros((batch_size,), dtype="int32")}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        q, k, v = self.heads_of(x.values)
        mask = x.with_mask().mask
        valid, count = ops.cast(mask, "int32"), state["position"][:, None] + valid_so_far(mask)
        pairs = self.key_dim // 2
        turning = [10000 ** (-i / max(pairs - 1, 1)) for i in range(pairs)]  # radians a step
        q, k = (rotate_at(each, count - 1, turning) for each in (q, k))
        kept = [math.log1p(-(2.0 ** (-5 - head))) for head in range(self.num_heads)]
        log_decay = self.wide(valid)[..., None] * ops.convert_to_tensor(kept, dtype=self.wide_dtype)
        y, matrix = scan_decayed(q, where_valid(x.mask, k), v, log_decay, state["matrix"])
        y = self.joined(self.unit_variance(y)) * ops.silu(self.wide(self.project(x.values, self.gate_kernel)))
        return Sequence(self.project(y, self.out_kernel), x.mask), {"matrix": matrix, "position": count[:, -1]}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"num_heads": 2, "key_dim": 2, "epsilon": 1e-2}),
            Example({"num_heads": 1, "key_dim": 4, "value_dim": 3, "epsilon": 1e-2}),
        ]


@register
class GatedLinearAttention(LinearAttention):
    """Gated linear attention, the mixer of GLA.  [B, T, C] -> [B, T, C].

    Heads write keys and values into a matrix each, and read it by queries. What each row of it keeps at a step is a
    gate that reads the input by two narrow projections: `sigmoid(...) ** (1 / gate_temperature)`. Each head is
    normalised by its mean square, multiplied by a swish gate, and all are projected.

    Mask: unchanged; an invalid step leaves the state untouched, wherever it stands. Timing: none; depends on the whole
    past. State: a matrix for each head, [B, num_heads, key_dim, value_dim], in float32 at least. Whole sequences and
    chunks are computed in parallel, exactly, however much is forgotten.
    Source: Yang et al., 2023, "Gated Linear Attention Transformers with Hardware-Efficient Training".

    Args:
        num_heads: matrices.
        key_dim: of the queries and keys of a head.
        value_dim: of the values of a head, by default twice as many, as in the source.
        gate_rank: channels between the two projections of the gate of rows.
        gate_temperature: the larger, the more is kept.
        epsilon: added to the mean square that heads are normalised by.
        kernel_initializer, kernel_regularizer, kernel_constraint: of all projections, as in Keras.

    Raises:
        ValueError: sizes below 1, a temperature or an `epsilon` that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GatedLinearAttention(num_heads=2, key_dim=4)(np.zeros((1, 7, 8), "float32")).shape
        (1, 7, 8)
    """

    gate_rank: int
    gate_temperature: float

    decay_kernel_in: Any
    decay_kernel_out: Any
    decay_bias: Any
    gate_bias: Any
    norm_scale: Any

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        gate_rank: int = 16,
        gate_temperature: float = 16.0,
        epsilon: float = 1e-5,
        kernel_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.read_heads()
        self.gate_rank = as_size("gate_rank", gate_rank)
        self.gate_temperature = as_number("gate_temperature", gate_temperature, "positive", lambda value: value > 0)

    def build(self, input_shape: Shape) -> None:
        channels, keys = input_shape[-1], self.num_heads * self.key_dim
        self.build_projections(channels)
        self.decay_kernel_in = self.add_kernel("decay_kernel_in", channels, self.gate_rank)
        self.decay_kernel_out = self.add_kernel("decay_kernel_out", self.gate_rank, keys)
        self.decay_bias = self.add_parameter("decay_bias", (keys,), initializer="zeros")
        self.gate_bias = self.add_parameter("gate_bias", (self.num_heads * self._value_dim,), initializer="zeros")
        self.norm_scale = self.add_wide("norm_scale", (self._value_dim,), "ones")

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        q, k, v = self.heads_of(x.values)
        decay = self.project(self.project(x.values, self.decay_kernel_in), self.decay_kernel_out, self.decay_bias)
        log_decay = -ops.softplus(-self.by_heads(decay, self.num_heads)) / self.gate_temperature
        k, log_decay = where_valid(x.mask, k), where_valid(x.mask, log_decay)
        y, matrix = scan_decayed(q, k, v, log_decay, state["matrix"])
        gate = ops.silu(self.wide(self.project(x.values, self.gate_kernel, self.gate_bias)))
        y = self.joined(self.unit_mean_square(y) * self.wide(self.norm_scale)) * gate
        return Sequence(self.project(y, self.out_kernel), x.mask), {"matrix": matrix}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"num_heads": 2, "key_dim": 2, "gate_rank": 2, "epsilon": 1e-2}),
            Example({"num_heads": 1, "key_dim": 3, "value_dim": 2, "gate_temperature": 1.0, "epsilon": 1e-2}),
        ]
