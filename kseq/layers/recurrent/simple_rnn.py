"""SimpleRNN."""

from typing import Unpack

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RecurrentOptions, RegularizerLike
from ...registry import register
from ..base import Example
from .base import Recurrent
from .cells import SimpleCell


@register
class SimpleRNN(Recurrent):
    """A recurrence without gates; gives its output at every step.  [B, T, C] -> [B, T, units].

    Mask: unchanged; an invalid step leaves the state untouched. Timing: none; depends on the whole past. The weights
    are those of `keras.layers.SimpleRNN`.  Source: Elman, 1990, "Finding Structure in Time"; zoneout: Krueger et al.,
    2016, "Zoneout".

    Args:
        units: size of the hidden state.
        activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        dropout: fraction of the input's channels set to zero while training, the same ones at every step of a call.
        recurrent_dropout: the same of the hidden state before its product.
        seed: seed of the random numbers.
        zoneout: fraction of the state's values that stay what they were while training, chosen anew at every step;
            otherwise so much of the old value is in every new one. The output is that before zoneout.

    Raises:
        ValueError: `units` below 1, a fraction outside 0 to 1, or another of Keras's arguments with a value that does
            not stream.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SimpleRNN(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    kernels = 1

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        zoneout: float = 0.0,
        **kwargs: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.prepare()
        self.set_cell(SimpleCell, self.activation)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"units": 3}), Example({"units": 3, "activation": "softsign", "use_bias": False})]
