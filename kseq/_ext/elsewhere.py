"""Kernels for a source tree in which none were built: those of a kseq that is installed from the same sources."""

import importlib.machinery
import pathlib
import sys


def find_kernels(here, places=None):
    """Where the compiled kernels for a source tree lie, and what is wrong if there are none.

    Python in a checkout imports the checkout, not what `pip install .` has installed from it. Kernels that were
    compiled from the very same files serve both.

    Args:
        here: the folder of `kseq._ext` that was imported.
        places: folders of packages; by default `sys.path`.

    Returns:
        A folder to look for kernels in, or None; and a text for the warning that kernels are missing, or None.
    """
    here = pathlib.Path(here)
    if _compiled(here):
        return None, None
    advice = None
    for place in sys.path if places is None else places:
        there = pathlib.Path(place or ".", "kseq", "_ext")
        if there.is_dir() and not there.samefile(here) and _compiled(there):
            if _sources(there) == _sources(here):
                return there, None
            advice = advice or (
                f"Python took the source tree {here.parent}, which hides the kseq that is installed in {there.parent} "
                "and was built from other sources. Start Python in another folder, or build the tree: "
                "pip install -e ."
            )
    return None, advice


def _compiled(folder):
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    return any(path.name.endswith(suffixes) for path in folder.iterdir())


def _sources(folder):
    return {path.name: path.read_bytes() for pattern in ("*.pyx", "*.pxd") for path in folder.glob(pattern)}
