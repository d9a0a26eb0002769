"""Layers that move a sequence in time: Delay and Lookahead."""

from fractions import Fraction
from typing import Any, Unpack

from keras import ops

from ..annotations import LayerOptions
from ..arguments import as_size
from ..padding import started, valid_so_far
from ..registry import register
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing, delay
from .base import Example, SequenceLayer


@register
class Delay(SequenceLayer):
    """Delays a sequence by `length` steps.  [B, T, ...] -> [B, T + length, ...].

    Mask: the steps put in front are invalid. Timing: input latency `length`; output step `t` is input `t - length`.
    With `delay_layer_output=False` layer mode is the identity and the delay is an output latency: this is what
    combinators put into a branch that is faster than another.

    Args:
        length: steps.
        delay_layer_output: whether layer mode shows the delay.

    Raises:
        ValueError: a negative length.

    Example:
        >>> import kseq, numpy as np
        >>> y = kseq.Delay(1)(kseq.Sequence(np.ones((1, 2, 1), "float32")))
        >>> np.asarray(y.mask).tolist()
        [[False, True, True]]
    """

    length: int

    invalid_value: float | None = None

    def __init__(self, length: int, delay_layer_output: bool = True, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.length = as_size("length", length, 0)
        self.delay_layer_output = delay_layer_output

    @property
    def timing(self) -> Timing:
        if not self.delay_layer_output:
            return delay(self.length)
        field = -self.length, -self.length
        return Timing(
            input_latency=self.length, receptive_field_per_step=(field,), length_stages=((Fraction(1), self.length),)
        )

    @property
    def creates_mask(self) -> bool:
        return self.delay_layer_output and self.length > 0

    @property
    def _shown(self) -> int:
        return self.length if self.delay_layer_output else 0

    def output_mask(self, mask: Any) -> Any:
        return ops.pad(mask, ((0, 0), (self._shown, 0)), constant_values=False)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        return x.pad_time(self._shown, 0)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        if not self.length:
            return ()
        dtype = self.output_spec(input_spec).dtype
        return {
            "values": ops.zeros((batch_size, self.length, *input_spec.shape), dtype=dtype),
            "mask": ops.zeros((batch_size, self.length), dtype="bool"),
        }

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        if not self.length:
            return x, state
        time = x.values.shape[1]
        joined = Sequence.concatenate([Sequence(state["values"], state["mask"]), x])
        return joined.slice_time(None, time), joined.slice_time(time, None)._asdict()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"length": 3}),
            Example({"length": 2, "delay_layer_output": False}),
            Example({"length": 0}, (4, 12), "int32"),
        ]


@register
class Lookahead(SequenceLayer):
    """Drops the first `length` steps: output step `t` is input `t + length`.  [B, T, ...] -> [B, T - length, ...].

    In a residual branch it lets a causal layer look ahead. Leading invalid steps are as if absent: the first `length`
    valid steps of a row become invalid before the first `length` steps are dropped. Invalid steps are zeros.
    Timing: output latency `length`; where the length is preserved that is the input latency too.

    Args:
        length: steps.
        preserve_length_in_layer: whether layer mode puts as many invalid steps at the end as it drops at the start.

    Raises:
        ValueError: a negative length.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.arange(3, dtype="float32").reshape(1, 3, 1)
        >>> np.asarray(kseq.Lookahead(1)(x))[0, :, 0].tolist()
        [1.0, 2.0]
    """

    length: int

    invalid_value: float | None = None

    def __init__(self, length: int, preserve_length_in_layer: bool = False, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.length = as_size("length", length, 0)
        self.preserve_length_in_layer = preserve_length_in_layer

    @property
    def timing(self) -> Timing:
        field = self.length, self.length
        return Timing(
            input_latency=self._added,
            output_latency=self.length,
            receptive_field_per_step=(field,),
            length_stages=((Fraction(1), self._added - self.length),),
        )

    @property
    def creates_mask(self) -> bool:
        return self._added > 0

    @property
    def _added(self) -> int:
        """Invalid steps that layer mode puts at the end."""
        return self.length if self.preserve_length_in_layer else 0

    def output_mask(self, mask: Any) -> Any:
        return ops.pad(self._drop(mask, 0)[0], ((0, 0), (0, self._added)))[:, self.length :]

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        if not self.length:
            return x
        if self._added:
            x = x.with_mask()
        mask = None if x.mask is None else self.output_mask(x.mask)
        return Sequence(x.pad_time(0, self._added).values[:, self.length :], mask).mask_invalid()

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        return {"seen": ops.zeros((batch_size, 1), dtype="int32")} if self.length else ()

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        if not self.length:
            return x, state
        mask, seen = self._drop(x.with_mask().mask, state["seen"])
        return Sequence(x.values, mask).mask_invalid(), {"seen": seen}

    def _drop(self, mask, seen):
        """The mask less the first `length` steps since the first valid one, and how many steps were seen since."""
        began = ops.logical_or(started(mask), seen > 0) if not isinstance(seen, int) else started(mask)
        count = seen + valid_so_far(began)
        last = count[:, -1:] if mask.shape[1] else seen
        return ops.logical_and(mask, count > self.length), ops.minimum(last, self.length + 1)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"length": 2}), Example({"length": 3, "preserve_length_in_layer": True})]
