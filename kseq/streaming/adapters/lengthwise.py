"""What layers share of which every step counts, whatever its mask, and that give another number of steps."""

from typing import Any

from keras import ops

from .adapted import Adapted


class EveryStep(Adapted):
    """A layer that stands for one of Keras's that looks at no mask: each step that is there counts.

    A row of `n` steps has the `timing.output_length(n)` outputs that a sequence of `n` steps has.
    """

    reads_every_step: bool = True

    def output_mask(self, mask: Any) -> Any:
        return there_after(mask, self.timing)


def there_after(mask: Any, timing: Any) -> Any:
    """Which outputs are there, bool [B, U], where inputs [B, T] are from the first to the last valid one of a row."""
    time = ops.shape(mask)[1]
    steps = ops.arange(1, time + 1, dtype="int32")
    end = ops.max(ops.where(mask, steps, 0), axis=1, keepdims=True)
    start = ops.min(ops.where(mask, steps - 1, end), axis=1, keepdims=True)
    first = -(-start // timing.ratio.denominator) * timing.ratio.numerator
    count = timing.output_length(end - start) * ops.cast(end > start, "int32")
    outputs = ops.arange(0, timing.output_length(time), dtype="int32")
    return ops.logical_and(outputs >= first, outputs < first + count)
