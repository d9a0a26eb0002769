"""Beam search: the most likely sequence of several that are kept of each row."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from ..sequence import Sequence
from .driver import TOGETHER, staying
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
    compared is the logarithm of the probability, divided by the number of steps to the power of `length_penalty`. A row
    that is done changes no more, and leaves the batch where that halves it.
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
    batch = batch.keep(np.repeat(np.arange(batch.size), beams))
    search = _Search(batch, request.last, most, stops.tokens, float(penalty), beams)
    search.run()
    return search.result()


class _Hypotheses(NamedTuple):
    """The best ones of rows.

    Attributes:
        last: the last token of each, int32 [B, beams].
        scores: logarithms of their probabilities, float32 [B, beams].
        lengths: how many steps they have, int32 [B, beams].
        ended: whether they have ended, bool [B, beams].
        failed: whether nothing can be drawn of the outputs of one that goes on, bool [B].
    """

    last: Any
    scores: Any
    lengths: Any
    ended: Any
    failed: Any


class _Search:
    """Hypotheses of rows, and where they came from."""

    def __init__(
        self, batch: Batch, last: np.ndarray, most: np.ndarray, stops: np.ndarray, penalty: float, beams: int
    ) -> None:
        self.batch, self.stops, self.penalty, self.beams = batch, stops, np.float32(penalty), beams
        self.most, count = np.minimum(most, 2**31 - 1).astype(np.int32), len(most)
        self.found = _Hypotheses(
            np.repeat(last.astype(np.int32), beams, axis=1),
            np.tile(np.array([0] + [_NOTHING] * (beams - 1), np.float32), (count, 1)),
            np.zeros((count, beams), np.int32),
            np.repeat(self.most[:, None] < 1, beams, axis=1),
            np.zeros(count, bool),
        )
        # What was added to which hypothesis: tokens and parents of all rows, call by call [steps, B, beams].
        self.calls: list[tuple[np.ndarray, np.ndarray]] = []
        # The row that each one of the batch is; some may be there twice.
        self.numbers = np.arange(count)

    def run(self) -> None:
        """Go on until all rows are done."""
        vocabulary = self.batch.predictor.vocabulary
        key, search = ("beams", self.beams, vocabulary), _searching(vocabulary, self.batch.predictor.dtype)
        limit = np.int32(TOGETHER if len(self.most) > 1 else CALL)
        while not (done := _done(np, self.found, self.penalty)).all():
            self._leave(np.flatnonzero(~done))
            given = limit, self.penalty, self.most[self.numbers], self.stops, *(x[self.numbers] for x in self.found)
            made = self.batch.run(key, search, *given)
            count, tokens, parents, *found = map(ops.convert_to_numpy, made)
            rows, places = np.unique(self.numbers, return_index=True)
            for whole, part in zip(self.found, found, strict=True):
                whole[rows] = part[places]
            shape = (int(count), *self.found.ended.shape)
            call = np.zeros(shape, np.int32), np.broadcast_to(np.arange(self.beams), shape).copy()
            for whole, part in zip(call, (tokens, parents), strict=True):
                whole[:, rows] = part[:count, places]
            self.calls.append(call)

    def _leave(self, live):
        """Let rows that are done leave the batch."""
        left = self.most[live] - self.found.lengths[live].max(axis=1)
        places = staying(self.numbers, live, int(left.max()))
        if places is not None:
            hypotheses = (places[:, None] * self.beams + np.arange(self.beams)).reshape(-1)
            self.batch, self.numbers = self.batch.keep(hypotheses), self.numbers[places]

    def result(self) -> Generated:
        """The best hypothesis of every row, by the way back from it."""
        _, scores, lengths, ended, failed = self.found
        worth, rows = _worth(np, scores, lengths, self.penalty), np.arange(len(self.most))
        best = np.argmax(np.where(ended | failed[:, None], worth, -np.inf), axis=1)
        beam, steps = best, []
        for call in reversed(self.calls):
            for tokens, parents in reversed(list(zip(*call, strict=True))):
                steps.append(tokens[rows, beam])
                beam = parents[rows, beam]
        made = np.array(steps[::-1], np.int32).reshape(len(steps), len(rows)).T
        sequences = [made[n, : lengths[n, best[n]]] for n in rows]
        stopped = [len(s) and s[-1] in self.stops for s in sequences]
        reasons = ["error" if f else "stop" if s else "length" for f, s in zip(failed, stopped, strict=True)]
        errors = {int(n): "the model's output is not finite, or not valid" for n in np.flatnonzero(failed)}
        return Generated(sequences, reasons, errors, [float(score) for score in worth[rows, best]])


def _worth(np_, scores, lengths, penalty):
    """What hypotheses are compared by."""
    steps = np_.maximum(np_.cast(lengths, "float32") if np_ is ops else lengths, 1)
    return np_.where(scores > _NOTHING / 2, scores / steps**penalty, _NOTHING)


def _done(np_, found, penalty):
    """Rows of which nothing better will be found, bool [B]."""
    _, scores, lengths, ended, failed = found
    over = np_.logical_or(ended, scores <= _NOTHING / 2)
    worth = _worth(np_, scores, lengths, penalty)
    # Without a penalty what goes on is worth less with every step.
    best = np_.max(np_.where(ended, worth, _NOTHING), axis=1) >= np_.max(worth, axis=1)
    return np_.logical_or(failed, np_.logical_or(np_.all(over, axis=1), np_.logical_and(best, penalty == 0)))


def _searching(vocabulary: Any, dtype: str) -> Any:
    """The computation that makes steps of all hypotheses."""

    def search(advance, carry, limit, penalty, most, stops, *found):
        rows, beams = found[0].shape
        places = ops.arange(beams, dtype="int32")
        first = ops.arange(rows, dtype="int32")[:, None] * beams  # of each row among all hypotheses

        def make(i, found, tokens, parents, *carried):
            x = ops.cast(ops.reshape(found[0], (rows * beams, 1)), dtype)
            y, (leaves, seeds) = advance(Sequence(x), type(carry)(*carried))
            valid = None if y.mask is None else ops.reshape(y.mask, (rows, beams))
            parent, found = follow(ops.reshape(y.values, (rows, beams, vocabulary)), valid, _Hypotheses(*found))
            tokens = ops.slice_update(tokens, (i, 0, 0), found.last[None])
            parents = ops.slice_update(parents, (i, 0, 0), parent[None])
            leaves = [ops.take(leaf, ops.reshape(first + parent, (-1,)), axis=0) for leaf in leaves]
            return i + 1, tuple(found), tokens, parents, leaves, seeds

        def follow(logits, valid, old):
            """Which hypotheses are gone on with, and what comes of them."""
            bad, scores = cannot_be_drawn(logits), old.scores
            bad = bad if valid is None else ops.logical_or(bad, ops.logical_not(valid))
            alive = ops.logical_not(ops.logical_or(old.ended, scores <= _NOTHING / 2))
            done = _done(ops, old, penalty)
            wrong = ops.logical_and(ops.any(ops.logical_and(bad, alive), axis=1), ops.logical_not(done))
            likely = ops.maximum(ops.log_softmax(ops.cast(logits, "float32"), axis=-1), _NOTHING)
            likely = ops.where(ops.isnan(likely), _NOTHING, likely)
            # What has ended goes on in one way alone, which costs nothing.
            once = ops.where(ops.arange(vocabulary) == 0, 0.0, _NOTHING)
            likely = ops.where(old.ended[..., None], once, likely)
            total = ops.maximum(scores[..., None] + likely, _NOTHING)
            longer = old.lengths + ops.cast(ops.logical_not(old.ended), "int32")
            worth = ops.reshape(_worth(ops, total, longer[..., None], penalty), (rows, beams * vocabulary))
            best = ops.cast(ops.top_k(worth, beams)[1], "int32")
            parent, token = best // vocabulary, best % vocabulary
            lengths = ops.take_along_axis(longer, parent, axis=1)
            ended = ops.logical_or(ops.take_along_axis(old.ended, parent, axis=1), lengths >= most[:, None])
            if stops.shape[0]:
                ended = ops.logical_or(ended, ops.any(token[..., None] == stops, axis=-1))
            scores = ops.take_along_axis(ops.reshape(total, (rows, beams * vocabulary)), best, axis=1)
            failed = ops.logical_or(old.failed, wrong)
            # A row that is done, or has failed in this step, stays what it was.
            stays = ops.logical_or(done, failed)[:, None]
            new = zip((token, scores, lengths, ended), old, strict=False)
            last, scores, lengths, ended = (ops.where(stays, before, after) for after, before in new)
            return ops.where(stays, places, parent), _Hypotheses(last, scores, lengths, ended, failed)

        def going_on(i, found, *_):
            return ops.logical_and(i < limit, ops.logical_not(ops.all(_done(ops, found, penalty))))

        nothing = ops.zeros((CALL, rows, beams), dtype="int32")
        start = ops.zeros((), dtype="int32"), found, nothing, nothing, *carry
        i, found, tokens, parents, *carried = ops.while_loop(going_on, make, start)
        return [i, tokens, parents, *found], type(carry)(*carried)

    return search
