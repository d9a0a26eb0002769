"""`json_schema`: what a spec may hold, for editors."""

from typing import Any

from ..signature import OBJECT_SUFFIXES
from . import catalog
from .calls import OUTPUTS
from .inputs import SHAPE
from .kinds import BOOLEAN, COMPLEX, DTYPES, TEXT, Choice, Either, ListOf, or_variable
from .migrations import VERSION
from .objects import role
from .training import compile_kinds

_ROLES = (*OBJECT_SUFFIXES, "optimizer", "schedule", "loss", "metric")
# What a block may be called, where an editor has to tell it from a layer.
_BLOCK = r"^[a-z_][A-Za-z0-9_]*$"
_VARIABLE = {"title": "variable", "type": "string", "pattern": r"^\$[^$]", "description": "a variable of `vars`"}


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of specs, with all layers that are registered now, for completion in editors.

    Descriptions come from docstrings. An editor cannot know a file's blocks, so it takes words that begin with a small
    letter for blocks, and other unknown types for mistakes; `load_spec` knows.

    Returns:
        A dict that JSON can hold.

    Example:
        >>> import kseq
        >>> schema = kseq.spec.json_schema()
        >>> schema["$defs"]["layer"]["properties"]["Lookahead"]["properties"]["length"]["description"]
        'steps.'
    """
    types = filter(None, map(catalog.find_loaded, sorted(catalog.type_names())))  # a list of plugins loads none
    layers = {type_.name: _arguments(type_, calls=True) for type_ in types}
    parts = {
        "kseq": {"const": VERSION, "description": "version of the format"},
        "name": {"type": "string", "description": "the model's name"},
        "vars": {"type": "object", "description": "values that `$name` stands for"},
        "blocks": {
            "type": "object",
            "description": "layer types local to this file, each a list of layers",
            "patternProperties": {_BLOCK: {"$ref": "#/$defs/layers"}},
            "additionalProperties": False,
        },
        "input": {"$ref": "#/$defs/input"},
        "inputs": {
            "anyOf": [
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/input"}, "minProperties": 1},
                {"type": "array", "items": {"$ref": "#/$defs/input", "required": ["name"]}, "minItems": 1},
            ],
            "description": "inputs by name, or a list of inputs that have names",
        },
        "inputs_by_name": or_variable(BOOLEAN.schema())
        | {"description": "whether the model takes a dict of its inputs, masks included, by their names"},
        "layers": {"$ref": "#/$defs/layers", "minItems": 1},
        "outputs": OUTPUTS.schema()
        | {"description": "ids, by default the last layer; a mapping of names to ids makes the outputs a dict"},
        "compile": {
            "type": "object",
            "description": "how to train, by Keras's names",
            "properties": {name: or_variable(kind.schema()) for name, kind in compile_kinds(None).items()},
            "additionalProperties": False,
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kseq model",
        "type": "object",
        "properties": parts,
        "required": ["kseq", "layers"],
        "oneOf": [{"required": ["input"]}, {"required": ["inputs"]}],
        "additionalProperties": False,
        "$defs": {
            "layers": {"type": "array", "title": "layers", "items": {"$ref": "#/$defs/layer"}},
            "layer": {
                "title": "layer",
                "type": "object",
                "description": "one `Type: {arguments}` pair",
                "minProperties": 1,
                "maxProperties": 1,
                "properties": layers,
                "patternProperties": {
                    _BLOCK: {"type": ["object", "null"], "title": "block", "description": "a block of this file"}
                },
                "additionalProperties": False,
            },
            "input": _input(),
            "variable": _VARIABLE,
            **{name: _role(name) for name in _ROLES},
        },
    }


def _arguments(type_, calls=False):
    """The schema of a type's arguments."""
    properties = {}
    for argument in type_.arguments.values():
        properties[argument.name] = or_variable(argument.kind.schema())
        if text := type_.describe(argument.name):
            properties[argument.name] |= {"description": text}
    if calls:
        own = {
            "id": {"type": "string", "description": "a name for `inputs` and `outputs`"},
            "inputs": ListOf(TEXT).schema()
            | {"description": "ids of what the layer reads; by default the layer before"},
            "share": {"type": "string", "description": "id of the layer that is used again"},
        }
        properties = own | properties
    required = [argument.name for argument in type_.arguments.values() if argument.required]
    found = {
        "title": type_.name,
        "description": type_.summary,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if not required:
        return found | {"type": ["object", "null"]}
    if not calls:
        return found | {"required": required}
    # A layer that is used again has no arguments of its own.
    return found | {"if": {"not": {"required": ["share"]}}, "then": {"required": required}}


def _input():
    properties = {
        "shape": SHAPE.schema() | {"description": "[time, channels, ...]; null is any number of steps", "minItems": 1},
        "dtype": Choice(DTYPES + COMPLEX).schema(),
        "name": TEXT.schema(),
        "mask": Either(BOOLEAN, TEXT).schema() | {"description": "whether a mask comes with the values, or its name"},
    }
    properties = {key: or_variable(schema) for key, schema in properties.items()}
    return {
        "title": "input",
        "type": "object",
        "properties": properties,
        "required": ["shape"],
        "additionalProperties": False,
    }


def _role(name):
    found = role(name)
    options = [{"title": f"name of {found.wanted}", "enum": sorted(found.names)}] if found.names else []
    if found.classes:
        options.append(
            {
                "title": f"{found.wanted} with arguments",
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "properties": {key: _arguments(catalog.object_type(cls)) for key, cls in sorted(found.classes.items())},
                "additionalProperties": False,
            }
        )
    return {"title": name, "anyOf": options}
