"""What LSTM and GRU share: normalisation within the cell, and a backend's fused kernels."""

from typing import Any, ClassVar

import keras
from keras import ops

from ...annotations import Shape
from ...sequence import Sequence
from ..parameters import Only
from . import fused
from .base import FIXED, Recurrent


class Gated(Recurrent):
    """A recurrence with gates, whose whole sequences run in one kernel where there is one that gives the same."""

    kernel_gamma: Any
    recurrent_gamma: Any

    fixed_arguments: ClassVar[dict[str, Only]] = FIXED | {
        "implementation": Only((0, 1, 2), "leave it out, the numbers are the same")
    }
    activation: Any
    recurrent_activation: Any
    use_layer_norm: bool
    use_cudnn: fused.UseCudnn
    _fused: Any = None  # the call of a layer of Keras

    @property
    def is_plain(self) -> bool:
        """Whether the cell is that of Keras's layer of this name, as kernels have it."""
        raise NotImplementedError

    def prepare(self) -> None:
        super().prepare()
        if self.use_cudnn not in ("auto", True, False):
            raise ValueError(f"`use_cudnn` must be 'auto', True or False; received {self.use_cudnn!r}")
        obstacle = self._obstacle
        if self.use_cudnn is True and obstacle is not None:
            raise ValueError(
                f"use_cudnn=True: {type(self).__name__} has no fused kernel {obstacle}; 'auto' uses one where there is"
            )

    @property
    def _obstacle(self):
        """Why there is no kernel for the layer, or `None`."""
        name = type(self).__name__
        usual = (keras.activations.tanh, keras.activations.sigmoid)
        if not self.is_plain or self.recurrent_dropout or self.zoneout:
            return "with these options, only for the cell of Keras's layer without dropout in it"
        if (self.activation, self.recurrent_activation) != usual or not self.use_bias:
            return "but for tanh, sigmoid and a bias"
        if not fused.has_kernel(name):
            return f"for keras.layers.{name} on this device with the {keras.backend.backend()} backend"
        return None

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.use_cudnn and self._obstacle is None:
            self._fused = fused.twin(self)
            if keras.backend.backend() == "tensorflow":
                self.supports_jit = False  # its kernels are not for XLA
        if self.use_layer_norm:
            size = self.kernels * self.units
            self.kernel_gamma = self.add_parameter("kernel_gamma", (size,), initializer="ones")
            self.recurrent_gamma = self.add_parameter("recurrent_gamma", (size,), initializer="ones")

    def weights_by_name(self) -> dict[str, Any]:
        found = super().weights_by_name()
        if self.use_layer_norm:
            found |= {name: self.weight(getattr(self, name)) for name in ("kernel_gamma", "recurrent_gamma")}
        return found

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        if self._fused is None or x.values.shape[1] == 0:
            return super().call_layer(x, training=training)
        if training and self.dropout:
            x, training = x.apply(self._drop), False
        if x.mask is None:
            return x.apply(self._fused)
        # Rows with holes are read step by step: where a step is left out no kernel goes on from the one before.
        values = ops.cond(
            fused.right_padded(x.mask),
            lambda: fused.held(self._fused(x.values), x.mask),
            lambda: super(Gated, self).call_layer(x, training=training).values,
        )
        return Sequence(values, x.mask)
