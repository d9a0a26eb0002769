"""What the replay of the conformance corpus asks for: `build`. The layers are in `reference.py` and `adapters_*.py`."""

import importlib
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))  # the replay loads this file by its path

from reference import Implementation, build  # noqa: E402

__all__ = ["Implementation", "build"]

for path in sorted(HERE.glob("adapters_*.py")):  # they register their layers
    importlib.import_module(path.stem)
