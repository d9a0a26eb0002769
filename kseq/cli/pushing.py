"""A stream over frames from a file or a pipe, whatever runs it. Needs no Keras."""

import argparse
import collections
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from .arguments import CommandError, positive_float, positive_int
from .frames import FORMATS, RAW, FramesError, open_frames
from .writers import Watched, open_writer

# The latest pushes, of which the median is told: a stream may never end.
_TIMED_PUSHES = 10_000


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is streamed, and to where."""
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE|-",
        help="NPY array [T, ...] or [1, T, ...], or PCM WAV (as float32 from -1 to 1, [T, channels]); - is standard "
        "input, where what is neither is raw little-endian values of the model's input dtype",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE.npy|-",
        help="NPY array [U, ...], there when all is done; - is raw little-endian values to standard output, at once",
    )
    parser.add_argument("--block", type=positive_int, metavar="N", help="frames at a time; default: the model's block")
    parser.add_argument(
        "--dtype",
        choices=list(RAW),
        help="of raw values, little-endian; integers become floats from -1 to 1, as those of WAV do, where the model "
        "takes floats; default: the model's",
    )
    parser.add_argument(
        "--rate", type=positive_float, metavar="HZ", help="frames a second, for the real time factor; default: WAV's"
    )
    parser.add_argument("--format", choices=FORMATS, default="auto", help="of the input; default: by its first bytes")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object at the end (to standard error with --output -)"
    )


def push_all(args: argparse.Namespace, open_stream: Callable[[], Any], said: dict[str, Any]) -> int:
    """Stream all of the input, and print what `--json` asks for.

    Args:
        args: of `add_stream_arguments`.
        open_stream: gives the stream.
        said: what is printed of it besides.
    """
    results = _stream(args, open_stream) | said
    if args.json:
        out = sys.stderr if args.output == "-" else sys.stdout
        print(json.dumps(results, allow_nan=False), file=out, flush=True)
    return 0


def _stream(args, open_stream):
    """Stream all of the input and return what `--json` prints."""
    if args.dtype and args.format not in ("auto", "raw"):
        raise FramesError(f"--dtype is for raw values; received --format {args.format}")
    if args.output == "-" and sys.stdout.isatty():
        raise FramesError("the output is bytes, which a terminal cannot show: give --output FILE.npy, or a pipe")
    with _open_input(args.input) as file, Watched(open_writer(args.output)) as writer:
        stream = open_stream()
        kind = "raw" if args.dtype else args.format
        frames = open_frames(file, stream.spec, kind, raw_if_unknown=args.input == "-", raw=args.dtype)
        block = args.block or stream.timing.block_size
        seconds, done = collections.deque(maxlen=_TIMED_PUSHES), 0
        started = time.perf_counter()
        with _progress(frames.length) as advance:
            while True:
                chunk = frames.read(block)
                before = time.perf_counter()
                with _refused():
                    outputs = stream.push(chunk)
                if len(chunk):
                    seconds.append(time.perf_counter() - before)
                    done += len(chunk)
                    advance(done, seconds[-1])
                writer.write(outputs)
                if len(chunk) < block:
                    break
            with _refused():
                outputs = stream.flush()
            writer.write(outputs)
    seconds_in_all, rate = time.perf_counter() - started, args.rate or frames.rate
    return {
        "frames": done,
        "outputs": writer.length,
        "block": block,
        "step_us": statistics.median(seconds) * 1e6 if seconds else None,
        "seconds": seconds_in_all,
        "real_time_factor": sum(seconds) * rate / (len(seconds) * block) if rate and seconds else None,
        "latency": {
            "input_latency": stream.timing.input_latency,
            "output_latency": stream.timing.output_latency,
        },
        "output": args.output,
    }


@contextlib.contextmanager
def _refused():
    """What a stream does not take, such as more steps than a layer has room for, as the command's error."""
    try:
        yield
    except ValueError as error:
        raise CommandError(" ".join(str(error).split())) from error


def _open_input(name):
    if name != "-":
        return open(name, "rb")
    if sys.stdin is None:
        raise FramesError("the input is standard input, which is closed")
    return contextlib.nullcontext(sys.stdin.buffer)


@contextlib.contextmanager
def _progress(total):
    """A function of (frames done, seconds of the last step) that shows both on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, seconds: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = MofNCompleteColumn(), TextColumn("frames"), BarColumn(), TextColumn("{task.fields[step]}")
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, step="")
        yield lambda done, seconds: progress.update(task, completed=done, step=f"{seconds * 1e6:.0f} us a step")
