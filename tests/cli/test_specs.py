"""The commands that read specs: check, show, draw, schema, layers."""

import json
import xml.etree.ElementTree as ElementTree

import jsonschema
import pytest
import yaml

import kseq
from kseq import cli

SPEC = """kseq: 1
vars: {d: 2, rate: 0.5}
input: {shape: [null, 3]}
layers:
  - Dense: {units: $d}
  - Dropout: {rate: $rate}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(SPEC)
    return path


def run(capsys, *arguments):
    """Exit status, standard output and standard error."""
    status = cli.main(list(map(str, arguments)))
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_check(path, capsys):
    assert run(capsys, "check", path) == (0, f"{path}: model, 8 parameters, no errors\n", "")
    assert run(capsys, "check", path, "--vars", "d=4", "rate=1e-1")[1] == f"{path}: model, 16 parameters, no errors\n"
    found = json.loads(run(capsys, "check", path, "--json")[1])
    assert found == {"ok": True, "problems": [], "name": "model", "parameters": 8}


def test_check_says_all_that_is_wrong(path, capsys):
    path.write_text(SPEC.replace("units", "unit").replace("Dropout", "Dropot"))
    status, out, err = run(capsys, "check", path)
    assert (status, out) == (1, "")
    first, second = (
        f"{path}:5:13: layers[0].Dense: unknown argument `unit`",
        f"{path}:6:5: layers[1]: unknown layer type",
    )
    assert err.startswith(first) and second in err and err.endswith("2 errors\n")
    status, out, err = run(capsys, "check", path, "--json")
    assert (status, err) == (1, "")
    assert [problem["line"] for problem in json.loads(out)["problems"]] == [5, 6]


@pytest.mark.parametrize("command", [["check"], ["show"], ["draw", "-o", "-"], ["bench"]], ids=lambda c: c[0])
def test_errors_begin_with_their_place(command, path, tmp_path, capsys):
    path.write_text(SPEC.replace("units", "unit"))
    status, out, err = run(capsys, command[0], path, *command[1:])
    assert (status, out) == (1, "") and err.startswith(f"{path}:5:13: ")
    status, out, err = run(capsys, command[0], tmp_path / "none.yaml", *command[1:])
    assert (status, out) == (1, "") and err.startswith(f"kseq {command[0]}: ") and "no such file" in err.lower()


def test_show(path, capsys):
    status, out, _ = run(capsys, "show", path, "--vars", "d=5")
    assert status == 0 and "dense (Dense)" in out and "B, T, 5" in out
    rows = json.loads(run(capsys, "show", path, "--json")[1])
    assert [row["type"] for row in rows] == ["Dense", "Dropout", "Functional"]
    assert run(capsys, "show", "tcn")[0] == 0  # a shipped one, by name


def test_draw(path, tmp_path, capsys):
    target = tmp_path / "m.svg"
    assert run(capsys, "draw", path, "-o", target) == (0, "", "")
    assert ElementTree.parse(target).getroot().tag.endswith("svg")
    assert run(capsys, "draw", path, "-o", "-")[1].strip() == target.read_text().strip()
    path.write_text(SPEC.replace("Dense: {units: $d}", "Conv1D: {filters: 2, kernel_size: 3, padding: same}"))
    status, _, err = run(capsys, "draw", path, "-o", target)
    assert status == 1 and "padding 'same' needs steps" in err
    assert run(capsys, "draw", "tcn", "-o", tmp_path / "none" / "m.svg")[0] == 1


def test_draw_the_graph(path, tmp_path, capsys):
    target = tmp_path / "m.svg"
    assert run(capsys, "draw", "--graph", path, "-o", target) == (0, "", "")
    said = [text.text for text in ElementTree.parse(target).iter("{http://www.w3.org/2000/svg}text")]
    assert {"dense", "Dense · B, T, 2", "Dropout · B, T, 2", "output"} <= set(said)
    assert run(capsys, "draw", "--graph", path, "-o", "-")[1].strip() == target.read_text().strip()
    path.write_text(SPEC.replace("Dense: {units: $d}", "Conv1D: {filters: 2, kernel_size: 3, padding: same}"))
    assert run(capsys, "draw", "--graph", path, "-o", target) == (0, "", "")
    assert "does not stream" in target.read_text()  # unlike the timeline, it need not


def test_schema(tmp_path, capsys):
    out = run(capsys, "schema")[1]
    target = tmp_path / "s.json"
    assert run(capsys, "schema", "-o", target) == (0, "", "")
    assert json.loads(out) == json.loads(target.read_text()) == kseq.spec.json_schema()
    jsonschema.Draft202012Validator(json.loads(out)).validate(yaml.safe_load(SPEC))


def test_layers(capsys):
    status, out, _ = run(capsys, "layers")
    assert status == 0 and "Conv1D" in out and "Convolution over time." in out
    rows = json.loads(run(capsys, "layers", "--json")[1])
    assert {"GRU", "keras.Dense", "Add"} <= {row["name"] for row in rows}
    status, out, _ = run(capsys, "layers", "Conv1D")
    for text in (
        "Conv1D(filters, kernel_size, strides=1, padding='causal'",
        "Invalid inputs count as zero",
        "latency in",
    ):
        assert text in " ".join(out.split())
    found = json.loads(run(capsys, "layers", "Conv1D", "--json")[1])
    padding = next(a for a in found["arguments"] if a["name"] == "padding")
    assert padding["default"] == "causal" and "reverse_causal" in padding["takes"]
    assert any(not example["streams"] and "same" in example["obstacle"] for example in found["examples"])
    assert run(capsys, "layers", "Convv1D")[::2] == (
        1,
        "kseq layers: unknown layer type 'Convv1D'; did you mean `Conv1D`?\n",
    )


def test_init_copies_a_shipped_spec(tmp_path, capsys):
    for name in kseq.spec.shipped():
        target = tmp_path / f"{name}.yaml"
        status, out, err = run(capsys, "init", name, target)
        assert (status, err) == (0, "") and out.startswith(f"{target}: a copy of {name}")
        assert target.read_text() == kseq.spec.shipped()[name].read_text()
        status, _, err = run(capsys, "init", name, target)
        assert (status, err) == (1, f"kseq init: {target}: is there already\n")
    assert run(capsys, "init", "keyword_spoter", tmp_path / "x.yaml")[2].endswith("did you mean `keyword_spotter`?\n")
    assert "conformer, " in run(capsys, "init", "zzz", tmp_path / "x.yaml")[2]
    assert run(capsys, "init", "tcn", tmp_path / "x.keras")[0] == 1 and not (tmp_path / "x.keras").exists()
    assert run(capsys, "init", "tcn", tmp_path / "none" / "x.yaml")[0] == 1


def test_arguments_of_layers_are_set(path, tmp_path, capsys):
    path.write_text(SPEC.replace("units: $d}", "units: $d, name: logits}"))
    assert "20 parameters" in run(capsys, "check", path, "--set", "logits.units=5")[1]
    assert "8 parameters" in run(capsys, "check", path, "--set", "logits.units=$d")[1]
    rows = json.loads(run(capsys, "show", path, "--json", "--set", "logits.units=5")[1])
    assert rows[0]["output_shape"][-1] == 5
    status, _, err = run(capsys, "check", path, "--set", "logits.unit=5", "logit.units=3", "units=3", "logits.name=x")
    assert status == 1
    for message in (
        "layers[0].Dense: unknown argument `unit`; did you mean `units`?",
        "set: no layer has the name or id `logit`; there are `logits`; did you mean `logits`?",
        "set: must be LAYER.ARGUMENT; received `units`",
        "set.logits.name: `name` is no argument that can be set",
    ):
        assert message in err
    kseq.load_spec(path).save(tmp_path / "m.keras")
    status, _, err = run(capsys, "check", tmp_path / "m.keras", "--set", "logits.units=5")
    assert status == 1 and "arguments of layers are for specs" in err


WRONG_LIMITS = {"parametrs=3": "did you mean `parameters`?", "state=x": "whole number", "state=-1": "whole number"}


def test_limits_are_raised_and_lowered(path, capsys):
    status, _, err = run(capsys, "check", path, "--limit", "parameters=7")
    assert status == 1 and "more than 7 parameters" in err and "or the command `--limit parameters=NUMBER`" in err
    assert run(capsys, "check", path, "--limit", "parameters=8", "state=1e9")[0] == 0
    for wrong, message in WRONG_LIMITS.items():
        with pytest.raises(SystemExit) as error:
            cli.main(["check", str(path), "--limit", wrong])
        assert error.value.code == 2 and message in " ".join(capsys.readouterr().err.split())


def test_every_layer_is_described(capsys):
    for name in kseq.spec.catalog.type_names():
        assert run(capsys, "layers", name)[0] == 0


NASTY = "x\x1b]0;owned\x07\x1b[31m[bold]:warning:\u202e\u9b5a"
SHOWN = r"x\x1b]0;owned\x07\x1b[31m[bold]:warning:\u202e" + "\u9b5a"


@pytest.fixture(params=[".yaml", ".keras"])
def nasty(request, tmp_path):
    """A file of a model whose names command the terminal."""
    spec = {"kseq": 1, "name": NASTY, "input": {"shape": [None, 3]}}
    spec |= {"layers": [{"Serial": {"name": NASTY + "2", "layers": [{"Dense": {"units": 2, "name": NASTY + "3"}}]}}]}
    if request.param == ".yaml":
        path = tmp_path / (NASTY.replace("\u9b5a", "") + ".yaml")
        path.write_text(json.dumps(spec))
    else:
        path = tmp_path / "m.keras"
        kseq.load_spec(spec).save(path)
    return path


def is_safe(*texts):
    return all(c.isprintable() or c == "\n" for text in texts for c in text)


@pytest.mark.parametrize(
    "command", [["check"], ["show"], ["draw", "-o", "-"], ["draw", "--graph", "-o", "-"]], ids="-".join
)
def test_names_do_not_command_the_terminal(command, nasty, capsys):
    status, out, err = run(capsys, command[0], nasty, *command[1:])
    assert status == 0 and is_safe(out, err)
    assert (SHOWN if command[0] != "draw" else SHOWN[-25:]) in out


def test_errors_do_not_command_the_terminal(nasty, tmp_path, capsys):
    wrong = tmp_path / f"{NASTY}.yaml"
    layer = {"Dense": {"unit": 2, "name": NASTY, NASTY: {NASTY: NASTY}, "activation": NASTY, "dtype": {NASTY: 1}}}
    spec = {"kseq": 1, NASTY: 1, "input": {"shape": [None, 3]}, "layers": [layer], "outputs": {NASTY: NASTY}}
    wrong.write_text(json.dumps(spec))
    for command in (["check", wrong], ["show", wrong], ["show", f"{tmp_path}/{NASTY}.txt"]):
        status, out, err = run(capsys, *command)
        assert status == 1 and is_safe(out, err) and SHOWN in err
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(spec)
    assert is_safe(str(error.value))


def test_a_layer_that_does_not_stream_does_not_command_the_terminal(path, capsys):
    path.write_text(
        json.dumps(
            {
                "kseq": 1,
                "input": {"shape": [None, 3]},
                "layers": [{"Conv1D": {"filters": 2, "kernel_size": 3, "padding": "same", "name": NASTY}}],
            }
        )
    )
    for command in (["show", path], ["draw", path, "-o", "-"], ["bench", path]):
        _, out, err = run(capsys, *command)
        assert is_safe(out, err) and SHOWN in out + err


def test_training_shows_no_names_that_command_the_terminal(path, tmp_path, capsys):
    for outputs, metric in (({"y": "a"}, NASTY), ({NASTY: "a"}, "mae")):
        path.write_text(
            json.dumps(
                {
                    "kseq": 1,
                    "input": {"shape": [None, 3]},
                    "layers": [{"Dense": {"units": 2, "id": "a"}}],
                    "outputs": outputs,
                    "compile": {"loss": "mse", "metrics": [{"MeanAbsoluteError": {"name": metric}}]},
                }
            )
        )
        status, out, err = run(capsys, "train", path, "--data", "x", "--targets", "y", "--out", tmp_path / "m.keras")
        assert status == 1 and is_safe(out, err) and "must be printable" in err
