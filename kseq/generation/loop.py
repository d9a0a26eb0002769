"""The loop that makes steps, many of them in one call: each is fed, and what comes next is drawn of what comes out."""

from typing import Any

import numpy as np
from keras import ops

from ..sequence import Sequence
from .draws import Draws
from .predictor import Batch
from .sampling import Sampling, next_tokens

# Steps of a call at most.
CALL = 128


class SampledRows:
    """Rows that make new steps, together.

    Args:
        batch: their states, fed with all but the last block of the prompts.
        last: the last block of each prompt, [B, block, ...].
        keys: int32 [B], of `draws.keys_of`.
        sampling: how tokens are drawn.
        stops: tokens at which rows need not go on, int32 [N].
        seen: bool [B, ..., V]: tokens that were in the prompts; needed for a repetition penalty.
    """

    keys: Any
    made: int
    x: Any
    seen: Any
    form: Any
    numbers: Any
    stops: Any

    batch: Batch

    def __init__(
        self, batch: Batch, last: np.ndarray, keys: np.ndarray, sampling: Sampling, stops: np.ndarray, seen: Any = None
    ) -> None:
        predictor = batch.predictor
        self.batch, self.keys, self.made = batch, keys, 0
        self.x, self.seen = last.astype(predictor.steps_dtype), [] if seen is None else [seen]
        self.form, self.numbers = sampling.form, sampling.numbers(predictor.vocabulary or 1)
        self.stops = stops if predictor.block == 1 and not predictor.shape else stops[:0]
        self._key = "loop", self.form, predictor.dtype, predictor.vocabulary, predictor.sample
        self._loop = looping(predictor.dtype, predictor.vocabulary, self.form, predictor.sample)

    def advance(self, steps: int, done: np.ndarray) -> list[tuple[np.ndarray, bool]]:
        """The new steps of each row, and whether it has failed after them.

        Args:
            steps: as many at most.
            done: bool [B]: rows that need not go on.
        """
        block = self.batch.predictor.block
        counts = np.int32(self.made), np.int32(min(-(-steps // block), CALL))
        found = self.batch.run(
            self._key, self._loop, self.x, *counts, self.keys, self.numbers, self.stops, done, *self.seen
        )
        made, bad, self.x, count, *self.seen = found
        made, bad, count = np.asarray(ops.convert_to_numpy(made)), np.asarray(ops.convert_to_numpy(bad)), int(count)
        self.made += count
        made = np.moveaxis(made[:count], 0, 1).reshape(self.batch.size, count * block, *made.shape[3:])
        return [until_bad(made[n], bad[:count, n], block) for n in range(self.batch.size)]

    @property
    def compilations(self) -> int:
        """How often a call had to wait until it was compiled, since the last rows have left."""
        return self.batch.programs.compilations

    def keep(self, rows: np.ndarray) -> None:
        """Go on with some rows alone."""
        self.batch, self.keys = self.batch.keep(rows), self.keys[rows]
        self.x, *self.seen = (ops.convert_to_numpy(part)[rows] for part in (self.x, *self.seen))


def looping(dtype: str, vocabulary: int | None, form: tuple[str, ...], sample: Any) -> Any:
    """The computation that makes steps until enough are made or all rows are done.

    Args:
        dtype: of the model's input.
        vocabulary: of its output, or `None`.
        form: of the sampling.
        sample: a function of outputs and `Draws` that gives the next inputs, or `None`.
    """

    def loop(advance, carry, x, made, count, keys, numbers, stops, done, *seen):
        def following(y, draws, seen):
            if sample is not None:
                new = ops.cast(sample(y.values, draws), x.dtype)
                bad = _not_finite(new)
            elif vocabulary is None:
                new, bad = ops.cast(y.values, x.dtype), _not_finite(y.values)
            else:
                new, bad = next_tokens(form, numbers, y.values, draws, *[part[:, None] for part in seen])
            return new, bad if y.mask is None else ops.logical_or(bad, ops.logical_not(ops.all(y.mask, axis=1)))

        def going_on(i, x, done, *_):
            return ops.logical_and(i < count, ops.logical_not(ops.all(done)))

        def make(i, x, done, tokens, failed, seen, *carried):
            y, carry_now = advance(Sequence(ops.cast(x, dtype)), type(carry)(*carried))
            new, bad = following(y, Draws(keys, made + i), seen)
            tokens = ops.slice_update(tokens, (i, *[0] * len(x.shape)), new[None])
            failed = ops.slice_update(failed, (i, 0), bad[None])
            if stops.shape[0]:
                bad = ops.logical_or(bad, ops.any(new[:, :1] == stops, axis=-1))
            if seen:
                seen = [with_tokens(seen[0], new)]
            return i + 1, new, ops.logical_or(done, bad), tokens, failed, seen, *carry_now

        tokens, failed = ops.zeros((CALL, *x.shape), dtype=x.dtype), ops.zeros((CALL, x.shape[0]), dtype="bool")
        start = ops.zeros((), dtype="int32"), x, done, tokens, failed, list(seen), *carry
        i, x, _, tokens, failed, seen, *carried = ops.while_loop(going_on, make, start)
        return [tokens, failed, x, i, *seen], type(carry)(*carried)

    return loop


def with_tokens(seen: Any, tokens: Any) -> Any:
    """Which tokens were there, bool [B, ..., V], after a block more, int32 [B, block, ...]."""
    new = ops.cast(ops.one_hot(tokens, seen.shape[-1]), "bool")
    return ops.logical_or(seen, new if len(new.shape) == len(seen.shape) else ops.any(new, axis=1))


def _not_finite(values):
    return ops.any(ops.logical_not(ops.isfinite(values)), axis=tuple(range(1, len(values.shape))))


def until_bad(steps: np.ndarray, bad: np.ndarray, block: int = 1) -> tuple[np.ndarray, bool]:
    """Steps before the first block that failed, and whether there was one."""
    first = np.flatnonzero(bad)[:1] * block
    return (steps[: first[0]], True) if len(first) else (steps, False)
