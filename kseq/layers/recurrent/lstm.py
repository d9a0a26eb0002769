"""LSTM."""

from typing import Any, Unpack

from ...annotations import ActivationLike, ConstraintLike, GatedOptions, InitializerLike, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ..base import Example
from .base import with_forget_bias
from .cells import LSTMCell
from .fused import UseCudnn
from .gated import Gated
from .variants import ExtendedLSTMCell


@register
class LSTM(Gated):
    """Long short-term memory; gives its output at every step.  [B, T, C] -> [B, T, units].

    Mask: unchanged; an invalid step leaves the state untouched. Timing: none; depends on the whole past. The weights
    are those of `keras.layers.LSTM` (gates in the order input, forget, candidate, output), and after them those of what
    Keras's has not: gains `kernel_gamma`, `recurrent_gamma`, `cell_gamma` and an offset `cell_beta`,
    `peephole_kernel` [3, units] (of input, forget and output gate), `projection_kernel` [units, projection_units].
    Source: Hochreiter and Schmidhuber, 1997, "Long Short-Term Memory"; the projection: Sak et al., 2014, "Long
    Short-Term Memory Recurrent Neural Network Architectures"; peepholes: Gers and Schmidhuber, 2000, "Recurrent Nets
    that Time and Count"; normalisation: Ba et al., 2016, "Layer Normalization"; zoneout: Krueger et al., 2016,
    "Zoneout".

    Args:
        units: size of the cell's state, and of the output where it is not projected.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        unit_forget_bias: start the forget gate's bias at 1.
        dropout: fraction of the input's channels set to zero while training, the same ones at every step of a call.
        recurrent_dropout: the same of the hidden state before its product, for all gates alike.
        seed: seed of the random numbers.
        projection_units: size of the output and of what goes back, a linear map of the hidden state.
        use_peephole: whether gates read the cell's state, too: input and forget gate the old one, the output gate the
            new one.
        use_layer_norm: whether both products, and the cell's state before the output gate, are normalised.
        zoneout: fraction of the state's values that stay what they were while training, chosen anew at every step;
            otherwise so much of the old value is in every new one. The output is that before zoneout.
        use_cudnn: whether whole sequences run in the backend's fused kernel: "auto" where there is one for this
            configuration on this device and invalid steps are at the ends of rows alone, `True` with an error where
            there is none, `False` never. The numbers are the same.

    Raises:
        ValueError: `units` or `projection_units` below 1, a fraction outside 0 to 1, `use_cudnn=True` where there is no
            such kernel, or another of Keras's arguments with a value that does not stream.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.LSTM(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    cell_gamma: Any
    cell_beta: Any
    peephole_kernel: Any
    projection_kernel: Any

    kernels = 4
    projection_units: int | None

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        projection_units: int | None = None,
        use_peephole: bool = False,
        use_layer_norm: bool = False,
        zoneout: float = 0.0,
        use_cudnn: UseCudnn = "auto",
        **kwargs: Unpack[GatedOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if projection_units is not None:
            self.projection_units = as_size("projection_units", projection_units)
        self.prepare()
        functions = self.activation, self.recurrent_activation
        if self.is_plain:
            self.set_cell(LSTMCell, *functions)
        else:
            self.set_cell(ExtendedLSTMCell, *functions, projection_units=self.projection_units)

    @property
    def is_plain(self) -> bool:
        return not (self.projection_units or self.use_peephole or self.use_layer_norm)

    @property
    def initial_bias(self) -> Any:
        return with_forget_bias(self.bias_initializer, self.units) if self.unit_forget_bias else self.bias_initializer

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.use_layer_norm:
            self.cell_gamma = self.add_parameter("cell_gamma", (self.units,), initializer="ones")
            self.cell_beta = self.add_parameter("cell_beta", (self.units,), initializer="zeros")
        if self.use_peephole:
            self.peephole_kernel = self.add_parameter("peephole_kernel", (3, self.units), "kernel")
        if self.projection_units is not None:
            shape = (self.units, self.projection_units)
            self.projection_kernel = self.add_parameter("projection_kernel", shape, "kernel")

    def weights_by_name(self) -> dict[str, Any]:
        found = super().weights_by_name()
        for name in ("cell_gamma", "cell_beta", "peephole_kernel", "projection_kernel"):
            if hasattr(self, name):
                found[name] = self.weight(getattr(self, name))
        return found

    @classmethod
    def examples(cls) -> list[Example]:
        extended = {"units": 3, "projection_units": 2, "use_peephole": True, "use_layer_norm": True, "zoneout": 0.1}
        return [
            Example({"units": 3}),
            Example({"units": 2, "activation": "softsign", "use_bias": False}),
            Example(extended),
        ]
