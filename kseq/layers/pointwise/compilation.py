"""Layers that say something to a backend's compiler, and give their input."""

from typing import Any, Unpack

from ... import hints
from ...annotations import LayerOptions, Shape
from ...registry import register
from ...sequence import Sequence
from ..base import Example
from .base import Unchanged


@register
class ApplySharding(Unchanged):
    """The input, its axes laid along the axes of Keras's device mesh.  [B, T, ...] -> [B, T, ...].

    Where no `keras.distribution` is set it is the identity. Mask: unchanged, and laid like the values. Timing: none.

    Args:
        axes: for batch, time and each channel axis the name of a mesh axis, or `None`; none at all leaves the input as
            it is.

    Raises:
        ValueError: another number of axes than the values have, when the layer is called or a model is made of it.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.ApplySharding(["batch", None, None])(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 1.0]]]
    """

    axes: tuple[str | None, ...] | None

    def __init__(self, axes: tuple[str | None, ...] | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.axes = axes if axes is None else tuple(axes)

    def output_channels(self, channels: Shape) -> Shape:
        rank = 2 + len(channels)
        if self.axes is not None and len(self.axes) != rank:
            raise ValueError(f"`axes` must name one for each of the {rank} axes of the values; received {self.axes}")
        return channels

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        if self.axes is None:
            return x
        self.output_channels(tuple(x.values.shape[2:]))
        mask = None if x.mask is None else hints.sharded(x.mask, self.axes[:2])
        return Sequence(hints.sharded(x.values, self.axes), mask)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axes": ("batch", None, None)}), Example({})]


@register
class OptimizationBarrier(Unchanged):
    """The input, which a compiler computes before what follows.  [B, T, ...] -> [B, T, ...].

    On jax; on other backends it is the identity. Mask: unchanged. Timing: none.

    Args:
        apply_to_mask: whether the mask is computed before, too.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.OptimizationBarrier()(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 1.0]]]
    """

    apply_to_mask: bool

    def __init__(self, apply_to_mask: bool = False, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        both = self.apply_to_mask and x.mask is not None
        return Sequence(*hints.barrier(tuple(x))) if both else x.apply(hints.barrier)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"apply_to_mask": True}), Example({})]


@register
class CheckpointName(Unchanged):
    """The input, which policies of rematerialisation know by a name.  [B, T, ...] -> [B, T, ...].

    On jax; on other backends it is the identity. Mask: unchanged. Timing: none.

    Args:
        checkpoint_name: the name.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.CheckpointName("hidden")(np.ones((1, 1, 2), "float32"))).tolist()
        [[[1.0, 1.0]]]
    """

    checkpoint_name: str

    def __init__(self, checkpoint_name: str, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def call_values(self, values: Any, training: bool = False) -> Any:
        return hints.checkpoint_name(values, self.checkpoint_name)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"checkpoint_name": "hidden"})]
