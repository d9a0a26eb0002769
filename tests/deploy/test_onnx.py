"""Steps in ONNX, which onnxruntime runs as Keras does, and what traps there are in between."""

import keras
import numpy as np
import pytest

import kseq
from kseq.deploy.entry import export
from kseq.runtime.runners import open_runner
from kseq.runtime.whole import open_whole

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

# Others export in a process of torch, which `tests/deploy/test_other_process.py` is about.
pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="ONNX is written on torch")

# Of float32 weights, relative to the largest output.
_CLOSE = 1e-4


def _golden(path, tolerance=_CLOSE):
    """Stream the golden data of a file, and compare."""
    manifest, runner = open_runner(path)
    state, made = runner.state(manifest.initial_state), []
    for start in range(0, manifest.golden_inputs[0].shape[1], manifest.block):
        part = slice(start, start + manifest.block)
        y, state = runner([np.ascontiguousarray(x[:, part]) for x in manifest.golden_inputs], state)
        made.append(y)
    for parts, want in zip(zip(*made, strict=True), manifest.golden_outputs, strict=True):
        got = np.concatenate(parts, axis=1)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        largest = np.abs(want[np.isfinite(want)].astype("float64")).max(initial=1.0)
        np.testing.assert_allclose(got.astype("float64"), want.astype("float64"), atol=tolerance * largest)
    return runner


def _built(layer, channels=3, batch=2):
    layer.build((batch, None, channels))
    rng = np.random.default_rng(3)
    for variable in layer.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(rng.uniform(0.2, 1, variable.shape).astype(variable.dtype))
    return layer


def _nodes(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """A step with a normalization by fixed numbers, and its file."""
    layer = _built(kseq.Serial([kseq.Conv1D(4, 3), kseq.BatchNormalization(), kseq.GRU(2)]))
    path = tmp_path_factory.mktemp("onnx") / "step.onnx"
    export(layer, path, batch_size=2)
    return layer, path


def test_names_shapes_and_normalization(step):
    _, path = step
    model = onnx.load(path)
    manifest, _ = open_runner(path)
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    assert list(sizes) == ["x", *[leaf.tensor for leaf in manifest.state]]
    assert [v.name for v in model.graph.output] == ["y", *[leaf.new_tensor for leaf in manifest.state]]
    assert sizes == {"x": [2, 1, 3]} | {leaf.tensor: list(leaf.shape) for leaf in manifest.state}
    nodes = _nodes(path)
    between = nodes[nodes.index("MatMul") : nodes.index("MatMul", nodes.index("MatMul") + 1)]
    assert between[:2] == ["MatMul", "Add"] and len(between) == 3  # its numbers are in the weights


def test_outputs_and_leaves_are_the_callers(step):
    _, path = step
    manifest, runner = open_runner(path)
    x = np.ones((2, 1, 3), np.float32)
    first, state = runner([x], runner.state(manifest.initial_state))
    kept, leaves = first[0].copy(), runner.leaves(state)
    before = [leaf.copy() for leaf in leaves]
    first[0][...] = np.nan
    leaves[0][...] = np.nan
    again, _ = runner([x], runner.state(before))
    wanted, _ = runner([x], state)
    np.testing.assert_array_equal(again[0], wanted[0])
    assert np.abs(again[0] - kept).max() > 0
    with pytest.raises(ValueError, match=r"\(2, 1, 3\); received \(2, 2, 3\)"):
        runner([np.ones((2, 2, 3), np.float32)], runner.state(before))


@pytest.mark.parametrize(("precision", "bound"), [("float16", 1e-2), ("int8", 5e-2)])
def test_fewer_bits(precision, bound, tmp_path):
    if precision == "int8":
        pytest.importorskip("onnxruntime.quantization")
    layer = _built(kseq.Serial([kseq.Conv1D(32, 5), kseq.Dense(4)]), 16)
    sizes = {}
    for name in ("float32", precision):
        export(layer, tmp_path / f"{name}.onnx", precision=name)
        _golden(tmp_path / f"{name}.onnx", _CLOSE if name == "float32" else bound)
        model = onnx.load(tmp_path / f"{name}.onnx")
        sizes[name] = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert sizes[precision] < 0.6 * sizes["float32"]
    weights = [onnx.numpy_helper.to_array(w) for w in model.graph.initializer if w.data_type == onnx.TensorProto.INT8]
    # Two products of 8 bits by 8 do not fit the 16 bits some processors add them in.
    assert all(2 * 255 * np.abs(w.astype(int)).max(initial=0) < 2**15 for w in weights)
    assert bool(weights) is (precision == "int8")


def test_state_is_written_where_it_is(tmp_path):
    """Attention's keys and values are scattered into, which of a large cache copies nothing."""
    layer = _built(kseq.SelfAttention(1, 2, max_past_horizon=3))
    export(layer, tmp_path / "step.onnx", batch_size=2)
    _golden(tmp_path / "step.onnx")
    properties = {p.key: p.value for p in onnx.load(tmp_path / "step.onnx").metadata_props}
    assert set(properties["kseq.in_place"].split(",")) >= {"keys", "values"}


def test_equal_sizes_are_not_taken_for_each_other(tmp_path):
    """Rules of onnxscript leave out reshapes around a product where batch and blocks are of one size."""
    layer = _built(kseq.RGLRU(4, num_heads=2), 4)
    export(layer, tmp_path / "step.onnx", batch_size=2)
    _golden(tmp_path / "step.onnx")


def test_positions_go_on(tmp_path):
    """A table of positions that became a constant of NumPy would freeze: later steps would be off."""
    layer = _built(kseq.SelfAttention(1, 2, max_past_horizon=3, position=kseq.RotaryPosition(50.0)))
    export(layer, tmp_path / "step.onnx")
    manifest, _ = open_runner(tmp_path / "step.onnx")
    assert manifest.golden_inputs[0].shape[1] > 4  # the ring comes round
    _golden(tmp_path / "step.onnx")


def test_output_that_is_a_leaf_too(tmp_path):
    """One tensor is an output, and the state under two names: each of them is written."""
    cls = kseq.registered_layers()["RNN"]
    layer = _built(cls(**cls.examples()[0].config))
    export(layer, tmp_path / "step.onnx", batch_size=2)
    _golden(tmp_path / "step.onnx")


def test_convolution_without_bias(tmp_path):
    """torch's exporter writes a bias of zeros, in three dimensions of another shape than onnxruntime takes."""
    layer = kseq.Conv3D(2, (3, 2, 2), use_bias=False)
    layer.build((2, None, 4, 5, 3))
    export(layer, tmp_path / "step.onnx", batch_size=2)
    _golden(tmp_path / "step.onnx")


def test_leaf_that_does_not_change_keeps_its_name(tmp_path):
    """A state that is given as it was taken has two names all the same."""
    layer = _built(kseq.Serial([kseq.Delay(2), kseq.Identity()]))
    export(layer, tmp_path / "step.onnx")
    graph = onnx.load(tmp_path / "step.onnx").graph
    assert not {v.name for v in graph.input} & {v.name for v in graph.output}
    _golden(tmp_path / "step.onnx")


def test_whole_sequences(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Conv1D(4, 3, padding="same")])
    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype("float32")
    for length in (9, None):
        export(model, tmp_path / "whole.onnx", mode="layer", batch_size=2, length=length)
        got = open_whole(tmp_path / "whole.onnx")(x)
        np.testing.assert_allclose(got, keras.ops.convert_to_numpy(model(x)), atol=1e-5)
    assert open_whole(tmp_path / "whole.onnx")(x[:, :5]).shape == (2, 5, 4)


def test_sizes_are_rounded_up(tmp_path):
    """Of a negative size torch's exporter cuts a quotient off towards zero: there would be a block less."""
    layer = _built(kseq.LocalSelfAttention(1, 2, max_past_horizon=3))
    export(layer, tmp_path / "whole.onnx", mode="layer")
    for time in (1, 5, 70):
        x = np.random.default_rng(0).standard_normal((1, time, 3)).astype("float32")
        got = open_whole(tmp_path / "whole.onnx")(x)
        np.testing.assert_allclose(got, keras.ops.convert_to_numpy(layer(x)), atol=1e-4)


def test_lengths_that_were_assumed_are_refused(tmp_path):
    """A loop over chunks of which tracing saw one."""
    layer = _built(kseq.Retention(1, 2))
    with pytest.raises(ValueError, match="with a `length=` it may"):
        export(layer, tmp_path / "whole.onnx", mode="layer")
    assert not list(tmp_path.iterdir())


def test_what_onnx_cannot_hold(tmp_path):
    layer = _built(kseq.Dense(2, dtype="float64"))
    with pytest.raises(ValueError, match="float64: export a model of the dtype policy 'float32'"):
        export(layer, tmp_path / "step.onnx", dtype="float64")
    layer = _built(kseq.Dense(2))
    with pytest.raises(ValueError, match="received state='variables'"):
        export(layer, tmp_path / "step.onnx", state="variables")
    assert not list(tmp_path.iterdir())


def test_spectra_within_a_step_are_of_two_parts(tmp_path):
    def network(mode):
        layers = [kseq.STFT(8, 4, mode=mode), kseq.InverseSTFT(8, 4, window_function=("inverse_stft", 4), mode=mode)]
        found = kseq.Serial(layers)
        found.build((2, None))
        return found

    with pytest.raises(ValueError, match='mode="real_imag"'):
        export(network("complex"), tmp_path / "step.onnx")
    assert not list(tmp_path.iterdir())
    export(network("real_imag"), tmp_path / "step.onnx")
    _golden(tmp_path / "step.onnx")


def test_foreign_and_damaged_files(step, tmp_path):
    _, path = step
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match=r"`kseq\.export` did not write"):
        open_runner(tmp_path / "foreign.onnx")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="no file that onnxruntime runs"):
        open_runner(tmp_path / "cut.onnx")
