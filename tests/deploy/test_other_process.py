"""A file that another backend writes: what goes there, what comes back, and what is left when it goes wrong."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import kseq
from kseq.deploy import child
from kseq.deploy.custom import main_module, register

TODAYS = {"jax": 0.1, "tensorflow": 0.1, "torch": 0.5}
# A format of another backend than this.
OTHER = "saved_model" if keras.backend.backend() == "jax" else "stablehlo"

SCRIPT = """
import keras, kseq, sys

def main():
    layer = kseq.Serial([kseq.Lambda(twice), kseq.GRU(2)])
    layer.build((None, None, 3))
    kseq.export(layer, sys.argv[1], sys.argv[2])

@keras.saving.register_keras_serializable("tests")
def twice(x):
    return 2 * x

"""


def built(layer, channels=3):
    layer.build((None, None, channels))
    return layer


def needs(format):
    package = {"saved_model": "tensorflow", "stablehlo": "jax"}[format]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{format} needs {package}")


def test_a_layer_goes_as_data_with_its_weights_and_context(tmp_path):
    needs(OTHER)
    layer = built(kseq.Serial([kseq.Conv1D(4, 3, name="conv"), kseq.GRU(2, name="memory")]))
    path = tmp_path / "step"
    kseq.export(layer, path, OTHER, batch_size=2, block=2)
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    stream, other = kseq.ExportedStream(path), kseq.Stream(layer, batch_size=2)
    found = np.concatenate([stream.push(x), stream.flush()], axis=1)
    np.testing.assert_allclose(found, np.concatenate([other.push(x), other.flush()], axis=1), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def run(path, *arguments):
    root = pathlib.Path(kseq.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, path, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


def test_a_script_that_exports_wherever_it_is_imported_is_told(tmp_path):
    needs(OTHER)
    (tmp_path / "script.py").write_text(SCRIPT + "main()\n")
    done = run(tmp_path / "script.py", tmp_path / "step", OTHER)
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]  # nothing half-written


def test_what_a_script_defines_is_there(tmp_path):
    needs(OTHER)
    (tmp_path / "script.py").write_text(SCRIPT + "if __name__ == '__main__':\n    main()\n")
    done = run(tmp_path / "script.py", tmp_path / "step", OTHER)
    assert done.returncode == 0, done.stderr[-2000:]
    assert kseq.ExportedStream(tmp_path / "step").push(np.ones((3, 3), "float32")).shape == (3, 2)


def test_a_backend_that_is_not_there_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(child.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"kseq\[export\]"):
        kseq.export(built(kseq.GRU(2)), tmp_path / "step", OTHER)
    assert not list(tmp_path.iterdir())


def test_calibration_goes_as_what_it_is():
    arrays = {}
    given = [{"a": np.ones(2), "b": kseq.Sequence(np.zeros((1, 2, 3)), np.ones((1, 2), bool))}, [np.arange(3)]]
    [named, [last]] = child.unflat(child._flat(given, arrays), arrays)
    np.testing.assert_array_equal(named["a"], given[0]["a"])
    assert isinstance(named["b"], kseq.Sequence) and named["b"].mask.all()
    np.testing.assert_array_equal(last, np.arange(3))
    assert child.unflat(child._flat(None, arrays), arrays) is None


def test_modules_are_found_by_file_where_not_by_name(tmp_path):
    (tmp_path / "found_by_file_alone.py").write_text("class Mine:\n    pass\n")
    row = ("tests>Mine", "found_by_file_alone", "Mine", str(tmp_path / "found_by_file_alone.py"))
    try:
        assert register([row]) == []
        assert keras.saving.get_custom_objects()["tests>Mine"].__name__ == "Mine"
    finally:
        keras.saving.get_custom_objects().pop("tests>Mine", None)
        sys.modules.pop("found_by_file_alone", None)
    [problem] = register([("tests>Gone", "no_such_module", "Gone", None)])
    assert "no_such_module" in problem


def test_the_main_module_is_known(monkeypatch):
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert main_module() is None  # of a notebook
    main.__file__ = __file__
    assert main_module() == ("file", os.path.abspath(__file__))
