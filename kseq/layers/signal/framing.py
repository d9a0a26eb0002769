"""A signal cut into frames, and frames added up to a signal."""

from fractions import Fraction
from typing import Any, ClassVar, Literal, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import LayerOptions
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ...window import Padding, Window
from ..base import Example
from ..parameters import Only
from ..transposed_windows import TransposedWindowedLayer, complete_sums
from ..windows import WindowedLayer

OverlapPadding = Literal["causal", "valid", "semicausal_full"]
_OVERLAP_PADDINGS = ("causal", "valid", "semicausal_full")


class FramingLayer(WindowedLayer):
    """What layers share that cut a signal into frames of `frame_length` steps, `frame_step` apart."""

    window: Any

    fixed_arguments: ClassVar[dict[str, Only]] = {}

    frame_length: int
    frame_step: int
    padding: Padding

    def set_frames(self) -> None:
        """Check the sizes of the frames, and make the window of them."""
        self.frame_length = as_size("frame_length", self.frame_length)
        self.frame_step = as_size("frame_step", self.frame_step)
        self.window = Window(self.frame_length, self.frame_step, padding=self.padding)
        self.padding = self.window.padding


@register
class Frame(FramingLayer):
    """Cuts a signal into frames that may overlap.  [B, T, ...] -> [B, ceil(T / frame_step), frame_length, ...].

    What stands at padding and at invalid steps is zero. Mask, timing and padding are those of `Conv1D`, of a kernel of
    `frame_length` and strides of `frame_step`: by default frame `t` begins at step `t * frame_step`, and is invalid
    where it does not lie within the signal. The warm-up of a stream is never valid.

    Args:
        frame_length: steps in a frame.
        frame_step: steps from one frame to the next.
        padding: as in `Conv1D`: a mode, or a pair (before, after) that sums to `frame_length - 1`.

    Raises:
        ValueError: sizes below 1, an unknown padding, or a pair with another sum.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.arange(5, dtype="float32")[None]
        >>> np.asarray(kseq.Frame(3, 2, padding="semicausal")(x)).tolist()
        [[[0.0, 0.0, 1.0], [1.0, 2.0, 3.0], [3.0, 4.0, 0.0]]]
    """

    # The reference's, of which the other meaning is that warm-up counts as valid.
    fixed_arguments: ClassVar[dict[str, Only]] = {
        "explicit_padding_is_same_like": Only((True,), "the warm-up of a stream is never valid")
    }

    def __init__(
        self,
        frame_length: int,
        frame_step: int,
        padding: Padding = "reverse_causal_valid",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_frames()

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        return SequenceSpec((self.frame_length, *shape), dtype)

    def call_windows(self, x: Sequence) -> Any:
        return rules.frames(x.values, self.window)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"frame_length": 4, "frame_step": 2}),
            Example({"frame_length": 3, "frame_step": 2, "padding": (1, 1)}, (4, 12), "complex64"),
        ]


class OverlapLayer(TransposedWindowedLayer):
    """What layers share that add up frames of `frame_length` steps, `frame_step` apart."""

    window: Any

    fixed_arguments: ClassVar[dict[str, Only]] = {}

    frame_length: int
    frame_step: int
    padding: Any

    def set_frames(self) -> None:
        """Check the sizes of the frames, and make the window of them."""
        self.frame_length = as_size("frame_length", self.frame_length)
        self.frame_step = as_size("frame_step", self.frame_step)
        if self.frame_length < self.frame_step:
            raise ValueError(
                f"`frame_length` must be at least `frame_step`, {self.frame_step}; received {self.frame_length}"
            )
        check_choice("padding", self.padding, _OVERLAP_PADDINGS)
        self.window = Window(self.frame_length, self.frame_step, padding=self._mode, transposed=True)

    @property
    def _mode(self) -> Any:
        return "valid" if self._is_full else self.padding

    @property
    def _is_full(self) -> bool:
        return self.padding == "semicausal_full"

    @property
    def timing(self) -> Timing:
        if not self._is_full:
            return super().timing
        step, tail, taps = self.frame_step, self.window.tail, self.counted_taps
        fields = []
        for phase in range(step):
            found = [n for n in range(tail // step + 2) if phase + tail - n * step in taps]
            fields.append((min(found), max(found)) if found else None)
        stage = Fraction(step), 1 - step if tail else 0
        return Timing(ratio=Fraction(step), receptive_field_per_step=tuple(fields), length_stages=(stage,))

    @property
    def step_obstacle(self) -> str | None:
        if self._is_full:
            return f"padding {self.padding!r} leaves out the first steps of the first frame, which all others wait for"
        return super().step_obstacle

    def output_mask(self, mask: Any) -> Any:
        if not self._is_full or not self.window.tail:
            return super().output_mask(mask)
        batch, time = ops.shape(mask)
        step, reach = self.frame_step, self.window.reach
        # Of output `q * step - r` count the frames q to q + (reach - r) // step.
        any_of = [mask]
        for n in range(1, reach // step + 1):
            later = ops.pad(mask, ((0, 0), (0, n)))[:, n:]
            any_of.append(ops.logical_or(any_of[-1], later))
        columns = ops.stack([any_of[(reach - r) // step] for r in reversed(range(step))], axis=2)
        return ops.reshape(columns, (batch, time * step))[:, step - 1 :]

    def complete(self, sums: Any, length: Any) -> Any:
        if not self._is_full:
            return complete_sums(sums, self.window, length)
        start = self.window.tail
        return sums[:, start : start + self.timing.output_length(length)]


@register
class OverlapAdd(OverlapLayer):
    """Adds up frames that overlap: the inverse of `Frame`.  [B, T, frame_length, ...] -> [B, T * frame_step, ...].

    The first step of frame `t` is output step `t * frame_step`. Timing: blocks of one frame, `frame_step` outputs for
    each, no latency. Mask: an output is valid where the frame is that begins last before it.

    Args:
        frame_length: steps in a frame.
        frame_step: steps from one frame to the next, at most `frame_length`.
        padding: `causal`, which leaves out what follows the last step, `frame_length - frame_step` outputs;
            `valid`, which gives these too: there outputs are valid where all frames are that they belong to; or
            `semicausal_full`, the inverse of a `Frame` of this padding, which leaves out the first `frame_length -
            frame_step` outputs: of n valid frames those are valid up to the first step of the last frame's last
            `frame_step`, `(n - 1) * frame_step + 1`. Only `causal` steps.

    Raises:
        ValueError: sizes below 1, a step above the length, another padding, or frames of another length.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.OverlapAdd(3, 2)(np.ones((1, 3, 3), "float32"))).tolist()
        [[1.0, 1.0, 2.0, 1.0, 2.0, 1.0]]
    """

    def __init__(
        self,
        frame_length: int,
        frame_step: int,
        padding: OverlapPadding = "causal",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_frames()

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        self._check_frames(shape)
        return SequenceSpec(shape[1:], dtype)

    def _check_frames(self, shape):
        if shape[:1] != (self.frame_length,):
            raise ValueError(
                f"{self.name} ({type(self).__name__}) takes frames of {self.frame_length} steps, channels of shape "
                f"({self.frame_length}, ...); received channel shape {tuple(shape)}"
            )

    def call_taps(self, x: Sequence) -> Any:
        self._check_frames(tuple(x.values.shape[2:]))
        return x.values

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"frame_length": 5, "frame_step": 2}, (4, 12, 5)),
            Example({"frame_length": 4, "frame_step": 3, "padding": "semicausal_full"}, (4, 6, 4)),
        ]
