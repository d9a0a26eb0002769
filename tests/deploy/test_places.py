"""Where an export goes: nothing is left of one that fails, nothing is written over that is something else."""

import os
import pathlib

import keras
import numpy as np
import pytest
from exported_formats import ALL, HERE, file_of, needs

import kseq
from kseq.deploy import entry
from kseq.deploy.entry import FORMATS, write_atomically

# A format of this backend, with which nothing is written in another process.
OWN = HERE[-1]


@pytest.fixture(scope="module")
def layer():
    layer = kseq.GRU(2)
    layer.build((None, None, 3))
    return layer


@pytest.fixture
def nothing_is_written(monkeypatch):
    def written(*args):
        raise AssertionError("something is written")

    monkeypatch.setattr(entry, "_write", written)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError, SystemExit])
def test_an_export_that_is_broken_off_leaves_what_was_there(layer, error, tmp_path, monkeypatch):
    path = file_of(tmp_path, OWN)

    def broken_off(function, manifest, target, choices):
        assert target != path
        target.write_bytes(b"half")
        raise error("broken off")

    monkeypatch.setattr(entry, "written", broken_off)
    with pytest.raises(error, match="broken off"):
        kseq.export(layer, path, OWN)
    assert names(tmp_path) == []
    if FORMATS[OWN].suffix:
        path.write_bytes(b"before")
        with pytest.raises(error, match="broken off"):
            kseq.export(layer, path, OWN)
        assert path.read_bytes() == b"before" and names(tmp_path) == [path.name]


def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path, monkeypatch):
    def write(text):
        def into(target):
            target.mkdir()
            (target / text).write_text(text)

        return into

    path = tmp_path / "model"
    write_atomically(path, write("first"))
    write_atomically(path, write("second"))
    assert names(path) == ["second"] and names(tmp_path) == ["model"]
    rename = os.rename

    def fails(source, target):
        if pathlib.Path(target) == path and pathlib.Path(source).name == path.name:
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, write("third"))
    assert names(path) == ["second"] and names(tmp_path) == ["model"]


@pytest.mark.parametrize("format", ALL)
@pytest.mark.usefixtures("nothing_is_written")
def test_places_where_nothing_can_be_written(layer, format, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder to write into") as error:
        kseq.export(layer, tmp_path / "none" / "m", format)
    assert error.value.filename == str(tmp_path / "none")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileNotFoundError, match="no folder to write into"):
        kseq.export(layer, tmp_path / "file" / "m", format)
    for path in ("", ".", "/"):
        with pytest.raises(ValueError, match="must have a name"):
            kseq.export(layer, path, format)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("format", ALL)
@pytest.mark.usefixtures("nothing_is_written")
def test_what_is_no_export_is_not_written_over(layer, format, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="give another path"):
        kseq.export(layer, folder, format)
    if format == "saved_model":
        (folder / "saved_model.pb").write_text("")
        with pytest.raises(ValueError, match="no folder of a SavedModel alone"):
            kseq.export(layer, folder, format)
        with pytest.raises(ValueError, match="give another path"):
            kseq.export(layer, folder / "thesis.tex", format)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="give another path"):
        kseq.export(layer, tmp_path / "pipe", format)
    assert (folder / "thesis.tex").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_into(layer, tmp_path):
    folder = tmp_path / "fixed"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        kseq.export(layer, file_of(folder, OWN), OWN)


@pytest.mark.usefixtures("nothing_is_written")
def test_what_is_asked_for_that_there_is_not(layer, tmp_path):
    path = tmp_path / "m"
    wrong = [
        ({"format": "coreml"}, "litert.*received 'coreml'"),
        ({"format": "litert", "precision": "int4"}, "float16.*received 'int4'"),
        ({"format": "saved_model", "precision": "int8"}, "float32.*received 'int8'"),
        ({"mode": "whole"}, "layer.*received 'whole'"),
        ({"batch_size": 0}, "batch_size"),
        ({"block": 0}, "block"),
        ({"length": 5}, "`mode='layer'`"),
        ({"mode": "layer", "block": 2}, "`length`"),
        ({"mode": "layer", "length": 0}, "length"),
        ({"window": -1}, "window"),
        ({"context": {"nothing": np.ones(1)}}, "nothing"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            kseq.export(layer, path, **options)
    with pytest.raises(ValueError, match=r"end in \.tflite, \.onnx, .*received 'm\.keras': name the `format`"):
        kseq.export(layer, tmp_path / "m.keras")
    with pytest.raises(TypeError, match="expected a kseq layer or a Keras model"):
        kseq.export("m.keras", path)
    with pytest.raises(ValueError, match="must be built"):
        kseq.export(kseq.GRU(2), path)
    every_second = kseq.Conv1D(2, 2, strides=2)
    every_second.build((None, None, 3))
    with pytest.raises(ValueError, match=r"block.*3"):
        kseq.export(every_second, path, block=3)


@pytest.mark.usefixtures("nothing_is_written")
def test_models_that_cannot_step_are_refused_with_the_layer(tmp_path):
    x = keras.Input((None, 3))
    model = keras.Model(x, keras.layers.Bidirectional(keras.layers.GRU(2, return_sequences=True), name="both")(x))
    with pytest.raises(kseq.NotStreamable, match=r"cannot stream.*both"):
        kseq.export(model, tmp_path / "m", OWN)
    with pytest.raises(kseq.NotStreamable, match=r"cannot stream"):
        kseq.export(model, tmp_path / "m", OWN, mode="layer", masks=True)
    layer = kseq.GlobalReshape((2, 3))
    layer.build((None, None, 3))
    with pytest.raises(kseq.NotStreamable, match="cannot stream"):
        kseq.export(layer, tmp_path / "m", OWN)


def test_a_file_takes_the_place_of_another(layer, tmp_path):
    needs(OWN)
    path = file_of(tmp_path, OWN)
    kseq.export(layer, path, OWN)
    kseq.export(layer, path, OWN, batch_size=2)
    assert kseq.ExportedStream(path).batch_size == 2
    assert names(tmp_path) == [path.name]
