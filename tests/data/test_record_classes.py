"""Classes of records: what their annotations declare, and rows as text."""

import importlib
import pickle
import typing

import numpy as np
import pytest
from record_classes import Spoken

import kseq.data as kd
from kseq.data import Field
from kseq.data.errors import RecordError, SchemaError
from kseq.data.formats.cells import format_cell, parse_cell
from kseq.data.store.schema import Schema


@kd.record
class Everything:
    a: int
    b: float
    c: bool
    d: str
    e: bytes
    f: np.uint8
    g: list[float]
    h: Field("int32", (None, 2))
    i: typing.Annotated[np.ndarray, Field("float32", (2,))]
    j: int | None = None
    k: typing.Optional[str] = None  # noqa: UP045 (both spellings are in use)
    where: str = kd.source(default="")
    count: typing.ClassVar[int] = 3


VALUES = {"a": -3, "b": 0.1, "c": True, "d": "ä,\n", "e": b"\0\xff", "f": np.uint8(9), "g": [1.5, -2.0]}
VALUES |= {"h": np.array([[1, 2], [3, 4]], "int32"), "i": np.array([0.1, 2], "float32")}


def test_annotations_are_the_schema():
    schema = kd.schema_of(Everything)
    assert schema == Schema(
        {
            "a": "int64",
            "b": "float64",
            "c": "bool",
            "d": "string",
            "e": "bytes",
            "f": "uint8",
            "g": ("float64", (None,)),
            "h": ("int32", (None, 2)),
            "i": ("float32", (2,)),
            "j": Field("int64", optional=True),
            "k": Field("string", optional=True),
        },
        main="g",
    )


def test_text_annotations(tmp_path, monkeypatch):
    text = "from __future__ import annotations\nfrom kseq.data import Field, record\n"
    text += "@record\nclass Later:\n a: int | None\n b: Field('int8', (None,))\n"
    (tmp_path / "annotated_later.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    schema = kd.schema_of(importlib.import_module("annotated_later").Later)
    assert schema == Schema({"a": Field("int64", optional=True), "b": ("int8", (None,))})


def test_siblings_do_not_share_fields():
    @kd.record(main="y")
    class Base:
        x: list[int]
        y: list[int]

    @kd.record
    class One(Base):
        one: int

    @kd.record
    class Two(Base):
        two: str
        x: list[float]

    assert list(kd.schema_of(Base)) == ["x", "y"]
    assert list(kd.schema_of(One)) == ["x", "y", "one"]
    assert list(kd.schema_of(Two)) == ["x", "y", "two"]
    assert kd.schema_of(One)["x"].dtype == np.int64
    assert kd.schema_of(Two)["x"].dtype == np.float64
    assert [kd.schema_of(cls).main for cls in (Base, One, Two)] == ["y", "y", "y"]


def test_an_undecorated_subclass_is_refused():
    class Plain(Spoken):
        more: int = 0

    for cls in (Plain, dict, 3):
        with pytest.raises(SchemaError, match=r"decorated with @kseq\.data\.record"):
            kd.schema_of(cls)


@pytest.mark.parametrize("annotation", [np.ndarray, dict, int | str, list[str], list[list[int]], "int64"])
def test_other_annotations_are_refused(annotation):
    with pytest.raises((SchemaError, NameError), match=r"Wrong\.x|int64"):

        @kd.record
        class Wrong:
            x: annotation


def test_a_record_without_stored_fields_is_refused():
    with pytest.raises(SchemaError, match="OnlySource"):

        @kd.record
        class OnlySource:
            path: str = kd.source()


def test_rows_are_text_and_back():
    made = Everything(**VALUES, where="here")
    row = made.to_csv_row()
    assert all(isinstance(cell, str) for cell in row.values())
    assert row["g"] == "[1.5, -2.0]"
    assert (row["c"], row["j"], row["where"]) == ("true", "", "here")
    again = Everything.from_csv_row(row)
    assert again == made
    assert (type(again.a), type(again.f), again.h.dtype) == (int, np.uint8, np.int32)
    assert Everything.from_csv_row({**VALUES, "unknown": 1, "where": "here"}) == made
    assert pickle.loads(pickle.dumps(made)) == made
    assert made != 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": "1.5"}, r"field 'a'.*int64.*'1\.5'"),
        ({"a": ""}, "field 'a'.*empty"),
        ({"a": None}, "field 'a'.*empty"),
        ({"c": "yes"}, "field 'c'.*true"),
        ({"e": "***"}, "field 'e'"),
        ({"f": "256"}, "field 'f'.*256"),
        ({"g": "5"}, "field 'g'.*list"),
        ({"g": "[1,"}, "field 'g'"),
        ({"h": "[[1], [2]]"}, "field 'h'"),
        ({"i": "[1.0]"}, "field 'i'"),
        ({"j": "x"}, "field 'j'"),
    ],
)
def test_cells_that_hold_no_value(change, words):
    row = Everything(**VALUES).to_csv_row() | change
    with pytest.raises(RecordError, match=words) as caught:
        Everything.from_csv_row(row)
    assert caught.value.field == next(iter(change))


def test_a_missing_column():
    row = Everything(**VALUES).to_csv_row()
    del row["a"], row["j"]
    with pytest.raises(RecordError, match="no such column"):
        Everything.from_csv_row(row)
    row["a"] = "2"
    assert Everything.from_csv_row(row).j is None


def test_fields_that_load_sets_need_no_column():
    @kd.record
    class Loaded:
        frames: list[float]
        name: str = kd.source()

        def load(self):
            self.frames = [1.0]

    made = Loaded.from_csv_row({"name": "x"})
    assert made.frames is None
    with pytest.raises(RecordError, match="name"):
        Loaded.from_csv_row({"frames": "[1]"})
    with pytest.raises(TypeError):
        Loaded([1.0], "x")  # by keywords only: bases and defaults may come in any order


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "uint64", "bool"])
def test_cells_of_any_dtype(dtype):
    values = np.array([0, 1, 1], "float32").astype(dtype)
    for field, value in [(Field(dtype, (None,)), values), (Field(dtype), values[1])]:
        cell = format_cell(value, field)
        assert np.array_equal(parse_cell(cell, field), value)
    with pytest.raises(ValueError, match="complex64"):
        format_cell(1j, Field("complex64"))


def test_fields_may_have_the_names_of_methods(tmp_path):
    @kd.record
    class Base:
        x: list[int]

    @kd.record
    class Named(Base):
        split: str = "train"
        load: float = 0.5
        from_csv_row: int
        to_csv_row: str = kd.source(default="a")

    @kd.record
    class Derived(Named):
        split: str

    rows = [{"x": [n], "split": f"part {n}", "from_csv_row": n} for n in range(10)]
    kd.build(tmp_path / "named", Named, rows, splits={"all": 1}, seed=None, progress=False)
    store = kd.open(tmp_path / "named" / "all")
    assert [(found["split"], found["from_csv_row"], found["load"]) for found in store] == [
        (f"part {n}", n, 0.5) for n in range(10)
    ]
    kd.build(tmp_path / "derived", Derived, [Derived(x=[1], split="a", from_csv_row=2)], splits={"all": 1})
    assert kd.open(tmp_path / "derived" / "all")[0]["split"] == "a"
    for row, words in (({"x": [1], "from_csv_row": 2}, "'split'"),):
        with pytest.raises(kd.BuildError, match=words):
            kd.build(tmp_path / "missing", Derived, [row], progress=False)


def test_a_field_is_no_method():
    with pytest.raises(SchemaError, match=r"Both.split must be a field or a method, not both"):

        @kd.record
        class Both:
            split: str

            def split(self):
                yield self

    @kd.record
    class Base:
        load: int

    with pytest.raises(SchemaError, match=r"Derived.load must be a field or a method"):

        @kd.record
        class Derived(Base):
            def load(self):
                self.load = 3


@pytest.mark.parametrize("name", ["seed", "by", "workers", "metadata", "source", "path", "RecordClass"])
def test_arguments_that_build_keeps_are_refused(tmp_path, name):
    scope = {"kd": kd}
    exec(f"class R:\n x: list[int]\n def load(self, {name}=0): pass", scope)
    with pytest.raises(TypeError, match=rf"R.load takes \['{name}'\], which build keeps for itself"):
        kd.build(tmp_path / "build", kd.record(scope["R"]), [{"x": [1]}], progress=False)
