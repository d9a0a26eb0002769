"""`Window`: how a window of taps moves over time, as a value; and the one table of padding modes that it rests on.

The modes follow google/sequence-layers. In the table `reach` is the number of steps from the first tap to the last.
"""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple, cast

from .arguments import as_size, check_fields
from .timing import Interval, LengthStage, Timing, at_least_zero, length_after, merged_stages

ModeName = Literal[
    "valid",
    "same",
    "causal",
    "causal_valid",
    "reverse_causal",
    "reverse_causal_valid",
    "semicausal",
    "semicausal_full",
]
Padding = ModeName | tuple[int, int]


class Mode(NamedTuple):
    """What a padding mode means.

    Attributes:
        pads: steps before and after the input, of (reach, stride); the most of them, where they depend on its length.
        text: the same in words.
        valid_by: what makes an output valid: its `own` step, `all` taps of its window, or `any` of them.
        before_is_valid: whether taps before the row count as valid ones.
        waits: whether the steps after the input are a latency.
        streams: whether a window can run block by block.
        transposed: steps before and after the zero-stuffed input of a transposed window, of (reach, stride), or `None`
            where a transposed window has no such mode.
    """

    pads: Callable[[int, int], tuple[int, int]] | None
    text: str
    valid_by: Literal["own", "all", "any"] = "own"
    before_is_valid: bool = False
    waits: bool = True
    streams: bool = True
    transposed: Callable[[int, int], tuple[int, int]] | None = None


def _semicausal(reach, stride):
    past = max(reach + 1 - stride, 0)
    return past, reach - past


def _transposed_same(reach, stride):
    total = reach + stride - 1
    left = reach if stride > reach else -(-total // 2)
    return left, total - left


MODES: dict[str, Mode] = {
    "valid": Mode(
        lambda reach, stride: (0, 0),
        "0, 0",
        valid_by="all",
        waits=False,
        streams=False,
        transposed=lambda reach, stride: (reach, stride - 1 + max(reach + 1 - stride, 0)),
    ),
    "same": Mode(
        lambda reach, stride: (reach // 2, reach - reach // 2),
        "as in Keras: total // 2 and the rest of total = max(reach - (T - 1) % strides, 0)",
        waits=False,
        streams=False,
        transposed=_transposed_same,
    ),
    "causal": Mode(lambda reach, stride: (reach, 0), "reach, 0", transposed=lambda reach, stride: (reach, stride - 1)),
    "causal_valid": Mode(lambda reach, stride: (reach, 0), "reach, 0", valid_by="all", before_is_valid=True),
    "reverse_causal": Mode(lambda reach, stride: (0, reach), "0, reach"),
    "reverse_causal_valid": Mode(lambda reach, stride: (0, reach), "0, reach", valid_by="all"),
    "semicausal": Mode(_semicausal, "past = max(reach + 1 - strides, 0), reach - past", waits=False),
    "semicausal_full": Mode(
        lambda reach, stride: (_semicausal(reach, stride)[0], reach), "past, reach", valid_by="any", streams=False
    ),
}
TRANSPOSED_MODES = tuple(name for name, mode in MODES.items() if mode.transposed)
#: An explicit pair of steps before and after the input.
PAIR = Mode(None, "as given; sums to reach")


def padding_table() -> list[tuple[str, str, str, str, str]]:
    """The table in words: name, steps before and after, whether it streams, latency, when an output is valid."""
    found = []
    for name, mode in (*((f"`{name}`", mode) for name, mode in MODES.items()), ("a pair", PAIR)):
        after = "after" if mode.pads is None else "reach" if mode.waits and mode.pads(1, 1)[1] else "0"
        valid = {"own": "its own step is", "all": "its whole window is", "any": "any step of its window is"}
        found.append(
            (name, mode.text, "yes" if mode.streams else "no", after if mode.streams else "", valid[mode.valid_by])
        )
    return found


@dataclasses.dataclass(frozen=True)
class Window:
    """A window of taps that moves over time, or, transposed, spreads every step over a window of outputs.

    Args:
        size: taps.
        stride: steps from one window to the next.
        dilation: steps from one tap to the next.
        padding: a name in `MODES`, or a pair (before, after) that sums to `reach`.
        transposed: whether each input step adds to `size` outputs, `stride` outputs further for every step.

    Raises:
        ValueError: sizes below 1, an unknown mode, a mode that a transposed window has not, or a pair whose sum is not
            `reach`.

    Example:
        >>> window = Window(size=3, stride=2, padding="reverse_causal")
        >>> window.pads, window.latency, window.output_length(7)
        ((0, 2), (2, 1), 4)
    """

    size: int
    stride: int = 1
    dilation: int = 1
    padding: Padding = "causal"
    transposed: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "stride", "dilation"):
            object.__setattr__(self, name, as_size(name, getattr(self, name)))
        object.__setattr__(self, "padding", self._standard(self.padding))
        if self.transposed:
            check_fields(self.stride)

    def _standard(self, padding):
        if self.transposed:
            if padding not in TRANSPOSED_MODES:
                raise ValueError(
                    f"padding of a transposed window must be one of {', '.join(TRANSPOSED_MODES)}; received {padding!r}"
                )
            return padding
        if isinstance(padding, str) and padding in MODES:
            return padding
        try:
            if isinstance(padding, str):
                raise ValueError
            left, right = (int(n) for n in padding)
        except (TypeError, ValueError):
            raise ValueError(
                f"padding must be one of {', '.join(MODES)} or a pair of integers; received {padding!r}"
            ) from None
        if left < 0 or right < 0 or left + right != self.reach:
            raise ValueError(
                "explicit padding must be two integers >= 0 that sum to (kernel_size - 1) * dilation_rate = "
                f"{self.reach}; received {padding!r}"
            )
        return left, right

    @property
    def mode(self) -> Mode:
        """The row of the table."""
        return MODES[self.padding] if isinstance(self.padding, str) else PAIR

    @property
    def reach(self) -> int:
        """Steps from the first tap to the last."""
        return (self.size - 1) * self.dilation

    @property
    def span(self) -> int:
        """Steps from the first tap to the last, both counted."""
        return self.reach + 1

    @property
    def pads(self) -> tuple[int, int]:
        """Steps of padding before and after the input, which is zero-stuffed where the window is transposed.

        In `same` with a stride they depend on the input's length: see `pads_of`.
        """
        if not isinstance(self.padding, str):
            return self.padding
        found = self.mode.transposed if self.transposed else self.mode.pads
        # Only a pair has none, and `_standard` has refused modes that are not transposed.
        return cast(Callable[[int, int], tuple[int, int]], found)(self.reach, self.stride)

    def pads_of(self, length: Any) -> tuple[Any, Any]:
        """`pads` of an input of `length` steps, a number, a symbolic dimension or a tensor.

        In `same` they are Keras's: no more than the last window needs.
        """
        if self.padding != "same" or self.transposed or self.stride == 1:
            return self.pads
        total = at_least_zero(self.reach - (length - 1) % self.stride)
        return total // 2, total - total // 2

    @property
    def tail(self) -> int:
        """Outputs of a transposed window that further inputs still add to."""
        return max(self.span - self.stride, 0)

    @property
    def latency(self) -> tuple[int, int]:
        """Input and output latency, in steps of the input and of the output."""
        if self.transposed or not self.mode.waits:
            return 0, 0
        _, right = self.pads
        return right, right // self.stride if self.mode.streams else 0

    @property
    def obstacle(self) -> str | None:
        """Why the window cannot run block by block, or `None` where it can."""
        if self.transposed and self.padding != "causal":
            return f"padding {self.padding!r} shifts or adds outputs by the end of the input"
        return (
            None
            if self.mode.streams
            else f"padding {self.padding!r} needs steps that a stream has not seen or never has"
        )

    @property
    def remedy(self) -> str:
        """The padding modes that run block by block, in words."""
        if self.transposed:
            return "padding 'causal'"
        return f"padding {', '.join(repr(name) for name, mode in MODES.items() if mode.streams)} or an explicit pair"

    def streaming(self, length: int | None = None) -> "Window | None":
        """A window that gives the same and can run block by block, or `None` where there is none of another padding.

        Args:
            length: of the only inputs there are, where one is known; else the same is given of inputs of all lengths.
        """
        if self.obstacle is None:
            return self
        starts = {self.pads_of(n)[0] for n in (range(1, self.stride + 1) if length is None else (length,))}
        before = min(starts)
        paddings: list[Padding] = ["causal"] if self.transposed else ["causal", (before, self.reach - before)]
        for padding in paddings if len(starts) == 1 else ():
            made = dataclasses.replace(self, padding=padding)
            starts_alike = made.pads == self.pads if self.transposed else made.pads[0] == before
            valid_alike = not self.reach or self.transposed or made.mode.valid_by == self.mode.valid_by
            if starts_alike and valid_alike and made.length_stages == self.length_stages:
                return made
        return None

    @property
    def creates_mask(self) -> bool:
        """Whether outputs may be invalid although every input is valid: where taps lie beyond the end."""
        return not self.transposed and self.size > 1 and self.mode.valid_by != "own" and self.pads[1] > 0

    @property
    def timing(self) -> Timing:
        """The timing of a layer of such windows."""
        return self.timing_of(range(self.size))

    def timing_of(self, taps: Sequence[int]) -> Timing:
        """The timing of a layer of such windows, of which only some `taps` count: of a filter, those that are not 0.

        Args:
            taps: in ascending order. A `range` is not gone through, however long it is.
        """
        if self.transposed:
            fields = tuple(self._inputs_of(phase, taps) for phase in range(self.stride))
            return Timing(ratio=self.stride, receptive_field_per_step=fields, length_stages=self.length_stages)
        most, least = self.pads_of(1)[0], self.pads_of(self.stride)[0]  # `same` pads less the fuller the last stride is
        field = (taps[0] * self.dilation - most, taps[-1] * self.dilation - least) if len(taps) else None
        input_latency, output_latency = self.latency
        return Timing(
            block_size=self.stride,
            ratio=Fraction(1, self.stride),
            input_latency=input_latency,
            output_latency=output_latency,
            receptive_field_per_step=(field,),
            length_stages=self.length_stages,
        )

    @property
    def length_stages(self) -> tuple[LengthStage, ...]:
        """How the length changes, as in `Timing`."""
        if self.transposed:
            return ((Fraction(self.stride), self.tail if self.padding == "valid" else 0),)
        # `same` gives an output per stride whatever it pads.
        more = 0 if self.padding == "same" else sum(self.pads) - self.reach
        return merged_stages([(Fraction(1), more), (Fraction(1, self.stride), 0)])

    def _inputs_of(self, phase: int, taps: Sequence[int]) -> Interval:
        """First and last input that adds to an output of a phase by one of `taps`, relative to its own."""
        last = phase + self.reach - self.pads[0]  # outputs from the start of the own step's window
        # Of equally spaced taps those that meet a phase come back after a stride at the latest.
        most = self.stride if isinstance(taps, range) else len(taps)
        first, final = (
            next(
                (n for n, rest in (divmod(last - tap * self.dilation, self.stride) for tap in order) if not rest), None
            )
            for order in (reversed(taps[-most:]), taps[:most])
        )
        return None if first is None or final is None else (first, final)

    def output_length(self, length: Any) -> Any:
        """Outputs for `length` inputs: a number, a symbolic dimension or a tensor."""
        return length_after(self.length_stages, length)
