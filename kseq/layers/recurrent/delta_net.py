"""Linear attention by the delta rule: what is written under a key takes the place of what was there."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from .linear_attention import LinearAttention
from .mamba import initial_decay_log, initial_dt_bias
from .matrix_products import scan_delta
from .mixers import where_valid
from .short_convolution import initial_window, short_convolution


@register
class GatedDeltaNet(LinearAttention):
    """The gated delta rule, the mixer of Gated DeltaNet.  [B, T, C] -> [B, T, C].

    Queries, keys and values are projected, convolved over the last steps and passed through swish; queries and keys
    then have length one. At each step a head's matrix decays, by `exp(-exp(A_log) * softplus(...))`, and of what it
    holds under the key a part, `sigmoid(...)`, is replaced by the value. What the query reads is normalised by its mean
    square, multiplied by a swish gate, and all heads are projected.

    Mask: unchanged; an invalid step leaves the state untouched, wherever it stands. Timing: none; depends on the whole
    past. State: a matrix for each head, [B, num_heads, key_dim, value_dim], in float32 at least, and the steps that the
    convolution still needs. Whole sequences and chunks are computed in parallel.
    Source: Yang, Kautz and Hatamizadeh, 2024, "Gated Delta Networks: Improving Mamba2 with Delta Rule".

    Args:
        num_heads: matrices.
        key_dim: of the queries and keys of a head.
        value_dim: of the values of a head, by default twice as many, as in the source.
        kernel_size: steps that the convolution sees.
        epsilon: added to the mean square that heads are normalised by.
        kernel_initializer, kernel_regularizer, kernel_constraint: of all projections, as in Keras.

    Raises:
        ValueError: sizes below 1, or an `epsilon` that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GatedDeltaNet(num_heads=2, key_dim=4)(np.zeros((1, 7, 8), "float32")).shape
        (1, 7, 8)
    """

    kernel_size: int

    conv_kernel: Any
    decay_kernel: Any
    dt_bias: Any
    A_log: Any
    beta_kernel: Any
    norm_scale: Any

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        kernel_size: int = 4,
        epsilon: float = 1e-5,
        kernel_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.read_heads()
        self.kernel_size = as_size("kernel_size", kernel_size)

    @property
    def _convolved(self) -> int:
        return self.num_heads * (2 * self.key_dim + self._value_dim)

    def build(self, input_shape: Shape) -> None:
        channels, bound = input_shape[-1], self.kernel_size**-0.5
        self.build_projections(channels)
        self.conv_kernel = self.add_parameter(
            "conv_kernel",
            (self.kernel_size, self._convolved),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.decay_kernel = self.add_kernel("decay_kernel", channels, self.num_heads)
        self.dt_bias = self.add_wide("dt_bias", (self.num_heads,), initial_dt_bias)
        self.A_log = self.add_wide("A_log", (self.num_heads,), initial_decay_log)
        self.beta_kernel = self.add_kernel("beta_kernel", channels, self.num_heads)
        self.norm_scale = self.add_wide("norm_scale", (self._value_dim,), "ones")

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        window = initial_window(batch_size, self.kernel_size, self._convolved, self.compute_dtype)
        return super().initial_state(batch_size, input_spec) | {"conv": window}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        kernels = self.query_kernel, self.key_kernel, self.value_kernel
        mixed = ops.concatenate([self.project(x.values, kernel) for kernel in kernels], axis=-1)
        mixed, window = short_convolution(mixed, x.mask, state["conv"], self.weight(self.conv_kernel))
        mixed, keys = ops.silu(mixed), self.num_heads * self.key_dim
        parts = mixed[..., :keys], mixed[..., keys : 2 * keys], mixed[..., 2 * keys :]
        q, k, v = (self.by_heads(part, self.num_heads) for part in parts)
        q, k = unit_length(q) * self.key_dim**-0.5, where_valid(x.mask, unit_length(k))
        dt = ops.softplus(self.wide(self.project(x.values, self.decay_kernel)) + self.wide(self.dt_bias))
        log_decay = where_valid(x.mask, -ops.exp(self.wide(self.A_log)) * dt)
        beta = ops.sigmoid(self.wide(self.project(x.values, self.beta_kernel)))
        y, matrix = scan_delta(q, k, v, beta, log_decay, state["matrix"])
        y = self.joined(self.unit_mean_square(y) * self.wide(self.norm_scale))
        y = y * ops.silu(self.wide(self.project(x.values, self.gate_kernel)))
        return Sequence(self.project(y, self.out_kernel), x.mask), {"conv": window, "matrix": matrix}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"num_heads": 2, "key_dim": 2, "epsilon": 1e-2}),
            Example({"num_heads": 1, "key_dim": 3, "value_dim": 2, "kernel_size": 2, "epsilon": 1e-2}),
        ]


def unit_length(values: Any) -> Any:
    """Values whose squares sum up to one over the last axis."""
    return values * ops.rsqrt(ops.sum(ops.square(values), axis=-1, keepdims=True) + 1e-6)
