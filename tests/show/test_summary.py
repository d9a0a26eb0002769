"""The summary: its rows as data against what the layers say, and its text."""

import json

import keras
import numpy as np
import pytest

import kseq
from kseq.show import summary_rows
from kseq.streaming import as_layer
from kseq.streaming.graph import ModelNetwork


def by_name(model):
    return {row["layer"]: row for row in summary_rows(model)}


def text(model):
    lines = []
    kseq.summary(model, print_fn=lines.append)
    return "\n".join(lines)


def sequential(*layers):
    return keras.Sequential([keras.Input((None, 3)), *layers], name="model")


def state_bytes(model, channels=3):
    layer = as_layer(model)
    specs = layer.nodes_read.input_specs if isinstance(layer, ModelNetwork) else (kseq.SequenceSpec((channels,)),)
    leaves = keras.tree.flatten(layer.initial_state(1, specs if len(specs) > 1 else specs[0]))
    return sum(keras.ops.convert_to_numpy(leaf).nbytes for leaf in leaves)


def test_rows_of_a_sequential_model():
    model = sequential(
        kseq.Conv1D(4, 3, strides=2, padding="reverse_causal", name="conv"),
        keras.layers.LayerNormalization(name="norm"),
        kseq.GRU(2, name="gru"),
    )
    rows = by_name(model)
    assert list(rows) == ["conv", "norm", "gru", "model"]
    assert rows["conv"] == {
        "layer": "conv",
        "type": "Conv1D",
        "depth": 0,
        "output_shape": [None, None, 4],
        "parameters": 40,
        "block": 2,
        "ratio": "1/2",
        "input_latency": 2,
        "output_latency": 1,
        "past": 0,
        "future": 2,
        "state_bytes": rows["conv"]["state_bytes"],
        "obstacle": None,
    }
    assert rows["norm"]["parameters"] == 8
    assert rows["norm"]["state_bytes"] == 0
    assert rows["gru"]["past"] == "all"
    assert rows["gru"]["state_bytes"] == 8
    total = rows["model"]
    assert total["parameters"] == model.count_params()
    assert (total["block"], total["ratio"], total["input_latency"]) == (2, "1/2", 2)
    assert total["state_bytes"] == state_bytes(model) == rows["conv"]["state_bytes"] + 8


def test_functional_model_with_a_mask_an_operation_and_branches_to_align():
    values, mask = keras.Input((None, 3), name="values"), keras.Input((None,), dtype="bool", name="mask")
    y = kseq.Conv1D(3, 3, padding="reverse_causal", name="ahead")(kseq.Sequence(values, mask))
    model = keras.Model([values, mask], y.values + values, name="model")
    rows = summary_rows(model)
    assert [row["type"] for row in rows] == ["Conv1D", "Add", "Functional"]
    assert rows[-1]["output_latency"] == 2
    # The whole holds the delay of the branch that is not ahead.
    assert rows[-1]["state_bytes"] == state_bytes(model) > sum(row["state_bytes"] for row in rows[:-1])


def test_nested_layers_and_models_are_indented():
    inner = keras.Sequential([keras.Input((None, 4)), kseq.Dense(2, name="deep")], name="inner")
    model = sequential(
        kseq.Residual([kseq.Conv1D(3, 2, name="conv")], name="residual"), kseq.Dense(4, name="wide"), inner
    )
    rows = by_name(model)
    assert [(name, row["depth"]) for name, row in rows.items()] == [
        ("residual", 0),
        ("body", 1),
        ("conv", 2),
        ("wide", 0),
        ("inner", 0),
        ("deep", 1),
        ("model", 0),
    ]
    assert rows["inner"]["type"] == "Sequential"
    assert rows["inner"]["parameters"] == rows["deep"]["parameters"] == 10
    assert "    conv (Conv1D)" in text(model)


def test_each_child_of_a_chain_gets_the_spec_of_the_one_before():
    layer = kseq.Repeat([kseq.Dense(5), kseq.Conv1D(7, 2)], num_repeats=2)
    layer.build((None, None, 3))
    *children, total = summary_rows(layer)
    assert [row["output_shape"][-1] for row in children] == [5, 7, 5, 7]
    assert [row["state_bytes"] for row in children] == [0, 20, 0, 20]
    assert total["layer"] == layer.name
    assert total["state_bytes"] == 40


def test_layers_that_do_not_stream_are_shown_with_the_reason():
    model = sequential(
        kseq.Conv1D(2, 3, padding="same", name="same"),
        kseq.Serial([kseq.MaxPooling1D(2, padding="valid", name="pool")], name="serial"),
        kseq.GRU(2, name="gru"),
    )
    rows = by_name(model)
    assert "'same'" in rows["same"]["obstacle"]
    assert rows["gru"]["obstacle"] is None
    assert rows["gru"]["state_bytes"] == 8
    assert rows["model"]["block"] is rows["model"]["state_bytes"] is None
    assert rows["model"]["output_shape"] == [None, None, 2]
    shown = text(model)
    assert "same (Conv1D) does not stream: padding 'same'" in shown
    assert "pool (MaxPooling1D) does not stream: padding 'valid'" in shown
    assert "serial (Serial) does not stream" not in shown  # its child says it


def test_stock_layers_without_a_streaming_form_do_not_prevent_a_summary():
    model = sequential(kseq.Dense(4, name="dense"), keras.layers.Bidirectional(keras.layers.GRU(2), name="both"))
    rows = by_name(model)
    assert rows["dense"]["block"] == 1
    assert rows["both"]["block"] is None
    assert "both (Bidirectional) does not stream: " in text(model)


def test_rows_are_json_and_numbers_are_plain():
    model = sequential(kseq.LSTM(2), kseq.Delay(3), kseq.Lookahead(1))
    rows = json.loads(json.dumps(summary_rows(model), allow_nan=False))
    assert rows == summary_rows(model)
    delay, lookahead = rows[1:3]
    assert (delay["past"], delay["future"]) == (3, 0)
    assert (lookahead["past"], lookahead["future"]) == (0, 1)


def test_state_bytes_follow_the_dtype_policy():
    layer = kseq.Conv1D(2, 3, dtype="bfloat16")
    layer(np.zeros((1, 4, 5), "float32"))
    assert summary_rows(layer)[-1]["state_bytes"] == 2 * 5 * 2


class Knowing(kseq.SequenceLayer):
    """Holds all that is known when a stream begins, however long it is."""

    context_names = ("source",)

    def build(self, input_shape, context_shape):
        pass

    def initial_state(self, batch_size, input_spec, context):
        return {"source": self.standardize_context(context)["source"].values}

    def call_step(self, x, state, *, training=False):
        return x, state


def test_state_that_depends_on_context_is_not_counted():
    x, source = keras.Input((None, 3)), keras.Input((None, 2), name="source")
    model = keras.Model([x, source], kseq.GRU(2, name="gru")(Knowing(name="knowing")(x, context={"source": source})))
    *layers, total = summary_rows(model)
    assert [row["state_bytes"] for row in layers] == [None, 8] and total["state_bytes"] is None
    assert total["obstacle"] is None and total["past"] == "all"


def test_prints_to_the_terminal(capsys):
    assert kseq.summary(sequential(kseq.GRU(2, name="gru"))) is None
    shown = capsys.readouterr().out
    assert "gru (GRU)" in shown
    assert "B, T, 2" in shown
    assert "…" not in shown


def test_wrong_models_are_refused():
    with pytest.raises(TypeError, match="received 3 of type int"):
        kseq.summary(3)
    with pytest.raises(TypeError, match="of type Dense"):
        kseq.summary(keras.layers.Dense(2))
    with pytest.raises(ValueError, match=r"keras\.Input"):
        kseq.summary(keras.Sequential([kseq.Dense(2)]))
    with pytest.raises(ValueError, match="build"):
        kseq.summary(kseq.Dense(2, name="unbuilt"))
