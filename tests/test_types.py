"""What a type checker tells a user: of a program that uses the public names, the types and the mistakes it finds."""

import importlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import kseq

ROOT = pathlib.Path(kseq.__file__).parent.parent
# After a line: `type: T` what it is, `error: RULE` what is wrong with it.
PROGRAM = """
import keras
import numpy as np
import kseq
import kseq.data as kd
from kseq import testing

x = np.zeros((1, 7, 4), "float32")
spec = kseq.SequenceSpec((4,))
layer = kseq.Conv1D(4, 3, padding="causal", name="conv", dtype="float32", activity_regularizer="l2")
memory = kseq.GRU(4, return_sequences=True)
model = keras.Sequential([layer, memory])

# Layers: a tensor for a tensor, a `Sequence` for a `Sequence`.
layer(x)  # type: BackendTensor
layer(kseq.Sequence(x))  # type: Sequence
layer(keras.KerasTensor((1, 7, 4)))  # type: KerasTensor
memory(kseq.Sequence(x), training=True)  # type: Sequence
kseq.Serial([layer, kseq.Residual(memory)])(kseq.Sequence(x))  # type: Sequence
layer.step(kseq.Sequence(x), layer.initial_state(1, spec))  # type: tuple[Sequence, Any]
layer.timing.output_latency  # type: int
layer.filters  # type: int
kseq.Conv1D(4, 3, paddin="causal")  # error: reportCallIssue
kseq.Conv1D(4, 3, padding="casual")  # error: reportArgumentType
kseq.Conv1D("4", 3)  # error: reportArgumentType
kseq.Dense(4, nam="dense")  # error: reportCallIssue
kseq.Dense(4, data_format="channels_last")  # error: reportCallIssue
kseq.LSTM(4, return_sequences=False)  # error: reportArgumentType
kseq.Delay(1, trainable="no")  # error: reportArgumentType
kseq.Parallel([layer], combination="both")  # error: reportArgumentType


@kseq.register("acme.Twice", former_names=["acme.Double"])
class Twice(kseq.SequenceLayer):
    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.keep(locals())

    def output_spec(self, input_spec: kseq.SequenceSpec):
        return kseq.SequenceSpec((*input_spec.shape, 2), self.compute_dtype)

    def call_step(self, x: kseq.Sequence, state, *, training=False):
        return x.apply(lambda values: 2 * values), state

    def call_layer(self, x: kseq.Sequence, *, training=False):
        return x.mask_invalid(0.5)


Twice(2)(x)  # type: BackendTensor
Twice(2)(x, return_state=True)  # type: tuple[Any, Any]
Twice(2)(x, initial_state=())  # type: BackendTensor
Twice  # type: type[Twice]

# Streams.
stream = kseq.Stream(model, batch_size=2)
stream.push(x)  # type: ndarray[tuple[Any, ...], dtype[Any]]
stream.push(x).shape  # type: tuple[Any, ...]
stream.peek(x)  # type: Any
stream.push(kseq.Sequence(x))  # type: Sequence
stream.push({"a": x, "b": x})  # type: Any
stream.push(x, active=[True, False])  # type: Any
stream.flush()  # type: Any
kseq.Stream(model, batchsize=2)  # error: reportCallIssue
kseq.Stream(3)  # error: reportArgumentType
step = kseq.StepFunction(layer, 1, spec)
step(kseq.Sequence(x), step.initial_state())  # type: tuple[Sequence, list[Any]]
step.to_bytes(step.initial_state())  # type: bytes
step.state[0].shape  # type: tuple[int, ...]

# Arrays on the host.
kseq.pad([x[0], x[0]], length=9)[1]  # type: ndarray[tuple[Any, ...], dtype[numpy.bool[builtins.bool]]]
kseq.pad([x[0]], side="middle")  # error: reportArgumentType
kseq.pad([x[0]], lenght=9)  # error: reportCallIssue
kseq.unpad(x, [7])  # type: list[ndarray[tuple[Any, ...], dtype[Any]]]
kseq.flatten(x, None)  # type: Ragged
kseq.Ragged(x[0], [0, 3])[0]  # type: ndarray[tuple[Any, ...], dtype[Any]]
kseq.Ragged(x[0], [0, 3])[:1]  # type: Ragged
kseq.masks.mask_to_lengths([[True]])  # type: ndarray[tuple[Any, ...], dtype[signedinteger[_64Bit]]]
kseq.masks.window_mask([[True]], kernel_size=2, padding="same", stride=2)  # error: reportCallIssue
kseq.Timing(ratio=2).ratio  # type: Fraction
kseq.Window(3, padding="causal").pads  # type: tuple[int, int]
kseq.Conv  # error: reportAttributeAccessIssue

# Models, and what is checked of them.
kseq.load_spec("model.yaml", {"units": 3}, set={"a.b": 1})  # type: Model
kseq.load_spec(3)  # error: reportArgumentType
kseq.load_spec_text("model: []")  # type: Model
kseq.summary(model)  # type: None
testing.check_layer(layer, (2, 7, 4))  # type: None
testing.check_layer(layer, (2, 7, 4), gradient=False)  # error: reportCallIssue


# Stores of records, and batches of them.
@kd.record
class Utterance:
    path: str = kd.source()
    label: int


Utterance(path="a.wav", label=1).label  # type: int
Utterance(path="a.wav", labels=1)  # error: reportCallIssue
store = kd.open("store")
store[0]  # type: dict[str, Any]
store[:2]  # type: Store
store[store.lengths < 9].split(0.8, by="label")  # type: list[Store]
store.schema["tokens"].shape  # type: tuple[int | None, ...]
store.batches(batch_size=8, targets=kd.shift("tokens")).state()  # type: dict[str, Any]
store.batches(batchsize=8)  # error: reportCallIssue
store.batches(batch_size=8, side="middle")  # error: reportArgumentType
kd.Writer("store", {"tokens": ("int32", (None,))}).write({"tokens": [1]})  # type: int
kd.Writer("store", appending=True)  # error: reportCallIssue
kd.verify("store").problems  # type: tuple[tuple[str, str], ...]
kd.Vocabulary.from_text(["to be"], level="words")  # error: reportArgumentType
kd.formats.read("train.parquet").schema  # type: Schema | None
kd.build("corpus", Utterance, "utterances.csv", splits={"train": 1}).splits["train"].rows  # type: int
kseq.SpecError([]).problems  # type: list[Problem]
"""


def expected():
    """By the number of a line what is said of it."""
    for number, line in enumerate(PROGRAM.splitlines(), 1):
        match = re.search(r"  # (type|error): (.*)$", line)
        if match:
            yield number, match.groups()


def test_a_type_checker_knows_what_a_user_gets(tmp_path):
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed")
    lines = PROGRAM.splitlines()
    for number, (kind, _) in expected():
        if kind == "type":
            lines[number - 1] = f"reveal_type({lines[number - 1].partition('  # ')[0]})"
    (tmp_path / "program.py").write_text("\n".join(lines))
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    done = subprocess.run(
        [pyright, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = {}
    for row in json.loads(done.stdout)["generalDiagnostics"]:
        revealed = re.fullmatch(r'Type of ".*" is "(.*)"', row["message"])
        said = ("type", revealed[1]) if revealed else ("error", row.get("rule"))
        found.setdefault(row["range"]["start"]["line"] + 1, said)
    wanted = dict(expected())
    wrong = {lines[n - 1]: (found.get(n), wanted.get(n)) for n in found | wanted if found.get(n) != wanted.get(n)}
    assert not wrong, "what pyright says of a line, and what it should"


# The public names.


def test_public_names_are_all_that_is_shown():
    assert dir(kseq) == kseq.__all__ == sorted(kseq.__all__)
    assert not [name for name in dir(kseq) if name.startswith("_")]
    assert {"Conv1D", "Stream", "backend", "data", "datasets", "masks"} <= set(dir(kseq))
    assert not {"importlib", "typing", "lazy_names", "after_import"} & set(dir(kseq))
    assert kseq.datasets.japanese_vowels is importlib.import_module("kseq.datasets.japanese_vowels")


def test_all_that_is_public_is_imported_by_a_star():
    names = {}
    exec("from kseq import *", names)
    assert names.keys() - {"__builtins__"} == set(kseq.__all__)
    assert all(names[name] is getattr(kseq, name) for name in kseq.__all__)
