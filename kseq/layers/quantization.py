"""Weights in int8: `model.quantize("int8")` makes of `Dense` and `Embedding` what it makes of Keras's."""

from typing import Any

import keras
from keras import ops


class Int8Weight(keras.layers.Layer):
    """A layer whose large weight may be int8, by `quantize`, or from the start by the dtype policy.

    The weight `name` then has beside it `NAME_scale`, which it is divided by, and is not trained. Numbers, names and
    order of the weights are those of the Keras layer of the same name.

    Attributes:
        int8_weight: the name of the weight, and the axis that shares a scale.
    """

    int8_weight: tuple[str, int]

    def add_int8_weight(self, shape: Any) -> None:
        """Add the weight: of floats, or of the dtype policy's int8."""
        name, _ = self.int8_weight
        if self.quantization_mode is None:
            setattr(self, name, self.add_parameter(name, shape))
        else:
            self._check_mode(self.quantization_mode)
            self._add_int8(shape)

    def _add_int8(self, shape):
        name, axis = self.int8_weight
        options: dict[str, Any] = {"trainable": False}
        scales = tuple(size for i, size in enumerate(shape) if i != axis % len(shape))
        setattr(self, name, self.add_weight(name=name, shape=shape, initializer="zeros", dtype="int8", **options))
        scale = self.add_weight(name=f"{name}_scale", shape=scales, initializer="ones", **options)
        setattr(self, f"{name}_scale", scale)

    def quantize(self, mode: Any = None, type_check: Any = True, config: Any = None) -> None:
        """Make the weight int8; a layer whose weight is stays as it is.

        Raises:
            NotImplementedError: another mode, quantisers of inputs other than the usual one, or a subclass, which may
                use the weight in its own way.
        """
        if type_check and "int8_weight" not in vars(type(self)):
            raise NotImplementedError(f"{self._named} is of a subclass, which `quantize` does not know")
        self._check_mode(mode)
        if config is not None and _config(config.activation_quantizer) != _config(keras.quantizers.AbsMaxQuantizer()):
            raise NotImplementedError(
                f"{self._named} quantises its inputs by an AbsMaxQuantizer(); received {config.activation_quantizer!r}"
            )
        name, axis = self.int8_weight
        weight = getattr(self, name)
        if _is_int8(weight):
            return
        default = keras.quantizers.AbsMaxQuantizer(axis=axis)
        quantizer = keras.quantizers.QuantizationConfig.weight_quantizer_or_default(config, default)
        values, scale = quantizer(weight, to_numpy=True)
        delattr(self, name)
        self._add_int8(tuple(weight.shape))
        getattr(self, name).assign(values)
        getattr(self, f"{name}_scale").assign(ops.squeeze(scale, axis=axis))
        if self.quantization_mode is None:  # else it is a built layer that was given such a policy
            layer: keras.layers.Layer = self
            layer.dtype_policy = keras.dtype_policies.get(f"{mode}_from_{self.dtype_policy.name}")

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)  # which looks at the weight

    def _check_mode(self, mode):
        if mode != "int8":
            raise NotImplementedError(f"{self._named} can be quantised to int8; received mode {mode!r}")


def int8_matmul(x: Any, kernel: Any, scale: Any) -> Any:
    """x [..., C] times kernel / scale, int8 [C, units] and [units]: x is int8 meanwhile, by a scale of each row."""

    def with_gradient(x, kernel, scale):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return ops.matmul(upstream, ops.transpose(ops.cast(kernel, x.dtype) / scale)), None, None

        rows, row_scale = keras.quantizers.AbsMaxQuantizer()(x, axis=-1)
        return ops.cast(ops.matmul(rows, kernel), x.dtype) / (scale * row_scale), gradient

    return ops.custom_gradient(with_gradient)(x, ops.convert_to_tensor(kernel), scale)


def int8_rows(indices: Any, weight: Any, scale: Any) -> Any:
    """Rows of weight / scale, int8 [N, C] and [N], at indices [...]: floats [..., C]."""
    scale = ops.take(scale, indices, axis=0)
    return ops.cast(ops.take(weight, indices, axis=0), scale.dtype) / ops.expand_dims(scale, -1)


def _is_int8(weight):
    return keras.backend.standardize_dtype(weight.dtype) == "int8"


def _config(quantizer):
    return None if quantizer is None else (type(quantizer), quantizer.get_config())
