"""What runs exported files: a module for every format, which imports what it needs when it opens one."""

import os
import pathlib

from ..manifest import MEMBER, Manifest
from ..protocols import Runner as Runner


def open_runner(path: str | os.PathLike[str]) -> tuple[Manifest, Runner]:
    """The manifest of an exported file and what runs it, by what the file is, whatever its name.

    Raises:
        OSError: a file that cannot be opened.
        ValueError: a file that `kseq.export` did not write, or a damaged one.
        ImportError: what runs the format is not installed.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        from .saved_model import EXTRA, SavedModelRunner

        place = path / EXTRA / MEMBER
        if not place.is_file():
            raise _foreign(path)
        manifest = Manifest.from_bytes(place.read_bytes())
        return manifest, SavedModelRunner(path, manifest)
    with path.open("rb") as file:
        start = file.read(8)
    if start[4:8] == b"TFL3":
        manifest = _in_zip(path)
        if manifest.mode == "layer":
            from .litert_whole import LiteRTWholeRunner

            return manifest, LiteRTWholeRunner(path, manifest)
        from .litert import LiteRTRunner

        return manifest, LiteRTRunner(path, manifest)
    if start[:4] == b"PK\3\4":
        from .stablehlo import StableHloRunner

        manifest = _in_zip(path)
        return manifest, StableHloRunner(path, manifest)
    if start[:1] == b"\x08":  # the version, which is the first of what ONNX's files have
        from .onnxruntime import OnnxRunner

        runner = OnnxRunner(path)
        return runner.manifest, runner
    raise _foreign(path)


def _in_zip(path):
    import zipfile  # on use: it takes as long to load as the runtime

    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(MEMBER)
    except (KeyError, zipfile.BadZipFile) as error:
        raise _foreign(path) from error
    return Manifest.from_bytes(data)


def _foreign(path):
    return ValueError(f"{path} is no file that `kseq.export` has written, or it is cut off")
