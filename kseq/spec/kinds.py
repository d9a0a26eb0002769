"""What an argument may take, described and no more: `values` makes the values of nodes by these descriptions.

A kind says in words what it wants, whether a node looks like it (`accepts`), what is wrong with one that does
(`faults`, of the node itself and not of what is in it), of which kind its parts are (`part`), and what editors need to
know (`schema`).
"""

from .errors import Near, shorten, shown
from .node import plain_scalar
from .objects import role


class Kind:
    """Plain data: scalars, and lists of them. Never a mapping, which Keras would take for an object to deserialise."""

    wanted = "a number, text, true, false, null, or a list of them"

    def accepts(self, node) -> bool:
        if isinstance(node.value, list):
            return all(map(self.accepts, node.value))
        return not isinstance(node.value, dict)

    def hint(self, node) -> str | None:
        """What to do about a node that is not accepted."""
        return None

    def faults(self, node):
        """What is wrong with an accepted node: (message, place, hint) each."""
        return ()

    def part(self, key) -> "Kind":
        """The kind of the item of a list or mapping."""
        return self

    def schema(self) -> dict:
        return {"not": {"type": "object"}}


def or_variable(schema) -> dict:
    """The schema of a value in whose place a variable may stand."""
    return {"anyOf": [schema, {"$ref": "#/$defs/variable"}]} if schema else {}


class Scalar(Kind):
    """null, a boolean, a number or text, by Python types."""

    def __init__(self, wanted, types, name, hint=None):
        self.wanted, self.types, self.name, self._hint = wanted, types, name, hint

    def accepts(self, node):
        return isinstance(node.value, self.types) and (bool in self.types or not isinstance(node.value, bool))

    def schema(self):
        return {"type": self.name}

    def hint(self, node):
        return self._hint(node.value) if self._hint else None


def quoted_number(value) -> str | None:
    """What to do about text that would be a number without its quotes."""
    is_number = isinstance(value, str) and type(plain_scalar(value)) in (int, float)
    return "a number in quotes: remove them" if is_number else None


def _hint_boolean(value):
    return {"no": "write `false`", "off": "write `false`", "yes": "write `true`", "on": "write `true`"}.get(
        value.lower() if isinstance(value, str) else None
    )


def _hint_text(value):
    return None if isinstance(value, (list, dict)) else "quote it"


ANY = Kind()
NULL = Scalar("null", (type(None),), "null")
BOOLEAN = Scalar("true or false", (bool,), "boolean", _hint_boolean)
INTEGER = Scalar("an integer", (int,), "integer", quoted_number)
NUMBER = Scalar("a number", (int, float), "number", quoted_number)
TEXT = Scalar("text", (str,), "string", _hint_text)


class Size(Scalar):
    """An integer of at least some number, as editors may know it: layers say themselves what is too small."""

    def __init__(self, least):
        super().__init__(INTEGER.wanted, (int,), "integer", quoted_number)
        self.least = least

    def schema(self):
        return super().schema() | {"minimum": self.least}


class Name(Scalar):
    """Text that is not empty."""

    def __init__(self):
        super().__init__("text", (str,), "string", _hint_text)

    def faults(self, node):
        if not node.value:
            yield "a name must not be empty", node, None


NAME = Name()


class Choice(Kind):
    """One of some texts."""

    def __init__(self, options):
        self.options = tuple(options)
        self.wanted = f"one of {', '.join(map(str, self.options))}"

    def accepts(self, node):
        return isinstance(node.value, str)

    def faults(self, node):
        if node.value not in self.options:
            hint = Near(node.value, self.options)
            yield f"must be {self.wanted}; received {shown(node.value)}", node, hint

    def schema(self):
        return {"enum": list(self.options)}


class ListOf(Kind):
    """Items of one kind, or of one kind each."""

    def __init__(self, *kinds, repeated=True):
        self.kinds, self.repeated = kinds, repeated
        items = kinds[0].wanted if repeated else ", ".join(kind.wanted for kind in kinds)
        self.wanted = "a list" if ANY in kinds else f"a list ({items}{' each' if repeated else ''})"

    def accepts(self, node):
        return isinstance(node.value, list)

    def faults(self, node):
        if not self.repeated and len(node.value) != len(self.kinds):
            yield f"must be {self.wanted}; received {len(node.value)} items", node, None

    def hint(self, node):
        alone = self.repeated and isinstance(node.value, (str, int, float)) and self.part(0).accepts(node)
        return f"write a list: `[{shorten(str(node.value))}]`" if alone else None

    def part(self, key):
        return self.kinds[0 if self.repeated else key]

    def schema(self):
        if self.repeated:
            return {"type": "array", "items": or_variable(self.kinds[0].schema())}
        items, size = [or_variable(kind.schema()) for kind in self.kinds], len(self.kinds)
        return {"type": "array", "prefixItems": items, "minItems": size, "maxItems": size}


class MappingOf(Kind):
    """Values of one kind by text."""

    wanted = "a mapping"

    def __init__(self, kind):
        self.kind = kind

    def accepts(self, node):
        return isinstance(node.value, dict)

    def faults(self, node):
        if "class_name" in node.value:  # what Keras would take for an object when the layer is loaded from a file
            yield "the key `class_name` is not allowed", node.keys["class_name"], None

    def part(self, key):
        return self.kind

    def schema(self):
        return {"type": "object", "additionalProperties": or_variable(self.kind.schema())}


class Either(Kind):
    """The first of some kinds that accepts the node."""

    def __init__(self, *kinds):
        self.kinds = kinds
        self.wanted = " or ".join(dict.fromkeys(kind.wanted for kind in kinds))

    def accepts(self, node):
        return any(kind.accepts(node) for kind in self.kinds)

    def chosen(self, node) -> Kind:
        """The kind by which an accepted node is read."""
        return next(kind for kind in self.kinds if kind.accepts(node))

    def schema(self):
        return {"anyOf": [kind.schema() for kind in self.kinds]}

    def hint(self, node):
        return next(filter(None, (kind.hint(node) for kind in self.kinds)), None)


class Object(Kind):
    """A Keras object of a role: its name, or `Name: {arguments}`."""

    def __init__(self, name):
        self.name = name

    @property
    def role(self):
        return role(self.name)

    @property
    def wanted(self):
        return f"the name of {self.role.wanted}" + (" or `Name: {arguments}`" if self.role.classes else "")

    def accepts(self, node):
        return isinstance(node.value, str) or (bool(self.role.classes) and isinstance(node.value, dict))

    def schema(self):
        return {"$ref": f"#/$defs/{self.name}"}


class Record(Kind):
    """The arguments of a dataclass."""

    def __init__(self, cls):
        self.cls = cls
        self.wanted = f"a mapping of the arguments of {cls.__name__}"

    def accepts(self, node):
        return isinstance(node.value, dict)

    def schema(self):
        return {"type": "object"}


class LayerKind(Kind):
    """A layer within a layer."""

    wanted = "a layer (`Type: {arguments}`)"

    def accepts(self, node):
        return isinstance(node.value, (dict, str))

    def schema(self):
        return {"$ref": "#/$defs/layer"}


LAYER = LayerKind()
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool")
POLICIES = ("mixed_float16", "mixed_bfloat16")
