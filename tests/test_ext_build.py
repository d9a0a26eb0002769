"""The builds of the extensions: bounds-checked, under the address sanitizer, and not at all."""

import ast
import importlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kseq import _ext
from kseq._ext import reference
from kseq._ext.elsewhere import find_kernels

ROOT = Path(__file__).resolve().parents[1]
COMPILER = os.environ.get("CC", "cc").split()[0]


@pytest.fixture
def source(tmp_path):
    """A copy of the source that the kernels and their tests need, and nothing else."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("there is no setup.py beside the tests")
    shutil.copy(ROOT / "setup.py", tmp_path)
    shutil.copytree(ROOT / "kseq/_ext", tmp_path / "kseq/_ext", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__py*"))
    for name in ("ragged", "masks", "padding", "timing"):
        shutil.copy(ROOT / f"kseq/{name}.py", tmp_path / "kseq")
    (tmp_path / "kseq/__init__.py").touch()
    # The kernels need no Keras, and a backend takes long to load: padding.py gets a Keras that it never calls.
    (tmp_path / "keras.py").write_text("ops = None\n")
    for name in ("test_ragged.py", "test_masks.py", "data/test_records_kernels.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\nfilterwarnings = error\n")
    return tmp_path


def run(source, *arguments, **env):
    """Run Python on `arguments` in the copy; returns its output, fails the test if it fails."""
    env = {name: value for name, value in {**os.environ, **env}.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=source, env=env, capture_output=True, text=True, timeout=600
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    return output


def library(name):
    """The path of one of gcc's runtime libraries, or None."""
    if shutil.which("gcc") is None:
        return None
    path = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


def test_missing_extensions_give_the_numpy_kernels_and_one_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "kseq._ext._masks", None)
    spec = importlib.util.spec_from_file_location("kseq_ext_without_extensions", _ext.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.warns(RuntimeWarning, match="Install a C compiler") as record:
        spec.loader.exec_module(module)
    assert len(record) == 1
    assert not module.COMPILED
    for name in set(module.__all__) - {"COMPILED"}:
        assert getattr(module, name).__module__.startswith(reference.__name__)  # it, or reference_records, ...


@pytest.mark.parametrize("kernels", sorted((ROOT / "kseq/_ext").glob("*.pyx")), ids=lambda path: path.stem)
def test_stubs_kernels_and_their_definitions_name_the_same(kernels):
    stub = ast.parse(kernels.with_suffix(".pyi").read_text()).body
    functions = {node.name for node in stub if isinstance(node, ast.FunctionDef)}
    assert functions == {line[4 : line.index("(")] for line in kernels.read_text().splitlines() if line[:4] == "def "}
    classes = {node.name: node for node in stub if isinstance(node, ast.ClassDef)}
    assert functions | set(classes) <= set(_ext.__all__)
    own = kernels.with_name(f"reference{kernels.stem}.py")
    definitions = importlib.import_module(f"kseq._ext.{own.stem if own.exists() else 'reference'}")
    assert all(getattr(definitions, name).__doc__ for name in functions | set(classes))
    for name, node in classes.items():
        methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        for kind in (getattr(_ext, name), getattr(definitions, name)):
            assert methods == {
                part
                for part in vars(kind)
                if part == "__init__" or (callable(getattr(kind, part)) and not part.startswith("_"))
            } | {"__init__"}


def test_a_source_tree_takes_the_kernels_of_the_same_sources(tmp_path):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    tree, installed, old = (tmp_path / name / "kseq" / "_ext" for name in ("tree", "installed", "old"))
    for folder, source in ((tree, "1"), (installed, "1"), (old, "0")):
        folder.mkdir(parents=True)
        (folder / "_masks.pyx").write_text(source)
    (installed / f"_masks{suffix}").touch()
    (old / f"_masks{suffix}").touch()
    places = [str(tmp_path / name) for name in ("nowhere", "tree", "old", "installed")]
    assert find_kernels(tree, places) == (installed, None)
    found, advice = find_kernels(tree, places[:-1])
    assert found is None
    assert str(old.parent) in advice and str(tree.parent) in advice and "pip install -e ." in advice
    assert find_kernels(tree, places[:2]) == (None, None)
    assert find_kernels(installed, places) == (None, None)


@pytest.mark.slow
def test_without_a_compiler_the_build_passes_and_the_fallback_serves(source):
    with (source / "kseq/_ext/_masks.pyx").open("a") as file:
        file.write("# other sources than those of any kernels that are installed\n")
    output = run(source, "setup.py", "build_ext", "--inplace", CC="false", LDSHARED="false")
    assert "_ragged" in output
    assert not [*source.glob("kseq/_ext/*.so"), *source.glob("kseq/_ext/*.pyd")]
    run(
        source,
        "-W",
        "ignore",
        "-c",
        "from kseq import _ext; from kseq.ragged import pad; pad([[1]]); 1 / (not _ext.COMPILED)",
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="there is no C compiler")
def test_kernels_under_bounds_checks(source):
    run(source, "setup.py", "build_ext", "--inplace", KSEQ_BOUNDSCHECK="1")
    generated = [*source.glob("build/**/_*.c")]
    assert len(generated) == len([*source.glob("kseq/_ext/*.pyx")])
    for file in generated:
        if "[::1]" in (source / f"kseq/_ext/{file.stem}.pyx").read_text():
            assert "__Pyx_RaiseBufferIndexError" in file.read_text()  # the checks are really there
    run(source, "-c", "from kseq import _ext; 1 / _ext.COMPILED")
    assert " passed" in run(source, "-m", "pytest", "-q")


@pytest.mark.slow
@pytest.mark.skipif(library("libasan.so") is None, reason="gcc has no address sanitizer")
def test_kernels_under_the_address_sanitizer(source):
    run(source, "setup.py", "build_ext", "--inplace", KSEQ_SANITIZE="address", CC="gcc", LDSHARED="gcc -shared")
    preload = {
        "LD_PRELOAD": library("libasan.so"),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself does not free all at exit
        "PYTHONMALLOC": "malloc",  # so that every block of memory has borders that the sanitizer knows
    }
    run(source, "-c", "from kseq import _ext; 1 / _ext.COMPILED", **preload)
    assert " passed" in run(source, "-m", "pytest", "-q", **preload)
