"""`kseq stream` of what `kseq export` wrote: without Keras, and at once."""

import argparse
import os
import sys

from .arguments import CommandError, not_there, say
from .pushing import add_stream_arguments, push_all

_SUFFIXES = {".tflite": "litert", ".onnx": "onnx", ".stablehlo": "stablehlo"}
_MANIFEST = os.path.join("assets.extra", "kseq.manifest")
_INTERRUPTED, _PIPE_CLOSED = 130, 141


def is_exported(path: str) -> bool:
    """Whether a path is one of an exported file, or the folder of a SavedModel that `kseq export` wrote."""
    return path.endswith(tuple(_SUFFIXES)) or os.path.isfile(os.path.join(path, _MANIFEST))


def run(argv: list[str]) -> int:
    """Run the command with its arguments, and return the exit status."""
    parser = argparse.ArgumentParser(prog="kseq stream", description="Streams what `kseq export` wrote over frames.")
    parser.add_argument("model", metavar="EXPORTED", help="a .tflite, .onnx or .stablehlo file, or a SavedModel")
    add_stream_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return push_all(args, lambda: _open(args), {"format": _format_of(args.model)})
    except BrokenPipeError:  # whoever reads has enough, as `head` has
        with open(os.devnull, "wb") as nowhere:  # Python would complain on exit, when it flushes what is left
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (OSError, CommandError, ImportError) as error:
        say(f"kseq stream: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _format_of(path):
    return _SUFFIXES.get(os.path.splitext(path)[1], "saved_model")


def _open(args):
    from ..runtime import ExportedStream

    if not os.path.exists(args.model):
        raise not_there(args.model)
    try:
        stream = ExportedStream(args.model)
    except ValueError as error:
        raise CommandError(str(error)) from error
    manifest = stream.manifest
    if manifest.batch_size != 1:
        raise CommandError(
            f"{args.model} is of {manifest.batch_size} streams together, and the command streams one: export it with "
            "`--batch-size 1`"
        )
    if len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        raise CommandError(
            f"{args.model} has {len(manifest.inputs)} inputs and {len(manifest.outputs)} outputs; the command streams "
            "models of one each"
        )
    if args.block and args.block % manifest.block:
        raise CommandError(
            f"--block must be a multiple of the block that {args.model} was exported with, {manifest.block}; received "
            f"{args.block}"
        )
    return stream
