"""`kseq stream`."""

import argparse

from .arguments import Commands
from .models import add_arguments, load_trained, open_stream
from .pushing import add_stream_arguments, push_all


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "stream",
        help="stream a trained model over frames from a file or a pipe, as they arrive",
        description="Streams a trained model over frames and writes each output as soon as it is ready. "
        "In the place of MODEL may stand what `kseq export` wrote, which streams without Keras.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE.weights.h5", help="those of a spec, as `model.save_weights` writes them"
    )
    add_stream_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    import keras

    return push_all(args, lambda: open_stream(load_trained(args)), {"backend": keras.backend.backend()})
