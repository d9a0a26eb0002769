"""The house: short modules, one class of a name, no module hidden by a function, families that stand alone."""

import ast
import collections
import functools
import pathlib

import pytest

import kseq

PACKAGE = pathlib.Path(kseq.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LIMIT = 400
# What families of layers share (`delay` aligns branches), and the
# modules that know every family: combinators use others in their examples.
BELOW_FAMILIES = {
    "axes",
    "base",
    "complex_values",
    "float64",
    "counted",
    "counting",
    "delay",
    "door",
    "leaves",
    "limits",
    "loops",
    "network",
    "nodes",
    "parameters",
    "passage",
    "position_scheme",
    "quantization",
    "rematerialize",
    "reordering",
    "rotary",
    "space",
    "step_door",
    "stepwise",
    "structures",
    "transposed_windows",
    "windows",
}
ABOVE_FAMILIES = {"__init__", "combinators"}


def name(path):
    return path.relative_to(PACKAGE).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


def test_modules_are_short():
    ideas = [path for path in MODULES if path != PACKAGE / "__init__.py"]  # which has as many lines as there are names
    long = {name(path) for path in ideas if len(path.read_text().splitlines()) > LIMIT}
    assert not long, f"longer than {LIMIT} lines"


def test_no_two_classes_have_one_name():
    places = collections.defaultdict(list)
    for path in MODULES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(name(path))
    twice = {cls: found for cls, found in places.items() if len(found) > 1}
    assert not twice


def public_names(path):
    """Names that a package has of its modules' contents, or of its own."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=name)
def test_no_module_is_hidden_by_a_name_of_its_package(path):
    modules = {module.stem: name(module) for module in path.parent.glob("*.py")}
    modules |= {folder.parent.name: name(folder.parent) for folder in path.parent.glob("*/__init__.py")}
    hidden = {modules[public] for public in public_names(path) if public in modules}
    assert not hidden


def families_imported(path):
    """The parts of `kseq.layers` that a module of it imports."""
    here = ("kseq", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else ()
            targets = [".".join((*base, *filter(None, [node.module]), alias.name)) for alias in node.names]
        else:
            continue
        yield from (target.split(".")[2] for target in targets if target.startswith("kseq.layers."))


LAYERS = PACKAGE / "layers"
# Of a folder the name, of a flat module its own.
FAMILIES = {path: path.relative_to(LAYERS).with_suffix("").parts[0] for path in sorted(LAYERS.rglob("*.py"))}


@pytest.mark.parametrize("path", [path for path in FAMILIES if FAMILIES[path] not in ABOVE_FAMILIES], ids=name)
def test_families_of_layers_do_not_import_each_other(path):
    others = set(families_imported(path)) - BELOW_FAMILIES - {FAMILIES[path]}
    assert not others, f"{name(path)} imports {sorted(others)} of kseq.layers"
