"""The command line, once there is a backend: what each command takes, and what its errors are."""

import argparse
import os
import sys

import kseq

from ..spec import SpecError
from . import (
    autoencode,
    bench,
    check,
    convert,
    data,
    demo,
    doctor,
    draw,
    generate,
    init,
    layers,
    schema,
    show,
    stream,
    train,
)
from .arguments import CommandError, say

_INTERRUPTED, _PIPE_CLOSED = 130, 141  # as a shell tells SIGINT and SIGPIPE
_COMMANDS = (
    init,
    check,
    show,
    doctor,
    convert,
    draw,
    schema,
    layers,
    data,
    train,
    stream,
    generate,
    autoencode,
    bench,
    demo,
)


def run(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status, as `kseq.cli.main` does.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Raises:
        SystemExit: from `argparse`, after `--help` and `--version`, and with status 2 for wrong arguments.

    Example:
        >>> run([])  # doctest: +ELLIPSIS
        usage: kseq ...
        2
    """
    parser = argparse.ArgumentParser(prog="kseq", description="Train Keras models whole, stream them by blocks.")
    parser.add_argument("--version", action="version", version=f"kseq {kseq.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        subparser = command.add_parser(commands)
        subparser.set_defaults(run=command.run, prog=subparser.prog)
    args = parser.parse_args(argv)
    if "run" not in args:
        parser.print_help()
        return 2
    try:
        return args.run(args)
    except SpecError as error:
        say(error, file=sys.stderr)  # each problem begins with its place, as editors want it
        return 1
    except BrokenPipeError:  # whoever reads has enough, as `head` has
        with open(os.devnull, "wb") as nowhere:  # Python would complain on exit, when it flushes what is left
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (OSError, CommandError) as error:
        say(f"{args.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        if not _is_of_data(error):
            raise
        say(f"{args.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _is_of_data(error):
    """Whether it is an error of `kseq.data`, which is not imported where it is not needed."""
    errors = sys.modules.get("kseq.data.errors")
    return errors is not None and isinstance(error, errors.DataError)
