"""The `kseq` command: one module per subcommand, each with `add_parser` and what it runs."""

import sys

from ..backend import BackendMissing


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
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["stream"]:
        from . import stream_exported  # which needs no Keras

        if any(map(stream_exported.is_exported, argv[1:])):
            return stream_exported.run(argv[1:])
    try:
        from .commands import run  # the commands need Keras, and Keras a backend
    except BackendMissing as error:
        print(f"kseq: {error}", file=sys.stderr)
        return 1
    return run(argv)
