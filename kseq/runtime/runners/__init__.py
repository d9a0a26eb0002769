"""What runs exported files: a module for every format, which imports what it needs when it opens one."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from ...annotations import AnyPath
from ..manifest import MEMBER, Manifest
from ..protocols import Runner as Runner
from ..seal import CHECKSUM, check, check_onnx


def open_runner(path: str | os.PathLike[str]) -> tuple[Manifest, Runner]:
    """The manifest of an exported file and what runs it, by what the file is, whatever its name.

    Raises:
        OSError: a file that cannot be opened.
        ValueError: a file that `kseq.export` did not write, or a damaged one.
        ImportError: what runs the format is not installed.
    """
    path = pathlib.Path(path)
    with of_file(path):
        return _opened(path)


@contextlib.contextmanager
def of_file(path: Any) -> Iterator[None]:
    """Let a file be anything: what runtimes raise of it, in classes of their own, is a ValueError with its name."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} cannot be run: {why}") from error


def _opened(path):
    if path.is_dir():
        from .saved_model import EXTRA, SavedModelRunner

        place = path / EXTRA / MEMBER
        if not place.is_file():
            raise _foreign(path)
        manifest = Manifest.from_bytes(place.read_bytes())
        check(path / "saved_model.pb", (path / EXTRA / CHECKSUM).read_bytes())
        return manifest, SavedModelRunner(path, manifest)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise _foreign(path)
    with path.open("rb") as file:
        start = file.read(8)
    if start[4:8] == b"TFL3":
        from .litert import LiteRTRunner, LiteRTWhole

        manifest = Manifest.from_bytes(member(path, MEMBER))
        return manifest, (LiteRTWhole if manifest.mode == "layer" else LiteRTRunner)(path, manifest)
    if start[:4] == b"PK\3\4":
        from .stablehlo import StableHloRunner

        manifest = Manifest.from_bytes(member(path, MEMBER))
        return manifest, StableHloRunner(path, manifest)
    if start[:1] == b"\x08":  # the version, which is the first of what ONNX's files have
        from .onnxruntime import OnnxRunner

        check_onnx(path)
        runner = OnnxRunner(path)
        return runner.manifest, runner
    raise _foreign(path)


def member(path: AnyPath, name: str) -> bytes:
    """What has a name in a zip file, or behind a model, as `kseq.export` writes it: not compressed.

    Raises:
        OSError: a file that cannot be opened.
        ValueError: another file, or a damaged one.
    """
    import zipfile  # on use: it takes as long to load as the runtime

    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if before := min(info.header_offset for info in archive.infolist()):  # the model
                    check(path, archive.comment, before)
                if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:  # a few bytes that may become gigabytes
                    raise ValueError(f"{name} is compressed")
                return archive.read(name)
        except Exception as error:  # of many classes
            raise _foreign(path) from error


def _foreign(path):
    return ValueError(f"{path} is no file that `kseq.export` has written, or it is damaged or cut off")
