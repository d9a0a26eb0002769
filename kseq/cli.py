"""The `kseq` command."""

import argparse
import json
import sys

import kseq


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Raises:
        SystemExit: from `argparse`, after `--help` and `--version`, and with status 2 for wrong arguments.

    Example:
        >>> main([])  # doctest: +ELLIPSIS
        usage: kseq ...
        2
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if "run" not in args:
        parser.print_help()
        return 2
    return args.run(args)


def _parser():
    parser = argparse.ArgumentParser(prog="kseq", description="Train Keras models whole, stream them by blocks.")
    parser.add_argument("--version", action="version", version=f"kseq {kseq.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    # Each subcommand is one function that adds its parser and names what runs it.
    _add_demo(commands)
    return parser


def _add_demo(commands):
    parser = commands.add_parser(
        "demo",
        help="train on real speech, save, load, and stream the same numbers",
        description="Trains a small causal model on the Japanese Vowels data, saves it, loads it back, and streams "
        "every test utterance frame by frame from the loaded model.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", metavar="DIR", help="where files go; by default a new temporary folder")
    parser.add_argument("--epochs", type=_positive, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.set_defaults(run=_demo)


def _demo(args):
    from . import demo  # on use: it loads the data set's reader

    options = {"out": args.out, "epochs": args.epochs, "seed": args.seed}
    try:
        if args.json:
            results = demo.run(**options, report=lambda text: None, verbose=0)
            print(json.dumps(results, allow_nan=False))
        else:
            demo.run(**options)
    except OSError as error:
        print(f"kseq demo: {error}", file=sys.stderr)
        return 1
    return 0


def _positive(text):
    number = int(text)  # argparse words the error where it is no number
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
