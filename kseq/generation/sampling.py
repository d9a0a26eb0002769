"""`Sampling`: from logits to the next token."""

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops

from ..arguments import as_integer
from .draws import Draws

# Between these are numbers that float32 has neither as 0 nor as infinite, nor what they divide and multiply.
_RANGE = 1e-30, 1e30


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn of logits, as a pure function of these and of the row's random numbers.

    In this order: the repetition penalty, the temperature, then only what `top_k`, of that what `top_p`, and of that
    what `min_p` leaves. Where several are equally likely at such a limit, all of them stay. Drawn is the largest logit
    after Gumbel noise, that of the row and the step (Gumbel, 1954): who draws of nearly the same logits draws nearly
    always the same.

    Args:
        temperature: divides the logits; at 0 the largest is taken, the first of equal ones.
        top_k: so many of the largest stay.
        top_p: the fewest of the most likely stay that have this probability together (Holtzman et al., 2019, "The
            Curious Case of Neural Text Degeneration").
        min_p: those stay that are at least so likely as this part of the most likely (Nguyen et al., 2024, "Turning Up
            the Heat: Min-p Sampling").
        repetition_penalty: logits of tokens that were there before are divided by it where they are positive, and else
            multiplied (Keskar et al., 2019, "CTRL").

    Raises:
        TypeError: what is no number.
        ValueError: what is out of range.

    Example:
        >>> Sampling(top_k=0)
        Traceback (most recent call last):
        ValueError: `top_k` must be at least 1; received 0
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0, math.inf, "at least 0 and finite")
        if self.top_k is not None:
            as_integer("`top_k`", self.top_k, least=1)
        _check("top_p", self.top_p, 0, 1, "above 0 and at most 1", above=True)
        _check("min_p", self.min_p, 0, 1, "from 0 to 1")
        _check("repetition_penalty", self.repetition_penalty, 0, math.inf, "above 0 and finite", above=True)

    @property
    def form(self) -> tuple[str, ...]:
        """What there is to do: of one form all are compiled alike, whatever their numbers."""
        if not self.temperature:
            return ("penalty",) if self.repetition_penalty is not None else ()
        found = {"top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p, "penalty": self.repetition_penalty}
        return ("temperature", *[name for name, value in found.items() if value is not None])

    def numbers(self, vocabulary: int) -> np.ndarray:
        """All numbers, float32 [5], for `next_tokens`."""
        top_k = min(self.top_k or vocabulary, vocabulary)
        given = self.temperature or 1, top_k, self.top_p, self.min_p, self.repetition_penalty
        given = [1 if number is None else number for number in given]
        return np.array([np.clip(number, *_RANGE) if number else 0 for number in given], np.float32)


def next_tokens(form: tuple[str, ...], numbers: Any, logits: Any, draws: Draws, seen: Any = None) -> tuple[Any, Any]:
    """The next tokens, int32 [B, ...], and in which rows there were logits of which none can be drawn, bool [B].

    Args:
        form, numbers: of a `Sampling`.
        logits: [B, ..., V].
        draws: of the rows at the step.
        seen: bool [B, ..., V] or `None`: tokens that were there before.
    """
    logits = ops.cast(logits, "float32") if form else logits
    bad, axes = cannot_be_drawn(logits), tuple(range(1, len(logits.shape) - 1))
    bad = ops.any(bad, axis=axes) if axes else bad
    if "penalty" in form:
        logits = ops.where(seen, ops.where(logits > 0, logits / numbers[4], logits * numbers[4]), logits)
    if "temperature" in form:
        # It is taken off, so that no temperature makes infinite what is finite.
        most = ops.max(logits, axis=-1, keepdims=True)
        logits = kept(form, numbers, (logits - most) / numbers[0]) + draws.gumbel(*logits.shape[1:])
    return ops.cast(ops.argmax(logits, axis=-1), "int32"), bad


def cannot_be_drawn(logits: Any) -> Any:
    """Where of logits [..., V] nothing can be drawn, bool [...]: one of them is no number, or none is finite."""
    return ops.logical_or(ops.any(ops.isnan(logits), axis=-1), ops.logical_not(ops.isfinite(ops.max(logits, axis=-1))))


def kept(form: tuple[str, ...], numbers: Any, logits: Any) -> Any:
    """Logits [..., V], those that are not to be drawn as low as can be."""
    nothing = -math.inf
    if "top_k" in form:
        place = ops.cast(ops.cast(logits.shape[-1], "float32") - numbers[1], "int32")
        least = ops.take(ops.sort(logits, axis=-1), ops.reshape(place, (1,)), axis=-1)
        logits = ops.where(logits >= least, logits, nothing)
    if "top_p" in form:
        likely = ops.softmax(logits, axis=-1)
        ordered = ops.flip(ops.sort(likely, axis=-1), axis=-1)
        # Those before each, together: the first has none, and stays whatever the number.
        needed = ops.cumsum(ordered, axis=-1) - ordered < numbers[2]
        least = ops.min(ops.where(needed, ordered, 1.0), axis=-1, keepdims=True)
        logits = ops.where(likely >= least, logits, nothing)
    if "min_p" in form:
        most = ops.max(logits, axis=-1, keepdims=True)
        logits = ops.where(logits >= most + ops.log(numbers[3]), logits, nothing)
    return logits


def _check(name, value, least, most, wanted, above=False):
    if value is None and name != "temperature":
        return
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number; received {value!r}")
    if not (least < value if above else least <= value) or value > most or math.isinf(value) or math.isnan(value):
        raise ValueError(f"`{name}` must be {wanted}; received {value!r}")
