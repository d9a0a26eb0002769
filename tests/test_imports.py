"""Who may import whom, public Keras only, and which backend `import kseq` chooses."""

import ast
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

import kseq
from kseq import backend

PACKAGE = pathlib.Path(backend.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = {"jax", "jaxlib", "tensorflow", "torch"}

GROUND = {"_ext", "masks", "padding", "ragged", "sequence", "timing"}
ANYTHING = None
# What each part of the package may import from the package besides itself. A new part needs a line here.
MAY_IMPORT = {
    "_ext": set(),
    "backend": set(),
    "timing": {"_ext"},
    "masks": GROUND,
    "padding": GROUND,
    "ragged": GROUND,
    "sequence": GROUND,
    "registry": set(),
    "signature": set(),
    "version": set(),
    "layers": GROUND | {"registry", "signature"},
    "streaming": GROUND | {"registry", "layers"},
    "deploy": GROUND | {"registry", "layers", "streaming"},
    "testing": GROUND | {"registry", "layers", "streaming"},
    "view": GROUND | {"registry", "layers", "streaming"},
    "timeline": GROUND | {"registry", "layers", "streaming"},
    "spec": {"registry", "sequence", "signature", "version"},
    "data": GROUND | {"version"},
    "datasets": {"ragged", "data"},
    "models": GROUND | {"registry", "layers", "streaming", "data"},
    "demo": ANYTHING,
    "cli": ANYTHING,
    # The public names: nothing that a user may never need.
    "__init__": GROUND | {"backend", "data", "layers", "registry", "spec", "streaming", "testing", "version", "view"},
}
MAY_IMPORT_BACKENDS = {
    "streaming/compiled.py",
    "streaming/transforms.py",
    "deploy.py",
    "data/backup.py",
    "data/feeds.py",
}


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


def imports(path):
    """Full dotted names of everything that a module imports, at any depth."""
    package = ("kseq", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            parent = ".".join([*base, *([node.module] if node.module else [])])
            # `from kseq import x` may name a module.
            yield from (f"{parent}.{alias.name}" for alias in node.names)


def imported_parts(path):
    for target in imports(path):
        root, *rest = target.split(".")
        if root == "kseq":
            first = rest[0] if rest else "__init__"
            known = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists()
            yield first if known else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_downwards(path):
    here = part(path)
    assert here in MAY_IMPORT, f"say in MAY_IMPORT what kseq.{here} may import"
    allowed = MAY_IMPORT[here]
    if allowed is ANYTHING:
        return
    wrong = set(imported_parts(path)) - allowed - {here}
    assert not wrong, f"{name(path)} imports {sorted(wrong)}; kseq.{here} may import {sorted(allowed)}"


def test_the_base_class_knows_no_layer():
    families = {target for target in imports(PACKAGE / "layers/base.py") if target.startswith("kseq.layers.")}
    assert all(target.startswith("kseq.layers.config.") for target in families), families


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_backends_are_imported_in_their_places_only(path):
    roots = {target.split(".")[0] for target in imports(path)}
    if name(path) not in MAY_IMPORT_BACKENDS:
        assert not roots & BACKENDS


def test_the_kernels_know_numpy_alone():
    for path in (PACKAGE / "_ext").glob("*.py"):
        roots = {target.split(".")[0] for target in imports(path)}
        assert roots <= {"numpy", "kseq"} | sys.stdlib_module_names, name(path)


def private(attribute):
    return attribute.startswith("_") and not attribute.endswith("__")


@functools.cache
def inherited_privates():
    """Private attributes of Keras's layers and models, and of the torch modules that they are on that backend."""
    found = {*dir(keras.layers.Layer()), *dir(keras.Model()), "_parameters", "_buffers", "_modules"}
    return {attribute for attribute in found if private(attribute)}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_public_keras(path):
    for target in imports(path):
        root, *rest = target.split(".")
        if root == "keras":
            assert "src" not in rest, target
            assert not any(map(private, rest)), target
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in inherited_privates(), f"{name(path)}:{node.lineno} uses {node.attr}"
            if ast.unparse(node).startswith("keras."):
                assert node.attr != "src", f"{name(path)}:{node.lineno}"
                assert not private(node.attr), f"{name(path)}:{node.lineno} uses {node.attr}"
        if isinstance(node, ast.FunctionDef):
            # A method of such a name would take the place of Keras's or torch's.
            assert node.name not in inherited_privates(), f"{name(path)}:{node.lineno} defines {node.name}"


# The choice of a backend, without a second import of anything.


@pytest.fixture
def choose(monkeypatch, tmp_path):
    def run(installed, variable=None, configured=None):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.setattr(backend, "_installed", lambda name: name in installed)
        if variable is not None:
            monkeypatch.setenv("KERAS_BACKEND", variable)
        if configured is not None:
            (tmp_path / "keras.json").write_text(configured)
        backend.choose()
        return os.environ.get("KERAS_BACKEND")

    return run


def test_without_a_choice_jax(choose):
    assert choose({"jax", "tensorflow"}) == "jax"


def test_an_empty_variable_is_no_choice(choose):
    assert choose({"jax"}, variable="") == "jax"


@pytest.mark.parametrize("chosen", ["jax", "tensorflow", "torch"])
def test_the_variable_is_kept(choose, chosen):
    assert choose({"jax", "tensorflow", "torch"}, chosen, configured='{"backend": "jax"}') == chosen


def test_the_configuration_is_kept(choose):
    # Keras reads the file itself: no variable is set.
    assert choose({"jax", "torch"}, configured='{"backend": "torch"}') is None
    assert choose({"jax", "tensorflow"}, configured='{"backend": "tensorflow"}') is None


def test_tensorflow_in_the_configuration_is_no_choice_where_it_is_not_installed(choose):
    assert choose({"jax"}, configured='{"backend": "tensorflow"}') == "jax"


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_broken_configuration_is_no_choice(choose, text):
    assert choose({"jax"}, configured=text) == "jax"


def test_a_missing_backend_says_what_to_do(choose):
    with pytest.raises(ImportError, match="pip install jax"):
        choose(set())
    with pytest.raises(ImportError, match=r"'torch'.*KERAS_BACKEND.*pip install 'kseq\[torch\]'.*KERAS_BACKEND=jax"):
        choose({"jax"}, "torch")
    with pytest.raises(ImportError, match=r"keras\.json.*pip install 'kseq\[torch\]'"):
        choose({"jax"}, configured='{"backend": "torch"}')


# The import itself, in a process of its own.


def python(code, tmp_path, **environment):
    inherited = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=inherited | {"KERAS_HOME": str(tmp_path)} | environment,
        timeout=300,
        check=False,
    )


USED = "import kseq, keras; print(keras.backend.backend())"


def test_import_with_no_choice_uses_jax(tmp_path):
    # Keras's own first import writes a keras.json that names tensorflow.
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow"}))
    hide = "import importlib.util as u; find = u.find_spec\n"
    hide += "u.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name, *a)\n"
    done = python(hide + USED, tmp_path)
    assert done.stdout.split() == ["jax"], done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_import_keeps_a_choice(tmp_path):
    done = python(USED, tmp_path, KERAS_BACKEND="torch")
    assert done.stdout.split() == ["torch"], done.stderr


def test_import_with_a_missing_backend_fails_with_the_remedy(tmp_path):
    hide = "import importlib.util as u; u.find_spec = lambda name, *a: None\n"
    done = python(hide + USED, tmp_path, KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "pip install 'kseq[tensorflow]'" in done.stderr


def test_import_loads_nothing_that_it_does_not_need(tmp_path):
    code = """
import sys, keras, jax, numpy
before = set(sys.modules)
import kseq
print(*(set(sys.modules) - before))
"""
    done = python(code, tmp_path, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    roots = {module.split(".")[0] for module in loaded}
    assert not roots & {"pyarrow", "yaml", "tensorflow", "torch"}
    parts = {module.split(".")[1] for module in loaded if module.startswith("kseq.")}
    assert not parts & {"data", "spec", "datasets", "models", "deploy", "cli", "demo"}


def test_what_is_loaded_on_use_is_listed():
    assert {"load_spec", "dump_spec", "SpecError", "spec", "Conv1D"} <= set(dir(kseq))
    assert kseq.SpecError is kseq.spec.SpecError
    with pytest.raises(AttributeError, match="no attribute 'load_specs'"):
        kseq.load_specs  # noqa: B018
