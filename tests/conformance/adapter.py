"""What the replay of the conformance corpus asks for: `build`. The layers are in `reference.py` and `adapters_*.py`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # the replay loads this file by its path

import adapters_signal  # noqa: F401 - registers its layers
import adapters_windowed  # noqa: F401 - registers its layers
from reference import Implementation, build

__all__ = ["Implementation", "build"]
