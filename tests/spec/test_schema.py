"""The schema for editors takes what the loader takes, and is refused what it refuses where a schema can know."""

import copy
import json
import pathlib

import jsonschema
import pytest
import yaml

import kseq
from kseq.spec import shipped

SCHEMA = kseq.spec.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
GOOD = {"kseq": 1, "input": {"shape": [None, 4]}, "layers": [{"Dense": {"units": 2}}]}


def with_layer(layer):
    return GOOD | {"layers": [layer]}


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", list(shipped().values()), ids=list(shipped()))
def test_shipped_specs_are_valid(path):
    # Places differ: PyYAML takes 1e-3 for text, which the loader does not.
    spec = kseq.spec.load.read(path, kseq.spec.Limits())[0].plain()
    assert not [error.message for error in VALIDATOR.iter_errors(spec)]


def test_dumped_layers_are_valid():
    for name, cls in kseq.registered_layers().items():
        if "." in name:
            continue
        for example in cls.examples():
            import keras

            inputs = keras.Input(example.input_shape[1:], dtype=example.dtype)
            text = kseq.dump_spec(keras.Model(inputs, cls(**example.config)(inputs)))
            assert VALIDATOR.is_valid(yaml.safe_load(text)), text


@pytest.mark.parametrize(
    "layer",
    [
        {"Conv1D": {"filters": "$d", "kernel_size": 3, "padding": [1, 1]}},
        {"Dense": {"units": 2, "kernel_initializer": {"HeNormal": {"seed": 1}}, "kernel_regularizer": None}},
        {"Repeat": {"num_repeats": 2, "layers": [{"GRU": {"units": 2}}]}},
        {"my_block": {"d": 3}},
        {"Add": {"inputs": ["a", "b"], "id": "c"}},
        {"Add": None},
        {"Dense": {"share": "a"}},
        {"keras.Dense": {"units": 2}},
    ],
    ids=str,
)
def test_good_layers(layer):
    assert VALIDATOR.is_valid(with_layer(layer))


@pytest.mark.parametrize(
    "sections",
    [
        {"inputs_by_name": True},
        {"inputs_by_name": "$named"},
        {"outputs": ["a"]},
        {"outputs": {"y": "a", "z": "b"}, "compile": {"loss": {"y": "mse", "z": {"Huber": {"delta": 2.0}}}}},
        {"outputs": {"y": "a"}, "compile": {"loss_weights": {"y": 1}, "metrics": {"y": ["mae"], "z": "mse"}}},
    ],
    ids=str,
)
def test_good_structures(sections):
    assert VALIDATOR.is_valid(GOOD | sections)


@pytest.mark.parametrize(
    "spec",
    [
        with_layer({"Conv1D": {"filters": 2}}),
        with_layer({"Conv1D": {"filters": 2.5, "kernel_size": 3}}),
        with_layer({"Conv1D": {"filters": 2, "kernel_size": 3, "padding": "casual"}}),
        with_layer({"Dense": {"unit": 2}}),
        with_layer({"Dense": {"units": 2}, "GRU": {"units": 2}}),
        with_layer({"Dense": {"units": 2, "activation": "swich"}}),
        with_layer({"Dense": {"units": 2, "kernel_initializer": {"HeNormal": {"sed": 1}}}}),
        with_layer({"Repeat": {"num_repeats": 2, "layers": [{"GRU": {}}]}}),
        with_layer("Dense"),
        GOOD | {"layer": []},
        GOOD | {"inputs": {"a": {"shape": [None]}}},
        GOOD | {"kseq": 2},
        GOOD | {"inputs_by_name": "both"},
        GOOD | {"outputs": "a"},
        GOOD | {"outputs": {"y": ["a"]}},
        GOOD | {"outputs": {"y": "a"}, "compile": {"loss": {"y": "msee"}}},
        GOOD | {"input": {"shape": [None, 4], "dtype": "float"}},
        GOOD | {"compile": {"optimizer": "adamm"}},
        {key: value for key, value in GOOD.items() if key != "input"},
    ],
    ids=str,
)
def test_bad_specs(spec):
    assert VALIDATOR.is_valid(GOOD)
    assert not VALIDATOR.is_valid(copy.deepcopy(spec))
    with pytest.raises(kseq.SpecError):
        kseq.load_spec(spec)


def test_descriptions_come_from_docstrings():
    layers = SCHEMA["$defs"]["layer"]["properties"]
    assert layers["Conv1D"]["description"] == "Convolution over time."
    properties = layers["Conv1D"]["properties"]
    assert properties["padding"]["description"].startswith("a mode of `kseq.window.MODES` or a pair (left, right);")
    assert properties["filters"]["description"] == "output channels."
    assert "keyword_spotter" in shipped() and pathlib.Path(shipped()["tcn"]).exists()
