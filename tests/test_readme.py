"""The README is true: its code runs, and its tables and lists are those of the package."""

import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

import kseq
from kseq.cli import demo_run
from kseq.window import padding_table

README = pathlib.Path(__file__).parents[1] / "README.md"
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


def test_layer_table_is_the_registry():
    layers = {name: cls for name, cls in kseq.registered_layers().items() if cls.__module__.startswith("kseq.")}
    rows = {name.strip("`"): (what, timing) for name, what, timing in table("| name | what |")}
    assert list(rows) == sorted(layers)
    for name, (what, timing) in rows.items():
        assert what == first_sentence(layers[name]), name
        timings = [layers[name](**example.config).timing for example in layers[name].examples()]
        latent = any(t.input_latency or t.output_latency for t in timings)
        assert ("latency" in timing) == latent, name
        if any(t.block_size > 1 for t in timings):
            assert "blocks" in timing, name


def first_sentence(cls):
    """Of a docstring's first line, without the shapes that follow it."""
    return re.split(r"\s\s|(?<=\.)\s", inspect.getdoc(cls).splitlines()[0] + "  ")[0]


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
