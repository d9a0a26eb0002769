"""Saved models that would run code, open files or fetch them as they are loaded: commands load in safe mode."""

import importlib.util
import json
import os
import zipfile

import keras
import pytest

import kseq
from kseq import cli
from kseq.cli import models

COMMANDS = [["check"], ["show"], ["draw", "-o", "-"], ["bench"]]
LAYERS = {
    name: cls
    for name, cls in kseq.registered_layers().items()
    if cls.__module__.startswith("kseq.") and any(not example.context for example in cls.examples())
}


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def layer(name, /, **config):
    return {"module": "keras.layers", "class_name": name, "config": config, "registered_name": None}


@pytest.fixture
def changed(tmp_path):
    """A function that saves a model of a layer with a change of its serialised form."""

    def save(layer, change, shape=(None, 3), dtype="float32"):
        good, bad = tmp_path / "good.keras", tmp_path / "bad.keras"
        if not good.exists():
            keras.Sequential([keras.Input(shape, dtype=dtype), layer]).save(good)
        with zipfile.ZipFile(good) as file:
            parts = {name: file.read(name) for name in file.namelist()}
        config = json.loads(parts["config.json"])
        change(config["config"]["layers"][1])
        with zipfile.ZipFile(bad, "w") as file:
            for name, data in (parts | {"config.json": json.dumps(config)}).items():
                file.writestr(name, data)
        return bad

    return save


def refused(path, capsys, command=("check",)):
    """What a command says of a file that it refuses."""
    status = cli.main([command[0], str(path), *command[1:]])
    out, err = capsys.readouterr()
    assert (status, out) == (1, "") and "cannot be loaded in safe mode" in err
    return err


@pytest.fixture
def watched(monkeypatch):
    """What must not be called, and would be found as an attribute of these modules."""
    called = []
    for module, name in ((os, "system"), (keras.utils, "get_file")):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: called.append(args))
    yield called
    assert not called


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_functions_of_other_modules(command, changed, watched, capsys):
    path = changed(kseq.Dense(2), lambda config: config["config"].update(activation=function("os", "system")))
    refused(path, capsys, command)


def test_get_file(changed, watched, capsys):
    for evil in (
        function("keras.utils", "get_file"),
        {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:///etc/hosts"}},
    ):
        refused(changed(kseq.Dense(2), lambda config, x=evil: config["config"].update(activation=x)), capsys)


def test_lambdas(changed, capsys):
    saved = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    assert "unsafe" in refused(changed(kseq.Dense(2), lambda config: config.update(saved)), capsys)
    refused(changed(kseq.Serial([kseq.Dense(2)]), lambda config: config["config"].update(layers=[saved])), capsys)
    of_ours = keras.saving.serialize_keras_object(kseq.Lambda(lambda x: x))
    assert "unsafe" in refused(changed(kseq.Dense(2), lambda config: config.update(of_ours)), capsys)
    of_ours["config"]["function"] = function("os", "system")
    refused(changed(kseq.Dense(2), lambda config: config.update(of_ours)), capsys)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="Keras's look-ups need tensorflow")
@pytest.mark.parametrize("name", ["StringLookup", "IntegerLookup"])
def test_files_of_vocabularies(name, changed, tmp_path, capsys):
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2\n")
    evil = layer(name, **(getattr(keras.layers, name)().get_config() | {"vocabulary": str(secret)}))
    shown = refused(changed(kseq.Dense(2), lambda config: config.update(evil)), capsys)
    assert "hunter2" not in shown and "vocabulary" in shown
    refused(changed(kseq.Serial([kseq.Dense(2)]), lambda config: config["config"].update(layers=[evil])), capsys)


class _Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the wrapper is of torch")
def test_pickled_modules_of_torch(changed, tmp_path, capsys):
    import base64
    import pickle

    made = tmp_path / "made"
    encoded = base64.b64encode(pickle.dumps(_Touches(made))).decode()
    evil = layer("TorchModuleWrapper", module=encoded, name="m")
    refused(changed(kseq.Dense(2), lambda config: config.update(evil)), capsys)
    refused(changed(kseq.Serial([kseq.Dense(2)]), lambda config: config["config"].update(layers=[evil])), capsys)
    assert not made.exists()


@pytest.mark.parametrize("name", LAYERS)
def test_every_argument_of_every_layer(name, changed, watched):
    example = LAYERS[name].examples()[0]
    made = LAYERS[name](**example.config)
    for key in made.get_config():
        for evil in (function("keras.utils", "get_file"), [layer("Lambda", function=function("os", "system"))]):
            path = changed(
                made,
                lambda config, key=key, evil=evil: config["config"].update({key: evil}),
                example.input_shape[1:],
                example.dtype,
            )
            with pytest.raises(models.ModelError):
                models.load(path)
    assert models.load(path.with_name("good.keras")).layers[0].name == made.name
