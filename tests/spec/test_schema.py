"""The schema for editors takes what the loader takes, and is refused what it refuses where a schema can know."""

import copy
import json
import pathlib
import re
import typing

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
    spec = yaml.safe_load(path.read_text())
    assert not [error.message for error in VALIDATOR.iter_errors(spec)]
    assert spec == yaml.load(path.read_text(), Yaml12) == kseq.spec.reader.read(path, kseq.spec.Limits())[0].plain()


class Yaml12(yaml.SafeLoader):
    """What unquoted text means by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: typing.ClassVar = {}


for tag, pattern in (
    ("null", r"null|Null|NULL|~|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
):
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), None)

TEXTS = """no yes on off y n Y N null ~ true 1e-3 1e3 1.5 .5 .inf .nan 0o17 0x1F 017 08 1_000 12:30 2020-01-01 = << -
+1 -1 . ... 1. 5e+2 3x3 $d {a} [b] #c a:b""".split()  # noqa: SIM905


@pytest.mark.parametrize("text", [*TEXTS, "", " a", "a: b", "a #b", "caf\u00e9", "a\nb", "\x1b"])
def test_text_is_dumped_for_every_reader(text):
    data = {"kseq": 1, "name": text, "vars": {text: [text, {"a": text}]}}
    dumped = kseq.spec.emit.emit(data)
    assert yaml.safe_load(dumped) == data
    assert yaml.load(dumped, Yaml12) == data
    assert kseq.spec.reader.read_text(dumped, kseq.spec.Limits())[0].plain() == data


@pytest.mark.parametrize("number", [1e-3, 1e-7, 5e-324, 1e16, 1e22, 1.5e300, 0.1, 3.0, -2.5e-9, 0, -7, 2**62])
def test_numbers_are_dumped_for_every_reader(number):
    dumped = kseq.spec.emit.emit({"x": number})
    for found in (yaml.safe_load(dumped), yaml.load(dumped, Yaml12)):
        assert found == {"x": number} and type(found["x"]) is type(number)
    assert kseq.spec.reader.read_value(dumped) == {"x": number}


def test_dumped_layers_are_valid():
    for name, cls in kseq.registered_layers().items():
        if "." in name:
            continue
        for example in cls.examples():
            if example.context or not cls.in_specs:
                continue
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
        {"blocks": {"my_block": [{"Dense": {"units": "$d"}}]}},
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
        with_layer({"Dens": {"units": 2}}),
        with_layer({"acme.Unknown": {"units": 2}}),
        with_layer({"Dense": {"units": -2}}),
        with_layer({"keras.Dense": {"units": -2}}),
        with_layer({"Delay": {"length": -1}}),
        with_layer({"Conv1D": {"filters": 2, "kernel_size": 3, "strides": -1}}),
        GOOD | {"input": {"shape": [None, -4]}},
        GOOD | {"input": {"shape": [None, 0]}},
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


def test_a_list_of_inputs():
    spec = {key: value for key, value in GOOD.items() if key != "input"}
    assert VALIDATOR.is_valid(spec | {"inputs": [{"name": "x", "shape": [None, 4]}]})
    assert not VALIDATOR.is_valid(spec | {"inputs": [{"shape": [None, 4]}]})
    assert not VALIDATOR.is_valid(spec | {"inputs": []})


def test_titles_are_for_people():
    assert all("title" in schema for schema in SCHEMA["$defs"].values())
    layers = SCHEMA["$defs"]["layer"]["properties"]
    assert {name: layer["title"] for name, layer in layers.items()} == {name: name for name in layers}
    titles = [option["title"] for option in SCHEMA["$defs"]["initializer"]["anyOf"]]
    assert titles == ["name of an initializer", "an initializer with arguments"]


def test_descriptions_come_from_docstrings():
    layers = SCHEMA["$defs"]["layer"]["properties"]
    assert layers["Conv1D"]["description"] == "Convolution over time."
    properties = layers["Conv1D"]["properties"]
    assert properties["padding"]["description"].startswith("a mode of `kseq.window.MODES` or a pair (left, right);")
    assert properties["filters"]["description"] == "output channels."
    assert "keyword_spotter" in shipped() and pathlib.Path(shipped()["tcn"]).exists()
