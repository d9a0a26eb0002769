"""`generate` and `generate_steps`: sequences that a model goes on with."""

from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np

from ..arguments import as_integer
from .beam import beam_search
from .driver import Driver
from .loop import SampledRows
from .prompts import Generated
from .request import GenerateOptions, Request
from .speculative import SpeculativeRows


def generate(model: Any, prompts: Any, max_new_steps: Any = None, **options: Unpack[GenerateOptions]) -> Any:
    """Let a streamable model go on from prompts: each new step is drawn of the output for those before, and fed.

    A model of integers [B, T] (or [B, T, ...]) that gives logits [B, T, V] (or [B, T, ..., V]) generates tokens; one
    that gives the shape that it reads generates its own next input, as does with `sample` any other. Its outputs must
    not come late. Prompts may be of any lengths: each row goes through its own steps alone, in the calls in which it
    would without the others, and has random numbers that follow from its seed and the number of the step. So it makes
    the same steps in any batch (but for rounding, where two tokens are as good as equally likely).

    Steps are made on the device, many of them in one compiled call; what is compiled is kept for later calls. Rows that
    have ended leave the batch where that halves it.

    Args:
        model: a kseq layer, or a Keras model of streamable layers, built.
        prompts: one row, an array or list [T, ...]; or several, of any lengths: a list of them, a `kseq.Ragged`, an
            array [B, T, ...] or a `kseq.Sequence`.
        max_new_steps: new steps of a row at most, an integer or one for each row; `None` where a limit of the model
            (`max_length` of an attention) or `stop` is to end it.
        **options: how steps are drawn, what ends a row, and more: see `kseq.generation.GenerateOptions`.

    Returns:
        The new steps, without the prompt and with those that ended the row: of one prompt an array [N, ...]; of several
        a list of them, `kseq.generation.Generated`, which says how each row has ended. A row whose logits are not
        finite ends with an error, and the others go on.

    Raises:
        ValueError: a model that cannot generate; a prompt without steps, of tokens that there are not, or longer than
            the model has room for; options out of range or that exclude each other; a draft model of another
            vocabulary.
        FloatingPointError: of one prompt, logits that are not finite.
        TypeError: neither a kseq layer nor a Keras model, a prompt that is not of numbers, or an unknown option.

    Example:
        >>> import kseq, keras
        >>> layers = [kseq.Embedding(5, 4), kseq.GRU(4), kseq.Dense(5)]
        >>> model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
        >>> tokens = kseq.generate(model, [[1, 2, 3], [4]], 6, temperature=0.8, seed=1)
        >>> [row.shape for row in tokens], tokens.reasons
        ([(6,), (6,)], ['length', 'length'])
    """
    request = Request(model, prompts, max_new_steps, **options)
    beams = as_integer("`beams`", options.get("beams", 1), least=1)
    if beams > 1:
        return _formed(request, beam_search(request, beams))
    driver = _driver(request)
    for _ in driver.run(shown=False):
        pass
    return _formed(request, driver.result())


def generate_steps(
    model: Any, prompts: Any, max_new_steps: Any = None, **options: Unpack[GenerateOptions]
) -> Iterator[Any]:
    """`generate`, as it goes: the new steps in the order in which they are made, some at a time.

    Args:
        model, prompts, max_new_steps: as of `generate`.
        **options: as of `generate`, but for `beams`, whose sequences are known in the end.

    Yields:
        Of one prompt arrays [n, ...] of new steps; of several a list of them, one for each row, some without steps.
        What the generator returns in the end is what `generate` does.

    Raises:
        ValueError, FloatingPointError, TypeError: as of `generate`; it is checked when the first steps are asked for.

    Example:
        >>> import kseq, keras, numpy as np
        >>> layers = [kseq.Embedding(5, 4), kseq.GRU(4), kseq.Dense(5)]
        >>> model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
        >>> np.concatenate(list(kseq.generate_steps(model, [1, 2], 20, temperature=0))).shape
        (20,)
    """
    if options.get("beams", 1) != 1:
        raise ValueError(f"`generate_steps` has no beams, whose sequences are known in the end; received {options}")
    request = Request(model, prompts, max_new_steps, **options)
    driver = _driver(request)
    for new in driver.run(shown=True):
        yield new[0] if request.alone else new
    return _formed(request, driver.result())


def _driver(request):
    predictor, draft, context = request.predictor, request.draft(), request.options.get("context")
    batch, most = request.begin(predictor, context, request.most)
    drawn = request.keys, request.sampling
    if draft is None:
        rows = SampledRows(batch, request.last, *drawn, request.stops.tokens, request.seen())
    else:
        context = {name: context[name] for name in draft.layer.context_names} if context else None
        ahead, _ = request.begin(draft, context, most)
        steps = as_integer("`draft_steps`", request.options.get("draft_steps", 4), least=1)
        rows = SpeculativeRows(batch, ahead, request.last, *drawn, steps, request.lengths - 1, request.seen())
    return Driver(rows, most, request.stops)


def _formed(request: Request, generated: Generated) -> Generated | np.ndarray:
    if not request.alone:
        return generated
    if generated.errors:
        raise FloatingPointError(generated.errors[0])
    return generated[0]
