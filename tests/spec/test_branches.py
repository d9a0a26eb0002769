"""Branches that cannot meet, and layers of the wrong rank, are found when a spec is checked, by the spec's names."""

import re

import pytest

import kseq

ONE = "kseq: 1\ninput: {shape: [null, 4]}\nlayers:\n"


def messages(text):
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(text)
    return [f"{problem.path}: {problem.message}" for problem in error.value.problems]


WRONG = {
    "Residual: {layers: [{Dense: {units: 12}}], shortcut_layers: [{Dense: {units: 16}}]}": [
        "channel shapes",
        "(12,) for branch 'body' and (16,) for branch 'shortcut'",
    ],
    "Residual: {layers: [{Dense: {units: 12}}]}": ["(12,) for branch 'body' and (4,) for branch 'shortcut'"],
    "Parallel: {combination: add, layers: [{Dense: {units: 1}}, {Dense: {units: 3, name: a}}, "
    "{Dense: {units: 2, name: b}}]}": ["'add' combines; received (3,) for branch 'a' and (2,) for branch 'b'"],
    "Parallel: {layers: [{Dense: {units: 3, name: a}}, {Dense: {units: 2, name: b}}]}": [
        "'stack' combines; received (3,) for branch 'a' and (2,) for branch 'b'"
    ],
    "Parallel: {combination: concat, layers: [{Dense: {units: 3, name: a}}, "
    "{Conv1D: {filters: 3, kernel_size: 2, strides: 2, name: b}}]}": [
        "ratios",
        "1 for branch 'a'",
        "1/2 for branch 'b'",
    ],
    "Serial: {layers: [{Residual: {layers: [{Conv1D: {filters: 4, kernel_size: 3, padding: valid}}]}}]}": [
        "equal length; received",
        "from body",
        "from shortcut",
    ],
}


@pytest.mark.parametrize("layer", WRONG)
def test_branches_of_combinators(layer):
    (message,) = messages(f"{ONE}  - {layer}\n")
    assert all(part in message for part in WRONG[layer])


GRAPHS = {
    "Conv1D: {filters: 4, kernel_size: 3, strides: 2, id: a}": "equal ratios .* 1/2 for branch 'a' and 1 for .* 'b'",
    "Conv1D: {filters: 4, kernel_size: 3, padding: valid, id: a}": "branch 'b' gives 2 more than branch 'a'",
    "Lookahead: {length: 3, id: a}": "branch 'b' gives 3 more than branch 'a'",
    "Delay: {length: 3, id: a}": "branch 'b' gives 3 less than branch 'a'",
    "Dense: {units: 5, id: a}": r"\(5,\) for branch 'a' and \(4,\) for branch 'b'",
}


@pytest.mark.parametrize("layer", GRAPHS)
def test_branches_of_a_graph(layer):
    join = "Multiply" if "Dense" in layer else "Concatenate"
    text = f"{ONE}  - {layer}\n  - Dense: {{units: 4, inputs: [input], id: b}}\n  - {join}: {{inputs: [a, b]}}\n"
    (message,) = messages(text)
    assert message.startswith(f"layers[2].{join}: branches must") and re.search(GRAPHS[layer], message)


def test_branches_are_named_by_ids_and_not_by_names():
    text = (
        "kseq: 1\ninputs: {x: {shape: [null, 4]}, y: {shape: [null, 3], name: z}}\nlayers:\n  - Add: {inputs: [x, y]}\n"
    )
    assert "(4,) for branch 'x' and (3,) for branch 'y'" in messages(text)[0]


def test_branches_of_known_lengths():
    text = "kseq: 1\ninputs: {x: {shape: [9, 4]}, y: {shape: [8, 4]}}\nlayers:\n  - Add: {inputs: [x, y]}\n"
    assert "equally many steps; received 9 for branch 'x' and 8 for branch 'y'" in messages(text)[0]
    assert kseq.load_spec(text.replace("Add: {", "Concatenate: {axis: 1, ")).output_shape == (None, 17, 4)


def test_ranks():
    two = "kseq: 1\ninputs: {x: {shape: [null]}, y: {shape: [null, 4]}}\nlayers:\n  - Add: {inputs: [x, y]}\n"
    assert "equal rank; received 2 for branch 'x' and 3 for branch 'y'" in messages(two)[0]
    head = "kseq: 1\nblocks: {b: [{Serial: {layers: [{LAYER}]}}]}\ninput: {shape: [null]}\nlayers: [{b: {}}]\n"
    for layer in ("Conv1D: {filters: 2, kernel_size: 2}", "GRU: {units: 2}", "DepthwiseConv1D: {kernel_size: 2}"):
        (message,) = messages(head.replace("LAYER", layer))
        path = f"layers[0].b.layers[0].Serial.layers[0].{layer.partition(':')[0]}: "  # of the layer itself
        assert message.startswith(path) and "takes values of rank 3; received shape (None, None)" in message


def test_what_fits_is_taken():
    text = ONE + "  - Dense: {units: 1, id: a}\n  - Add: {inputs: [a, input]}\n"  # one channel goes with any
    text += "  - Conv1D: {filters: 3, kernel_size: 2, strides: 2, id: b}\n"
    text += "  - Conv1D: {filters: 5, kernel_size: 3, strides: 2, padding: reverse_causal, inputs: [a], id: c}\n"
    assert kseq.load_spec(text + "  - Concatenate: {inputs: [b, c]}\n").output_shape == (None, None, 8)
    rates = "kseq: 1\ninputs: {x: {shape: [null, 4]}, y: {shape: [null, 4]}}\nlayers:\n"
    rates += "  - Conv1D: {filters: 4, kernel_size: 2, strides: 2, inputs: [x], id: half}\n"
    assert kseq.load_spec(rates + "  - Add: {inputs: [half, y]}\n")  # inputs may have rates of their own


def test_what_branches_hold_while_they_wait_is_limited():
    text = ONE + "  - Conv1D: {filters: 1, kernel_size: 1001, padding: reverse_causal, id: a}\n"
    text += "  - Add: {inputs: [a, input]}\n"
    kseq.load_spec(text, limits=kseq.spec.Limits(state=10_000))
    with pytest.raises(kseq.SpecError, match=r"layers\[1\].Add: more than 9999 numbers of state"):
        kseq.load_spec(text, limits=kseq.spec.Limits(state=9_999))


def test_other_branches_are_checked_after_an_error_in_one():
    text = "kseq: 1\ninput: {shape: [null], dtype: int32}\nlayers:\n"
    text += "  - Conv1D: {filters: 2, kernel_size: 2, id: a}\n"
    text += "  - GRU: {units: 2, inputs: [input], id: b}\n  - Concatenate: {inputs: [a, b], id: c}\n"
    text += "  - Embedding: {input_dim: 3, output_dim: 2, inputs: [input], id: d}\n"
    text += "  - Residual: {layers: [{Dense: {units: 3}}], id: e}\n"
    found = messages(text.replace("  - Dense: {units: 2}\n", "") + "outputs: [c, e]\n")
    assert [message.partition(":")[0] for message in found] == [
        "layers[0].Conv1D",
        "layers[1].GRU",
        "layers[4].Residual",
    ]
