"""What layers with a convolution kernel share: its normalisation, the bias and the activation."""

from typing import Any

from keras import ops

from ...arguments import as_size, each_axis
from ..space import spatial_shape
from ..stepwise import mixing_activation
from ..windows import OfWindow

# Added to a sum of squares before its root.
_EPSILON = 1e-12


class ConvolutionKernel(OfWindow):
    """A kernel [*sizes, ...], with a bias and an activation after it.

    Attributes:
        norm_axes: axes of the kernel over which weight normalisation takes the norm.
    """

    takes_complex = False

    input_rank: int | None = 3
    norm_axes: tuple[int, ...]
    filters: int
    groups: int
    kernel: Any
    scale: Any = None
    bias: Any

    def check_filters(self) -> None:
        """Check `filters` and `groups`."""
        self.filters, self.groups = as_size("filters", self.filters), as_size("groups", self.groups)
        if self.filters % self.groups:
            raise ValueError(f"`filters` (={self.filters}) must be divisible by `groups` (={self.groups})")

    def channels_per_group(self, channels: int) -> int:
        """Input channels of a group."""
        if channels % self.groups:
            raise ValueError(f"input channels (={channels}) must be divisible by `groups` (={self.groups})")
        return channels // self.groups

    def sizes_of(self, name: str) -> tuple[int, ...]:
        """An argument of the axes that windows move over as a tuple."""
        return each_axis(getattr(self, name))

    def spatial_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Lengths of the axes of space of the output."""
        return spatial_shape(self.space, shape)

    @property
    def step_obstacle(self) -> str | None:
        return super().step_obstacle or mixing_activation(self)

    def add_kernel(self, shape: tuple[int, ...], like: str | None = None, per: tuple[int, ...] = (-1,)) -> None:
        """Add the kernel, and what scales it where it is normalised: one number for each of the axes `per`."""
        self.kernel = self.add_parameter("kernel", shape, like)
        if self.use_weight_norm:
            kept = {axis % len(shape) for axis in per}
            self.norm_axes = tuple(axis for axis in range(len(shape)) if axis not in kept)
            scales = tuple(shape[axis] for axis in sorted(kept))
            # At first the norm of the kernel, which so is what its initialiser made.
            self.scale = self.add_parameter(
                "scale", scales, initializer=lambda shape, dtype=None: self._norm(ops.cast(self.kernel, dtype), False)
            )

    def _norm(self, kernel, keepdims=True):
        return ops.sqrt(ops.sum(ops.square(kernel), axis=self.norm_axes, keepdims=keepdims) + _EPSILON)

    def normalized_kernel(self) -> Any:
        """The kernel that the layer applies, in the compute dtype."""
        kernel = self.weight(self.kernel)
        if self.scale is None:
            return kernel
        scale = self.weight(self.scale)
        for axis in self.norm_axes:
            scale = ops.expand_dims(scale, axis)
        return kernel * (scale / self._norm(kernel))

    def add_bias(self, size: int) -> None:
        """Add the bias, if there is one."""
        self.bias = self.add_parameter("bias", (size,)) if self.use_bias else None

    def bias_and_activate(self, y: Any) -> Any:
        """What comes after the kernel."""
        return self.activation(y if self.bias is None else y + self.weight(self.bias))
