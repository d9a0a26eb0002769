"""Adapters of Keras's layers that treat every step by itself."""

import functools
from typing import Any

import keras

from ...layers.stepwise import is_known, mixes_time
from ...registry import Class, adapts
from .operation import Operation
from .operations import check_axes, keeps_time
from .refusal import Refusal

# Layers whose outputs depend on other steps while they train, or may.
_TRAIN_IN_TIME = (
    keras.layers.BatchNormalization,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.TimeDistributed,
)


@adapts(
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Embedding,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.Lambda,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Masking,
    keras.layers.Normalization,
    keras.layers.RMSNormalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Softmax,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.TimeDistributed,
    keras.layers.UnitNormalization,
)
def stepwise(layer: Any, specs: Any, training: bool = False, **options: Any) -> Any:
    """A layer of one input that works on channels."""
    if isinstance(specs, list):
        raise Refusal("it is called on several tensors", "a layer that merges them, or keras.ops")
    check_axis(layer, specs)
    check_training(layer, training)
    check_function(layer, specs)
    return Operation.of(layer, specs, **({"training": True} if training else {}), **options)


@adapts(keras.layers.EinsumDense)
def einsum_dense(layer: Any, specs: Any, **options: Any) -> Any:
    """A product over channels."""
    if not keeps_time(layer.equation, [2 + len(specs.shape), None]):
        raise ValueError(f"its equation {layer.equation!r} may mix time steps")
    return stepwise(layer, specs, **options)


@adapts(keras.layers.ReversibleEmbedding)
def reversible_embedding(layer: Any, specs: Any, **options: Any) -> Any:
    """An embedding, or a product with its vectors."""
    if layer.mask_zero:
        raise ValueError("with `mask_zero` it makes a mask in its own way; use kseq.ReversibleEmbedding")
    return stepwise(layer, specs, **options)


@adapts(keras.layers.PReLU)
def prelu(layer: Any, specs: Any, **options: Any) -> Any:
    """A learned slope, the same at all steps."""
    if 1 not in (layer.shared_axes or ()):
        raise ValueError("it has a slope for every time step; use shared_axes=[1]")
    return stepwise(layer, specs, **options)


def pointwise(cls: Class) -> Class:
    """Declare that a class of Keras layers treats every time step by itself, so that its layers stream.

    Such a layer is called on chunks in the place of whole sequences: [B, T, ...] -> [B, T, ...], every output made of
    the input of its own step alone, the same at every step. Its mask follows Keras's rule for it.

    Args:
        cls: a class of Keras layers of one input.

    Returns:
        The class.

    Raises:
        TypeError: something else.

    Example:
        >>> import kseq, keras
        >>> @kseq.pointwise
        ... class Doubled(keras.layers.Layer):
        ...     def call(self, x):
        ...         return 2 * x
        >>> model = keras.Sequential([keras.Input((None, 3)), Doubled()])
        >>> kseq.Stream(model).push([[1.0, 2.0, 3.0]]).tolist()
        [[2.0, 4.0, 6.0]]
    """
    adapts(cls)(stepwise)
    return cls


def check_axis(layer: Any, specs: Any) -> None:
    """Refuse a layer that works along batch or time.

    Raises:
        ValueError: an axis that is, counted from either end, batch or time.
    """
    axis = getattr(layer, "axis", ())
    check_axes(axis, 2 + len((specs[0] if isinstance(specs, list) else specs).shape))


def check_function(layer: Any, specs: Any) -> None:
    """Refuse a layer whose function is not Keras's own and mixes time when it is tried.

    Raises:
        ValueError: with what was found.
    """
    activation = getattr(layer, "activation", None)
    is_own = type(layer).call in _calls_of_keras() and not isinstance(layer, keras.layers.Lambda)
    if is_own and (activation is None or (specs.shape and is_known(activation))):
        return
    wanted = Operation.of(layer, specs).output_spec(specs).shape
    why = mixes_time(lambda x: layer(x), [specs.shape], [specs.dtype], wanted)
    if why is not None:
        raise ValueError(f"its function does not treat every step by itself: {why}")


@functools.cache
def _calls_of_keras():
    """What computes Keras's own layers."""
    classes = vars(keras.layers).values()
    return {cls.call for cls in classes if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)}


def check_training(layer: Any, training: bool) -> None:
    """Refuse a layer that is told to train in the model, where it would then mix time.

    Raises:
        ValueError: such a layer.
    """
    if training and (isinstance(layer, _TRAIN_IN_TIME) or getattr(layer, "noise_shape", None) is not None):
        raise ValueError("called with training=True it may mix time steps")
