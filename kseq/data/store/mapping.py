"""Files as memory, without a file descriptor each: a store may have more shards than a process may open files."""

import ctypes
import functools
import mmap
import os
import sys

import numpy as np

from ...annotations import AnyPath

_FIXED = 0x10  # MAP_FIXED on Linux, macOS and the BSDs; Python does not name it


def mapped(path: AnyPath) -> mmap.mmap:
    """A file mapped to be read; its descriptor is closed again.

    If another program truncates a file while it is mapped, reading beyond its new end ends the process by SIGBUS: the
    operating system has nothing to give there. kseq itself never shortens a file that has its name.

    Raises:
        OSError: the operating system refuses.
        ValueError: an empty file.
    """
    with open(path, "rb") as file:
        if os.name == "nt":  # which has no such limit
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if sys.version_info >= (3, 13):
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, trackfd=False)
        # Before, Python keeps a descriptor of what it maps, unless it is no file: this one is put in its place.
        size = os.fstat(file.fileno()).st_size
        held = mmap.mmap(-1, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
        address = np.frombuffer(held, np.uint8).ctypes.data
        if _system_call()(address, size, mmap.PROT_READ, mmap.MAP_SHARED | _FIXED, file.fileno(), 0) != address:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(path))
        return held


@functools.cache
def _system_call():
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    return call
