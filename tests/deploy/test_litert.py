"""Steps in LiteRT's format: precisions, where the state is, and what is refused."""

import collections
import pathlib

import keras
import numpy as np
import pytest
from sampling import todays

import kseq
from kseq.deploy import litert, measured
from kseq.deploy.equal_leaves import equal_leaves
from kseq.runtime.golden import golden_error
from kseq.runtime.runners import open_runner
from kseq.runtime.runners.litert import READ, STEP, WRITE
from kseq.runtime.seal import checksum
from kseq.runtime.whole import open_whole

interpreters = pytest.importorskip("ai_edge_litert.interpreter")
if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT's files are written on tensorflow", allow_module_level=True)

RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("golden_without_a_compiler")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step.tflite"


def check_golden(path, tolerance=1e-4):
    """Check that the file gives its golden data, from its first state on, and give its manifest."""
    manifest, run = open_runner(path)
    state, found = run.state(manifest.initial_state), []
    for start in range(0, manifest.golden_inputs[0].shape[1], manifest.block):
        outputs, state = run([x[:, start : start + manifest.block] for x in manifest.golden_inputs], state)
        found.append(outputs)
    for y, wanted in zip(zip(*found, strict=True), manifest.golden_outputs, strict=True):
        y = np.concatenate(y, axis=1)
        assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(y, wanted, atol=tolerance * max(1, np.abs(wanted).max()))
    return manifest


def built(layer, shape, dtype="float32", context=None):
    """The layer, built, with weights of which none is what it was made as."""
    given = {"context": context} if context else {}
    layer(kseq.Sequence(np.zeros((2, *shape), dtype)), **given)
    for v in layer.weights:
        if keras.backend.is_float_dtype(v.dtype):
            v.assign(v + 0.2 * RNG.standard_normal(v.shape))
    return layer


def stack():
    return built(kseq.Serial([kseq.Conv1D(6, 3, activation="relu"), kseq.LSTM(5), kseq.Dense(4)]), (4, 3))


def operations(path):
    interpreter = interpreters.Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return collections.Counter(row["op_name"] for row in interpreter._get_ops_details())


BOUNDS = {"float32": 1e-4} | {name: measured.bound(name) for name in ("float16", "int8_dynamic", "int8")}


@pytest.mark.parametrize(
    "precision", todays([pytest.param(name, id=name) for name in BOUNDS], of="precisions", tensorflow=0.5)
)
def test_precisions(precision, path):
    chunks = [RNG.standard_normal((2, 5, 32)).astype("float32") for _ in range(8)]
    layer = built(kseq.Serial([kseq.Conv1D(64, 3, activation="relu"), kseq.LSTM(32), kseq.Dense(4)]), (4, 32))
    plain = path.with_name("plain.tflite")
    kseq.export(layer, plain, batch_size=2)
    kseq.export(layer, path, batch_size=2, precision=precision, calibration=chunks if precision == "int8" else None)
    manifest = check_golden(path, BOUNDS[precision])
    assert manifest.precision == precision
    if precision == "float32":
        assert manifest.golden_error is None
    else:
        assert 0 < manifest.golden_error <= BOUNDS[precision]
        assert manifest.golden_error == golden_error(*open_runner(path))
    sizes = path.stat().st_size, plain.stat().st_size
    assert sizes[0] < {"float16": 0.7, "float32": 1.01}.get(precision, 0.5) * sizes[1]


def attention(channels=16):
    layer = kseq.SelfAttention(2, 8, max_past_horizon=4, position=kseq.RotaryPosition(), use_bias=False)
    return kseq.Residual([kseq.RMSNormalization(), layer, kseq.Dense(channels, activation="gelu")])


def transformer(blocks):
    """Blocks with rotary positions, whose weights are of the size that they have when training begins."""
    layer = kseq.Serial([*[attention() for _ in range(blocks)], kseq.Dense(16)])
    layer.build((None, None, 16))
    return layer


def outputs_of(step, state, x):
    """What a function of a block and a state gives, block by block."""
    found = []
    for t in range(x.shape[1]):
        y, state = step(x[:, t : t + 1], state)
        found.append(y)
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize(
    "precision",
    todays([pytest.param(p, id=p) for p in ("float16", "int8_dynamic", "int8")], of="far along", tensorflow=0.5),
)
def test_positions_and_what_is_not_seen_are_no_weights(precision, path):
    layer, x = transformer(1), RNG.standard_normal((1, 40, 16)).astype("float32")
    manifest = kseq.export(layer, path, precision=precision, calibration=[x] if precision == "int8" else None)
    assert manifest.golden_error <= BOUNDS[precision]
    _, run = open_runner(path)
    step = kseq.StepFunction(layer, 1, kseq.SequenceSpec((16,)))

    def in_keras(block, leaves):
        y, leaves = step.advance(kseq.Sequence(block), leaves)
        return y.values, leaves

    def in_file(block, state):
        [y], state = run([block], state)
        return y, state

    for steps in (1000, 10**6):  # after which so many the clock begins
        names = [leaf.name.rpartition("/")[2] for leaf in manifest.state]
        assert "clock" in names
        pairs = zip(names, manifest.initial_state, strict=True)
        leaves = [leaf + np.array([[0, steps]], "int32") if name == "clock" else leaf for name, leaf in pairs]
        found, wanted = (outputs_of(f, s, x[:, :6]) for f, s in ((in_file, run.state(leaves)), (in_keras, leaves)))
        assert np.abs(found - wanted).max() <= BOUNDS[precision] * np.abs(wanted).max()


def test_golden_data_of_integers_are_of_the_calibration(path):
    layer, x = stack(), 100 + RNG.standard_normal((2, 40, 3)).astype("float32")
    manifest = kseq.export(layer, path, batch_size=2, precision="int8", calibration=[x])
    [golden] = manifest.golden_inputs
    np.testing.assert_array_equal(golden, x[:, np.linspace(0, 39, 8).astype(int)])


def test_a_file_that_does_not_hold_its_model_is_warned_of(path, monkeypatch):
    monkeypatch.setattr(measured, "golden_error", lambda manifest, runner: 0.5)
    with pytest.warns(UserWarning, match=r"step\.tflite is off by 0\.5 of the largest output.*within 0\.0098") as said:
        manifest = kseq.export(stack(), path, batch_size=2, precision="float16")
    assert [w.filename for w in said if w.category is UserWarning] == [__file__]
    assert manifest.golden_error == open_runner(path)[0].golden_error == 0.5


class Counting(kseq.SequenceLayer):
    """Adds what it has counted, in steps of `by`, of which it counts the valid ones or all."""

    def __init__(self, by, valid=False, **kwargs):
        super().__init__(**kwargs)
        self.by, self.valid = by, valid

    def initial_state(self, batch_size, input_spec, context=None):
        return {"count": keras.ops.zeros((batch_size,), dtype="int32")}

    def call_step(self, x, state, *, training=False):
        there = x.with_mask().mask if self.valid else keras.ops.ones_like(x.with_mask().mask)
        count = state["count"] + self.by * keras.ops.sum(keras.ops.cast(there, "int32"), axis=1)
        return kseq.Sequence(x.values + keras.ops.cast(count, "float32")[:, None, None], x.mask), {"count": count}


def test_leaves_that_count_alike_are_one(path, monkeypatch):
    found = []
    monkeypatch.setattr(litert, "equal_leaves", lambda *given: found.append(equal_leaves(*given)) or found[-1])
    layer = kseq.Serial(
        [
            Counting(n, valid, name=f"c{i}")
            for i, (n, valid) in enumerate([(1, False), (2, False), (1, True), (1, False), (1, True)])
        ]
    )
    layer.build((None, None, 3))
    kseq.export(layer, path, batch_size=2)
    names = [f"c{n}_count" for n in range(5)]
    # Where masks are given the third counts other steps than the first, also if this file takes none.
    assert found == [dict(zip(names, [names[n] for n in (0, 1, 2, 0, 2)], strict=True))]
    check_golden(path)
    manifest, run = open_runner(path)
    _, state = run([manifest.golden_inputs[0][:, :1]], run.state(manifest.initial_state))
    assert [leaf.tolist() for leaf in run.leaves(state)] == [[n, n] for n in (1, 2, 1, 1, 1)]


def test_two_layers_of_attention_have_one_clock(path):
    kseq.export(transformer(2), path)
    check_golden(path)
    assert operations(path)["COS"] == 1


@pytest.mark.parametrize("precision", ["float32", "int8_dynamic"])
def test_a_state_that_the_file_keeps(precision, path):
    manifest = kseq.export(stack(), path, batch_size=2, state="variables", precision=precision)
    check_golden(path, BOUNDS[precision])
    interpreter = interpreters.Interpreter(model_path=str(path), num_threads=1)
    names = interpreter.get_signature_list()
    assert set(names) == {STEP, READ, WRITE}
    assert min(names) == STEP  # or XNNPACK would not compute it
    run, read, write = (interpreter.get_signature_runner(name) for name in (STEP, READ, WRITE))
    first = read()
    for leaf, wanted in zip(manifest.state, manifest.initial_state, strict=True):
        np.testing.assert_array_equal(first[leaf.tensor], wanted)
    x = manifest.golden_inputs[0]
    outputs = [run(x=x[:, t : t + 1])["y"] for t in range(5)]
    kept = read()
    again = [run(x=x[:, t : t + 1])["y"] for t in range(5, 8)]
    np.testing.assert_allclose(
        np.concatenate([*outputs, *again], 1), manifest.golden_outputs[0], atol=BOUNDS[precision]
    )
    write(**kept)
    np.testing.assert_array_equal(
        np.concatenate([run(x=x[:, t : t + 1])["y"] for t in range(5, 8)], 1), np.concatenate(again, 1)
    )


@pytest.mark.parametrize("state", ["inputs", "variables"])
def test_states_are_values_that_one_runner_keeps_apart(state, path):
    kseq.export(stack(), path, batch_size=2, state=state)
    manifest, run = open_runner(path)
    [x], [wanted] = manifest.golden_inputs, manifest.golden_outputs
    one = two = None
    one, two = run.state(manifest.initial_state), run.state(manifest.initial_state)
    for t in range(4):  # two streams of one runner in turn, the other one step behind
        [y], one = run([x[:, t : t + 1]], one)
        np.testing.assert_allclose(y, wanted[:, t : t + 1], atol=1e-5)
        if t:
            [y], two = run([x[:, t - 1 : t]], two)
            np.testing.assert_allclose(y, wanted[:, t - 1 : t], atol=1e-5)
    copy = run.state(run.leaves(one))
    [y], next_one = run([x[:, 4:5]], one)
    with pytest.raises(RuntimeError, match="was taken by another call"):
        run([x[:, 4:5]], one)
    [same], _ = run([x[:, 4:5]], copy)
    np.testing.assert_array_equal(y, same)
    y[...] = 0  # the caller's to write
    [y], _ = run([x[:, 5:6]], next_one)
    np.testing.assert_allclose(y, wanted[:, 5:6], atol=1e-5)


BEFORE = {
    "Conv1D": lambda: keras.layers.Conv1D(8, 3, padding="causal", use_bias=False),
    "Dense": lambda: keras.layers.Dense(8),
    "kseq.Conv1D": lambda: kseq.Conv1D(8, 3),
    "kseq.Dense": lambda: kseq.Dense(8),
}


@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize(
    "before", todays([pytest.param(name, id=name) for name in BEFORE], of="folded", tensorflow=0.5)
)
def test_normalization_after_a_product_costs_no_operation(before, block, path):
    x = keras.Input((None, 4))
    of = kseq if "kseq" in before else keras.layers
    model = keras.Model(x, of.BatchNormalization()(BEFORE[before]()(x)))
    for v in model.weights:
        v.assign(RNG.uniform(0.5, 1.5, v.shape))
    kseq.export(model, path, block=block)
    check_golden(path)
    assert not {"MUL", "ADD", "SUB"} & set(operations(path))


class Register(kseq.SequenceLayer):
    """Gives what it was given two steps before; each leaf of its state becomes the next one."""

    def initial_state(self, batch_size, input_spec, context=None):
        return {name: keras.ops.zeros((batch_size, 1, *input_spec.shape)) for name in ("a", "b", "never")}

    def call_step(self, x, state, *, training=False):
        y = kseq.Sequence(state["b"], x.mask)
        return y, {"a": x.values, "b": state["a"], "never": state["never"]}


def test_leaves_that_become_each_other(path):
    layer = Register()
    layer.build((None, None, 3))
    manifest = kseq.export(layer, path, batch_size=2)
    check_golden(path)
    assert np.abs(manifest.golden_outputs[0]).max() > 0


def test_few_steps_of_a_recurrence_are_no_loop(path):
    kseq.export(stack(), path, batch_size=2, block=4)
    check_golden(path)
    assert "WHILE" not in operations(path)
    kseq.export(built(kseq.SimpleRNN(2), (4, 3)), path, block=20)  # whose tensors are allocated when it runs
    check_golden(path)
    assert "WHILE" in operations(path)


def test_caches_are_written_without_scattering(path):
    layer = built(
        kseq.SelfAttention(2, 3, max_past_horizon=4, block_size=2, num_sink_steps=1, cache_dtype="int8"), (4, 6)
    )
    kseq.export(layer, path, batch_size=3, block=4, masks=True)
    check_golden(path)
    assert not {"SCATTER_ND", "DYNAMIC_UPDATE_SLICE"} & set(operations(path))


@pytest.mark.parametrize("length", [None, 7])
def test_whole_sequences(length, path):
    layer = stack()
    kseq.export(layer, path, batch_size=2, mode="layer", length=length)
    whole = open_whole(path)
    for time in (7,) if length else (3, 20):
        x = RNG.standard_normal((2, time, 3)).astype("float32")
        np.testing.assert_allclose(whole(x), layer(x), atol=1e-5)


@kseq.pointwise
class Inverted(keras.layers.Layer):
    """An operation that LiteRT has not."""

    def call(self, x):
        return keras.ops.sum(keras.ops.inv(x[..., None] * np.eye(3, dtype="float32")), axis=-1)


def refused(model, path, **options):
    with pytest.raises(ValueError) as error:
        kseq.export(model, path, **options)
    assert not list(path.parent.iterdir())  # nothing half written
    return str(error.value)


def test_what_litert_has_not_is_refused_with_the_layer(path, capfd):
    x = keras.Input((None, 3))
    model = keras.Model(x, Inverted(name="inverted")(keras.layers.Dense(3)(x)))
    said = refused(model, path)
    assert "LiteRT has no built-in operation for tf." in said and "/inverted" in said
    half = built(kseq.Dense(3, dtype="mixed_float16", name="half"), (4, 3))
    assert "float16" in refused(half, path, dtype="float32")
    assert "of float64: export a model of the dtype policy 'float32'" in refused(
        built(kseq.Dense(3, dtype="float64"), (4, 3)), path
    )
    assert "W0000" not in capfd.readouterr().err


def test_calibration_that_does_not_fit_is_refused(path):
    layer = stack()
    options = {"batch_size": 2, "precision": "int8"}
    assert "give `calibration`, a list of chunks" in refused(layer, path, **options)
    wrong = RNG.standard_normal((2, 5, 4)).astype("float32")
    assert "must have batch 2 and channels (3,)" in refused(layer, path, **options, calibration=[wrong])
    assert "steps at least" in refused(layer, path, **options, calibration=[wrong[:, :0, :3]])
    right = [wrong[..., :3]]
    assert "not of precision 'int8'" in refused(layer, path, **options, calibration=right, state="variables")
    assert "of precision 'int8', whose ranges are taken of it; received 'float16'" in refused(
        layer, path, precision="float16", calibration=right
    )
    assert "'inputs' or 'variables'; received 'here'" in refused(layer, path, state="here")


def test_a_converter_that_is_not_there(path, monkeypatch):
    def missing(name, *args, **kwargs):
        raise ImportError(name)

    layer = stack()
    monkeypatch.setattr("builtins.__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'kseq\[export\]'"):
        litert._tensorflow()
    monkeypatch.undo()
    assert layer.built


def test_damaged_and_foreign_files(path):
    kseq.export(stack(), path, batch_size=2)
    content = path.read_bytes()
    for damaged in (content[:2000], content[:-40], b"\0\0\0\0TFL3" + bytes(100)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"step|manifest"):
            open_runner(path)
    other = pathlib.Path(path).with_name("other.tflite")
    kseq.export(built(kseq.Dense(4), (4, 3)), other)
    # The manifest of another model behind a model.
    start = content.rindex(b"PK\3\4")
    end = other.read_bytes().rindex(b"PK\3\4")
    path.write_bytes(other.read_bytes()[:end] + content[start:-32] + checksum(other, end))
    with pytest.raises(ValueError, match="as its manifest says"):
        open_runner(path)
