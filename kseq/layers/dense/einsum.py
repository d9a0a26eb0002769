"""`EinsumDense`, and which equations keep steps apart."""

import dataclasses
import re
from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...registry import register
from ...sequence import SequenceSpec
from ..base import Example
from ..stepwise import StepwiseLayer, mixing_activation

_FORMS = (
    r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)",
    r"\.\.\.([a-zA-Z]*),([a-zA-Z]+)->\.\.\.([a-zA-Z]*)",
    r"([a-zA-Z]{2,})\.\.\.,([a-zA-Z]+)->([a-zA-Z]{2,})\.\.\.",
)


@register
class EinsumDense(StepwiseLayer):
    """Product of each step's channels with a weight, by an equation.  [B, T, ...] -> [B, T, ...].

    In the equation batch and time are either the first axes of `...`, as in `"...ab,bc->...ac"`, or letters of their
    own, as in `"btab,bc->btac"` with another letter for the weight's axis; they come first, and nowhere else.
    Mask: unchanged. Timing: none. The weights are those of `keras.layers.EinsumDense`.

    Args:
        equation: of the values and the weight, as in `keras.ops.einsum`.
        output_shape: as in Keras, the sizes of the outputs' axes without the batch and without those of `...`: `None`
            where it follows from the input, as for time where that has a letter.
        activation: as in Keras.
        bias_axes: letters of the outputs' axes over which a bias goes; none, or an empty text, is no bias.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras.

    Raises:
        ValueError: an equation of another form, one that mixes batch or time, or sizes that do not fit.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.EinsumDense("...ab,bc->...ac", (None, 5))(np.zeros((1, 7, 2, 4), "float32")).shape
        (1, 7, 2, 5)
    """

    takes_complex = False

    equation: str
    output_shape: tuple[int | None, ...]
    kernel: Any
    bias: Any

    def __init__(
        self,
        equation: str,
        output_shape: int | tuple[int | None, ...],
        activation: ActivationLike = None,
        bias_axes: str | None = None,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        Equation.of(equation, None)

    def _parts(self, channels):
        """The equation's axes for values of so many channel axes, and the size of each letter that has one."""
        found = Equation.of(self.equation, 2 + len(channels))
        why = found.mixes_steps()
        if why is not None:
            raise ValueError(f"{self._named}: `equation` {self.equation!r} mixes steps: {why}")
        return found, found.sizes(channels, self.output_shape)

    def build(self, input_shape: Shape) -> None:
        equation, sizes = self._parts(tuple(input_shape[2:]))
        shape = [sizes[letter] for letter in equation.weight]
        initializer = _along(self.kernel_initializer, equation)
        self.kernel = self.add_parameter("kernel", shape, initializer=initializer)
        shape = equation.bias_shape(self.bias_axes, sizes) if self.bias_axes else None
        self.bias = None if shape is None else self.add_parameter("bias", shape)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        equation, sizes = self._parts(tuple(input_spec.shape))
        return SequenceSpec(tuple(sizes[axis] for axis in equation.made[2:]), self.compute_dtype)

    @property
    def step_obstacle(self) -> str | None:
        return mixing_activation(self) if self.built else None

    def call_values(self, values: Any, training: bool = False) -> Any:
        y = ops.einsum(self.equation, values, self.weight(self.kernel))
        return self.activation(y if self.bias is None else y + self.weight(self.bias))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"equation": "...ab,bc->...ac", "output_shape": (None, 2), "bias_axes": "ac"}, (4, 12, 2, 3)),
            Example({"equation": "btc,cd->btd", "output_shape": (None, 2)}),
        ]


@dataclasses.dataclass(frozen=True)
class Equation:
    """An equation of values and a weight, for values of some rank: a letter, or the place within `...`, of every axis.

    Attributes:
        given, weight, made: axes of the values, of the weight, and of the outputs.
    """

    text: str
    given: tuple[Any, ...]
    weight: tuple[str, ...]
    made: tuple[Any, ...]

    @classmethod
    def of(cls, text: str, rank: int | None) -> "Equation":
        """The equation of a text.

        Raises:
            ValueError: a text of another form, or one that does not fit values of the rank, where it is known.
        """
        matches = [re.fullmatch(form, text.replace(" ", "")) for form in _FORMS]
        if not any(matches):
            raise ValueError(
                f"`equation` must be of a form X,Y->Z, ...X,Y->...Z or X...,Y->Z..., with a letter for each axis; "
                f"received {text!r}"
            )
        given, weight, made = next(filter(None, matches)).groups()
        elided = len(given) if rank is None else rank
        elided -= len(given)
        if elided < 0 or (matches[0] and elided):
            raise ValueError(f"`equation` {text!r} does not fit values of rank {rank}")
        hidden = tuple(range(elided))
        if matches[1]:
            return cls(text, (*hidden, *given), tuple(weight), (*hidden, *made))
        return cls(text, (*given, *hidden), tuple(weight), (*made, *hidden))

    def mixes_steps(self) -> str | None:
        """Why batch and time are not the first axes of the outputs as they are of the values, or `None`."""
        steps = self.given[:2]
        if self.made[:2] != steps or len(set(steps)) < 2:
            return "batch and time are not the first axes of the outputs, in this order"
        if set(steps) & {*self.weight, *self.given[2:], *self.made[2:]}:
            return "batch or time is an axis of the weight, or stands twice"
        return None

    def sizes(self, channels: Any, output_shape: Any) -> dict[Any, int]:
        """The size of every axis but batch and time.

        Raises:
            ValueError: sizes that contradict each other, or are unknown.
        """
        sizes = dict(zip(self.given[2:], channels, strict=True))
        # Of `output_shape` those axes of the outputs that are neither the batch nor hidden.
        letters = [axis for axis in self.made if isinstance(axis, str)]
        letters = letters if isinstance(self.made[0], int) else letters[1:]
        if len(letters) != len(output_shape):
            raise ValueError(
                f"`output_shape` must have a size, or None, for each of the axes {', '.join(letters) or 'none'} of the "
                f"outputs of {self.text!r}; received {tuple(output_shape)}"
            )
        for letter, size in zip(letters, output_shape, strict=True):
            if size is not None and letter == self.given[1]:
                raise ValueError(
                    f"`output_shape` must have None for time, {letter!r} of {self.text!r}; received {size}"
                )
            if size is not None and sizes.setdefault(letter, size) != size:
                raise ValueError(
                    f"`output_shape` has {size} for {letter!r} of {self.text!r}; the values have {sizes[letter]}"
                )
        unknown = {*self.weight, *self.made[2:]} - sizes.keys()
        if unknown:
            raise ValueError(f"the size of {', '.join(map(repr, unknown))} of {self.text!r} is nowhere given")
        return sizes

    def bias_shape(self, axes: str, sizes: dict[Any, int]) -> tuple[int, ...]:
        """The shape of a bias over some axes of the outputs, to be broadcast to them.

        Raises:
            ValueError: an axis that outputs do not have, or that is batch or time.
        """
        wrong = set(axes) - set(self.made[2:])
        if wrong:
            raise ValueError(f"`bias_axes` must name channel axes of the outputs of {self.text!r}; received {axes!r}")
        first = min(map(self.made.index, axes))
        return tuple(sizes[axis] if axis in set(axes) else 1 for axis in self.made[first:])


def _along(initializer, equation):
    """An initialiser that counts as inputs and outputs what the equation has as such, as Keras's layer does."""
    axes = getattr(initializer, "input_axes", None), getattr(initializer, "output_axes", None)
    if not isinstance(initializer, keras.initializers.VarianceScaling) or None not in axes:
        return initializer
    made = [i for i, letter in enumerate(equation.weight) if letter in equation.made]
    summed = [i for i, letter in enumerate(equation.weight) if letter not in equation.made]
    options = {"seed": initializer.seed, "input_axes": summed, "output_axes": made}
    return type(initializer).from_config(initializer.get_config() | options)
