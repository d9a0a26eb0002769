"""`kseq bench`."""

import argparse
import json
import math
import time
from typing import Any

from ..printable import printable
from .arguments import Commands, positive_int
from .models import ModelError, add_arguments, load_model, open_stream

_WARM_UP_PUSHES = 10
_COMPARED_FRAMES = 64


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "bench",
        help="time the step of a model, and compare its modes",
        description="Times the compiled step of a model on random data, and compares the model on a whole sequence "
        "with its stream.",
    )
    add_arguments(parser)
    parser.add_argument("--batch", type=positive_int, default=1, metavar="N", help="streams; default: %(default)s")
    parser.add_argument("--block", type=positive_int, metavar="N", help="frames a step; default: the model's block")
    parser.add_argument("--steps", type=positive_int, default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--step-ms", type=_positive, metavar="MS", help="how long one input frame lasts")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    model = load_model(args)
    results = {"model": args.model} | measure(model, args.batch, args.block, args.steps, args.step_ms)
    if args.json:
        print(json.dumps(results, allow_nan=False))
    else:
        _show(results)
    return 0


def measure(
    model: Any, batch: int = 1, block: int | None = None, steps: int = 200, step_ms: float | None = None
) -> dict[str, Any]:
    """Time the steps of a model and compare its modes; the keys are those that `kseq bench --json` prints.

    Raises:
        ModelError: a model that does not stream, with the reasons, or frames that fill no blocks.
    """
    import keras
    import numpy as np

    from ..show import summary_rows

    stream = open_stream(model, batch)
    timing = stream.timing
    block = block or timing.block_size
    if block % timing.block_size:
        raise ModelError(f"the frames of a step must be a multiple of the block {timing.block_size}; received {block}")
    frames = _random(stream.spec, batch, max(_COMPARED_FRAMES, 4 * block) + timing.input_latency)
    chunk = np.ascontiguousarray(frames[:, :block])

    compile_seconds = _time(stream.push, chunk)
    warm_up = math.ceil(timing.output_latency / (block * timing.ratio)) + _WARM_UP_PUSHES
    for _ in range(warm_up):
        stream.push(chunk)
    seconds = np.array([_time(stream.push, chunk) for _ in range(steps)])
    stream.reset()
    low, median, high = np.percentile(seconds, [10, 50, 90]).tolist()
    whole = summary_rows(model)[-1]
    return {
        "backend": keras.backend.backend(),
        "batch": batch,
        "block": block,
        "steps": steps,
        "step_ms": step_ms,
        "step_us": median * 1e6,
        "step_us_p10": low * 1e6,
        "step_us_p90": high * 1e6,
        "frame_us": median * 1e6 / block,
        "real_time_factor": None if step_ms is None else median * 1e3 / (step_ms * block),
        "latency": {"input_latency": timing.input_latency, "output_latency": timing.output_latency},
        "state_bytes": whole["state_bytes"],
        "compile_seconds": compile_seconds,
        "parameters": whole["parameters"],
        "max_abs_diff": _largest_difference(model, stream, frames, block),
    }


def _time(push, chunk):
    before = time.perf_counter()
    push(chunk)
    return time.perf_counter() - before


def _random(spec, batch, time):
    """Values [batch, time, ...]: normal, or 0 and 1 where they are integers, which every vocabulary has."""
    import numpy as np

    random, shape = np.random.default_rng(0), (batch, time, *spec.shape)
    dtype = np.dtype("float32" if spec.dtype in ("bfloat16", None) else spec.dtype)
    values = random.normal(size=shape) if dtype.kind == "f" else random.integers(0, 2, size=shape)
    return values.astype(dtype)


def _largest_difference(model, stream, frames, block):
    """Between the model on the whole sequence and its stream, at valid outputs; `None` if it is not finite."""
    import keras
    import numpy as np
    from keras import tree

    from .. import Sequence

    # Sequences, since their outputs say which steps are valid.
    parts = [frames[:, i : i + block] for i in range(0, frames.shape[1], block)]
    streamed = Sequence.concatenate([*(stream.push(Sequence(part)) for part in parts), stream.flush()]).with_mask()
    mask = np.ones(frames.shape[:2], bool)
    given = [frames, mask] if len(getattr(model, "inputs", ())) == 2 else frames
    whole = keras.ops.convert_to_numpy(tree.flatten(model(given, training=False))[0])
    difference = np.abs(whole[streamed.mask].astype("float64") - streamed.values[streamed.mask].astype("float64"))
    largest = float(difference.max(initial=0.0))
    return largest if math.isfinite(largest) else None


def _show(results):
    from rich.box import HORIZONTALS
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    latency, factor = results["latency"], results["real_time_factor"]
    difference = results["max_abs_diff"]
    table = Table(box=HORIZONTALS, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    for name, value in {
        "one step, median": f"{results['step_us']:.1f} us",
        "10th and 90th percentile": f"{results['step_us_p10']:.1f} us, {results['step_us_p90']:.1f} us",
        "one input frame": f"{results['frame_us']:.1f} us",
        "real-time factor": "- (give --step-ms)" if factor is None else f"{factor:.4f}",
        "latency, in / out": f"{latency['input_latency']} / {latency['output_latency']} frames",
        "state of one stream": f"{results['state_bytes']:,} bytes",
        "first step, with compiling": f"{results['compile_seconds']:.2f} s",
        "parameters": f"{results['parameters']:,}",
        "largest difference of modes": "not finite" if difference is None else f"{difference:.1e}",
    }.items():
        table.add_row(name, value)
    console = Console()
    console.print(
        Text(
            f"{printable(results['model'])}: {results['steps']} steps of {results['block']} frames, "
            f"{results['batch']} streams, backend {results['backend']}"
        ),
        soft_wrap=True,
    )
    console.print(table)


def _positive(text) -> float:
    """A finite number above 0, or an error that argparse prints."""
    number = float(text)  # argparse words the error where it is no number
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0 and finite; received {text}")
    return number
