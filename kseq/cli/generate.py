"""`kseq generate`."""

import argparse
import json
import os
import pathlib
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

from ..printable import printable
from .arguments import CommandError, Commands, positive_int
from .models import add_arguments, load_trained

_BESIDE = ".vocabulary.json"


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "generate",
        help="let a trained model of tokens go on from a prompt",
        description="Lets a trained model of tokens go on from a prompt, and prints what it makes as it goes.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE.weights.h5", help="those of a spec, as `model.save_weights` writes them"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--prompt", metavar="TEXT", help="what the model goes on from; - is standard input")
    given.add_argument("--ids", nargs="+", type=int, metavar="ID", help="the same as ids; then ids are printed")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE.json",
        help=f"tokens by id, as `kseq.data.Vocabulary.save` writes them; default: MODEL{_BESIDE} beside MODEL.keras",
    )
    parser.add_argument(
        "--level",
        choices=("char", "word"),
        help="what tokens are; default: char where all of them are of one character",
    )
    parser.add_argument("--begin", action="store_true", help="put the vocabulary's begin in front of the prompt")
    parser.add_argument("--stop", metavar="TEXT", help="end after this text; the vocabulary's end ends it, too")
    parser.add_argument("--max-steps", type=positive_int, default=200, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="X", help="0 for the most likely; default: %(default)s"
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="draw of the N most likely tokens")
    parser.add_argument("--top-p", type=float, metavar="X", help="draw of the fewest that have this probability")
    parser.add_argument("--min-p", type=float, metavar="X", help="draw of those at least X as likely as the likeliest")
    parser.add_argument("--repetition-penalty", type=float, metavar="X", help="above 1 against tokens that were there")
    parser.add_argument("--seed", type=int, metavar="N", help="of what is drawn; default: another each time")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    codec = _Ids() if args.prompt is None else _Tokens(args)
    model = load_trained(args)
    seed = random.getrandbits(31) if args.seed is None else args.seed
    started, rows = time.perf_counter(), []
    try:
        ids = codec.prompt(args)
        _check_fits(model, codec, args)
        for row in _steps(model, ids, codec.stops(args), seed, args, rows):
            if not args.json:
                print(printable(codec.text(row), keep="\n\t"), end="", flush=True)
    except (ValueError, TypeError, FloatingPointError) as error:
        raise CommandError(f"{args.model}: {' '.join(str(error).split())}") from error
    found = rows[0]
    if args.json:
        print(json.dumps(_results(args, codec, found, seed, time.perf_counter() - started)))
    else:
        print(flush=True)
    if found.errors:
        raise CommandError(f"{args.model}: {found.errors[0]}")
    return 0


def _steps(model, ids, stops, seed, args, rows) -> Iterator[Any]:
    """The new tokens, as they are made; in the end what `generate` gives is in `rows`."""
    from ..generation import generate_steps

    names = "temperature", "top_k", "top_p", "min_p", "repetition_penalty"
    options: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    made = generate_steps(model, [ids], args.max_steps, stop=stops, seed=seed, **options)
    while True:
        try:
            yield next(made)[0]
        except StopIteration as end:
            rows.append(end.value)
            return


def _results(args, codec, found, seed, seconds):
    import keras

    return {
        "model": args.model,
        "prompt": args.ids if args.prompt is None else args.prompt,
        "text": codec.text(found[0]),
        "ids": found[0].tolist(),
        "reason": found.reasons[0],
        "steps": len(found[0]),
        "seconds": seconds,
        "seed": seed,
        "backend": keras.backend.backend(),
    }


def _check_fits(model, codec, args):
    """Refuse a vocabulary of more or fewer tokens than the model has."""
    from ..generation.predictor import Predictor

    tokens = Predictor(model).vocabulary
    if tokens is None:
        raise CommandError("the model gives no logits of tokens")
    if codec.size not in (None, tokens):
        raise CommandError(f"the vocabulary has {codec.size} tokens, and the model gives logits of {tokens}")


class _Ids:
    """Ids as they are."""

    size: int | None = None

    def __init__(self) -> None:
        self._between = ""

    def prompt(self, args: Any) -> list[int]:
        return args.ids

    def stops(self, args: Any) -> list[Any]:
        if args.stop is None:
            return []
        try:
            return [[int(part) for part in args.stop.split()]]
        except ValueError:
            raise CommandError(f"--stop with --ids must be of ids; received {args.stop!r}") from None

    def text(self, ids: Any) -> str:
        parts = [str(n) for n in ids]
        text, self._between = self._between * bool(parts) + " ".join(parts), " "
        return text


class _Tokens:
    """Texts by a vocabulary."""

    def __init__(self, args: Any) -> None:
        from ..data.text import Vocabulary, tokenize

        path = args.vocabulary or str(pathlib.Path(args.model).with_suffix("")) + _BESIDE
        if not args.vocabulary and not os.path.exists(path):
            raise CommandError(
                f"{args.model}: a text needs a vocabulary: give --vocabulary FILE.json, or keep it beside the model as "
                f"{path}; or give --ids"
            )
        self._vocabulary = found = Vocabulary.load(path)
        special = {found.pad, found.unk, found.bos, found.eos}
        one = all(len(token) == 1 for token in found if token not in special)
        self._level: Any = args.level or ("char" if one else "word")
        self.size, self._split = len(found), lambda text: tokenize(text, self._level)
        self._begun = False

    def prompt(self, args: Any) -> list[int]:
        text = args.prompt
        if text == "-":
            if sys.stdin is None:
                raise CommandError("the prompt is standard input, which is closed")
            text = sys.stdin.read()
        return self._ids(text, begin=args.begin)

    def stops(self, args: Any) -> list[Any]:
        end = [] if self._vocabulary.eos is None else [self._vocabulary[self._vocabulary.eos]]
        return end if args.stop is None else [*end, self._ids(args.stop)]

    def _ids(self, text, begin=False):
        how = {"unknown": "error", "special": False}
        return self._vocabulary.encode(self._split(text), add_bos=begin, **how).tolist()

    def text(self, ids: Any) -> str:
        """The text of more tokens: between words is a space."""
        tokens = self._vocabulary.decode(ids)
        if self._level == "char":
            return "".join(tokens)
        text, self._begun = " " * (self._begun and bool(tokens)) + " ".join(tokens), self._begun or bool(tokens)
        return text
