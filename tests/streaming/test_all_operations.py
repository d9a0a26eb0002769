"""Every function of `keras.ops`: what it is to a stream, and that it is. A function that Keras adds is noticed."""

import functools
import types

import keras
import numpy as np
import pytest
from keras import ops

import kseq

TODAYS = {"jax": 0.08, "tensorflow": 0.08}
CHANNELS, STEPS = 4, 6
MATRIX = np.linspace(-1, 1, 16, dtype="float32").reshape(4, 4)
VECTOR = MATRIX[0]


class Given:
    """Tensors [B, T, 4] of many kinds, each a function of its own step of an input."""

    def __init__(self, time=None, batch=None):
        self.input = keras.Input(batch_shape=(batch, time, 2 * CHANNELS))

    @functools.cached_property
    def x(self):
        return self.input[..., :CHANNELS]

    @functools.cached_property
    def y(self):
        return self.input[..., CHANNELS:]

    @property
    def p(self):
        """Between 0.1 and 0.9."""
        return 0.1 + 0.8 * ops.sigmoid(self.x)

    @property
    def z(self):
        """Complex."""
        return ops.polar(self.x, self.y)

    @property
    def n(self):
        """Integers from 1 to 4."""
        return ops.cast(1 + 3.99 * ops.sigmoid(self.x), "int32")

    @property
    def m(self):
        return ops.cast(1 + 3.99 * ops.sigmoid(self.y), "int32")

    @property
    def rows(self):
        """[B, T, 4, 1]."""
        return ops.expand_dims(self.x, -1)

    @property
    def spd(self):
        """Symmetric matrices with positive eigenvalues [B, T, 4, 4]."""
        return ops.matmul(self.rows, ops.swapaxes(self.rows, 2, 3)) + 3 * np.diag([1, 2, 3, 4]).astype("float32")


def of(kinds, names):
    """Functions of a tensor, or of two."""
    return {
        name: lambda v, name=name: getattr(ops, name)(*(getattr(v, kind) for kind in kinds.split()))
        for name in names.split()
    }


def along(names, kind="x", **options):
    """Functions of a tensor and an axis."""
    return {
        name: lambda v, axis, name=name: getattr(ops, name)(getattr(v, kind), axis=axis, **options)
        for name in names.split()
    }


POINTWISE = (
    of(
        "x",
        "abs absolute angle arcsinh arctan array cbrt ceil celu conj conjugate convert_to_tensor copy cos cosh deg2rad "
        "elu erf erfc exp exp2 expm1 fabs floor gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh i0 "
        "isfinite isinf isnan isneginf isposinf isreal leaky_relu log_sigmoid logical_not nan_to_num negative "
        "ones_like rad2deg relu relu6 round selu sigmoid sign signbit silu sin sinc sinh soft_shrink softplus "
        "softsign sparse_plus sparse_sigmoid square squareplus stop_gradient swish tan tanh tanh_shrink trunc "
        "zeros_like",
    )
    | of("p", "arccos arcsin arctanh erfinv log log10 log1p log2 reciprocal rsqrt sqrt")
    | of("n", "bitwise_invert bitwise_not")
    | of("z", "imag real view_as_real")
    | {
        "arccosh": lambda v: ops.arccosh(1 + v.p),
        "cast": lambda v: ops.cast(v.x, "float16"),
        "clip": lambda v: ops.clip(v.x, -0.5, VECTOR),
        "digitize": lambda v: ops.digitize(v.p, np.array([0.2, 0.5, 0.7])),
        "full_like": lambda v: ops.full_like(v.x, 3),
        "isin": lambda v: ops.isin(v.n, np.array([[2, 3]])),
        "saturate_cast": lambda v: ops.saturate_cast(300 * v.x, "uint8"),
        "searchsorted": lambda v: ops.searchsorted(np.array([0.2, 0.6], "float32"), v.p),
        "threshold": lambda v: ops.threshold(v.x, 0.1, -3.0),
        "view": lambda v: ops.view(v.x, "int32"),
    }
)

MERGES = (
    of(
        "x y",
        "add arctan2 divide divide_no_nan equal fmax fmin fmod greater greater_equal heaviside hypot isclose less "
        "less_equal logaddexp logaddexp2 logical_and logical_or logical_xor maximum minimum mod multiply nextafter "
        "not_equal polar subtract true_divide",
    )
    | of("n m", "bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor floor_divide gcd lcm")
    | of("n m", "left_shift right_shift")
    | of("p p", "binary_crossentropy power")
    | {
        "ldexp": lambda v: ops.ldexp(v.x, v.n),
        "select": lambda v: ops.select([v.x > 1, v.y > 0], [v.x, v.y], -1.0),
        "where": lambda v: ops.where(v.x > v.y, v.x, v.y),
        # Products over channels, of two sequences or with a constant.
        "cdist": lambda v: ops.cdist(v.rows, 2 * v.rows),
        "cross": lambda v: ops.cross(v.x[..., :3], v.y[..., :3]),
        "dot": lambda v: ops.dot(v.x, MATRIX),
        "einsum": lambda v: ops.einsum("btc,btd->btcd", v.x, v.y),
        "inner": lambda v: ops.inner(v.x, MATRIX),
        "matmul": lambda v: ops.matmul(v.spd, v.rows),
        "solve": lambda v: ops.solve(v.spd, v.rows),
        "solve_triangular": lambda v: ops.solve_triangular(v.spd, v.rows, lower=True),
        "sparse_categorical_crossentropy": lambda v: ops.sparse_categorical_crossentropy(
            v.n[..., 0] - 1, ops.softmax(v.x)
        ),
        "tensordot": lambda v: ops.tensordot(v.x, MATRIX, axes=1),
        "dstack": lambda v: ops.dstack([v.x, v.y]),
    }
)

ALONG_AXIS = (
    along(
        "all amax amin any argmax argmin argsort average cumprod cumsum diff flip layer_normalization "
        "log_softmax logsumexp max mean median min nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian "
        "nanmin nanprod nanstd nansum nanvar norm normalize prod ptp rms_normalization softmax sort sparsemax std sum "
        "trapezoid var glu"
    )
    | along("quantile nanquantile", q=0.3)
    | along("percentile nanpercentile", q=30)
    | along("repeat", repeats=2)
    | along("roll", shift=1)
    | along("take", indices=np.array([2, 0]))
    | along("split array_split", indices_or_sections=2)
    | {
        "append": lambda v, axis: ops.append(v.x, v.y, axis=axis),
        "argpartition": lambda v, axis: (
            ops.sum(v.x[..., :0], -1) + ops.cast(ops.argpartition(v.x, 1, axis=axis)[..., 1], "float32")
        ),
        "batch_normalization": lambda v, axis: ops.batch_normalization(
            v.x, np.zeros(v.x.shape[axis], "float32"), np.full(v.x.shape[axis], 2, "float32"), axis
        ),
        "categorical_crossentropy": lambda v, axis: ops.categorical_crossentropy(
            ops.softmax(v.x), ops.softmax(v.y), axis=axis
        ),
        "concatenate": lambda v, axis: ops.concatenate([v.x, v.y], axis=axis),
        "expand_dims": lambda v, axis: ops.expand_dims(v.x, axis),
        "geomspace": lambda v, axis: ops.geomspace(v.p, v.p + 1, 3, axis=axis),
        "linspace": lambda v, axis: ops.linspace(v.x, v.y, 3, axis=axis),
        "logspace": lambda v, axis: ops.logspace(v.x, v.y, 3, axis=axis),
        "moments": lambda v, axis: ops.moments(v.x, axes=[axis]),
        "one_hot": lambda v, axis: ops.one_hot(v.n, 6, axis=axis),
        "squeeze": lambda v, axis: ops.squeeze(v.x[..., :1] if axis == -1 else v.x[:, :1], axis=axis),
        "stack": lambda v, axis: ops.stack([v.x, v.y], axis=axis),
        "take_along_axis": lambda v, axis: ops.take_along_axis(v.x, v.n - 1, axis=axis),
        "unstack": lambda v, axis: ops.unstack(v.x, axis=axis, num=CHANNELS),
    }
)

# Of the last axes, and of shape alone: they leave time where it is.
KEEPS_TIME = (
    of("x", "rfft")
    | of("spd", "cholesky cholesky_inverse det eig eigh inv logdet lu_factor matrix_rank pinv qr svd tril triu")
    | {
        "extract_sequences": lambda v: ops.extract_sequences(v.x, 2, 1),
        "fft": lambda v: ops.fft((v.x, v.y)),
        "fft2": lambda v: ops.fft2((v.spd, v.spd)),
        "get_item": lambda v: v.x[..., 1:3, None],
        "hsv_to_rgb": lambda v: ops.image.hsv_to_rgb(v.p[:, :, None, :3]),
        "ifft2": lambda v: ops.ifft2((v.spd, v.spd)),
        "irfft": lambda v: ops.irfft((v.x, v.y)),
        "istft": lambda v: ops.istft(ops.stft(v.x, 2, 1, 2), 2, 1, 2),
        "rgb_to_grayscale": lambda v: ops.image.rgb_to_grayscale(v.p[:, :, None, :3], data_format="channels_last"),
        "rgb_to_hsv": lambda v: ops.image.rgb_to_hsv(v.p[:, :, None, :3], data_format="channels_last"),
        "stft": lambda v: ops.stft(v.x, 2, 1, 2),
        "top_k": lambda v: ops.top_k(v.x, 2),
        "view_as_complex": lambda v: ops.view_as_complex(v.x[..., :2]),
        "diagonal": lambda v: ops.diagonal(v.spd, axis1=2, axis2=3),
        "dsplit": lambda v: ops.dsplit(v.x, 2),
        "moveaxis": lambda v: ops.moveaxis(v.rows, 2, 3),
        "pad": lambda v: ops.pad(v.x, ((0, 0), (0, 0), (1, 2))),
        "reshape": lambda v: ops.reshape(v.x, (-1, STEPS, 2, 2)),
        "rot90": lambda v: ops.rot90(v.spd, axes=(2, 3)),
        "swapaxes": lambda v: ops.swapaxes(v.rows, 2, -1),
        "tile": lambda v: ops.tile(v.x, (1, 1, 2)),
        "trace": lambda v: ops.trace(v.spd, axis1=2, axis2=3),
        "transpose": lambda v: ops.transpose(v.rows, (0, 1, 3, 2)),
    }
)

# What is made of all steps or rows, or depends on where a step stands.
MIXES_TIME = (
    of("x", "corrcoef diagflat fliplr flipud histogram ndim nonzero ravel size unique")
    | of("x y", "allclose kron meshgrid outer vdot")
    | {
        "adaptive_average_pool": lambda v: ops.adaptive_average_pool(v.x, (3,)),
        "adaptive_max_pool": lambda v: ops.adaptive_max_pool(v.x, (3,)),
        "affine_transform": lambda v: ops.image.affine_transform(v.spd, np.zeros((1, 8), "float32")),
        "average_pool": lambda v: ops.average_pool(v.x, 2),
        "bincount": lambda v: ops.bincount(v.n[..., 0], minlength=5),
        "broadcast_to": lambda v: ops.broadcast_to(v.x[..., :1], (2, STEPS, 3)),
        "cond": lambda v: ops.cond(v.x[0, 0, 0] > 0, lambda: ops.ones((2, 6)), lambda: ops.zeros((2, 6))),
        "conv": lambda v: ops.conv(v.x, MATRIX[None]),
        "conv_transpose": lambda v: ops.conv_transpose(v.x, MATRIX[None]),
        "count_nonzero": lambda v: ops.count_nonzero(v.x, axis=-1),  # on torch Keras gives it transposed
        "crop_images": lambda v: ops.image.crop_images(v.spd, 1, 0, target_height=3, target_width=4),
        "ctc_decode": lambda v: ops.ctc_decode(v.x, np.array([6, 6])),
        "ctc_loss": lambda v: ops.ctc_loss(v.n[..., 0], v.x, np.array([2, 2]), np.array([6, 6])),
        "depth_to_space": lambda v: ops.depth_to_space(v.spd, 2),
        "depthwise_conv": lambda v: ops.depthwise_conv(v.x, MATRIX[None]),
        "diag": lambda v: ops.diag(v.x[..., 0]),
        "dot_product_attention": lambda v: ops.dot_product_attention(v.rows, v.rows, v.rows),
        "elastic_transform": lambda v: ops.image.elastic_transform(v.spd),
        "empty_like": lambda v: ops.empty_like(v.x),  # its values are whatever they are
        "extract_patches": lambda v: ops.image.extract_patches(v.spd, 2),
        "extract_patches_3d": lambda v: ops.image.extract_patches_3d(v.spd[..., None], 2),
        "fold": lambda v: ops.fold(v.x, (3, 3), (2, 1)),
        "gaussian_blur": lambda v: ops.image.gaussian_blur(v.spd),
        "hsplit": lambda v: ops.hsplit(v.x, 2),
        "hstack": lambda v: ops.hstack([v.x, v.y]),
        "in_top_k": lambda v: ops.in_top_k(v.n[0, :, 0], v.x[0], 2),
        "lstsq": lambda v: ops.lstsq(v.x[0], v.y[0]),
        "map": lambda v: ops.map(lambda row: 2 * row, v.x),
        "map_coordinates": lambda v: ops.image.map_coordinates(v.x[..., 0], v.p, 1),
        "max_pool": lambda v: ops.max_pool(v.x, 2),
        "multi_hot": lambda v: ops.multi_hot(v.n, 5),  # over time
        "pad_images": lambda v: ops.image.pad_images(v.spd, 1, 0, target_height=8, target_width=4),
        "perspective_transform": lambda v: ops.image.perspective_transform(
            v.spd, np.ones((2, 4, 2), "float32"), np.ones((2, 4, 2), "float32")
        ),
        "psnr": lambda v: ops.psnr(v.x, v.y, 1.0),
        "rearrange": lambda v: ops.rearrange(v.x, "b t (c d) -> b t c d", c=2),
        "resize": lambda v: ops.image.resize(v.spd, (3, 4)),
        "scale_and_translate": lambda v: ops.image.scale_and_translate(
            v.spd, (2, 6, 4, 4), np.ones(2, "float32"), np.ones(2, "float32"), (1, 2), "linear"
        ),
        "scan": lambda v: ops.scan(lambda carry, x: (carry, x), v.x[0], v.x),
        "scatter": lambda v: ops.scatter(v.n[0, :, :1], v.x[0, :, 0], (5,)),
        "scatter_update": lambda v: ops.scatter_update(v.x, [[0, 0, 0]], [1.0]),
        "segment_max": lambda v: ops.segment_max(v.x[0], v.n[0, :, 0], 5),
        "segment_min": lambda v: ops.segment_min(v.x[0], v.n[0, :, 0], 5),
        "segment_prod": lambda v: ops.segment_prod(v.x[0], v.n[0, :, 0], 5),
        "segment_sum": lambda v: ops.segment_sum(v.x[0], v.n[0, :, 0], 5),
        "separable_conv": lambda v: ops.separable_conv(v.x, MATRIX[None, :, :1], MATRIX[None]),
        "slice": lambda v: ops.slice(v.x, (0, 1, 0), (2, 3, 4)),
        "slice_update": lambda v: ops.slice_update(v.x, (0, 0, 0), v.y[:, :2]),
        "slogdet": lambda v: ops.slogdet(v.spd),  # Keras has it as of one matrix
        "sobel_edges": lambda v: ops.image.sobel_edges(v.spd),
        "space_to_depth": lambda v: ops.space_to_depth(v.spd, 2),
        "ssim": lambda v: ops.image.ssim(v.spd, v.spd, 1.0, filter_size=2),
        "switch": lambda v: ops.switch(v.n[0, 0, 0], [lambda x: x, lambda x: -x], v.x),
        "unfold": lambda v: ops.unfold(ops.moveaxis(v.rows, 3, 1), 2),
        "unravel_index": lambda v: ops.unravel_index(v.n, (2, 3)),
        "vander": lambda v: ops.vander(v.x[0, :, 0]),
        "vectorized_map": lambda v: ops.vectorized_map(lambda row: 2 * row, v.x),
        "vsplit": lambda v: ops.vsplit(v.x, 2),
        "vstack": lambda v: ops.vstack([v.x, v.y]),
        "while_loop": lambda v: ops.while_loop(lambda x: False, lambda x: x, (v.x,)),
    }
)

# What makes no operation of a model: numbers from nothing, questions, and functions of functions and of NumPy arrays.
NO_OPERATION = (
    "arange associative_scan bartlett blackman convert_to_numpy correlate custom_gradient dtype empty eye fori_loop "
    "full hamming hanning identity is_tensor jvp kaiser ones shape tri vectorize zeros"
)

STREAMS = (
    POINTWISE | MERGES | KEEPS_TIME | {name: lambda v, build=build: build(v, -1) for name, build in ALONG_AXIS.items()}
)


def model_of(build, time=None, batch=None):
    given = Given(time, batch)
    return keras.Model(given.input, build(given))


def frames():
    return np.random.default_rng(0).normal(size=(2, STEPS, 2 * CHANNELS)).astype("float32")


def public_names():
    """Functions of `keras.ops` and of the modules within it."""
    found = set()
    for module in (ops, *(part for part in vars(ops).values() if isinstance(part, types.ModuleType))):
        found |= {
            name for name, part in vars(module).items() if isinstance(part, types.FunctionType) and name[0] != "_"
        }
    return found


def test_every_operation_of_keras_is_sorted_once():
    sorted_names = [*POINTWISE, *MERGES, *ALONG_AXIS, *KEEPS_TIME, *MIXES_TIME, *NO_OPERATION.split()]
    assert set(sorted_names) == public_names()
    assert len(sorted_names) == len(set(sorted_names))


NOT_ON = {
    "jax": "cholesky_inverse eig eigh norm percentile nanpercentile quantile nanquantile svd",
    "tensorflow": "argpartition eig eigh geomspace isin lu_factor nanmedian nanpercentile nanquantile percentile "
    "quantile searchsorted svd view_as_complex view_as_real",
    "torch": "geomspace linspace logspace",
}


@pytest.mark.filterwarnings("ignore:.*Using torch.cross without:UserWarning")
@pytest.mark.parametrize("name", STREAMS)
def test_what_keeps_time_streams(name):
    if name in NOT_ON[keras.backend.backend()].split():
        pytest.skip("Keras does not compute it on this backend, or gives vectors of either sign")
    model, x = model_of(STREAMS[name], STEPS if name == "reshape" else None), frames()
    wanted = keras.tree.flatten(model(x))
    stream = kseq.Stream(model, 2)
    assert stream.timing == kseq.Timing()
    parts = [keras.tree.flatten(stream.push(part)) for part in (x[:, :1], x[:, 1:1], x[:, 1:])]
    for found, y in zip(zip(*parts, strict=True), map(ops.convert_to_numpy, wanted), strict=True):
        found = np.concatenate(found, axis=1)
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)


def check_refused(model):
    with pytest.raises(kseq.NotStreamable, match="time"):
        kseq.Stream(model, 2)


A_CONSTANT_FIRST = {
    "matmul": lambda v: ops.matmul(MATRIX, v.rows),
    "einsum": lambda v: ops.einsum("cd,btc->btd", MATRIX, v.x),
    "subtract": lambda v: ops.subtract(VECTOR, v.x),
    "take": lambda v: ops.take(MATRIX, v.n - 1, axis=0),
}


@pytest.mark.parametrize("name", A_CONSTANT_FIRST)
def test_a_constant_may_come_first(name):
    model, x = model_of(A_CONSTANT_FIRST[name]), frames()
    np.testing.assert_allclose(kseq.Stream(model, 2).push(x), ops.convert_to_numpy(model(x)), atol=1e-5)


# Shapes do not tell.
IN_DISGUISE = {
    "time as if constant": lambda v: ops.einsum("ab,cde->abe", np.ones((2, STEPS), "float32"), v.x),
    "what the sequence says": lambda v: ops.take(v.x, v.n - 1, axis=-1),
    "a table beside": lambda v: ops.concatenate([v.x, np.ones((2, STEPS, 1), "float32")], axis=-1),
    "other rows and steps": lambda v: ops.reshape(v.x, (STEPS, 2, 4)),
    "steps as channels": lambda v: ops.reshape(v.x, (2, 3, 8)),
    "a reshape after a turn": lambda v: ops.transpose(ops.reshape(v.x, (2, 4, STEPS)), (0, 2, 1)),
    "quantiles": lambda v: ops.quantile(v.x, [0.2, 0.4], axis=-1),
    "two ranks": lambda v: ops.select([v.x[..., 0] > 0], [v.x[..., 1]], v.x[0, :, 0]),
}


@pytest.mark.parametrize("name", IN_DISGUISE)
def test_what_mixes_time_in_disguise_is_refused(name):
    with pytest.raises(kseq.NotStreamable):
        kseq.Stream(model_of(IN_DISGUISE[name], STEPS, 2), 2)


def test_a_split_goes_several_ways():
    x = keras.Input((None, CHANNELS))
    a, b = ops.split(keras.layers.Conv1D(CHANNELS, 3, padding="causal")(x), 2, axis=-1)
    (only,) = ops.split(x, 1, axis=-1)
    later = keras.layers.Conv1D(2, 3, padding="same")(b)
    model = keras.Model(x, {"gated": ops.tanh(a) * ops.sigmoid(later), "both": [a, later], "only": only})
    frames = np.random.default_rng(0).normal(size=(1, STEPS, CHANNELS)).astype("float32")
    stream, wanted = kseq.Stream(model), model.predict(frames, verbose=0)
    parts = [stream.push(frames[:, :2]), stream.push(frames[:, 2:]), stream.flush()]
    for number, y in enumerate(keras.tree.flatten(wanted)):
        found = np.concatenate([keras.tree.flatten(part)[number] for part in parts], axis=1)
        np.testing.assert_allclose(found, y, atol=1e-5)


@pytest.mark.parametrize("name", ALONG_AXIS)
def test_the_same_along_time_is_refused(name):
    check_refused(model_of(lambda v: ALONG_AXIS[name](v, 1), STEPS))


@pytest.mark.parametrize("name", MIXES_TIME)
def test_what_mixes_time_is_refused(name):
    check_refused(model_of(MIXES_TIME[name], STEPS, 2))
