"""Layers that treat every step by itself: what Keras's own give, types, constants, gradients, functions, emits."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.sequence import SequenceSpec
from kseq.testing import check_layer, transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.6}


RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 2, 4)).astype("float32")
MASK = np.array([[False, True, True, False, True, True], [True, True, False, False, False, False]])


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def gradient(loss, values):
    """The gradient of a scalar function of an array."""
    run = transforms.value_and_gradients(lambda v: (loss(v), ()), [])
    return array(run(values, [])[2])


# Keras's own.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ReLU", {}),
        ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}),
        ("LeakyReLU", {"negative_slope": 0.2}),
        ("LeakyReLU", {}),
        ("ELU", {"alpha": 0.5}),
        ("Softmax", {}),
        ("Softmax", {"axis": -2}),
        ("Softmax", {"axis": [2, 3]}),
        ("PReLU", {"shared_axes": [1], "alpha_initializer": "uniform"}),
        ("PReLU", {"shared_axes": [1, 3], "alpha_initializer": "uniform"}),
        ("Identity", {}),
    ],
    ids=str,
)
def test_what_keras_gives(name, options):
    theirs = getattr(keras.layers, name)(**options)
    wanted = array(theirs(X))
    ours = getattr(kseq, name).from_config(theirs.get_config())
    ours.build(X.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(array(ours(X)), wanted, atol=1e-6)


def test_arguments_that_mean_something_else_are_refused():
    with pytest.raises(ValueError, match=r"`shared_axes` must hold 1.*received None"):
        kseq.PReLU.from_config(keras.layers.PReLU().get_config())
    with pytest.raises(ValueError, match=r"`shared_axes` must be from 1 to 2.*received \(1, 3\)"):
        kseq.PReLU(shared_axes=(1, 3)).build((None, None, 4))
    with pytest.raises(ValueError, match="`negative_slope` must not be negative or None; received None"):
        kseq.LeakyReLU(None)
    with pytest.raises(ValueError, match="`max_value` must not be negative; received -1"):
        kseq.ReLU(max_value=-1)
    with pytest.raises(ValueError, match=r"`axis` must name channel axes \(2 to 3, or negative\); received 1"):
        kseq.Softmax(axis=1).output_spec(SequenceSpec((2, 4)))
    with pytest.raises(ValueError, match="of which the values have none"):
        kseq.Mean()(X[..., 0, 0])


def test_functions():
    x = np.array([[[-1.0], [0.5], [3.0]]], "float32")
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    for layer, wanted in (
        (kseq.Sigmoid(), 1 / (1 + np.exp(-x))),
        (kseq.Softplus(), np.log1p(np.exp(x))),
        (kseq.Swish(), x / (1 + np.exp(-x))),
        (kseq.GELU(), tanh),
        (kseq.Exp(), np.exp(x)),
        (kseq.Log(), np.log(np.abs(x))),
        (kseq.Power(-2), x**-2),
        (kseq.Snake(), x + np.sin(x) ** 2),
        (kseq.Affine(), x),
        (kseq.Modulo(2), np.mod(x, 2)),
        (kseq.Clip(maximum=1), np.minimum(x, 1)),
    ):
        given = np.abs(x) if isinstance(layer, kseq.Log) else x
        np.testing.assert_allclose(array(layer(given)), wanted, atol=1e-5, err_msg=type(layer).__name__)
    assert np.abs(array(kseq.GELU(approximate=False)(x)) - tanh).max() > 1e-5


@pytest.mark.parametrize(
    "make",
    [
        lambda: kseq.Serial([kseq.Abs(), kseq.Translate(0.5), kseq.Log()]),  # of numbers that have logarithms
        lambda: kseq.Serial([kseq.Abs(), kseq.Translate(0.5), kseq.Power(-1.5)]),
        lambda: kseq.Serial([kseq.Emit(), kseq.Affine((3,), use_scale=False), kseq.Logging()]),
    ],
    ids=["log", "power", "affine"],
)
def test_contract(make, capsys):
    check_layer(make(), (4, 12, 3))


def test_contract_without_gradients():
    check_layer(kseq.StopGradient(), (4, 12, 3), gradients=False)


# Types.

KEEP = [
    kseq.ReLU,
    kseq.Abs,
    lambda: kseq.Scale(2),
    lambda: kseq.Translate([1, 2, 3, 4]),
    lambda: kseq.Modulo(3),
    lambda: kseq.Clip(0, 5),
    kseq.Max,
    kseq.Min,
    kseq.Sum,
    kseq.Identity,
    kseq.MaskInvalid,
    kseq.StopGradient,
    lambda: kseq.GradientClipping(1.0),
]
FLOAT = [
    lambda: kseq.ReLU(max_value=6),
    kseq.LeakyReLU,
    kseq.ELU,
    kseq.GELU,
    kseq.Softmax,
    kseq.Sigmoid,
    kseq.Softplus,
    kseq.Swish,
    kseq.Tanh,
    kseq.Exp,
    kseq.Power,
    kseq.Mean,
    kseq.Affine,
    kseq.PReLU,
    kseq.Snake,
    kseq.GatedLinearUnit,
    kseq.GatedTanhUnit,
]


def expect_spec(layer, values):
    """The output of an array, in layer mode and in a step, which has the spec that the layer says."""
    x = kseq.Sequence(values, MASK)
    y, (z, _) = layer(x), layer.step(x, ())
    assert y.spec == z.spec == layer.output_spec(SequenceSpec(values.shape[2:], values.dtype.name))
    np.testing.assert_allclose(array(y.values)[MASK], array(z.values)[MASK])
    return y


def test_integers():
    x = RNG.integers(-3, 4, X.shape).astype("int32")
    assert {expect_spec(make(), x).spec.dtype for make in KEEP} == {"int32"}
    assert {expect_spec(make(), x).spec.dtype for make in FLOAT} == {"float32"}
    assert expect_spec(kseq.Sum(), x.astype("int8")).spec.dtype == "int32"  # which would not hold it
    assert expect_spec(kseq.Sum(), x.astype("int8") > 0).spec.dtype == "int32"
    assert array(kseq.Argmax()(x > 0)).tolist() == np.argmax(x > 0, axis=-1).tolist()


def test_complex_numbers():
    z = (X + 1j * X[::-1]).astype("complex64")
    for layer, wanted in (
        (kseq.Abs(), np.abs(z)),
        (kseq.Scale(2), 2 * z),
        (kseq.Translate([1, 2, 3, 4]), z + np.arange(1, 5)),
        (kseq.Mean(), z.mean(-1)),
        (kseq.Sum(axis=None), z.sum((2, 3))),
        (kseq.Cast("float32"), X),
        (kseq.Identity(), z),
        (kseq.StopGradient(), z),
        (kseq.GradientClipping(1.0), z),
        (kseq.OptimizationBarrier(), z),
        (kseq.CheckpointName("here"), z),
        (kseq.Emit(), z),
        (kseq.Logging(), z),
        (kseq.AssertChannelSpec((2, 4), "complex64"), z),
    ):
        y = expect_spec(layer, z)
        np.testing.assert_allclose(array(y.values)[MASK], wanted[MASK], atol=1e-6, err_msg=layer.name)
    assert not array(kseq.MaskInvalid()(kseq.Sequence(z, MASK)).values)[~MASK].any()
    for layer in (kseq.Tanh(), kseq.ReLU(), kseq.Max(), kseq.Clip(1), kseq.Affine(), kseq.Argmax()):
        with pytest.raises(TypeError, match=r"takes real numbers; received complex64"):
            layer(z)
        with pytest.raises(TypeError, match=r"takes real numbers; received complex64"):
            layer.output_spec(SequenceSpec((2, 4), "complex64"))


def test_absolute_values_of_complex_zeros_have_a_gradient():
    def loss(v):
        return ops.sum(kseq.Abs()(ops.cast(v, "complex64") * ops.convert_to_tensor(3 + 4j, dtype="complex64")))

    np.testing.assert_allclose(gradient(loss, np.array([[0.0, 2.0]], "float32")), [[0, 5]], atol=1e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool", "float16", "bfloat16", "complex64", np.int16])
def test_casts(dtype):
    layer = kseq.Cast(dtype)
    name = keras.backend.standardize_dtype(dtype)
    again = kseq.Cast.from_config(json.loads(json.dumps(layer.get_config())))
    for one in (layer, again, kseq.Cast(dtype=dtype)):
        assert one.output_spec(SequenceSpec((2, 4))) == SequenceSpec((2, 4), name)
        assert expect_spec(one, np.abs(X)).spec.dtype == name
    chain = kseq.Serial([kseq.Cast(dtype), kseq.Delay(1), kseq.Identity()])
    kept = "float32" if name in ("float16", "bfloat16") else name  # the layers after it have a dtype of their own
    assert chain(kseq.Sequence(np.abs(X))).spec.dtype == chain.output_spec(SequenceSpec((2, 4))).dtype == kept


def test_policies():
    layer = kseq.Serial([kseq.Snake(), kseq.Scale(0.1), kseq.GatedLinearUnit(), kseq.Mean()], dtype="mixed_bfloat16")
    assert layer(kseq.Sequence(X)).spec.dtype == "float32"
    assert kseq.Snake(dtype="mixed_bfloat16")(kseq.Sequence(X)).spec.dtype == "bfloat16"
    assert kseq.Scale(0.1, dtype="mixed_float16")(kseq.Sequence(X)).spec.dtype == "float16"


# Constants.


@pytest.mark.parametrize("constant", [2, 0.5, np.float32(3), np.arange(1, 5), [[1.0], [2.0]], X[0, 0]], ids=str)
@pytest.mark.parametrize(
    ("cls", "function"),
    [(kseq.Scale, np.multiply), (kseq.Translate, np.add), (kseq.Modulo, np.mod), (kseq.Clip, np.maximum)],
)
def test_constants(cls, function, constant):
    layer = cls(constant)
    config = json.loads(json.dumps(layer.get_config()))
    again = cls.from_config(config)
    assert again.get_config() == config
    for one in (layer, again):
        np.testing.assert_allclose(array(one(X)), function(X, np.asarray(constant, "float32")), atol=1e-5)


def test_constants_enlarge_channels_of_size_one():
    layer = kseq.Clip(minimum=[0.0, 1.0], maximum=[[2.0], [3.0], [4.0]])
    y = expect_spec(layer, X[:, :, :1, :1])
    wanted = np.clip(X[:, :, :1, :1], [0, 1], [[2], [3], [4]])
    np.testing.assert_allclose(array(y.values)[MASK], wanted[MASK])
    assert expect_spec(kseq.Affine((5, 4)), X[:, :, :1]).spec.shape == (5, 4)


def test_constants_that_do_not_fit():
    for layer in (kseq.Scale([1, 2, 3]), kseq.Translate(np.ones((2, 1, 4))), kseq.Affine((3,))):
        with pytest.raises(ValueError, match=r"cannot be broadcast to the channels; received .* \(2, 4\)"):
            layer(X)
    with pytest.raises(TypeError, match=r"`scale` must be whole numbers from .* of dtype int32; received 0.5"):
        kseq.Scale(0.5)(X.astype("int32"))
    with pytest.raises(TypeError, match="whole numbers from -128 to 127"):
        kseq.Translate([1, 2, 3, 300])(X.astype("int8"))
    for value in ("1", None, 1j, [True, False], object()):
        with pytest.raises(TypeError, match="must be real numbers"):
            kseq.Scale(value)
    with pytest.raises(ValueError, match="must be a number or an array"):
        kseq.Scale([[1, 2], [3]])
    with pytest.raises(ValueError, match="`divisor` must not be zero"):
        kseq.Modulo([1, 0])
    with pytest.raises(ValueError, match="`minimum` must not be above `maximum`"):
        kseq.Clip(1, 0)
    with pytest.raises(ValueError, match="must be given"):
        kseq.Clip()
    with pytest.raises(ValueError, match="must be true"):
        kseq.Affine(use_scale=False, use_bias=False)


# Gradients.


@pytest.mark.parametrize("make", [kseq.Log, lambda: kseq.Power(-1.5), lambda: kseq.Power(0.5), kseq.Softplus])
def test_what_is_invalid_has_no_gradient(make):
    x = np.array([[[2.0], [np.nan], [-1.0]]], "float32")
    mask = ops.convert_to_tensor(np.array([[True, False, False]]))
    found = gradient(lambda v: ops.sum(make()(kseq.Sequence(v, mask)).mask_invalid().values), x)
    assert found[0, 0] != 0 and not found[0, 1:].any()


def test_gradients_are_clipped_and_stopped():
    x = np.array([[[1.0], [2.0], [-3.0]]], "float32")

    def loss(layer):
        return lambda v: ops.sum(ops.square(layer(v)))

    assert gradient(loss(kseq.GradientClipping(3.0)), x).ravel().tolist() == [2, 3, -3]
    assert not gradient(loss(kseq.StopGradient()), x).any()
    second = transforms.gradients_of_gradients(loss(kseq.GradientClipping(3.0)), [])
    # Of the squares of gradients, 2 v where they are not clipped: 8, which is clipped in its turn.
    assert array(second(x, [])[0]).ravel().tolist() == [3, 0, 0]
    with pytest.raises(ValueError, match="`clip_value` must be above zero; received 0"):
        kseq.GradientClipping(0)


# Gates, reductions, indices.


def test_gates():
    a, b = X[..., :2], X[..., 2:]
    sigmoid = 1 / (1 + np.exp(-b))
    for layer, wanted in (
        (kseq.GatedUnit(), a * b),
        (kseq.GatedUnit("relu", "tanh"), np.maximum(a, 0) * np.tanh(b)),
        (kseq.GatedLinearUnit(), a * sigmoid),
        (kseq.GatedTanhUnit(), np.tanh(a) * sigmoid),
    ):
        np.testing.assert_allclose(array(layer(X)), wanted, atol=1e-6)
    with pytest.raises(ValueError, match=r"must be even; received .* \(2, 3\)"):
        kseq.GatedLinearUnit()(X[..., :3])
    layer = kseq.GatedUnit("relu", lambda x: ops.cumsum(x, axis=1))
    assert "its gate_activation" in layer.step_obstacle and "other values" in layer.step_obstacle
    assert not kseq.GatedUnit(lambda x: ops.flip(x, axis=1)).supports_step
    assert kseq.GatedUnit(ops.square, lambda x: x + 1).supports_step


@pytest.mark.parametrize("axis", [-1, 2, (2, 3), (-1, 2), None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(axis, keepdims):
    for name in ("Mean", "Sum", "Max", "Min"):
        y = expect_spec(getattr(kseq, name)(axis, keepdims), X)
        wanted = getattr(np, name.lower())(X, axis=(2, 3) if axis is None else axis, keepdims=keepdims)
        np.testing.assert_allclose(array(y.values)[MASK], wanted[MASK], atol=1e-5)


def test_reductions_of_no_channels():
    np.testing.assert_allclose(array(kseq.Sum(axis=None)(X[..., 0, 0])), X[..., 0, 0])
    with pytest.raises(ValueError, match="names an axis twice"):
        kseq.Max((2, -2))(X)


def test_indices():
    x = np.array([[0, 2, 3, -1]], "int32")
    wanted = [[[1.0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]]
    assert array(kseq.OneHot(3)(x)).tolist() == wanted
    assert array(kseq.Serial([kseq.OneHot(3), kseq.Argmax()])(x)).tolist() == [[0, 2, 0, 0]]
    for dtype in ("uint8", "int8", "int64"):  # which do not hold the last index
        assert array(kseq.OneHot(300)(np.array([[127]], dtype))).argmax() == 127
        assert array(kseq.OneHot(300)(np.array([[-1]], "int32").astype(dtype))).sum() == (dtype == "uint8")
    with pytest.raises(TypeError, match="takes integers; received float32"):
        kseq.OneHot(3)(x.astype("float32"))
    with pytest.raises(ValueError, match="channel axes"):
        kseq.Argmax()(x)


# What is said to compilers and to people.


def test_hints_change_nothing():
    x = kseq.Sequence(X, MASK)
    for layer in (kseq.OptimizationBarrier(apply_to_mask=True), kseq.ApplySharding(["batch", None, None, "model"])):
        y = layer(x)
        assert array(y.values).tolist() == X.tolist() and array(y.mask).tolist() == MASK.tolist()
    with pytest.raises(ValueError, match="one for each of the 4 axes"):
        kseq.ApplySharding(["batch"])(X)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Keras's meshes are of jax")
def test_sharding_along_a_mesh():
    import jax

    mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"], devices=["cpu:0"])
    layout = keras.distribution.LayoutMap(mesh)
    keras.distribution.set_distribution(keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"))
    try:
        layer = kseq.ApplySharding(["batch", None, None, "model"])
        traced = str(jax.make_jaxpr(lambda values, mask: tuple(layer(kseq.Sequence(values, mask))))(X, MASK))
        assert traced.count("sharding_constraint[") == 2
        assert "('batch', None, None, 'model')" in traced and "('batch', None)" in traced
    finally:
        keras.distribution.set_distribution(None)


def test_logging(capsys):
    layer = kseq.Logging("here", dump_tensors=True)
    layer(kseq.Sequence(np.ones((1, 2, 3), "float32"), np.array([[True, False]])))
    layer.step(np.full((1, 1, 3), 2, "float32"), ())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "here layer: [1, 2, 3] float32, 1 of 2 steps valid, mean 1"
    assert lines[1] == "values:" and "mask:" in lines
    assert "here step: [1, 1, 3] float32, 1 of 1 steps valid, mean 2" in lines


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="a compiled function prints nothing there")
def test_logging_from_a_stream(capsys):
    layer = kseq.Serial([kseq.Scale(2), kseq.Logging(name="twice")])
    layer.build((None, None, 1))
    stream = kseq.Stream(layer)
    stream.push(np.ones((3, 1), "float32"))
    if keras.backend.backend() == "jax":
        import jax

        jax.effects_barrier()  # what compiled functions print may come late
    assert "twice step: [1, 1, 1] float32, 1 of 1 steps valid, mean 2" in capsys.readouterr().out


def test_expectations():
    layer = kseq.AssertChannelSpec((2, 4), "float32")
    assert array(layer(X)).tolist() == X.tolist()
    with pytest.raises(ValueError, match=r"channel shape \(2, 4\); received \(4,\)"):
        layer(X[:, :, 0])
    with pytest.raises(ValueError, match=r"dtype float32; received int32"):
        layer.step(X.astype("int32"), ())
    with pytest.raises(ValueError, match=r"dtype float32; received int32"):
        layer(keras.Input((None, 2, 4), dtype="int32"))
    chain = kseq.Serial([kseq.Cast("int32"), layer])
    with pytest.raises(ValueError, match="received int32"):
        chain.step(X, chain.initial_state(2, SequenceSpec((2, 4))))
