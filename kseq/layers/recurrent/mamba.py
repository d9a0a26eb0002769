"""Selective state spaces."""

import math
from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from .matrix_products import scan_decayed
from .mixers import MatrixMixer, where_valid
from .short_convolution import initial_window, short_convolution


@register
class Mamba2(MatrixMixer):
    """Selective state space, the mixer of Mamba-2.  [B, T, C] -> [B, T, C].

    The input is projected to a gate, to values, to what is written and read (`B` and `C` of the source, shared by the
    heads of a group) and to a time step for each head; all but the gate and the time steps pass a causal convolution of
    each channel. A head's state decays by `exp(-exp(A_log) * dt)` and takes in `dt` times its values. What is read,
    plus `D` times the values, is multiplied by the gate, normalised and projected.

    Mask: unchanged; an invalid step leaves the state untouched, wherever it stands. Timing: none; depends on the whole
    past. State: the matrices in float32 at least, [B, heads, state_dim, head_dim], and the steps that the convolution
    still needs. Whole sequences and chunks are computed in parallel.
    Source: Dao and Gu, 2024, "Transformers are SSMs".

    Args:
        state_dim: rows of each head's state.
        head_dim: values of each head.
        expand: values of all heads together, in multiples of the input's channels.
        num_groups: groups of heads that read and write alike, and are normalised together.
        kernel_size: steps that the convolution sees.
        epsilon: added to the mean square that is normalised by.
        kernel_initializer, kernel_regularizer, kernel_constraint: of both projections, as in Keras.

    Raises:
        ValueError: sizes below 1; values that are no whole number of heads, or heads that are none of groups; an
            `epsilon` that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Mamba2(state_dim=16, head_dim=4)(np.zeros((1, 7, 8), "float32")).shape
        (1, 7, 8)
    """

    in_kernel: Any
    conv_kernel: Any
    conv_bias: Any
    dt_bias: Any
    A_log: Any
    D: Any
    norm_scale: Any
    out_kernel: Any

    def __init__(
        self,
        state_dim: int = 128,
        head_dim: int = 64,
        expand: int = 2,
        num_groups: int = 1,
        kernel_size: int = 4,
        epsilon: float = 1e-5,
        kernel_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.read_epsilon()
        for name in ("state_dim", "head_dim", "expand", "num_groups", "kernel_size"):
            setattr(self, name, as_size(name, getattr(self, name)))

    def _sizes(self, channels):
        """Values of all heads, heads, and channels that are convolved."""
        inner = self.expand * channels
        heads, rest = divmod(inner, self.head_dim)
        if rest or heads % self.num_groups:
            raise ValueError(
                f"{self._named} needs `expand` (={self.expand}) times {channels} channels to be a multiple of "
                f"`head_dim` (={self.head_dim}), and so many heads to be a multiple of `num_groups` "
                f"(={self.num_groups}); received {inner} and {inner / self.head_dim:g}"
            )
        return inner, heads, inner + 2 * self.num_groups * self.state_dim

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        inner, heads, convolved = self._sizes(channels)
        bound = self.kernel_size**-0.5
        self.in_kernel = self.add_kernel("in_kernel", channels, inner + convolved + heads)
        self.conv_kernel = self.add_parameter(
            "conv_kernel",
            (self.kernel_size, convolved),
            initializer=keras.initializers.RandomUniform(-bound, bound),
        )
        self.conv_bias = self.add_parameter("conv_bias", (convolved,), initializer="zeros")
        self.dt_bias = self.add_wide("dt_bias", (heads,), initial_dt_bias)
        self.A_log = self.add_wide("A_log", (heads,), initial_decay_log)
        self.D = self.add_wide("D", (heads,), "ones")
        self.norm_scale = self.add_wide("norm_scale", (inner,), "ones")
        self.out_kernel = self.add_kernel("out_kernel", inner, channels)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        _, heads, convolved = self._sizes(input_spec.shape[-1])
        return {
            "conv": initial_window(batch_size, self.kernel_size, convolved, self.compute_dtype),
            "matrix": ops.zeros((batch_size, heads, self.state_dim, self.head_dim), dtype=self.wide_dtype),
        }

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        inner, heads, convolved = self._sizes(x.values.shape[-1])
        projected = self.project(x.values, self.in_kernel)
        gate, mixed, dt = (projected[..., a:b] for a, b in _spans(inner, convolved, heads))
        mixed, window = short_convolution(mixed, x.mask, state["conv"], self.weight(self.conv_kernel))
        mixed = ops.silu(mixed + self.weight(self.conv_bias))
        written = self.num_groups * self.state_dim
        values, keys, queries = (mixed[..., a:b] for a, b in _spans(inner, written, written))
        values = self.by_heads(values, heads)
        keys, queries = self.by_heads(keys, self.num_groups), self.by_heads(queries, self.num_groups)
        dt = where_valid(x.mask, ops.softplus(self.wide(dt) + self.wide(self.dt_bias)))  # of zero: nothing happens
        log_decay = -ops.exp(self.wide(self.A_log)) * dt
        y, matrix = scan_decayed(queries, keys, values * dt[..., None], log_decay, state["matrix"])
        y = self.joined(y + self.wide(self.D)[:, None] * values) * ops.silu(self.wide(gate))
        y = self.joined(self.unit_mean_square(self.by_heads(y, self.num_groups))) * self.wide(self.norm_scale)
        return Sequence(self.project(y, self.out_kernel), x.mask), {"conv": window, "matrix": matrix}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"state_dim": 3, "head_dim": 2}, (4, 12, 3)),
            Example({"state_dim": 2, "head_dim": 2, "num_groups": 2, "kernel_size": 2}, (4, 12, 4)),
        ]


def initial_dt_bias(shape: Any, dtype: Any = None) -> Any:
    """Biases whose `softplus` is a time step, at random from 0.001 to 0.1, of all orders of magnitude alike."""
    low, high = math.log(1e-3), math.log(0.1)
    dt = ops.exp(keras.initializers.RandomUniform(low, high)(shape, dtype="float32"))
    return ops.cast(dt + ops.log(-ops.expm1(-dt)), dtype or "float32")


def initial_decay_log(shape: Any, dtype: Any = None) -> Any:
    """Logarithms of what a state decays by in a time step of one, at random from 1 to 16."""
    return ops.cast(ops.log(keras.initializers.RandomUniform(1.0, 16.0)(shape, dtype="float32")), dtype or "float32")


def _spans(*sizes):
    start = 0
    for size in sizes:
        yield start, start + size
        start += size
