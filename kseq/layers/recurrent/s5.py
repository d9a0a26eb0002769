"""The diagonal state space S5: one for all channels."""

import math
from typing import Any, Literal, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import LayerOptions, Shape
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..complex_values import real_dtype
from .linear_scan import linear_scan
from .recurrence import Recurrence
from .state_space import DISCRETIZATIONS, discretize, product, steps_of_time


@register
class S5(Recurrence):
    """Linear state space with learned diagonal dynamics, of all channels together.  [B, T, C] -> [B, T, C].

    y = 2 Re(C h) + d x with h' = diag(a) h + B x, complex, in `state_dim` / 2 pairs of conjugates, each discretised
    with its own time between steps. At the start the poles and the basis are those of the normal part of HiPPO-LegS, in
    blocks. Whole sequences are one parallel scan, in float32 at least. Mask: unchanged; an invalid step leaves the
    state untouched. Timing: none; depends on the whole past.  Source: Smith, Warrington and Linderman, 2023,
    "Simplified State Space Layers for Sequence Modeling".

    Args:
        state_dim: states, counting both of each pair of conjugates.
        num_blocks: blocks of the HiPPO matrix at the start.
        discretization: `"zoh"`, for inputs that are held from step to step, or `"bilinear"`.
        dt_min, dt_max: between which the times between steps are at the start, uniform in the logarithm.
        clip_eigenvalues: whether real parts of the poles are held at -0.0001 or below, which keeps them stable.

    Raises:
        ValueError: `state_dim` that is not an even multiple of `num_blocks`, another discretisation, times that are not
            positive and in order.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.S5(state_dim=8)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 4)
    """

    num_blocks: int

    input_rank: int | None = 3
    state_dim: int
    log_dt: Any
    a_real: Any
    a_imag: Any
    b: Any
    c: Any
    d: Any

    def __init__(
        self,
        state_dim: int = 64,
        num_blocks: int = 1,
        discretization: Literal["zoh", "bilinear"] = "zoh",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        clip_eigenvalues: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.state_dim, self.num_blocks = as_size("state_dim", state_dim), as_size("num_blocks", num_blocks)
        if self.state_dim % (2 * self.num_blocks):
            raise ValueError(f"`state_dim` (={state_dim}) must be an even multiple of `num_blocks` (={num_blocks})")
        check_choice("discretization", discretization, DISCRETIZATIONS)
        steps_of_time(dt_min, dt_max)

    def build(self, input_shape: Shape) -> None:
        channels, pairs = input_shape[-1], self.state_dim // 2
        poles, basis = _hippo(self.state_dim // self.num_blocks)
        basis = np.kron(np.eye(self.num_blocks), basis)  # [state_dim, pairs]

        def add(name, shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

        def constant(array):
            return lambda shape, dtype=None: ops.convert_to_tensor(array, dtype=dtype or "float32")

        def in_basis(matrix, equation):
            """A real matrix that is drawn, seen in the basis; real and imaginary parts along the last axis."""

            def initializer(shape, dtype=None):
                drawn = keras.initializers.LecunNormal()(matrix, dtype="float32")
                parts = (ops.convert_to_tensor(part, dtype="float32") for part in (basis.real, basis.imag))
                return ops.cast(ops.stack([ops.einsum(equation, drawn, p) for p in parts], axis=-1), dtype or "float32")

            return initializer

        self.log_dt = add("log_dt", (pairs,), steps_of_time(self.dt_min, self.dt_max))
        self.a_real = add("a_real", (pairs,), constant(np.tile(poles.real, self.num_blocks)))
        self.a_imag = add("a_imag", (pairs,), constant(np.tile(poles.imag, self.num_blocks)))
        basis_of_b = in_basis((channels, self.state_dim), "cp,pn->cn")
        self.b = add("b", (channels, pairs, 2), lambda shape, dtype=None: _conjugate(basis_of_b(shape, dtype)))
        self.c = add("c", (pairs, channels, 2), in_basis((self.state_dim, channels), "pc,pn->nc"))
        self.d = add("d", (channels,), keras.initializers.RandomNormal(stddev=1.0))

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        shape, dtype = (batch_size, self.state_dim // 2), real_dtype(self.compute_dtype)
        return {"real": ops.zeros(shape, dtype=dtype), "imaginary": ops.zeros(shape, dtype=dtype)}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        dtype = real_dtype(self.compute_dtype)
        values = ops.cast(x.values, dtype)
        log_dt, real, imaginary, b, c, d = (
            ops.cast(w, dtype) for w in (self.log_dt, self.a_real, self.a_imag, self.b, self.c, self.d)
        )
        if self.clip_eigenvalues:
            real = ops.clip(real, -math.inf, -1e-4)
        a, factor = discretize(self.discretization, (real, imaginary), ops.exp(log_dt))
        b, c = product((b[..., 0], b[..., 1]), factor), (2 * c[..., 0], -2 * c[..., 1])
        driven = ops.einsum("btc,cn->btn", values, ops.concatenate(b, axis=-1))
        pairs = driven[..., : self.state_dim // 2], driven[..., self.state_dim // 2 :]
        h, last = linear_scan(a, pairs, (state["real"], state["imaginary"]), x.mask)
        y = ops.einsum("btn,nc->btc", ops.concatenate(h, axis=-1), ops.concatenate(c, axis=0)) + d * values
        return Sequence(ops.cast(y, self.compute_dtype), x.mask), {"real": last[0], "imaginary": last[1]}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"state_dim": 4, "dt_min": 0.1, "dt_max": 0.5}),
            Example({"state_dim": 8, "num_blocks": 2, "discretization": "bilinear", "dt_min": 0.1}),
        ]


def _conjugate(x):
    return ops.stack([x[..., 0], -x[..., 1]], axis=-1)


def _hippo(size):
    """Poles of the normal part of HiPPO-LegS, one of each pair of conjugates, and their eigenvectors [size, pairs]."""
    root = np.sqrt(2 * np.arange(size) + 1.0)
    matrix = -np.tril(np.outer(root, root)) + np.diag(np.arange(size))
    low_rank = np.sqrt(np.arange(size) + 0.5)
    normal = matrix + np.outer(low_rank, low_rank)  # a multiple of the identity and a skew-symmetric part
    angles, vectors = np.linalg.eigh(-1j * (normal - np.diag(np.diag(normal))))
    half = slice(size // 2, None)  # in ascending order
    return np.mean(np.diag(normal)) + 1j * angles[half], vectors[:, half]
