"""What is asked of `generate`, checked."""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import numpy as np

from ..arguments import as_integer, as_integers
from .draws import keys_of, row_seeds
from .predictor import Batch, Predictor
from .prompts import read_prompts
from .sampling import Sampling
from .stops import Stops

_WITHOUT_END = 2**31 - 1
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class GenerateOptions(TypedDict, total=False):
    """Options of `kseq.generate` and `kseq.generate_steps`.

    Attributes:
        temperature, top_k, top_p, min_p, repetition_penalty: how tokens are drawn, as `kseq.Sampling` says; a
            temperature of 0 takes the most likely one.
        sample: a function `sample(outputs, draws)` of the model's outputs [B, block, ...] and of random numbers
            (`draws.uniform(*shape)`, `draws.normal(*shape)`, each [B, *shape]) that gives the next inputs
            [B, block, ...], in `keras.ops`. It is compiled with the loop, and kept as long as the model.
        stop: a token; a list of tokens, or of lists of tokens, any of which ends a row; or a function of the new steps
            of a row so far, in NumPy, that says whether they are the last.
        seed: an integer, of which the rows have this and those that follow; a list of one for each; or `None`, where
            they are drawn.
        start: a step that is put before every prompt: a token that every sequence begins with.
        context: what the model reads as context, by name, as of `kseq.Stream`.
        beams: hypotheses that are kept of each row: with more than 1 the most likely sequence that they find is given,
            and nothing is drawn.
        length_penalty: with beams, the power of its length that the logarithm of a hypothesis' probability is divided
            by.
        draft: a smaller model of the same tokens that goes ahead, so that the model has but to check what it has drawn,
            several steps in one call. The tokens are those without it.
        draft_steps: steps that the draft goes ahead.
    """

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    sample: Callable[..., Any] | None
    stop: Any
    seed: Any
    start: Any
    context: dict[str, Any] | None
    beams: int
    length_penalty: float
    draft: Any
    draft_steps: int


class Request:
    """A model, rows that it goes on with, and how.

    Attributes:
        predictor: the model.
        rows: the prompts, an array [T, ...] each.
        alone: whether one prompt was given, in no list.
        sampling: how tokens are drawn.
        stops: what ends rows.
        most: new steps of each row at most, int64 [B].
        options: as given.

    Raises:
        TypeError: an option that there is not.
        ValueError: what does not fit together.
    """

    predictor: Any
    sampling: Any
    stops: Any
    rows: Any
    alone: bool
    keys: Any
    most: Any

    def __init__(self, model: Any, prompts: Any, max_new_steps: Any, **options: Unpack[GenerateOptions]) -> None:
        unknown = options.keys() - GenerateOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(GenerateOptions.__annotations__)
            raise TypeError(f"options of generation are {known}; received {', '.join(sorted(unknown))}")
        for name, of, chosen in [
            ("draft_steps", "a `draft`", options.get("draft") is not None),
            ("length_penalty", "`beams` of 2 or more", options.get("beams", 1) != 1),
        ]:
            if name in options and not chosen:
                raise ValueError(f"`{name}` is for {of}; received {options[name]!r} without")
        self.options = options
        self.predictor = predictor = Predictor(model, options.get("sample"))
        given: dict[str, Any] = {name: value for name, value in options.items() if name in _SAMPLING}
        self.sampling = Sampling(**given)
        if predictor.vocabulary is None and self.sampling != Sampling():
            raise ValueError(f"{predictor.name} gives no logits of tokens, which {', '.join(given)} would be for")
        single = predictor.vocabulary is not None and not predictor.shape
        self.stops = Stops(options.get("stop"), predictor.vocabulary if single else None)
        self.rows, self.alone = read_prompts(prompts, predictor.shape, predictor.steps_dtype, options.get("start"))
        predictor.check_prompts(self.rows)
        self.keys = keys_of(row_seeds(options.get("seed"), len(self.rows)))
        self.most = self._most(max_new_steps)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of the prompts, int64 [B]."""
        return np.array([len(row) for row in self.rows], np.int64)

    def _most(self, steps):
        if steps is None:
            return None
        count = len(self.rows)
        if not np.ndim(steps):
            return np.full(count, as_integer("`max_new_steps`", steps, least=0), np.int64)
        steps = as_integers("`max_new_steps`", steps)
        if len(steps) != count or (steps < 0).any():
            raise ValueError(
                f"`max_new_steps` must be an integer, or one for each of {count} rows, and not negative; received "
                f"{steps.tolist()}"
            )
        return steps

    def draft(self) -> Predictor | None:
        """The model that goes ahead, if there is one.

        Raises:
            ValueError: one of other tokens, or where there are no single tokens.
        """
        model = self.options.get("draft")
        if model is None:
            return None
        predictor, draft = self.predictor, Predictor(model)
        if predictor.vocabulary is None or predictor.shape or predictor.block > 1:
            raise ValueError(f"a draft is for tokens, one at a time, which {predictor.name} does not give")
        if (draft.vocabulary, draft.shape, draft.block) != (predictor.vocabulary, (), 1):
            raise ValueError(
                f"the draft must be of the {predictor.vocabulary} tokens of {predictor.name}; {draft.name} has "
                f"{'none' if draft.vocabulary is None else draft.vocabulary}"
            )
        draft.check_prompts(self.rows)
        return draft

    def begin(self, predictor: Predictor, context: Any, most: np.ndarray | None) -> tuple[Batch, np.ndarray]:
        """The rows of a model, fed with all but the last block of each, and how many steps each may make.

        Raises:
            ValueError: more steps than the model has room for, or no end to them.
        """
        batch, lengths, block = predictor.batch(len(self.rows), context), self.lengths, predictor.block
        batch.check_room(lengths, "a prompt")
        if most is None:
            room = batch.room()
            if room is None and not self.stops:
                raise ValueError("`max_new_steps` must be given, or `stop`: nothing else would end a row")
            most = np.full(len(lengths), _WITHOUT_END) if room is None else room - lengths + block
        else:
            # What the last step gives is not fed.
            batch.check_room(lengths + np.maximum(-(-most // block) - 1, 0) * block, "a prompt with its new steps,")
        batch.feed([row[:-block] for row in self.rows])
        return batch, most

    @property
    def last(self) -> np.ndarray:
        """The last block of each prompt, [B, block, ...]."""
        return np.stack([row[-self.predictor.block :] for row in self.rows])

    def seen(self) -> np.ndarray | None:
        """Which tokens the prompts have, bool [B, ..., V], where that is asked for."""
        if self.sampling.repetition_penalty is None:
            return None
        seen = np.zeros((len(self.rows), *self.predictor.shape, self.predictor.vocabulary or 0), bool)
        for n, row in enumerate(self.rows):
            for place in np.ndindex(*self.predictor.shape):
                seen[(n, *place)][row[(slice(None), *place)]] = True
        return seen
