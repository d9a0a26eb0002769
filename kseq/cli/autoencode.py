"""`kseq autoencode`."""

import argparse
import json
import pathlib
import time
import zipfile
from typing import IO, Any

import numpy as np

from ..ragged import Ragged
from .arguments import CommandError, Commands, not_there, positive_int, say
from .models import add_arguments, load_model
from .whole import autoencoder_of, saying


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "autoencode",
        help="codes and reconstructions of sequences by a trained autoencoder",
        description="Reads sequences of numbers from a file or a store, and writes the codes that a trained "
        "SequenceAutoencoder has for them, and what it makes of them.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE.npz",
        help="sequences: a .npz file with an array [T, C] for each, or with arrays `values` [N, C] and `offsets` "
        "[B + 1] (rows of a kseq.Ragged); a .npy file [N, T, C]; or the folder of a store",
    )
    parser.add_argument("--codes", metavar="FILE.npy", help="where the codes are written, an array [N, code]")
    parser.add_argument(
        "--output",
        metavar="FILE.npz",
        help="where the outputs are written, an array [U, D] for each sequence under its name",
    )
    parser.add_argument("--batch-size", type=positive_int, default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--max-length", type=positive_int, metavar="N", help="the longest output that is made")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def run(args: argparse.Namespace) -> int:
    for name, suffix in (("codes", ".npy"), ("output", ".npz")):
        path = getattr(args, name)
        if path is not None and pathlib.Path(path).suffix != suffix:
            raise CommandError(f"--{name} must be a file of the kind {suffix}; received {path}")
    if args.codes is None and args.output is None:
        raise CommandError("nothing to write: give --codes, --output or both")
    if args.max_length is not None and args.output is None:
        raise CommandError("--max-length is of --output, which is not given")
    model = autoencoder_of(load_model(args), args)
    if not model.adapted:
        raise CommandError(f"{args.model}: has not been fitted; give one that `kseq train` or `model.save` has saved")
    names, rows = _rows(args.input)
    started, results = time.perf_counter(), {"model": args.model, "sequences": len(rows)}
    with saying(args.input):
        if args.codes is not None:
            codes = model.encode(rows, batch_size=args.batch_size)
            with _opened(args.codes) as file:
                np.save(file, codes)
            results |= {"codes": args.codes, "code_size": codes.shape[1]}
        if args.output is not None:
            made = model.predict(rows, batch_size=args.batch_size, max_length=args.max_length)
            with _opened(args.output) as file:
                write_arrays(file, dict(zip(names, made, strict=True)))
            results |= {"output": args.output, "steps": sum(map(len, made))}
    results["seconds"] = time.perf_counter() - started
    if args.json:
        print(json.dumps(results))
        return 0
    say(f"{len(rows)} sequences in {results['seconds']:.1f} s")
    if args.codes is not None:
        say(f"codes of {results['code_size']} numbers: {args.codes}")
    if args.output is not None:
        say(f"outputs of {results['steps']} steps: {args.output}")
    return 0


def _rows(path) -> tuple[list[str], list[Any]]:
    """Names and sequences of a file or a store."""
    given = pathlib.Path(path)
    if not given.exists():
        raise not_there(given)
    if given.is_dir():
        from .. import data
        from ..models.rows import of_store

        with saying(path):
            rows = of_store(data.open(path), None, "inputs")[0].rows
        return _numbered(rows), rows
    if given.suffix not in (".npz", ".npy"):
        raise CommandError(f"{path}: --input must be a .npz file, a .npy file or a store; received {given.suffix!r}")
    try:
        found: Any = np.load(given, allow_pickle=False)
        arrays = {name: found[name] for name in found} if given.suffix == ".npz" else list(found)
    except Exception as error:  # zipfile, zlib and NumPy each raise their own on what they cannot read
        raise CommandError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(arrays, list):
        return _numbered(arrays), arrays
    if set(arrays) == {"values", "offsets"}:
        with saying(path):
            rows = Ragged(arrays["values"], arrays["offsets"]).rows
        return _numbered(rows), rows
    return list(arrays), list(arrays.values())


def _numbered(rows):
    return [f"arr_{i}" for i in range(len(rows))]


def _opened(path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    return open(path, "wb")


def write_arrays(file: IO[bytes], arrays: dict[str, Any]) -> None:
    """Write arrays under any names as `numpy.load` reads them: `numpy.savez` takes some for its own arguments."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
