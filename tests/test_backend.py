"""Which backend is used does not change from run to run, and why it is that one can be asked."""

import json
import os
import subprocess
import sys

import pytest

import kseq

# As Keras writes it.
WRITTEN = {"floatx": "float32", "epsilon": 1e-07, "backend": "tensorflow", "image_data_format": "channels_last"}
# Backends that are all there, and not one that is loaded.
SCRIPT = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: object() if name in ("jax", "tensorflow", "torch") else find(name, *a)
import kseq
print(kseq.backend.name(), kseq.backend.reason(), "keras" in sys.modules, sep="|")
"""


def run(script, home, **environment):
    """What a script prints, with a home of its own and no choice of a backend but that of the test."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "KERAS_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=inherited | {"HOME": str(home)} | environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def configure(home, text):
    (home / ".keras").mkdir()
    (home / ".keras" / "keras.json").write_text(text)


def test_the_second_run_uses_what_the_first_used(tmp_path):
    # Keras itself, which writes its configuration in the first of them.
    script = "import kseq; first = kseq.backend.name(); import keras; print(first, keras.backend.backend())"
    assert [run(script, tmp_path) for _ in range(2)] == ["jax jax"] * 2
    written = json.loads((tmp_path / ".keras" / "keras.json").read_text())
    assert written == WRITTEN  # what kseq takes for no choice is what Keras writes


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        (None, "jax", "kseq's default, where nothing else is chosen"),
        (json.dumps(WRITTEN, indent=4), "jax", "keras.json is as Keras writes it by itself"),
        (json.dumps(WRITTEN | {"backend": "torch"}), "torch", "the file "),
        (json.dumps(WRITTEN | {"floatx": "float64"}), "tensorflow", "the file "),
        ('{"backend": "tensorflow"}', "tensorflow", "the file "),
        ("{}", "jax", "kseq's default"),
    ],
)
def test_a_configuration_that_a_user_wrote_is_a_choice(tmp_path, text, name, why):
    if text is not None:
        configure(tmp_path, text)
    found, reason, keras_is_loaded = run(SCRIPT, tmp_path).split("|")
    assert (found, keras_is_loaded) == (name, "False")
    assert why in reason


def test_the_variable_goes_first(tmp_path):
    configure(tmp_path, '{"backend": "tensorflow"}')
    found, reason, _ = run(SCRIPT, tmp_path, KERAS_BACKEND="torch").split("|")
    assert (found, reason) == ("torch", "the environment variable KERAS_BACKEND")


def test_what_is_chosen_later_is_told(tmp_path):
    script = SCRIPT.replace("print(", "import os; os.environ['KERAS_BACKEND'] = 'torch'\nprint(")
    found, reason, _ = run(script, tmp_path).split("|")
    assert (found, reason) == (
        "torch",
        "the environment variable KERAS_BACKEND, which was set after the import of kseq",
    )


def test_keras_may_have_chosen_before(tmp_path):
    keras = "import sys, types\nkeras = sys.modules['keras'] = types.ModuleType('keras')\n"
    keras += "keras.config = types.SimpleNamespace(backend=lambda: 'torch')\n"
    keras += "sys.modules['kseq.layers'] = sys.modules['kseq.models'] = keras\n"
    found, reason, _ = run(keras + SCRIPT, tmp_path).split("|")
    assert (found, reason) == ("torch", "Keras itself, which was imported before kseq")


def test_it_is_the_one_that_keras_uses():
    import keras

    assert kseq.backend.name() == keras.backend.backend()


MISSING = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "torch" else find(name, *a)
"""


def test_a_missing_backend_is_told_where_keras_is_needed(tmp_path):
    script = (
        MISSING + "import kseq\nprint(len(kseq.pad([[1.0]])))\ntry: import keras\nexcept ImportError as e: print(e)"
    )
    pads, said = run(script, tmp_path, KERAS_BACKEND="torch").splitlines()
    assert pads == "2"
    assert said.startswith(
        "the Keras backend 'torch', chosen by the environment variable KERAS_BACKEND, is not installed"
    )


def test_commands_say_in_one_line_that_a_backend_is_missing(tmp_path):
    script = MISSING + "sys.stderr = sys.stdout\nfrom kseq.cli import main\nprint(main(['layers']))"
    said, status = run(script, tmp_path, KERAS_BACKEND="torch").splitlines()
    assert status == "1" and said.startswith("kseq: the Keras backend 'torch'") and "pip install" in said
