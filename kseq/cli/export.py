"""`kseq export`."""

import argparse
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from ..deploy.entry import FORMATS
from .arguments import CommandError, Commands, positive_int, say
from .models import ModelError, add_arguments, load_trained


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "export",
        help="write the step of a trained model as a file that runs without Keras",
        description="Writes the step of a trained model for LiteRT, onnxruntime, tensorflow or jax, and compares what "
        "the file gives with what the model gave. `kseq stream` streams it.",
    )
    add_arguments(parser)
    parser.add_argument("output", metavar="OUT", help="the file: .tflite, .onnx, .stablehlo, or a folder")
    parser.add_argument("--weights", metavar="FILE.weights.h5", help="those of a spec")
    parser.add_argument("--format", choices=list(FORMATS), help="by default the ending of OUT says")
    parser.add_argument("--mode", choices=("step", "layer"), default="step", help="layer: whole sequences")
    parser.add_argument("--length", type=positive_int, metavar="N", help="of whole sequences; by default any")
    parser.add_argument("--batch-size", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--block", type=positive_int, metavar="N", help="frames of a call; default: the model's block")
    precisions = dict.fromkeys(p for form in FORMATS.values() for p in form.precisions)
    parser.add_argument("--precision", choices=list(precisions), help="of the weights; default: float32")
    parser.add_argument(
        "--calibration",
        metavar="FILE.npy|FILE.npz",
        help="for int8: sequences [T, ...] or [B, T, ...] whose values are like those to come; of a model of several "
        "inputs an array for each, by its name",
    )
    parser.add_argument("--state", choices=("inputs", "variables"), default="inputs", help="default: %(default)s")
    parser.add_argument("--masks", action="store_true", default=None, help="a call takes masks")
    parser.add_argument(
        "--context",
        type=_named_file,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE.npy",
        help="what the model reads as context",
    )
    parser.add_argument("--max-length", type=positive_int, default=1024, metavar="N", help="default: %(default)s")
    parser.add_argument("--window", type=positive_int, metavar="N", help="of stock attention to all of the past")
    parser.add_argument("--overwrite", action="store_true", help="write over what is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    import kseq

    output = pathlib.Path(args.output)
    if output.exists() and not args.overwrite:
        raise CommandError(f"{output}: there is something of this name; --overwrite writes over it")
    calibration = None if args.calibration is None else _loaded(args.calibration)
    context = {name: _array(path) for name, path in args.context} or None
    model = load_trained(args)
    try:
        manifest = kseq.export(
            model,
            output,
            args.format,
            args.batch_size,
            args.block,
            args.precision,
            None if calibration is None else _chunks(calibration, model),
            mode=args.mode,
            length=args.length,
            state=args.state,
            masks=args.masks,
            context=context,
            max_length=args.max_length,
            window=args.window,
        )
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise ModelError(f"{args.model}: {error}") from error
    results = {
        "output": str(output),
        "format": manifest.format,
        "mode": manifest.mode,
        "precision": manifest.precision,
        "bytes": _size(output),
        "batch_size": manifest.batch_size,
        "block": manifest.block,
        "inputs": [port.name for port in manifest.inputs],
        "outputs": [port.name for port in manifest.outputs],
        "state": [leaf.name for leaf in manifest.state],
        **_compared(output),
    }
    if args.json:
        print(json.dumps(results, allow_nan=False))
    else:
        _show(results)
    return 0


def _compared(output) -> dict[str, Any]:
    """How far the file is from the model on its golden data, or why that is not known."""
    from ..runtime.golden import golden_error
    from ..runtime.runners import open_runner

    try:
        opened = open_runner(output)
    except (ImportError, ValueError) as error:  # nothing here runs it, or not as this process is set up
        return {"error": None, "not_compared": str(error)}
    try:
        error = golden_error(*opened)
    except ValueError as error:
        raise ModelError(f"{output}: {error}") from error
    if error == float("inf"):
        raise ModelError(f"{output}: gives numbers of its golden data that are not finite, where its model gave others")
    return {"error": error}


def _show(results):
    error = results["error"]
    far = f"not compared: {results['not_compared']}" if error is None else f"{error:.1e} from the model, relatively"
    what = "step" if results["mode"] == "step" else "whole sequences"
    block = f", block {results['block']}" if results["block"] else ""
    say(
        f"{results['output']}: {what} in {results['format']}, {results['precision']}, {results['bytes']:,} bytes, "
        f"{results['batch_size']} streams{block}, {len(results['state'])} tensors of state; {far}"
    )


def _size(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _named_file(text):
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise argparse.ArgumentTypeError(f"must be NAME=FILE.npy; received {text!r}")
    return name, path


def _array(path):
    found = _loaded(path)
    if not isinstance(found, np.ndarray):
        raise CommandError(f"{path}: must be one array (.npy); received several")
    return found


def _chunks(found, model) -> list[Any]:
    """Chunks as `push` takes them: one of each array; of a model of several inputs one of them all."""
    if isinstance(found, np.ndarray):
        return [found]
    return [found] if len(getattr(model, "inputs", ())) > 1 else list(found.values())


def _loaded(path):
    """An array, or several by name; nothing in the file is run as code."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else dict(found)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CommandError(f"{path}: no arrays of NumPy (.npy or .npz): {error}") from error
