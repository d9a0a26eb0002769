"""`kseq generate`."""

import argparse
import json
import random
import time
from collections.abc import Iterator
from typing import Any

from ..printable import printable
from .arguments import CommandError, Commands, positive_int
from .codec import codec_of
from .models import ModelError, add_arguments, is_spec, load, load_trained

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
        choices=("char", "word", "byte"),
        help="what tokens are; default: byte where there is no vocabulary and the model has 256 tokens, else "
        "char where all tokens are of one character",
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
    parser.add_argument(
        "--draft",
        metavar="FILE.keras",
        help="a smaller model of the same tokens that goes ahead, so that there are fewer calls of the model; the "
        "tokens are those without it",
    )
    parser.add_argument("--draft-steps", type=positive_int, metavar="N", help="tokens that it goes ahead; default: 4")
    parser.add_argument(
        "--beams",
        type=positive_int,
        default=1,
        metavar="N",
        help="look for the most likely text by N hypotheses, and print it in the end; nothing is drawn",
    )
    parser.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="with --beams: the power of its length that the logarithm of a text's probability is divided by; "
        "default: 0",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..generation.predictor import Predictor

    _check_together(args)
    model, draft = load_trained(args), _draft(args)
    seed = random.getrandbits(31) if args.seed is None else args.seed
    started, rows, shown = time.perf_counter(), [], []
    try:
        tokens = Predictor(model).vocabulary
        codec = codec_of(args, tokens, _BESIDE)
        ids = codec.prompt(args)
        _check_fits(tokens, codec)
        for row in _steps(model, ids, codec.stops(args), seed, draft, args, rows):
            shown.append(_show(codec.text(row), args))
        shown.append(_show(codec.rest(), args))
    except CommandError:
        raise
    except (ValueError, TypeError, FloatingPointError) as error:
        raise CommandError(f"{args.model}: {' '.join(str(error).split())}") from error
    found = rows[0]
    if args.json:
        print(json.dumps(_results(args, "".join(shown), found, seed, time.perf_counter() - started)))
    else:
        print(flush=True)
    if found.errors:
        raise CommandError(f"{args.model}: {found.errors[0]}")
    return 0


def _show(text, args):
    if not args.json:
        print(printable(text, keep="\n\t"), end="", flush=True)
    return text


def _steps(model, ids, stops, seed, draft, args, rows) -> Iterator[Any]:
    """The new tokens, as they are made; in the end what `generate` gives is in `rows`."""
    from ..generation import generate, generate_steps

    names = "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "draft_steps", "length_penalty"
    options: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    options |= {"stop": stops, "seed": seed} | ({} if draft is None else {"draft": draft})
    if args.beams > 1:
        rows.append(generate(model, [ids], args.max_steps, beams=args.beams, **options))
        yield rows[0][0]
        return
    made = generate_steps(model, [ids], args.max_steps, **options)
    while True:
        try:
            yield next(made)[0]
        except StopIteration as end:
            rows.append(end.value)
            return


def _check_together(args):
    """Refuse what is of a choice that was not made."""
    for name, value, of, chosen in [
        ("--draft-steps", args.draft_steps, "--draft", args.draft is not None),
        ("--length-penalty", args.length_penalty, "--beams of 2 or more", args.beams > 1),
    ]:
        if value is not None and not chosen:
            raise CommandError(f"{name} is for {of}; received {name} {value} without")


def _draft(args):
    """The model that goes ahead, or `None`."""
    if args.draft is None:
        return None
    if is_spec(args.draft):
        raise ModelError(f"{args.draft}: a draft is a saved model (.keras), since a spec has no trained weights")
    return load(args.draft)


def _results(args, text, found, seed, seconds):
    import keras

    return {
        "model": args.model,
        "prompt": args.ids if args.prompt is None else args.prompt,
        "text": text,
        "ids": found[0].tolist(),
        "reason": found.reasons[0],
        "steps": len(found[0]),
        "seconds": seconds,
        "seed": seed,
        "backend": keras.backend.backend(),
    } | ({} if found.scores is None else {"score": found.scores[0]})


def _check_fits(tokens, codec):
    """Refuse a vocabulary of more or fewer tokens than the model has."""
    if tokens is None:
        raise CommandError("the model gives no logits of tokens")
    if codec.size not in (None, tokens):
        raise CommandError(f"{codec.name} has {codec.size} tokens, and the model gives logits of {tokens}")
