"""Models with layers of installed plugins, in commands."""

import os
import subprocess
import sys

import pytest

PLUGIN = """
import kseq

@kseq.register("plug.Twice")
class Twice(kseq.SequenceLayer):
    def call_step(self, x, state, *, training=False):
        return x.apply(lambda v: 2 * v), state
"""
SAVE = """
import plugged, keras
inputs = keras.Input((None, 3))
keras.Model(inputs, plugged.Twice()(inputs)).save("model.keras")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a plugin, one whose name lacks its namespace, and a model that was saved with the first."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "plugged.py").write_text(PLUGIN)
    info = folder / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kseq.layers]\nplug.Twice = plugged:Twice\nThrice = plugged\n")
    done = run(folder, "-c", SAVE)
    assert done.returncode == 0, done.stderr
    return folder


def run(folder, *arguments):
    env = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_a_saved_model_finds_the_plugins_that_it_names(folder):
    done = run(folder, "-m", "kseq", "show", "model.keras")
    assert done.returncode == 0, done.stderr
    assert "Twice" in done.stdout


def test_a_plugin_that_is_gone_is_named(folder):
    (folder / "plugged.py").rename(folder / "elsewhere.py")
    try:
        done = run(folder, "-m", "kseq", "show", "model.keras")
    finally:
        (folder / "elsewhere.py").rename(folder / "plugged.py")
    assert done.returncode == 1
    assert "plug.Twice" in done.stderr and "No module named 'plugged'" in done.stderr


def test_a_name_without_namespace_is_reported(folder):
    done = run(folder, "-m", "kseq", "layers", "--json")
    assert done.returncode == 0
    assert "'Thrice' (plugged) is not used" in done.stderr and "your_package.Thrice" in done.stderr
    (folder / "m.yaml").write_text("kseq: 1\ninput: {shape: [null, 3]}\nlayers: [Thrice: {}]\n")
    done = run(folder, "-m", "kseq", "check", "m.yaml")
    assert done.returncode == 1
    assert "'your_package.Thrice'" in done.stdout + done.stderr
