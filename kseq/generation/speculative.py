"""Speculative decoding: a draft goes ahead, and the model checks several of its steps in one call."""

from typing import Any

import numpy as np
from keras import ops

from ..layers.leaves import leaves
from ..layers.limits import in_numpy, least
from ..sequence import Sequence
from ..streaming.step import StepFunction
from .draws import Draws
from .loop import until_bad, with_tokens
from .predictor import Batch
from .sampling import Sampling, next_tokens


class SpeculativeRows:
    """Rows that make the tokens that they would make without a draft, in fewer calls of the model.

    What is drawn follows from logits and from the random numbers of the row and the step, which the draft shares: it
    draws what the model will draw, as far as it has the model's logits. The model then goes through what the draft has
    drawn in one call, draws at each of these steps itself, and the first token that differs is the model's own. So the
    tokens, drawn or most likely, are those of the model alone.  Source: Leviathan et al., 2022, "Fast Inference from
    Transformers via Speculative Decoding"; Daliri et al., 2024, "Coupling without Communication and Drafter-Invariant
    Speculative Decoding" for the shared noise.

    States go back over what was not to be: by `rollback` where layers remember their steps. Elsewhere the model goes
    through what was right once more, from the state before; of the draft, which makes steps one by one, the states
    after all of them are kept.

    Args:
        batch: states of the model's rows, fed with all but the last token of the prompts.
        draft: those of the draft's.
        last: the last token of each prompt, [B, 1].
        keys: int32 [B], of `draws.keys_of`.
        sampling: how tokens are drawn.
        ahead: steps that the draft goes ahead.
        fed: steps that were fed, int64 [B].
        seen: bool [B, V]: tokens that were in the prompts; needed for a repetition penalty.
    """

    batch: Any
    draft: Any
    keys: Any
    ahead: int
    x: Any
    made: Any
    seen: Any
    form: Any
    numbers: Any

    def __init__(
        self,
        batch: Batch,
        draft: Batch,
        last: np.ndarray,
        keys: np.ndarray,
        sampling: Sampling,
        ahead: int,
        fed: np.ndarray,
        seen: Any = None,
    ) -> None:
        self.batch, self.draft, self.keys, self.ahead = batch, draft, keys, ahead
        self.x, self.made, self.seen = last, np.zeros(len(last), np.int32), [] if seen is None else [seen]
        self.form, self.numbers = sampling.form, sampling.numbers(batch.predictor.vocabulary or 1)
        rooms = [room for room in (batch.room(), draft.room()) if room is not None]
        self._room = np.min(rooms, axis=0) - fed if rooms else np.full(len(last), 2**40)
        self._goes_back = [_goes_back(each.programs.step, ahead) for each in (batch, draft)]

    @property
    def compilations(self) -> int:
        """How often a call had to wait until it was compiled, since the last rows have left."""
        return self.batch.programs.compilations + self.draft.programs.compilations

    def advance(self, steps: int, done: np.ndarray) -> list[tuple[np.ndarray, bool]]:
        """The new tokens of each row, of one round, and whether it has failed after them.

        Args:
            steps: that are wanted; what is made may be more.
            done: bool [B]: rows that need not go on.
        """
        # At the end of what states have room for, nothing goes ahead of what is certain.
        ahead = self.ahead if (self._room > self.ahead)[~done].all() else 0
        shared = self.made, self.keys, self.numbers, *self.seen
        goes_back, draft_goes_back = self._goes_back
        key = ahead, self.form, self.batch.predictor.dtype, self.draft.predictor.dtype
        ahead_fn = _going_ahead(self.draft.predictor.dtype, self.form, ahead, draft_goes_back)
        proposed, *states = self.draft.run(("ahead", draft_goes_back, key), ahead_fn, self.x, *shared)
        check = _checking(self.batch.predictor.dtype, self.form, ahead, goes_back)
        fed = np.concatenate([self.x, ops.convert_to_numpy(proposed)], axis=1)  # [B, ahead + 1]
        found = self.batch.run(("check", goes_back, key), check, fed, *shared)
        tokens, bad, right, *self.seen = map(ops.convert_to_numpy, found[: 3 + len(self.seen)])
        if not goes_back and (right < ahead).any():
            self.batch.carry = self.batch.carry._replace(leaves=found[3 + len(self.seen) :])
            self.batch.feed([row[: count + 1] for row, count in zip(fed, right, strict=True)], _halves(ahead))
        settle = _settling(ahead, draft_goes_back)
        self.draft.run(("settle", draft_goes_back, ahead), settle, right, *states)
        count, rows = right + 1, np.arange(len(right))
        self.x, self.made = tokens[rows, right][:, None], self.made + count
        self._room = self._room - count
        return [until_bad(tokens[n, : count[n]], bad[n, : count[n]]) for n in rows]

    def keep(self, rows: np.ndarray) -> None:
        """Go on with some rows alone."""
        self.batch, self.draft = self.batch.keep(rows), self.draft.keep(rows)
        self.x, self.made, self.keys, self._room = (a[rows] for a in (self.x, self.made, self.keys, self._room))
        self.seen = [part[rows] for part in self.seen]


def _goes_back(step: StepFunction, steps: int) -> bool:
    """Whether states remember so many steps."""
    layer, state = step.layer, step.tree(step.initial_state())
    if layer.rollback_obstacles(state):
        return False
    if least(layer.histories(state)) is None:
        return True
    # How far they go back is known of states that have come so far.
    inputs: Any = Sequence(np.zeros((step.batch_size, steps + 1), np.int32))
    if layer.reads_presence:
        inputs = (inputs, Sequence(np.zeros((step.batch_size, steps + 1), bool)))
    _, after = step.advance(inputs, leaves(state))
    known = in_numpy(least(layer.histories(step.tree(after))))
    return known is not None and bool((known >= steps).all())


def _going_ahead(dtype: str, form: tuple[str, ...], ahead: int, goes_back: bool) -> Any:
    """The computation in which the draft draws tokens, and is fed all of them, the last one too.

    It gives the tokens [B, ahead], and where the draft does not go back the states after each step [ahead + 1, B, ...].
    """

    def go(advance, carry, x, made, keys, numbers, *seen):
        seen, tokens, states = list(seen), [], []
        for i in range(ahead + 1):
            y, carry = advance(Sequence(ops.cast(x, dtype)), carry)
            given = [part[:, None] for part in seen]
            new, _ = next_tokens(form, numbers, y.values, Draws(keys, made + i), *given)
            x = ops.cast(new, x.dtype)
            seen = [with_tokens(part, x) for part in seen]
            tokens.append(x)
            states.append(carry.leaves)
        states = [] if goes_back else [ops.stack(leaf, axis=0) for leaf in zip(*states, strict=True)]
        return [ops.concatenate(tokens, axis=1)[:, :ahead], *states], carry

    return go


def _checking(dtype: str, form: tuple[str, ...], ahead: int, goes_back: bool) -> Any:
    """The computation in which the model draws for itself after each token that it is fed, [B, ahead + 1].

    It gives what it has drawn, where nothing could be, how many tokens of the draft were right, and which were seen. It
    goes back to where it last agreed or, where it cannot, gives the leaves of the state before.
    """

    def check(advance, carry, fed, made, keys, numbers, *seen):
        start = carry.leaves
        y, carry = advance(Sequence(ops.cast(fed, dtype)), carry)
        drawn, bad, before = [], [], list(seen)
        for i in range(ahead + 1):
            given = [part[:, None] for part in before]
            new, wrong = next_tokens(form, numbers, y.values[:, i : i + 1], Draws(keys, made + i), *given)
            drawn.append(new)
            bad.append(wrong if y.mask is None else ops.logical_or(wrong, ops.logical_not(y.mask[:, i])))
            if before and i < ahead:
                before = [with_tokens(before[0], fed[:, i + 1 : i + 2])]
        tokens, bad = ops.concatenate(drawn, axis=1), ops.stack(bad, axis=1)
        agreed = ops.cast(ops.equal(tokens[:, :ahead], ops.cast(fed[:, 1:], "int32")), "int32")
        right = ops.sum(ops.cumprod(agreed, axis=1), axis=1) if ahead else ops.zeros_like(made)
        right = ops.cast(right, "int32")
        if goes_back:
            carry, start = _settled(advance, carry, right, (), ahead, goes_back), []
        return [tokens, bad, right, *_all_seen(seen, tokens, right), *start], carry

    return check


def _halves(steps):
    """Powers of two, from that which is not above a number down to 1."""
    return [2**n for n in reversed(range(steps.bit_length()))]


def _settling(ahead: int, goes_back: bool) -> Any:
    """The computation in which the draft goes back to where the model last agreed."""

    def settle(advance, carry, right, *states):
        return [], _settled(advance, carry, right, states, ahead, goes_back)

    return settle


def _settled(advance, carry, right, states, ahead, goes_back):
    """The carry after as many of the steps ahead as were right, int32 [B]."""
    if goes_back:
        return advance.rollback(carry, ahead - right) if ahead else carry

    def chosen(leaf):
        place = ops.reshape(right, (1, -1, *[1] * (len(leaf.shape) - 2)))
        return ops.take_along_axis(leaf, ops.broadcast_to(place, (1, *leaf.shape[1:])), axis=0)[0]

    return carry._replace(leaves=[chosen(leaf) for leaf in states])


def _all_seen(seen, tokens, right):
    """What was seen before, and the tokens [B, N] that hold: one more than were right."""
    if not seen:
        return []
    hold = ops.arange(tokens.shape[1], dtype="int32")[None, :] <= right[:, None]
    new = ops.logical_and(ops.cast(ops.one_hot(tokens, seen[0].shape[-1]), "bool"), hold[..., None])
    return [ops.logical_or(seen[0], ops.any(new, axis=1))]
