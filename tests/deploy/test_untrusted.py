"""Files that others made to run code, reach out of their folder or crash: they are refused, and nothing runs."""

import base64
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from exported_formats import HERE, file_of, needs

import kseq
from kseq.runtime import ExportedStream
from kseq.runtime.manifest import MEMBER
from kseq.runtime.runners import member
from kseq.runtime.seal import CHECKSUM, checksum

TODAYS = {"jax": 0.3, "tensorflow": 0.3}
on = {name: pytest.mark.skipif(keras.backend.backend() != name, reason=name) for name in ("jax", "tensorflow", "torch")}


@pytest.fixture(scope="module")
def dense():
    layer = kseq.GRU(3)
    layer.build((None, None, 3))
    return layer


@pytest.fixture(scope="module")
def files(dense, tmp_path_factory):
    """A folder with a file of each format that this backend writes."""
    folder = tmp_path_factory.mktemp("files")
    for format in HERE:
        needs(format)
        kseq.export(dense, file_of(folder, format), format)
    return folder


def refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        ExportedStream(path)
    assert path.name in str(error.value)


# What runs in a process of its own, which a runtime may take with it: a file is run, or refused by a ValueError.
DAMAGED = """
import faulthandler, pathlib, shutil, sys
faulthandler.enable()
from kseq.runtime import ExportedStream
import numpy as np
source, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
copy = source.with_name("copy" + source.suffix)
if source.is_dir():
    shutil.copytree(source, copy)
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != "fingerprint.pb"]
else:
    shutil.copy(source, copy)
    files = [copy]
refused = run = 0
def attempt():
    global refused, run
    try:
        stream = ExportedStream(copy)
        stream.push(np.ones((3, 3), "float32"))
        run += 1
    except ValueError as error:
        assert str(copy) in str(error), error
        refused += 1
for file in files:
    data = file.read_bytes()
    for n in range(count):
        file.write_bytes(data[: len(data) * n // count])
        attempt()
        changed, at = bytearray(data), len(data) * (2 * n + 1) // (2 * count)
        changed[at] ^= 0xFF
        print(file.name, n, at, flush=True)
        file.write_bytes(changed)
        attempt()
    file.write_bytes(data)
print("refused", refused, "run", run)
"""


@pytest.mark.parametrize("format", HERE)
def test_damage_anywhere_is_an_error_and_no_crash(format, files, tmp_path):
    source = file_of(tmp_path, format)
    (shutil.copytree if format == "saved_model" else shutil.copy)(file_of(files, format), source)
    root = str(pathlib.Path(kseq.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(source), "5" if format == "saved_model" else "12"],
        capture_output=True, text=True, check=False, env=environment, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout[-300:], done.stderr[-3000:])
    words = done.stdout.split()
    unread = 5 if format == "saved_model" else 3  # words of zip files, and of an index of weights, that nobody reads
    assert int(words[-3]) > 10 and int(words[-1]) <= unread, done.stdout[-500:]


# SavedModels


def saved_model(tf, source, path, call, module=None):
    """A SavedModel whose step is `call`, with the manifest of an export."""
    module = module or tf.Module()
    given = {"x": tf.TensorSpec((1, 1, 3), "float32"), "hidden": tf.TensorSpec((1, 3), "float32")}

    @tf.function(autograph=False)
    def step(**tensors):
        y = call(tensors["x"])
        return {"y": y, "new_hidden": tensors["hidden"]}

    tf.saved_model.save(module, str(path), signatures={"step": step.get_concrete_function(**given)})
    (path / "assets.extra").mkdir()
    shutil.copy(source / "assets.extra" / MEMBER, path / "assets.extra")
    (path / "assets.extra" / CHECKSUM).write_bytes(checksum(path / "saved_model.pb"))


@on["tensorflow"]
def test_a_saved_model_that_only_computes_is_run(files, tmp_path):
    import tensorflow as tf

    saved_model(tf, file_of(files, "saved_model"), tmp_path / "m", lambda x: tf.while_loop(
        lambda n, x: n < 3, lambda n, x: (n + 1, tf.cond(n > 1, lambda: x, lambda: x * 2)), (0, x)
    )[1])  # fmt: skip
    np.testing.assert_allclose(ExportedStream(tmp_path / "m").push(np.ones((1, 3), "float32")), 4)


@on["tensorflow"]
@pytest.mark.parametrize(
    "attack",
    [
        "write",
        "in a loop",
        "in a function",
        "save",
        "read",
        "python",
        "numpy",
        "print to a file",
        "data set",
        "at load",
    ],
)
def test_a_saved_model_that_does_more_is_refused(attack, files, tmp_path):
    import tensorflow as tf

    victim, module = tmp_path / "victim", tf.Module()
    (tmp_path / "secret").write_text("secret")

    def write(x):
        tf.io.write_file(str(victim), "written")
        return x

    def python(x):
        victim.write_text("written")
        return x

    def read(x):
        return x + tf.cast(tf.strings.length(tf.io.read_file(str(tmp_path / "secret"))), "float32")

    def save(x):
        tf.raw_ops.SaveV2(prefix=str(victim), tensor_names=["x"], shape_and_slices=[""], tensors=[x])
        return x

    def print_to_file(x):
        tf.print("written", output_stream=f"file://{victim}")
        return x

    def of_data(x):
        lines = tf.data.TextLineDataset(str(tmp_path / "secret"))
        return x + lines.reduce(0.0, lambda n, line: n + tf.cast(tf.strings.length(line), "float32"))

    calls = {
        "write": write,
        "in a loop": lambda x: tf.while_loop(lambda n, x: n < 1, lambda n, x: (n + 1, write(x)), (0, x))[1],
        "in a function": tf.function(tf.function(write)),
        "save": save,
        "read": read,
        "python": lambda x: tf.ensure_shape(tf.py_function(python, [x], tf.float32), x.shape),
        "numpy": lambda x: tf.ensure_shape(tf.numpy_function(python, [x], tf.float32, stateful=False), x.shape),
        "print to a file": print_to_file,
        "data set": of_data,
        "at load": lambda x: x,
    }
    if attack == "at load":

        class Resource(tf.saved_model.experimental.TrackableResource):
            def _create_resource(self):
                return tf.raw_ops.VarHandleOp(dtype="float32", shape=(), shared_name="attack")

            def _initialize(self):
                write(tf.zeros(()))

        module.attack = Resource()
    saved_model(tf, file_of(files, "saved_model"), tmp_path / "m", calls[attack], module)
    if attack in ("at load", "write"):  # it would do it
        victim.unlink(missing_ok=True)
        loaded = tf.saved_model.load(str(tmp_path / "m"))
        loaded.signatures["step"](x=tf.zeros((1, 1, 3)), hidden=tf.zeros((1, 3)))
        assert victim.read_text() == "written"
    victim.unlink(missing_ok=True)
    refused(tmp_path / "m", r"has the operation \w+, which no model of `kseq\.export` has")
    assert not list(tmp_path.glob("victim*"))


# StableHLO


def stablehlo(source, path, program):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, member(source, MEMBER))
        archive.writestr("step.jax", bytes(program))


@on["jax"]
def test_a_program_that_calls_into_the_process_is_refused(files, tmp_path):
    import jax

    source = file_of(files, "stablehlo")
    for target in ("xla_ffi_python_cpu_callback", "xla_python_cpu_callback", "evil", "lapack_sgetrf_ffi.evil", "a b"):

        def call(x, hidden, target=target):
            y = jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(x.shape, x.dtype))(x)
            return y, hidden

        allowed = [jax.export.DisabledSafetyCheck.custom_call(target)]
        given = jax.ShapeDtypeStruct((1, 1, 3), "float32"), jax.ShapeDtypeStruct((1, 3), "float32")
        program = jax.export.export(jax.jit(call), platforms=["cpu"], disabled_checks=allowed)(*given)
        stablehlo(source, tmp_path / "a.stablehlo", program.serialize())
        refused(tmp_path / "a.stablehlo", f"calls {target}, which no program")
        text = program.mlir_module().replace("custom_call", "custom\\5Fcall").encode()
        for module in (program.mlir_module().encode(), text):
            other = dataclasses.replace(program, mlir_module_serialized=module)
            stablehlo(source, tmp_path / "a.stablehlo", other.serialize())
            with pytest.raises(ValueError, match=r"a\.stablehlo"):
                ExportedStream(tmp_path / "a.stablehlo")


@on["jax"]
def test_a_program_of_other_tensors_is_refused(files, tmp_path):
    import jax

    given = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((1, 1, 3), (1, 3), (1, 3))]
    source, path = file_of(files, "stablehlo"), tmp_path / "a.stablehlo"
    for call, count in (
        (lambda x, h, more: (x, h), 3),
        (lambda x, h: (x, h[:, :2]), 2),
        (lambda x, h: (x[..., :2], h), 2),
    ):
        stablehlo(source, path, jax.export.export(jax.jit(call))(*given[:count]).serialize())
        with pytest.raises(ValueError, match=r"a\.stablehlo"):
            ExportedStream(path)


# ONNX


def unsealed(onnx, path):
    """A model that is to be changed."""
    model = onnx.load(path)
    assert model.metadata_props.pop().key == CHECKSUM
    return model


@on["torch"]
@pytest.mark.parametrize("place", ["../secret", "absolute", "link"])
def test_weights_that_lie_elsewhere_are_not_read(place, files, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(np.ones(100, "float32").tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    model = unsealed(onnx, file_of(files, "onnx"))
    changed = 0
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) <= 100:
            weight.ClearField("raw_data")
            weight.data_location = onnx.TensorProto.EXTERNAL
            entry = weight.external_data.add()
            entry.key, entry.value = "location", str(tmp_path / "secret") if place == "absolute" else place
            changed += 1
    assert changed
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    refused(folder / "a.onnx", "no file that onnxruntime runs")


@on["torch"]
def test_operations_of_others_are_not_looked_for(files, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = unsealed(onnx, file_of(files, "onnx"))
    model.opset_import.add(domain="evil", version=1)
    model.graph.node[0].domain, model.graph.node[0].op_type = "evil", "Run"
    onnx.save(model, tmp_path / "a.onnx")
    refused(tmp_path / "a.onnx", "no file that onnxruntime runs")


@on["torch"]
def test_a_model_that_is_not_what_its_manifest_says(files, tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "a.onnx"
    for change in ("names", "types", "manifest", "no base64", "output"):
        model = unsealed(onnx, file_of(files, "onnx"))
        [properties] = [p for p in model.metadata_props if p.key == MEMBER]
        if change == "manifest":
            properties.value = base64.b64encode(base64.b64decode(properties.value)[:-1]).decode()
        elif change == "no base64":
            properties.value = "%%%"
        elif change == "output":
            del model.graph.output[-1]
        else:
            node = onnx.helper.make_node("Identity" if change == "names" else "Cast", ["x"], ["z"])
            if change == "types":
                node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.STRING))
            model.graph.node.append(node)
            kind = onnx.TensorProto.STRING if change == "types" else onnx.TensorProto.FLOAT
            model.graph.output.insert(0, onnx.helper.make_tensor_value_info("z", kind, (1, 1, 3)))
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=r"a\.onnx"):
            ExportedStream(path)


# LiteRT


@on["tensorflow"]
@pytest.mark.parametrize("kind", ["flex", "custom"])
def test_operations_that_are_not_built_in_are_refused(kind, files, tmp_path):
    import tensorflow as tf

    victim = tmp_path / "victim"

    @tf.function(autograph=False)
    def step(x, hidden):
        if kind == "flex":
            tf.io.write_file(str(victim), "written")
            y = tf.raw_ops.Bincount(arr=tf.cast(x[0, 0], "int32"), size=3, weights=x[0, 0])
        else:
            y = tf.linalg.inv(x[0, 0] * tf.eye(3))[0]
        return {"y": tf.reshape(y, (1, 1, 3)), "new_hidden": hidden}

    given = {"x": tf.TensorSpec((1, 1, 3), "float32"), "hidden": tf.TensorSpec((1, 3), "float32")}
    tf.saved_model.save(tf.Module(), str(tmp_path / "s"), signatures={"step": step.get_concrete_function(**given)})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "s"))
    converter.allow_custom_ops = kind == "custom"
    if kind == "flex":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path = tmp_path / "a.tflite"
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = checksum(path)
        archive.writestr(MEMBER, member(file_of(files, "litert"), MEMBER))
    refused(path, "no model that LiteRT runs")
    assert not victim.exists()
