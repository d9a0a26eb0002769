"""What is wrong with a spec is said exactly: `wrong_specs.txt` holds specs with their whole messages."""

import json
import pathlib
import pickle

import keras
import pytest
import yaml

import kseq

RECORDS = (pathlib.Path(__file__).parent / "wrong_specs.txt").read_text().split("====\n")[:-1]
WRONG = [record.rstrip("\n").split("\n----\n") for record in RECORDS]
GOOD = "kseq: 1\ninput: {shape: [null, 4]}\nlayers:\n  - Dense: {units: 2}\n"


def problems(spec, **options):
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(spec, **options)
    return error.value.problems


def test_there_are_many():
    assert len(WRONG) >= 40


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message.splitlines()[0][:60] for _, message in WRONG])
def test_a_wrong_spec(text, message):
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(text.encode() + b"\n")
    assert str(error.value) == message


def same_in_python():
    """Wrong specs that PyYAML, by the rules of YAML 1.1, reads as the same mapping."""
    different = ("e999", "kseq: 1\nkseq", "<<", "use_bias: no", "[[[", "&")
    for text, _ in WRONG:
        try:
            mapping = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(mapping, dict) and not any(part in text for part in different):
            yield pytest.param(text, mapping, id=text)


@pytest.mark.parametrize(("text", "mapping"), list(same_in_python()))
def test_a_mapping_has_the_same_problems_without_places(text, mapping):
    assert all(problem.line is None for problem in problems(mapping))
    assert {p.message for p in problems(mapping)} == {p.message for p in problems(text.encode())}


def test_problems_can_be_read_by_programs():
    (problem,) = problems(GOOD.replace("units", "unit"))
    assert (problem.line, problem.column, problem.path, problem.message, problem.hint) == (
        4,
        13,
        "layers[0].Dense",
        "unknown argument `unit`",
        "did you mean `units`?",
    )
    error = pickle.loads(pickle.dumps(kseq.SpecError([problem])))
    assert error.problems == [problem]
    assert isinstance(error, ValueError)


def test_a_file_is_named(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(GOOD.replace("units", "unit"))
    assert str(problems(path)[0]).startswith(f"{path}:4:13: layers[0].Dense: ")
    json_path = tmp_path / "model.json"
    json_path.write_text('{"kseq": 1,}')
    assert str(problems(json_path)[0]).startswith(f"{json_path}:1:1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_named(encoding):
    (problem,) = problems(GOOD.encode(encoding))
    assert problem.message == f"must be UTF-8; received {encoding[:6].upper()}"
    assert problem.hint == "save it as UTF-8"


@pytest.mark.parametrize(("text", "line"), [("[1,2],}", 1), ("1 ,\n }", 1), ("[1,\t]}", 1), ("[1\n,]}", 2)])
def test_a_trailing_comma_in_json(text, line, tmp_path):
    path = tmp_path / "m.json"
    path.write_text(f'{{"kseq": 1, {text}'.replace("1, ", '1,"a":', 1))
    (problem,) = problems(path)
    assert (problem.line, problem.hint) == (line, "remove the comma")
    assert problem.text[problem.column - 1] == ","
    assert problem.message in ("not JSON: a comma before `}`", "not JSON: a comma before `]`")


@pytest.mark.parametrize(
    ("prefix", "column"),
    [("", 13), ("é", 13), ("日本", 13), ("\U0001f600", 13)],
)
def test_columns_count_characters(prefix, column):
    text = GOOD.replace("  - Dense", f"  # {prefix}\n  - Dense").replace("units: 2", f"name: {prefix or 'a'}, unit: 2")
    (problem,) = problems(text)
    assert problem.column == column + len(f"name: {prefix or 'a'}, ")
    _, line, caret = str(problem).splitlines()
    from rich.cells import cell_len

    assert cell_len(line[: line.index("unit")]) == caret.index("^")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end(end):
    (problem,) = problems(GOOD.replace("units", "unit").replace("\n", end))
    assert (problem.line, problem.column, problem.text) == (4, 13, "  - Dense: {unit: 2}")


@pytest.mark.parametrize("indent", [None, 1, "\t"])
def test_places_in_json(indent):
    text = json.dumps(yaml.safe_load(GOOD.replace("units", "unit")), indent=indent)
    (problem,) = problems(text)
    lines = text.splitlines()
    assert lines[problem.line - 1][problem.column - 1 :].startswith('"unit"')


def test_long_lines_are_cut_around_the_place():
    names = ", ".join(f"{{GRU: {{units: {i}}}}}" for i in range(1, 200))
    shown = str(problems(f"kseq: 1\ninput: {{shape: [null, 1]}}\nlayers: [{names}, {{GRU: {{unit: 1}}}}]")[0])
    _, line, caret = shown.splitlines()
    assert len(line) < 160
    assert line[caret.index("^") :].startswith("unit")


def test_nothing_unprintable_is_shown():
    shown = str(problems(GOOD.replace("Dense", '"\\x1b[31mDense\\u202e\\ud800"'))[0])
    assert all(c.isprintable() or c == "\n" for c in shown)
    shown.encode()


def test_many_problems_are_counted():
    text = GOOD + "  - Dens: {}\n" * 80
    assert "and 30 more" in str(kseq.SpecError(problems(text)))


def test_a_block_used_twice_is_wrong_once():
    text = "kseq: 1\nblocks: {b: [{GRU: {unit: 1}}]}\ninput: {shape: [null, 4]}\nlayers: [{b: {}}, {b: {}}]"
    assert len(problems(text)) == 1


def test_variables_from_outside():
    text = "kseq: 1\nvars: {d: 2}\ninput: {shape: [null, 4]}\nlayers:\n  - Dense: {units: $d}\n"
    (problem,) = problems(text, vars={"e": 3})
    assert "unknown variable `e`; the spec has `d`" in problem.message
    (problem,) = problems(text, vars={"d": "x"})
    assert (problem.path, problem.line) == ("layers[0].Dense.units", 5)
    with pytest.raises(kseq.SpecError, match="must be a mapping, list, text, number"):
        kseq.load_spec(text, vars={"d": object()})


def test_mappings_of_other_things():
    cyclic = {"kseq": 1}
    cyclic["layers"] = [cyclic]
    assert "nested more than" in problems(cyclic)[0].message
    assert "keys must be text; received 3" in problems({3: 1})[0].message
    assert "received set" in problems({"kseq": {1}})[0].message


LIMITS = [
    ({"bytes": 50}, "larger than 50 bytes"),
    ({"nodes": 9}, "more than 9 values"),
    ({"depth": 3}, "nested more than 3 deep"),
    ({"parameters": 9}, "more than 9 parameters"),
    ({"layers": 0}, "more than 0 layers"),
]


@pytest.mark.parametrize(("limit", "message"), LIMITS, ids=[next(iter(limit)) for limit, _ in LIMITS])
def test_limits(limit, message):
    for spec in (GOOD, json.dumps(yaml.safe_load(GOOD))):
        assert message in problems(spec, limits=kseq.spec.Limits(**limit))[0].message
    assert kseq.load_spec(GOOD, limits=kseq.spec.Limits(parameters=10, layers=1))


def test_small_files_do_not_become_huge_models():
    doubling = (
        "".join(f"  b{i}: [{{b{i + 1}: {{}}}}, {{b{i + 1}: {{}}}}]\n" for i in range(14))
        + "  b14: [{GRU: {units: 1}}]\n"
    )
    chain = "".join(f"  b{i}: [{{b{i + 1}: {{}}}}]\n" for i in range(60)) + "  b60: [{GRU: {units: 1}}]\n"
    variables = "vars:\n  v0: [1, 1]\n" + "".join(f"  v{i + 1}: [$v{i}, $v{i}]\n" for i in range(40))
    tail = "input: {shape: [null, 4]}\nlayers: [{b0: {}}]\n"
    for text, message in [
        (f"kseq: 1\nblocks:\n{doubling}{tail}", "more than 2000 layers, repeats counted"),
        (f"kseq: 1\nblocks:\n{chain}{tail}", "layers nested more than 16 deep"),
        (f"kseq: 1\n{variables}{tail}", "expand to more than"),
        (
            GOOD.replace("Dense: {units: 2}", "Repeat: {num_repeats: 2, layers: [{Dense: {units: 100000}}]}"),
            "parameters",
        ),
        (GOOD + "  - Dense: {units: 30000}\n" * 2, "more than 100000000 parameters"),
    ]:
        assert any(message in problem.message for problem in problems(text)), message


@keras.saving.register_keras_serializable("smuggled")
class Smuggled(keras.layers.Layer):
    """Remembers that it was made, as Keras does where it deserialises the mapping below."""

    made = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        Smuggled.made += 1


OBJECT = "{module: tests, class_name: Smuggled, registered_name: smuggled>Smuggled, config: {}}"
SMUGGLED = [
    f"Dense: {{units: 2, kernel_initializer: {{GlorotUniform: {{seed: {OBJECT}}}}}}}",
    f"Dense: {{units: 2, kernel_initializer: {OBJECT}}}",
    f"Rescaling: {{scale: {OBJECT}}}",
    f"Rescaling: {{scale: [{OBJECT}]}}",
    f"keras.Dense: {{units: 2, quantization_config: {OBJECT}}}",
    f"Dense: {{units: 2, dtype: {OBJECT}}}",
    f"Dense: {{units: 2, activation: {OBJECT}}}",
    f"Normalization: {{mean: {OBJECT}, variance: 1}}",
    f"Residual: {{layers: [{OBJECT}]}}",
    "Activation: {activation: print}",
    "Activation: {activation: deserialize}",
    "Dense: {units: 2, kernel_initializer: get}",
]


@pytest.mark.parametrize("layer", SMUGGLED)
def test_no_object_comes_in_by_a_side_door(layer):
    keras.saving.deserialize_keras_object(yaml.safe_load(OBJECT))
    before = Smuggled.made
    assert before
    assert problems(f"kseq: 1\ninput: {{shape: [null, 4]}}\nlayers:\n  - {layer}\n")
    assert Smuggled.made == before


@pytest.mark.parametrize("value", ["{Adam: {clipnorm: " + OBJECT + "}}", "{Adam: {learning_rate: " + OBJECT + "}}"])
def test_no_object_comes_in_through_an_optimizer(value):
    assert problems(GOOD + f"compile: {{optimizer: {value}}}\n")


def test_metrics_do_not_allocate_without_a_limit():
    for metric in ("MeanIoU: {num_classes: 20000}", "AUC: {num_thresholds: 30000000}"):
        (problem,) = problems(GOOD + f"compile: {{loss: mse, metrics: [{{{metric}}}]}}\n")
        assert "must be at most 4096 in a metric" in problem.message


def test_many_wrong_names_take_little_time():
    names = "".join(f"  {'x' * 40}{i}: 1\n" for i in range(4000))
    used = ", ".join(f"${'x' * 39}y{i}" for i in range(4000))
    found = problems(f"kseq: 1\nvars:\n{names}input: {{shape: [null, 4]}}\nlayers: [{{Dense: {{units: [{used}]}}}}]\n")
    assert len(found) == 100  # where reading stops


def test_all_phases_report_at_once():
    text = (
        GOOD
        + "  - Dense: {units: 1e999}\n  - Dense: {unit: 2}\n  - Conv1D: {filters: 2, kernel_size: 0}\n  - Dens: {}\n"
    )
    assert [problem.line for problem in problems(text)] == [5, 6, 7, 8]


def test_thousands_of_layers_in_a_row():
    assert "more layers in a row" in problems(GOOD + "  - Activation: {activation: relu}\n" * 1500)[0].message


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("name: ''", "a name must not be empty"),
        ("name: a/b", "name"),
        ('name: "\\ud800"', "lone surrogate"),
        ("vars: {id: 3}", "`id` has a meaning of its own"),
        ("vars: {a b: 3}", "a variable's name is a word"),
        ("vars: {d: 3}\nname: $e", "unknown variable `$e`"),
    ],
)
def test_names(sections, message):
    found = problems(f"{GOOD}{sections}\n")
    assert len(found) == 1 and message in found[0].message and found[0].line >= 5


def test_names_are_given_once():
    text = GOOD + "  - Dense: {units: 2, name: a}\n  - GRU: {units: 2, name: a}\n"
    (problem,) = problems(text)
    assert (problem.message, problem.path, problem.line) == (
        "the name `a` is taken by layers[1].Dense",
        "layers[2].GRU.name",
        6,
    )


def test_ids_of_inputs():
    assert (
        "does not begin with `#`"
        in problems({"kseq": 1, "inputs": {"#0": {"shape": [None, 4]}}, "layers": [{"Add": {}}]})[0].message
    )


def test_numbers_that_may_be_read_in_two_ways_are_text():
    for number in ("010", "00.5", "1_000", "0x10", "+", ".inf"):
        assert f"received '{number}'" in problems(GOOD.replace("units: 2", f"units: {number}"))[0].message


def test_an_unknown_variable_in_a_list_is_one_problem():
    (problem,) = problems(GOOD + "  - Normalization: {mean: [1.0, $m], variance: 1}\n")
    assert problem.path == "layers[1].Normalization.mean[1]"


def test_a_required_variable_may_be_null():
    text = "kseq: 1\nvars: {d: null}\nblocks: {b: [{Dense: {units: $d}}]}\n"
    text += "input: {shape: [null, 4]}\nlayers: [{b: {d: 3}}]\n"
    assert kseq.load_spec(text).count_params() == 15
    assert len(problems(text.replace("{d: 3}", "{}"))) == 1


def test_variables_are_a_mapping():
    with pytest.raises(TypeError, match="`vars` is a mapping"):
        kseq.load_spec(GOOD, vars="d=3")
