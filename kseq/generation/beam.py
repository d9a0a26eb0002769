"""Beam search: the most likely sequence of several that are kept of each row."""

from typing import Any

import numpy as np
from keras import ops

from ..sequence import Sequence
from .loop import CALL
from .predictor import Batch
from .prompts import Generated
from .request import Request
from .sampling import Sampling, cannot_be_drawn

# What no hypothesis is worth: finite, so that differences are.
_NOTHING = -1e30


def beam_search(request: Request, beams: int) -> Generated:
    """The best hypothesis of every row.

    In each step all continuations of a row's hypotheses are compared, and the best `beams` kept: their states are
    copies of those that they go on from. A hypothesis that has ended stays as long as it is among the best. What is
    compared is the logarithm of the probability, divided by the number of steps to the power of `length_penalty`. Rows
    go on together until all are done.
    Source: Lowerre, 1976, "The Harpy Speech Recognition System"; Wu et al., 2016, "Google's Neural Machine Translation
    System" for the penalty.

    Args:
        request: what is asked for.
        beams: hypotheses of each row.

    Raises:
        ValueError: options that are for drawing, or steps that are no single tokens.
    """
    predictor, options, stops = request.predictor, request.options, request.stops
    if predictor.vocabulary is None or predictor.shape or predictor.block > 1:
        raise ValueError(f"beams are for tokens, one at a time, which {predictor.name} does not give")
    if request.sampling != Sampling() or options.get("draft") is not None:
        raise ValueError("with `beams` nothing is drawn: leave out temperature, limits, penalty and draft")
    if stops.on_host:
        raise ValueError("with `beams` single tokens alone end a row; received other stops")
    penalty = options.get("length_penalty", 0.0)
    if not isinstance(penalty, (int, float)) or not 0 <= penalty < np.inf:
        raise ValueError(f"`length_penalty` must be a number of at least 0; received {penalty!r}")
    batch, most = request.begin(predictor, options.get("context"), request.most)
    rows = np.repeat(np.arange(batch.size), beams)
    search = _Search(batch.keep(rows), request.last[rows], most, stops.tokens, float(penalty), beams)
    search.run()
    return search.result()


class _Search:
    """Hypotheses of rows, and where they came from."""

    def __init__(
        self, batch: Batch, last: np.ndarray, most: np.ndarray, stops: np.ndarray, penalty: float, beams: int
    ) -> None:
        self.batch, self.x, self.stops, self.penalty, self.beams = batch, last, stops, np.float32(penalty), beams
        self.most = np.minimum(most, 2**31 - 1).astype(np.int32)
        count = len(most)
        self.scores = np.tile(np.array([0] + [_NOTHING] * (beams - 1), np.float32), (count, 1))
        self.lengths, self.ended = np.zeros((count, beams), np.int32), np.repeat(self.most[:, None] < 1, beams, axis=1)
        self.failed, self.found = np.zeros(count, bool), []

    def run(self) -> None:
        """Go on until all rows are done."""
        vocabulary, given = self.batch.predictor.vocabulary, (self.penalty, self.most, self.stops)
        key, search = ("beams", self.beams, vocabulary), _searching(vocabulary, self.batch.predictor.dtype)
        while not _done(np, self.scores, self.lengths, self.ended, self.failed, self.penalty).all():
            state = self.x, self.scores, self.lengths, self.ended, self.failed
            *state, count, tokens, parents = map(ops.convert_to_numpy, self.batch.run(key, search, *state, *given))
            self.x, self.scores, self.lengths, self.ended, self.failed = state
            self.found += list(zip(tokens[: int(count)], parents[: int(count)], strict=True))

    def result(self) -> Generated:
        """The best hypothesis of every row, by the way back from it."""
        rows, best = np.arange(len(self.most)), np.argmax(_worth(np, self.scores, self.lengths, self.penalty), axis=1)
        beam, steps = best, []
        for tokens, parents in reversed(self.found):
            steps.append(tokens[rows, beam])
            beam = parents[rows, beam]
        made = np.array(steps[::-1], np.int32).reshape(len(steps), len(rows)).T
        lengths = self.lengths[rows, best]
        sequences = [made[n, : lengths[n]] for n in rows]
        stopped = [len(s) and s[-1] in self.stops for s in sequences]
        reasons = ["error" if f else "stop" if s else "length" for f, s in zip(self.failed, stopped, strict=True)]
        errors = {int(n): "the model's output is not finite, or not valid" for n in np.flatnonzero(self.failed)}
        scores = _worth(np, self.scores, self.lengths, self.penalty)[rows, best]
        return Generated(sequences, reasons, errors, [float(score) for score in scores])


def _worth(np_, scores, lengths, penalty):
    """What hypotheses are compared by."""
    return scores / np_.maximum(np_.cast(lengths, "float32") if np_ is ops else lengths, 1) ** penalty


def _done(np_, scores, lengths, ended, failed, penalty):
    """Rows of which nothing better will be found, bool [B]."""
    over = np_.logical_or(ended, scores <= _NOTHING / 2)
    worth = _worth(np_, scores, lengths, penalty)
    # Without a penalty what goes on is worth less with every step.
    best = np_.max(np_.where(ended, worth, _NOTHING), axis=1) >= np_.max(worth, axis=1)
    return np_.logical_or(failed, np_.logical_or(np_.all(over, axis=1), np_.logical_and(best, penalty == 0)))


def _searching(vocabulary: Any, dtype: str) -> Any:
    """The computation that makes steps of all hypotheses."""

    def search(advance, carry, x, scores, lengths, ended, failed, penalty, most, stops):
        rows, beams = scores.shape
        first = ops.arange(rows, dtype="int32")[:, None] * beams  # of each row among all hypotheses

        def make(i, x, scores, lengths, ended, failed, tokens, parents, *carried):
            y, (leaves, seeds) = advance(Sequence(ops.cast(x, dtype)), type(carry)(*carried))
            logits = ops.reshape(ops.cast(y.values, "float32"), (rows, beams, vocabulary))
            bad = cannot_be_drawn(logits)
            if y.mask is not None:
                bad = ops.logical_or(bad, ops.logical_not(ops.reshape(y.mask, (rows, beams))))
            over = ops.logical_or(ended, _done(ops, scores, lengths, ended, failed, penalty)[:, None])
            alive = ops.logical_not(ops.logical_or(over, scores <= _NOTHING / 2))
            failed = ops.logical_or(failed, ops.any(ops.logical_and(bad, alive), axis=1))
            likely = ops.maximum(ops.log_softmax(logits, axis=-1), _NOTHING)
            likely = ops.where(ops.isnan(likely), _NOTHING, likely)
            ended = ops.logical_or(ended, failed[:, None])  # with the steps before the one that failed
            # What has ended goes on in one way alone, which costs nothing.
            once = ops.where(ops.arange(vocabulary) == 0, 0.0, _NOTHING)
            likely = ops.where(ended[..., None], once, likely)
            total = ops.maximum(scores[..., None] + likely, _NOTHING)
            longer = lengths + ops.cast(ops.logical_not(ended), "int32")
            worth = ops.reshape(_worth(ops, total, longer[..., None], penalty), (rows, beams * vocabulary))
            _, best = ops.top_k(worth, beams)
            best = ops.cast(best, "int32")
            parent, token = best // vocabulary, best % vocabulary
            was_ended = ops.take_along_axis(ended, parent, axis=1)
            scores = ops.take_along_axis(ops.reshape(total, (rows, beams * vocabulary)), best, axis=1)
            lengths = ops.take_along_axis(longer, parent, axis=1)
            ended = ops.logical_or(was_ended, lengths >= most[:, None])
            if stops.shape[0]:
                ended = ops.logical_or(ended, ops.any(token[..., None] == stops, axis=-1))
            tokens = ops.slice_update(tokens, (i, 0, 0), token[None])
            parents = ops.slice_update(parents, (i, 0, 0), parent[None])
            leaves = [ops.take(leaf, ops.reshape(first + parent, (-1,)), axis=0) for leaf in leaves]
            x = ops.reshape(ops.cast(token, x.dtype), (rows * beams, 1))
            return i + 1, x, scores, lengths, ended, failed, tokens, parents, leaves, seeds

        def going_on(i, x, scores, lengths, ended, failed, *_):
            return ops.logical_and(
                i < CALL, ops.logical_not(ops.all(_done(ops, scores, lengths, ended, failed, penalty)))
            )

        nothing = ops.zeros((CALL, rows, beams), dtype="int32")
        start = ops.zeros((), dtype="int32"), x, scores, lengths, ended, failed, nothing, nothing, *carry
        i, x, scores, lengths, ended, failed, tokens, parents, *carried = ops.while_loop(going_on, make, start)
        return [x, scores, lengths, ended, failed, i, tokens, parents], type(carry)(*carried)

    return search
