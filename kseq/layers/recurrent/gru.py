"""GRU."""

from typing import Any, Unpack

from ...annotations import ActivationLike, ConstraintLike, GatedOptions, InitializerLike, RegularizerLike, Shape
from ...registry import register
from ..base import Example
from .cells import GRUCell
from .fused import UseCudnn
from .gated import Gated
from .variants import ExtendedGRUCell


@register
class GRU(Gated):
    """Gated recurrent unit; gives its output at every step.  [B, T, C] -> [B, T, units].

    Mask: unchanged; an invalid step leaves the state untouched. Timing: none; depends on the whole past. The weights
    are those of `keras.layers.GRU` (gates in the order update, reset, candidate; two rows of bias, or one where the
    reset gate comes before the product), and after them the gains `kernel_gamma` and `recurrent_gamma` of
    normalisation.  Source: Cho et al., 2014, "Learning Phrase Representations"; normalisation: Ba et al., 2016, "Layer
    Normalization"; zoneout: Krueger et al., 2016, "Zoneout".

    Args:
        units: size of the hidden state.
        activation, recurrent_activation, use_bias, the initializers, regularizers and constraints: as in Keras.
        dropout: fraction of the input's channels set to zero while training, the same ones at every step of a call.
        recurrent_dropout: the same of the hidden state before its product, for all gates alike.
        seed: seed of the random numbers.
        reset_after: whether the reset gate is applied after the matrix product or, as in the source, before it. The
            latter trains more slowly.
        use_layer_norm: whether the products are normalised, those of both gates together and those of the candidate.
        zoneout: fraction of the state's values that stay what they were while training, chosen anew at every step;
            otherwise so much of the old value is in every new one. The output is that before zoneout.
        use_cudnn: whether whole sequences run in the backend's fused kernel: "auto" where there is one for this
            configuration on this device and invalid steps are at the ends of rows alone, `True` with an error where
            there is none, `False` never. The numbers are the same.

    Raises:
        ValueError: `units` below 1, a fraction outside 0 to 1, `use_cudnn=True` where there is no such kernel, or
            another of Keras's arguments with a value that does not stream.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GRU(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    kernels = 3

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid",
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
        reset_after: bool = True,
        use_layer_norm: bool = False,
        zoneout: float = 0.0,
        use_cudnn: UseCudnn = "auto",
        **kwargs: Unpack[GatedOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.prepare()
        functions = self.activation, self.recurrent_activation
        if self.is_plain:
            self.set_cell(GRUCell, *functions)
        else:
            self.set_cell(ExtendedGRUCell, *functions, reset_after=self.reset_after)

    @property
    def is_plain(self) -> bool:
        return self.reset_after and not self.use_layer_norm

    @property
    def bias_shape(self) -> Shape:
        return (2, self.kernels * self.units) if self.reset_after else super().bias_shape

    def weights_by_name(self) -> dict[str, Any]:
        found = super().weights_by_name()
        if self.reset_after and "bias" in found:
            found["bias"], found["recurrent_bias"] = found["bias"][0], found["bias"][1]
        return found

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"units": 3}),
            Example({"units": 2, "reset_after": False, "dropout": 0.5, "seed": 1}),
            Example({"units": 3, "use_layer_norm": True, "zoneout": 0.2}),
        ]
