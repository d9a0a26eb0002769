"""The README is true: its code runs, and its tables and lists are those of the package."""

import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

from kseq.cli import demo_run
from kseq.window import padding_table

README = pathlib.Path(__file__).parents[1] / "README.md"
sys.path.insert(0, str(README.parent / "docs"))

import make_layers  # noqa: E402

TEXT = README.read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def table(header):
    """Rows of the table that starts with `header`, as lists of cells."""
    lines = TEXT[TEXT.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_there_are_blocks():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_block_runs(block):
    exec(compile(block, str(README), "exec"), {"__name__": "readme"})


def test_the_first_block_runs_where_no_backend_was_chosen(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"KERAS_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", BLOCKS[0]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_layer_tables_are_the_registry():
    assert make_layers.in_readme(TEXT) == TEXT, "python docs/make_layers.py"
    assert make_layers.page() == (README.parent / "docs" / "layers.md").read_text(), "python docs/make_layers.py"


def test_padding_table_is_the_modes():
    assert table("| mode | steps before, after |") == [list(row) for row in padding_table()]


def test_demo_keys_are_documented():
    paragraph = TEXT[TEXT.index("`kseq demo --json`") :].split("\n\n")[0]
    keys = set(re.findall(r"`(\w+)`", paragraph))
    assert keys == set(re.findall(r'^        "(\w+)":', inspect.getsource(demo_run.run), re.MULTILINE))


def test_contributing_is_short():
    section = TEXT[TEXT.index("## Contributing") :].split("\n## ")[0]
    assert len(section.splitlines()) < 40


def test_links_are_files():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (README.parent / target).exists(), target
