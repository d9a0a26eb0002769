"""Any bytes, and any tree of the words that specs are made of, give a model or a `SpecError`, and nothing else.

`fuzz.py` does the same by coverage for as long as one likes.
"""

import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kseq
from kseq.spec import Limits, shipped

LIMITS = Limits(bytes=20_000, nodes=2_000, layers=12, repeats=20, parameters=5_000)
SOME = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
TEXTS = [path.read_bytes() for path in shipped().values()]


def load(spec, **options):
    """The model, or the error, whose message can be printed and encoded."""
    try:
        return kseq.load_spec(spec, limits=LIMITS, **options)
    except kseq.SpecError as error:
        str(error).encode()
        return None


@SOME
@given(st.binary(max_size=200))
def test_any_bytes(data):
    load(data)


@SOME
@given(st.text(max_size=100))
def test_any_text(text):
    load(text)
    load(text.encode("utf-8", "surrogatepass"))


@SOME
@given(st.text("{}[]:,-?|>&*!%@`'\"#$~ \n\tabk1.e<", max_size=60))
def test_any_punctuation(text):
    load(f"kseq: 1\n{text}")
    load('{"kseq": 1,' + text)


@SOME
@given(st.sampled_from(TEXTS), st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=12))
def test_damaged_specs(text, start, length, inserted):
    load(text[:start] + inserted + text[start + length :])


WORDS = st.sampled_from(
    """kseq name vars blocks input inputs layers outputs compile shape dtype mask id share d $d $$ block units filters
    kernel_size strides padding causal dilation_rate activation relu null true num_repeats combination add rate length
    optimizer loss metrics adam mse learning_rate seed axis size kernel_initializer float32 int32 float16""".split()  # noqa: SIM905
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 9), st.integers(), st.floats(), WORDS, st.text(max_size=5)
)
ARGUMENTS = st.dictionaries(st.one_of(WORDS, st.text(max_size=4)), SCALARS, max_size=4)
TYPES = st.sampled_from(
    [*kseq.spec.catalog.type_names(), "block", "Lambda", "os.system", "keras.Dense", "kseq.Dense", ""]
)


@st.composite
def layers(draw, depth=2):
    arguments = draw(ARGUMENTS)
    for name in ("units", "filters", "kernel_size", "num_repeats", "length", "rate", "num_heads", "key_dim"):
        if draw(st.booleans()):
            arguments[name] = draw(st.integers(0, 4))
    if depth and draw(st.booleans()):
        arguments["layers"] = draw(st.lists(layers(depth - 1), max_size=3))
    return {draw(TYPES): arguments}


def is_text(config):
    """Whether a file can say it: no argument is a layer."""
    try:
        return bool(json.dumps(config) and yaml.safe_dump(config))
    except (TypeError, yaml.representer.RepresenterError):
        return False


# Made once: initialisers draw random numbers.
KNOWN = [
    (name, example.config)
    for name, cls in kseq.registered_layers().items()
    for example in cls.examples()
    if "." not in name and cls.in_specs and is_text(example.config)
]


@st.composite
def likely_layers(draw):
    """Layers that are mostly right, so that building is met too."""
    name, config = draw(st.sampled_from(KNOWN))
    return {name: {k: draw(SCALARS) if draw(st.integers(0, 5)) == 0 else v for k, v in config.items()}}


SPECS = st.fixed_dictionaries(
    {"kseq": st.just(1), "layers": st.lists(st.one_of(layers(), likely_layers()), min_size=1, max_size=4)},
    optional={
        "name": SCALARS,
        "vars": ARGUMENTS,
        "blocks": st.dictionaries(
            st.sampled_from(["block", "d", "Dense"]), st.lists(layers(1), max_size=2), max_size=2
        ),
        "input": st.fixed_dictionaries(
            {"shape": st.lists(st.one_of(st.none(), st.integers(-1, 5)), max_size=3)},
            optional={"mask": SCALARS, "dtype": WORDS},
        ),
        "inputs_by_name": SCALARS,
        "outputs": st.one_of(st.lists(WORDS, max_size=2), st.dictionaries(st.text(max_size=4), WORDS, max_size=2)),
        "compile": ARGUMENTS,
    },
)


@SOME
@given(SPECS)
def test_any_tree(spec):
    spec.setdefault("input", {"shape": [None, 3]})
    load(spec)
    load(yaml.safe_dump(spec, sort_keys=False).encode("utf-8", "surrogatepass"))
    load(json.dumps(spec))


@SOME
@given(st.lists(likely_layers(), min_size=1, max_size=3))
def test_what_loads_round_trips(chain):
    model = load({"kseq": 1, "input": {"shape": [None, 3]}, "layers": chain})
    if model is not None:
        text = kseq.dump_spec(model)
        assert kseq.load_spec(text).get_config() == model.get_config()


@pytest.mark.slow
@settings(SOME, max_examples=5000)
@given(SPECS)
def test_many_trees(spec):
    load({"input": {"shape": [None, 3]}} | spec)
