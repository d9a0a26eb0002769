"""The diagonal state space S4D: of each channel a small one of its own."""

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
from .recurrence import Recurrence
from .state_space import DISCRETIZATIONS, discretize, product, steps_of_time
from .time_invariant import time_invariant


@register
class S4D(Recurrence):
    """Linear filter of each channel by a diagonal state space with learned poles.  [B, T, C] -> [B, T, C].

    y = 2 Re(c . h) + d x with h' = a h + x, complex, in `state_dim` / 2 pairs of conjugates, discretised with the
    channel's own time between steps. Re a = -exp(`a_log`), so that it is stable. Whole sequences and chunks of a stream
    are matrix products, in float32 at least. Mask: unchanged; an invalid step leaves the state untouched. Timing: none;
    depends on the whole past.  Source: Gu et al., 2022, "On the Parameterization and Initialization of Diagonal State
    Space Models".

    Args:
        state_dim: states of a channel, counting both of each pair of conjugates.
        a_initialization: the poles at the start, of `"lin"` -1/2 + i pi n, of `"inv"` the paper's inverse law.
        discretization: `"zoh"`, for inputs that are held from step to step, or `"bilinear"`.
        dt_min, dt_max: between which the times between steps are at the start, uniform in the logarithm.

    Raises:
        ValueError: `state_dim` that is not even and positive, another initialisation or discretisation, times that are
            not positive and in order.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.S4D(state_dim=8)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 4)
    """

    input_rank: int | None = 3
    state_dim: int
    log_dt: Any
    a_log: Any
    a_imag: Any
    c: Any
    d: Any

    def __init__(
        self,
        state_dim: int = 64,
        a_initialization: Literal["lin", "inv"] = "lin",
        discretization: Literal["zoh", "bilinear"] = "zoh",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.state_dim = as_size("state_dim", state_dim)
        if self.state_dim % 2:
            raise ValueError(f"`state_dim` must be even, for pairs of conjugates; received {state_dim}")
        check_choice("a_initialization", a_initialization, ("lin", "inv"))
        check_choice("discretization", discretization, DISCRETIZATIONS)
        steps_of_time(dt_min, dt_max)

    def build(self, input_shape: Shape) -> None:
        channels, pairs = input_shape[-1], self.state_dim // 2
        n = np.arange(pairs)
        size = self.state_dim
        angles = math.pi * n if self.a_initialization == "lin" else size / math.pi * (size / (2 * n + 1) - 1)

        def poles(shape, dtype=None):
            return ops.convert_to_tensor(np.tile(angles, (channels, 1)), dtype=dtype or "float32")

        def add(name, shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

        self.log_dt = add("log_dt", (channels,), steps_of_time(self.dt_min, self.dt_max))
        self.a_log = add("a_log", (channels, pairs), keras.initializers.Constant(math.log(0.5)))
        self.a_imag = add("a_imag", (channels, pairs), poles)
        # Complex numbers of variance 1.
        self.c = add("c", (channels, pairs, 2), keras.initializers.RandomNormal(stddev=math.sqrt(0.5)))
        self.d = add("d", (channels,), keras.initializers.RandomNormal(stddev=1.0))

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        shape = batch_size, input_spec.shape[-1], self.state_dim // 2
        dtype = real_dtype(self.compute_dtype)
        return {"real": ops.zeros(shape, dtype=dtype), "imaginary": ops.zeros(shape, dtype=dtype)}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        dtype = real_dtype(self.compute_dtype)
        values = ops.cast(x.values, dtype)
        log_dt, a_log, a_imag, c, d = (
            ops.cast(weight, dtype) for weight in (self.log_dt, self.a_log, self.a_imag, self.c, self.d)
        )
        a, b = discretize(self.discretization, (-ops.exp(a_log), a_imag), ops.exp(log_dt)[:, None])
        weights = product((2 * c[..., 0], 2 * c[..., 1]), b)
        y, (real, imaginary) = time_invariant(a, weights, values, (state["real"], state["imaginary"]), x.mask)
        y = ops.cast(y + d * values, self.compute_dtype)
        return Sequence(y, x.mask).mask_invalid(), {"real": real, "imaginary": imaginary}

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"state_dim": 4, "dt_min": 0.1, "dt_max": 0.5}),
            Example({"state_dim": 4, "a_initialization": "inv", "discretization": "bilinear", "dt_min": 0.1}),
        ]
