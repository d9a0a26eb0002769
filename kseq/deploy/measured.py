"""How far a file of fewer bits is from its model: measured when it is written, and stated in its manifest."""

import contextlib
import dataclasses
import pathlib
import warnings
from collections.abc import Callable

from ..runtime.golden import golden_error
from ..runtime.manifest import Manifest
from ..runtime.runners import open_runner
from .quiet import quiet

# What a number of each precision is rounded by at most, as a part of itself, or of the largest beside it.
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-9, "int8_dynamic": 2.0**-8, "int8": 2.0**-8}
# Roundings that add up in a deep network. What is farther off is no rounding, but ranges that numbers do not fit.
_ROUNDINGS = 20


def bound(precision: str) -> float:
    """The error, as a part of the largest output, above which a file does not hold its model."""
    return _ROUNDINGS * _ROUNDING[precision]


def save_measured(save: Callable[[Manifest], object], manifest: Manifest, target: pathlib.Path) -> Manifest:
    """Save a file with its manifest; of fewer bits again, with the error of its golden data in there, and give that.

    Args:
        save: writes the file with a manifest.
        manifest: of it.
        target: the file.
    """
    save(manifest)
    if manifest.precision == "float32":
        return manifest
    with contextlib.suppress(ImportError), quiet():  # what runs the file need not be where it is written
        manifest = dataclasses.replace(manifest, golden_error=golden_error(*open_runner(target)))
        save(manifest)
    return manifest


def warn_if_far(manifest: Manifest, path: pathlib.Path) -> None:
    """Warn of a file whose error is above the bound of its precision."""
    error = manifest.golden_error
    if error is None or error <= bound(manifest.precision):
        return
    advice = {"int8": "'int8_dynamic', or calibration data more like those to come", "int8_dynamic": "'float16'"}
    warnings.warn(
        f"{path} is off by {error:.2g} of the largest output, on the golden data in it; of precision "
        f"{manifest.precision!r} it should be within {bound(manifest.precision):.2g}: try "
        f"{advice.get(manifest.precision, repr('float32'))}",
        stacklevel=4,  # who called `export`
    )
