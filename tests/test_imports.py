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
from sampling import todays

import kseq
from kseq import backend

PACKAGE = pathlib.Path(backend.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = {"jax", "jaxlib", "tensorflow", "torch"}

# What needs no Keras, nor layers: arrays, masks, timings on the host. Of these only `padding` is for inside a model.
GROUND = {
    "_ext",
    "annotations",
    "arguments",
    "dtypes",
    "masks",
    "obstacles",
    "pad_job",
    "padding",
    "printable",
    "ragged",
    "rows",
    "sequence",
    "timing",
    "window",
}
LAYERS = GROUND | {"gradients", "hints", "layers", "model_graph", "registry", "signature"}
ANYTHING = None
# What each part of the package may import from the package besides itself. A new part needs a line here.
MAY_IMPORT = {
    "_ext": set(),
    "annotations": set(),
    "arguments": set(),
    "backend": {"lazy"},
    "dtypes": set(),
    "gradients": set(),
    "hints": set(),
    "keras_errors": set(),
    "lazy": set(),
    "obstacles": set(),
    "printable": set(),
    "registry": set(),
    "signature": set(),
    "version": set(),
    "timing": {"_ext", "arguments"},
    "window": {"_ext", "arguments", "timing"},
    "rows": {"_ext", "annotations", "arguments"},
    "pad_job": {"arguments", "rows"},
    "masks": GROUND | {"doctor"},  # of models, when it is asked
    "padding": GROUND,
    "ragged": GROUND,
    "sequence": GROUND,
    "model_graph": GROUND,
    "layers": LAYERS - {"model_graph"},
    "runtime": GROUND,
    "streaming": LAYERS | {"runtime", "version", "deploy"},  # exported for an engine, when one is asked for
    "deploy": LAYERS | {"keras_errors", "runtime", "streaming", "version"},
    "generation": LAYERS | {"runtime", "streaming"},
    "show": LAYERS | {"streaming"},
    "testing": LAYERS | {"runtime", "streaming", "keras_errors"},
    "conversion": LAYERS | {"doctor", "streaming", "keras_errors"},
    "doctor": LAYERS | {"streaming", "keras_errors"},
    "spec": {
        "arguments",
        "keras_errors",
        "model_graph",
        "printable",
        "registry",
        "sequence",
        "signature",
        "timing",
        "version",
    },
    "data": GROUND | {"lazy", "version"},
    "datasets": {"ragged", "data"},
    "models": LAYERS | {"streaming", "data"},
    "cli": ANYTHING,
    "__main__": {"cli"},
    # The public names, for type checkers: at run time they are imported on use.
    "__init__": ANYTHING,
}
# The rooms of `data`: what each imports of the others when it is imported. (`Store.batches` loads batches when called.)
DATA_ROOMS = {
    "store": set(),
    "batches": {"store"},
    "formats": {"store"},
    "builds": {"store", "formats"},
}
MAY_IMPORT_BACKENDS = {
    "gradients.py",
    "hints.py",
    "streaming/jax_step.py",
    "streaming/products.py",
    "streaming/programs.py",
    "streaming/tensorflow_step.py",
    "streaming/torch_program.py",
    "streaming/torch_step.py",
    "testing/transforms.py",
    "data/batches/backup.py",
    "data/batches/feeds.py",
    "deploy/litert.py",
    "deploy/onnx.py",
    "deploy/onnx_operations.py",
    "deploy/saved_model.py",
    "deploy/stablehlo.py",
    "runtime/runners/saved_model.py",
    "runtime/runners/stablehlo.py",
}
# Parts that know no Keras at all. (`sequence` and `registry` load it with the first tensor, the first layer.)
WITHOUT_KERAS = {
    "_ext",
    "annotations",
    "arguments",
    "backend",
    "data",
    "dtypes",
    "lazy",
    "masks",
    "pad_job",
    "printable",
    "ragged",
    "rows",
    "runtime",
}
WITHOUT_KERAS |= {"signature", "timing", "version", "window"}
EXCEPT = {
    "data/batches/backup.py",
    "data/batches/batches.py",
    "data/batches/feeds.py",
    "data/batches/keras_pass.py",
    "data/batches/predict.py",
    "data/batches/losses.py",
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
    for node in ast.walk(tree(path)):
        yield from _targets(path, node)


def _targets(path, node):
    """Full dotted names of what a statement imports."""
    package = ("kseq", *path.relative_to(PACKAGE).parent.parts)
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
    found = {target for target in imports(PACKAGE / "layers/base.py") if target.startswith("kseq.layers.")}
    below = {"complex_values", "door", "parameters", "step_door", "structures"}
    assert {target.split(".")[2] for target in found} <= below, found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_backends_are_imported_in_their_places_only(path):
    roots = {target.split(".")[0] for target in imports(path)}
    if name(path) not in MAY_IMPORT_BACKENDS:
        assert not roots & BACKENDS


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) in WITHOUT_KERAS], ids=name)
def test_arrays_files_and_timings_know_no_keras(path):
    assert name(path) in EXCEPT or "keras" not in {target.split(".")[0] for target in imports(path)}


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


@pytest.mark.parametrize("room", DATA_ROOMS)
def test_rooms_of_data_know_those_below(room):
    for path in (PACKAGE / "data" / room).rglob("*.py"):
        for node in tree(path).body:  # not within functions
            for target in _targets(path, node):
                parts = target.split(".")
                if parts[:2] == ["kseq", "data"] and parts[2] in DATA_ROOMS:
                    assert parts[2] in DATA_ROOMS[room] | {room}, f"{name(path)} imports {target}"


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


def test_a_missing_backend_says_what_to_do(choose, monkeypatch):
    monkeypatch.setattr(backend, "before_import", lambda name, callback: callback())  # as if Keras were imported
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
    hide = "import importlib.util as u; find = u.find_spec\n"
    hide += "u.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name, *a)\n"
    done = python(hide + USED, tmp_path, KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "pip install 'kseq[tensorflow]'" in done.stderr


def loaded_by(code, tmp_path):
    """The packages that a program has loaded in the end, kseq's own parts included."""
    done = python(f"{code}\nimport sys\nprint(*sys.modules)", tmp_path, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    return {module.split(".")[0] for module in modules} | {module for module in modules if module.startswith("kseq.")}


HEAVY = BACKENDS | {"keras", "yaml", "rich"}


@pytest.mark.parametrize(
    "module",
    [
        "kseq",
        "kseq.data",
        "kseq.runtime",
        *(f"kseq.{part}" for part in ("ragged", "masks", "timing", "window", "sequence", "registry")),
    ],
)
def test_an_import_loads_neither_keras_nor_a_backend(module, tmp_path):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"there is no {module}")
    loaded = loaded_by(f"import {module}", tmp_path)
    assert not loaded & (HEAVY | {"pyarrow"})
    assert not loaded & {"kseq.layers", "kseq.streaming", "kseq.spec", "kseq.datasets", "kseq.cli"}


def test_arrays_need_no_keras(tmp_path):
    code = """
import kseq, numpy as np
x = kseq.Sequence.from_ragged([np.ones((3, 2)), np.ones((1, 2))]).pad_time(1, 2).mask_invalid().astype("float32")
kseq.Sequence.concatenate([x, x.slice_time(1), kseq.Sequence.from_values(x.values)]).to_ragged()
x.spec, x.lengths(), kseq.Sequence.from_lengths(x.values, [1, 2]), kseq.unpad(*x)
kseq.masks.mask_rule(kseq.Timing(ratio=2))(x.mask)
"""
    assert not loaded_by(code, tmp_path) & HEAVY


def test_stores_need_no_keras(tmp_path):
    code = """
import kseq.data as kd, tempfile
path = tempfile.mkdtemp() + "/store"
with kd.Writer(path) as writer:
    for length in (3, 1, 2):
        writer.write({"tokens": list(range(length))})
with kd.open(path) as store:
    store[1], store[:2].column("tokens"), store.split(0.5), kd.verify(path), kd.repair(path)
"""
    assert not loaded_by(code, tmp_path) & HEAVY
    assert "keras" in loaded_by(f"{code}    store.batches(batch_size=2)[0]", tmp_path)


def test_workers_of_a_build_start_without_keras(tmp_path):
    (tmp_path / "probes.py").write_text("""
import sys
import kseq.data as kd

@kd.record
class Probe:
    number: int
    keras: bool = True

    def load(self):
        self.keras = "keras" in sys.modules
""")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import kseq.data as kd, probes
kd.build({str(tmp_path / "built")!r}, probes.Probe, [{{"number": n}} for n in range(4)], splits={{"all": 1}}, workers=2)
print(*kd.open({str(tmp_path / "built" / "all")!r}).column("keras"))
"""
    done = python(code, tmp_path, KERAS_BACKEND="jax")
    assert done.stdout.split() == ["False"] * 4, done.stderr


@pytest.mark.parametrize(
    "first",
    todays(
        list(map(pytest.param, ["registered_layers()['LSTM']", "stock_layers()['Add']", "current_name('LSTM')"])),
        of="first calls",
        jax=0.34,
    ),
)
def test_what_is_registered_does_not_depend_on_what_was_imported(first, tmp_path):
    code = f"""
from kseq import registry
registry.{first}
print(*sorted(registry.registered_layers()), *sorted(registry.stock_layers()))
"""
    done = python(code, tmp_path, KERAS_BACKEND=keras.backend.backend())
    own = (name for name, cls in kseq.registry.registered_layers().items() if cls.__module__.startswith("kseq."))
    assert done.stdout.split() == [*sorted(own), *sorted(kseq.registry.stock_layers())], done.stderr


def test_models_have_a_mask_rule_before_streaming_is_imported(tmp_path):
    code = """
import sys, keras, numpy as np
from kseq.masks import mask_rule
model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
assert "kseq.streaming" not in sys.modules
print(mask_rule(model)(np.array([[True, False]])).tolist())
"""
    done = python("import kseq\n" + code, tmp_path, KERAS_BACKEND=keras.backend.backend())
    assert done.stdout.split() == ["[[True,", "False]]"], done.stderr


# The public names.

PUBLIC = [kseq, kseq.data]


def seen_by_type_checkers(package):
    """For each name that a package imports for type checkers the module, relative to the package, that it is from."""
    (checked,) = (node for node in tree(pathlib.Path(package.__file__)).body if isinstance(node, ast.If))
    assert ast.unparse(checked.test) == "typing.TYPE_CHECKING"
    for node in checked.body:
        (alias,) = node.names
        assert node.level == 1 and alias.asname == alias.name, ast.unparse(node)  # an explicit re-export
        yield alias.name, node.module or alias.name


@pytest.mark.parametrize("package", PUBLIC)
def test_type_checkers_see_the_public_names(package):
    seen = list(seen_by_type_checkers(package))
    assert len(dict(seen)) == len(seen)
    assert dict(seen) == package._PUBLIC


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_resolves(package):
    assert package._PUBLIC.keys() <= set(dir(package))
    for public, module in package._PUBLIC.items():
        found = getattr(package, public)
        if module == public:
            assert found is sys.modules[f"{package.__name__}.{module}"]
        else:
            assert found is getattr(sys.modules[f"{package.__name__}.{module}"], public)
    assert kseq.SpecError is kseq.spec.SpecError
    with pytest.raises(AttributeError, match="no attribute 'load_specs'"):
        package.load_specs  # noqa: B018


@pytest.mark.parametrize(
    "order",
    todays(
        list(map(pytest.param, ["import kseq, keras", "import keras, kseq", "import kseq.data, keras"])),
        of="orders",
        jax=0.34,
    ),
)
def test_keras_loads_a_saved_model_wherever_kseq_was_imported(order, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), kseq.Serial([kseq.Conv1D(2, 2), kseq.GRU(2)])])
    model.save(tmp_path / "model.keras")
    code = f"{order}\nprint(keras.models.load_model({str(tmp_path / 'model.keras')!r}).layers[0].layers[1].units)"
    done = python(code, tmp_path, KERAS_BACKEND=keras.backend.backend())
    assert done.stdout.split() == ["2"], done.stderr


def test_a_module_that_is_watched_is_imported_as_it_would_be(tmp_path):
    (tmp_path / "watched.py").write_text("done = []\n")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from kseq.lazy import after_import
calls = []
after_import("watched", lambda: calls.append(sys.modules["watched"].done))
after_import("absent_module", lambda: calls.append("absent"))
try:
    import absent_module
except ModuleNotFoundError:
    pass
import importlib.util
assert importlib.util.find_spec("watched").loader.is_package("watched") is False
import watched
after_import("watched", lambda: calls.append("again"))
importlib.reload(watched)
print(calls, type(watched.__loader__).__name__, watched.__spec__.loader is watched.__loader__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.split() == ["[[],", "'again']", "SourceFileLoader", "True"], done.stderr
