"""Models as YAML and JSON: `load_spec`, `dump_spec`, and a JSON schema for editors."""

import pathlib

from .dump import dump_spec as dump_spec
from .errors import Problem as Problem
from .errors import SpecError as SpecError
from .load import load_spec as load_spec
from .load import load_spec_text as load_spec_text
from .node import Limits as Limits
from .schema import json_schema as json_schema


def shipped() -> dict[str, pathlib.Path]:
    """The specs that come with kseq, by name.

    Example:
        >>> import kseq
        >>> kseq.load_spec(kseq.spec.shipped()["keyword_spotter"]).name
        'keyword_spotter'
    """
    folder = pathlib.Path(__file__).parent / "shipped"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
