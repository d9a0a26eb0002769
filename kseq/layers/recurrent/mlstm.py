"""The long short-term memory whose cell is a matrix."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from .matrix_stabilizer import scan_stabilized
from .mixers import MatrixMixer, where_valid


@register
class MLSTM(MatrixMixer):
    """Long short-term memory with a matrix as its cell, the mLSTM of xLSTM.  [B, T, C] -> [B, T, C].

    A head's matrix forgets by `sigmoid(f)` and takes in keys and values by `exp(i)`, two gates that read the input.
    What its query reads is divided by what it reads of the sum of the keys, taken in alike (the normaliser), or by one
    where that is less. Heads are normalised each by itself, multiplied by a sigmoid gate, and projected. Gates may be
    as large as they like: the state is kept divided by an exponential of its `stabilizer`, which is at least zero.

    Mask: unchanged; an invalid step leaves the state untouched, wherever it stands. Timing: none; depends on the whole
    past. State, in float32 at least: a matrix for each head with the normaliser as its last column,
    [B, num_heads, key_dim, value_dim + 1], and the stabilisers [B, num_heads]. Whole sequences and chunks are computed
    in parallel.
    Source: Beck et al., 2024, "xLSTM: Extended Long Short-Term Memory".

    Args:
        num_heads: matrices.
        key_dim: of the queries and keys of a head.
        value_dim: of the values of a head, by default `key_dim`, as in the source.
        use_bias: whether queries, keys, values and the output gate have biases; the gates `i` and `f` have.
        epsilon: added to the variance that heads are normalised by.
        kernel_initializer, kernel_regularizer, kernel_constraint: of all projections, as in Keras.
        bias_initializer: of the biases, but for those of `i` and `f`.

    Raises:
        ValueError: sizes below 1, or an `epsilon` that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MLSTM(num_heads=2, key_dim=4)(np.zeros((1, 7, 8), "float32")).shape
        (1, 7, 8)
    """

    gate_kernel: Any
    gate_bias: Any
    norm_scale: Any
    out_kernel: Any

    num_heads: int
    key_dim: int
    value_dim: Any

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        use_bias: bool = True,
        epsilon: float = 1e-5,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.read_epsilon()
        self.num_heads, self.key_dim = as_size("num_heads", num_heads), as_size("key_dim", key_dim)
        self.value_dim = None if value_dim is None else as_size("value_dim", value_dim)

    @property
    def _value_dim(self) -> int:
        return self.key_dim if self.value_dim is None else self.value_dim

    def build(self, input_shape: Shape) -> None:
        channels, heads = input_shape[-1], self.num_heads
        keys, values = heads * self.key_dim, heads * self._value_dim
        self._projections = {
            name: (self.add_kernel(f"{name}_kernel", channels, size), self._add_bias(f"{name}_bias", size))
            for name, size in (("query", keys), ("key", keys), ("value", values), ("output_gate", values))
        }
        self.gate_kernel = self.add_wide("gate_kernel", (channels, 2 * heads), "zeros")  # input, forget
        self.gate_bias = self.add_wide("gate_bias", (2 * heads,), initial_gate_bias)
        self.norm_scale = self.add_wide("norm_scale", (values,), "ones")
        self.out_kernel = self.add_kernel("out_kernel", values, channels)

    def _add_bias(self, name, size):
        return self.add_parameter(name, (size,), "bias") if self.use_bias else None

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        shape = (batch_size, self.num_heads, self.key_dim, self._value_dim + 1)
        return {
            "matrix": ops.zeros(shape, dtype=self.wide_dtype),
            "stabilizer": ops.zeros(shape[:2], dtype=self.wide_dtype),
        }

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        heads = self.num_heads
        q, k, v, gate = (self.project(x.values, *pair) for pair in self._projections.values())
        q, k, v = (self.by_heads(each, heads) for each in (q, k, v))
        gates = ops.einsum("btc,cg->btg", self.wide(x.values), self.wide(self.gate_kernel)) + self.wide(self.gate_bias)
        k = k * self.key_dim**-0.5
        log_input, log_forget = gates[..., :heads], -ops.softplus(-gates[..., heads:])
        k, log_input, log_forget = (where_valid(x.mask, each) for each in (k, log_input, log_forget))
        y, matrix, stabilizer = scan_stabilized(q, k, v, log_forget, log_input, state["matrix"], state["stabilizer"])
        y = self.joined(self.unit_variance(y)) * self.wide(self.norm_scale) * ops.sigmoid(self.wide(gate))
        return Sequence(self.project(y, self.out_kernel), x.mask), {"matrix": matrix, "stabilizer": stabilizer}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"num_heads": 2, "key_dim": 2, "epsilon": 1e-2}),
            Example({"num_heads": 1, "key_dim": 3, "value_dim": 2, "use_bias": False, "epsilon": 1e-2}),
        ]


def initial_gate_bias(shape: Any, dtype: Any = None) -> Any:
    """Biases of the input gates near zero, and of the forget gates from 3 to 6, so that heads forget unlike."""
    heads = shape[0] // 2
    inputs = keras.initializers.RandomNormal(stddev=0.1)((heads,), dtype="float32")
    return ops.cast(ops.concatenate([inputs, ops.linspace(3.0, 6.0, heads, dtype="float32")]), dtype or "float32")
