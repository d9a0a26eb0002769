"""What `x + y`, `keras.ops.relu(x)` and the like put into a functional model; the classes themselves are private."""

import re
from typing import Any

import keras

from .operation import InputSlot, filled

# Value by value, of inputs of one rank.
# fmt: off
POINTWISE = {
    "Abs", "Absolute", "Add", "Angle", "Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctan2", "Arctanh",
    "Array", "BinaryCrossentropy", "BitwiseAnd", "BitwiseInvert", "BitwiseLeftShift", "BitwiseNot", "BitwiseOr",
    "BitwiseRightShift", "BitwiseXor", "Cast", "Cbrt", "Ceil", "Celu", "Clip", "Conj", "Conjugate", "ConvertToTensor",
    "Copy", "Cos", "Cosh", "Deg2rad", "Digitize", "Divide", "DivideNoNan", "Elu", "Equal", "Erf", "Erfc", "Erfinv",
    "Exp", "Exp2", "Expm1", "Fabs", "Floor", "FloorDivide", "Fmax", "Fmin", "Fmod", "FullLike", "Gcd", "Gelu",
    "Greater", "GreaterEqual", "HardShrink", "HardSigmoid", "HardSilu", "HardTanh", "Heaviside", "Hypot", "I0", "Imag",
    "Isclose", "Isfinite", "Isinf", "Isnan", "Isneginf", "Isposinf", "Isreal", "Lcm", "Ldexp", "LeakyRelu",
    "LeftShift", "Less", "LessEqual", "Log", "Log10", "Log1p", "Log2", "LogSigmoid", "Logaddexp", "Logaddexp2",
    "LogicalAnd", "LogicalNot", "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod", "Multiply", "NanToNum",
    "Negative", "Nextafter", "NotEqual", "OnesLike", "Polar", "Power", "Rad2deg", "Real", "Reciprocal", "Relu",
    "Relu6", "RightShift", "Round", "Rsqrt", "SaturateCast", "Select", "Selu", "Sigmoid", "Sign", "Signbit", "Silu",
    "Sin", "Sinc", "Sinh", "SoftShrink", "Softplus", "Softsign", "SparsePlus", "SparseSigmoid", "Sqrt", "Square",
    "Squareplus", "StopGradient", "Subtract", "Tan", "Tanh", "TanhShrink", "Threshold", "TrueDivide", "Trunc",
    "ViewAsReal", "Where", "ZerosLike",
}
# Along the axis, or the axes, of these of their attributes.
AXIS, AXES = ("axis",), ("axes",)
ALONG_AXES = dict.fromkeys((
    "All", "Amax", "Amin", "Any", "Append", "Argmax", "Argmin", "Argpartition", "Argsort", "ArraySplit", "Average",
    "BatchNorm", "CategoricalCrossentropy", "Concatenate", "Cumprod", "Cumsum", "Diff", "ExpandDims",
    "Flip", "Geomspace", "Glu", "LayerNorm", "Linspace", "LogSoftmax", "Logspace", "Logsumexp", "Max", "Mean",
    "Median", "Min", "Nanargmax", "Nanargmin", "Nancumprod", "Nancumsum", "Nanmax", "Nanmean", "Nanmedian", "Nanmin",
    "Nanpercentile", "Nanprod", "Nanquantile", "Nanstd", "Nansum", "Nanvar", "Norm", "Normalize", "OneHot",
    "Percentile", "Prod", "Ptp", "Quantile", "RMSNorm", "Repeat", "Roll", "Softmax", "Sort", "Sparsemax", "Split",
    "Squeeze", "Stack", "Std", "Sum", "TakeAlongAxis", "Trapezoid", "Unstack", "Var",
), AXIS) | {
    "Cross": ("axisa", "axisb", "axisc"), "Diagonal": ("axis1", "axis2"), "Moments": AXES,
    "Moveaxis": ("source", "destination"), "Rot90": AXES, "Swapaxes": ("axis1", "axis2"), "Trace": ("axis1", "axis2"),
}
# Those of them whose axis is counted in the output, which has one more.
ADDS_AXIS = {"ExpandDims", "Geomspace", "Linspace", "Logspace", "OneHot", "Stack"}
# Along so many of the last axes.
ALONG_LAST = dict.fromkeys((
    "ExtractSequences", "FFT", "HSVToRGB", "IRFFT", "ISTFT", "RFFT", "RGBToGrayscale", "RGBToHSV", "STFT",
    "SparseCategoricalCrossentropy", "TopK", "View", "ViewAsComplex",
), 1) | dict.fromkeys((
    "CDist", "Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "FFT2", "IFFT2", "Inv", "Logdet", "LuFactor",
    "MatrixRank", "Pinv", "Qr", "SVD", "Solve", "SolveTriangular", "Tril", "Triu",
), 2)
# fmt: on

MIXES_TIME = "this operation may mix time steps; put it into a kseq layer"
# Of whose inputs one has one axis less.
_OF_TWO_RANKS = {"SparseCategoricalCrossentropy"}


def check_operation(call: Any, specs: Any) -> None:
    """Refuse an operation that is not known to treat every step by itself.

    Args:
        call: of the operation, with an `InputSlot` in the place of each tensor.
        specs: of the tensors, by the slots' numbers.

    Raises:
        ValueError: another operation, or this one along batch or time, with the reason.
    """
    operation, name = call.operation, type(call.operation).__name__
    ranks = [2 + len(spec.shape) for spec in specs]
    if name in _CHECKS:
        _CHECKS[name](call, ranks)
    elif name in POINTWISE or name in ALONG_AXES or name in ALONG_LAST:
        if name not in _OF_TWO_RANKS:
            check_ranks(specs)
        for attribute in ALONG_AXES.get(name, ()):
            check_axes(getattr(operation, attribute), max(ranks) + (name in ADDS_AXIS))
        if name in ALONG_LAST:
            check_axes(tuple(range(-ALONG_LAST[name], 0)), max(ranks))
        if getattr(operation, "data_format", "channels_last") != "channels_last":
            raise ValueError('with data_format="channels_first" it works along time')
        attributes = {key: value for key, value in vars(operation).items() if not key.startswith("_")}
        for constant in _constants((call.arguments, call.keywords, attributes)):
            _check_constant(constant, max(ranks))
    else:
        raise ValueError(MIXES_TIME)
    _check_shapes(call, specs)


def check_ranks(specs: Any) -> None:
    """Refuse inputs of several ranks, which broadcasting would not lay time on time.

    Raises:
        ValueError: such inputs.
    """
    ranks = {2 + len(spec.shape) for spec in specs}
    if len(ranks) > 1:
        raise ValueError(f"it combines tensors of rank {min(ranks)} and {max(ranks)}, which do not meet in time")


def check_axes(axes: Any, rank: Any) -> None:
    """Refuse axes, counted from either end, that are batch or time.

    Raises:
        ValueError: one that is, or `None`, which is all of them.
    """
    if axes is None:
        raise ValueError("it works along all axes, batch and time among them")
    for axis in axes if isinstance(axes, (list, tuple)) else (axes,):
        if (axis + rank if axis < 0 else axis) < 2:
            raise ValueError(f"its axis is batch or time (axis={axis}); use a channel axis")


def keeps_time(equation: str, ranks: Any) -> bool:
    """Whether a product by an equation keeps batch and time apart.

    Args:
        equation: of `keras.ops.einsum`.
        ranks: by operand that of a sequence, or `None` for a constant.
    """
    match = re.fullmatch(r"([a-zA-Z.,]+)->([a-zA-Z.]+)", equation.replace(" ", ""))
    given, made = (match[1].split(","), match[2]) if match else ([], "")
    if len(given) != len(ranks):
        return False
    constants = "".join(labels for labels, rank in zip(given, ranks, strict=True) if rank is None)
    sequences = [(labels, rank) for labels, rank in zip(given, ranks, strict=True) if rank is not None]
    if any(labels.startswith("...") for labels, _ in sequences):  # of which batch and time are the first
        hidden = {rank - len(labels.removeprefix("...")) for labels, rank in sequences}
        dots = all(labels.startswith("...") for labels in (made, *(labels for labels, _ in sequences)))
        return dots and "." not in constants and len(hidden) == 1 and min(hidden) >= 2
    own, rest = made[:2], made[2:] + constants + "".join(labels[2:] for labels, _ in sequences)
    return len(own) == 2 and all(labels[:2] == own for labels, _ in sequences) and not set(own) & set(rest)


def _check_product(call, ranks):
    """Of channels with constants, or step by step."""
    operands = call.arguments[:2]
    slots = [isinstance(operand, InputSlot) for operand in operands]
    sizes = [
        ranks[operand.index] if slot else len(operand.shape) for operand, slot in zip(operands, slots, strict=True)
    ]
    if all(slots):
        keeps = sizes[0] == sizes[1] >= 4
    elif slots[0]:
        keeps = sizes[0] >= 3 and sizes[1] <= 2
    else:
        keeps = sizes[1] >= 4 and sizes[0] <= 2
    if not keeps:
        raise ValueError("only a product of channels, with channels or a constant matrix, keeps time steps apart")


def _check_contraction(call, ranks):
    """Of the last axes with a constant on the right."""
    first, second = call.arguments[:2]
    axes = getattr(call.operation, "axes", 1)
    first_axes = tuple(range(-axes, 0)) if isinstance(axes, int) else axes[0]
    if not isinstance(first, InputSlot) or isinstance(second, InputSlot):
        raise ValueError("only a product of channels with a constant on the right keeps time steps apart")
    check_axes(first_axes, ranks[0])


def _check_einsum(call, ranks):
    operands = call.arguments[1:] if isinstance(call.arguments[0], str) else call.arguments
    found = [ranks[operand.index] if isinstance(operand, InputSlot) else None for operand in operands]
    if not keeps_time(call.operation.subscripts, found):
        raise ValueError(f"{call.operation.subscripts!r} may mix time steps")


def _check_get_item(call, ranks):
    key, rank = call.arguments[1], ranks[0]
    key = key if isinstance(key, tuple) else (key,)
    if any(isinstance(k, InputSlot) for k in key):
        raise ValueError("it takes what the sequence itself says; use keras.ops.take_along_axis")
    if any(k is Ellipsis for k in key):
        at = next(i for i, k in enumerate(key) if k is Ellipsis)
        given = sum(k is not None for k in key) - 1
        key = key[:at] + (slice(None),) * (rank - given) + key[at + 1 :]
    if not all(isinstance(k, slice) and k == slice(None) for k in (*key, slice(None), slice(None))[:2]):
        raise ValueError(f"it takes a part of batch or time by {key!r}; only channels can be cut")


def _check_take(call, ranks):
    (values, indices), axis = call.arguments[:2], call.operation.axis
    if isinstance(values, InputSlot) and isinstance(indices, InputSlot):
        raise ValueError("it takes what another sequence says; use keras.ops.take_along_axis")
    if isinstance(values, InputSlot):
        check_axes(axis, ranks[0])
    elif axis not in (None, 0):  # of a table, a row for each number
        raise ValueError(f"of a constant it takes along axis {axis}, which comes before time; use axis=0")


def _check_transpose(call, ranks):
    if tuple(call.operation.axes or (1, 0))[:2] != (0, 1):
        raise ValueError("it moves batch or time to another axis")


def _check_membership(call, ranks):
    """Of each value in a constant, whatever its shape."""
    values, among = call.arguments[:2] if type(call.operation).__name__ == "IsIn" else call.arguments[1::-1]
    if not isinstance(values, InputSlot) or isinstance(among, InputSlot):
        raise ValueError("it compares every step with all of another sequence; a constant is none")


def _check_pad(call, ranks):
    width = call.operation.pad_width
    if len(width) != ranks[0] or any(tuple(ends) != (0, 0) for ends in width[:2]):
        raise ValueError(f"it pads batch or time by {width!r}; use keras.layers.ZeroPadding1D")


def _check_tile(call, ranks):
    repeats = call.operation.repeats
    repeats = (repeats,) if isinstance(repeats, int) else tuple(repeats)
    if any(n != 1 for n in ((1,) * (ranks[0] - len(repeats)) + repeats)[: max(2, len(repeats) - ranks[0] + 2)]):
        raise ValueError(f"it repeats batch or time by {repeats!r}")


def _check_depth(call, ranks):
    """Along the third axis, which a stack makes where there is none."""
    if max(ranks) < 3 and type(call.operation).__name__ == "Dsplit":
        raise ValueError("its axis is batch or time")
    if len(set(ranks)) > 1:
        raise ValueError("it combines tensors of several ranks, which do not meet in time")
    for constant in _constants(call.arguments):
        _check_constant(constant, max(ranks))


# By operation what is asked of its arguments.
_CHECKS = {
    "Dot": _check_contraction,
    "Dsplit": _check_depth,
    "Dstack": _check_depth,
    "Einsum": _check_einsum,
    "GetItem": _check_get_item,
    "Inner": _check_contraction,
    "IsIn": _check_membership,
    "Matmul": _check_product,
    "Pad": _check_pad,
    "SearchSorted": _check_membership,
    "Take": _check_take,
    "Tensordot": _check_contraction,
    "Tile": _check_tile,
    "Transpose": _check_transpose,
}


def _check_shapes(call, specs):
    """Refuse what does not give batch and time as the first axes, of whatever sizes they are."""
    for sizes in ((2, 5), (3, 7)):
        given = [keras.KerasTensor((*sizes, *spec.shape), spec.dtype) for spec in specs]
        arguments, keywords = filled((call.arguments, call.keywords), given)
        made = keras.tree.flatten(call.operation.compute_output_spec(*arguments, **keywords))
        for y in made:
            if tuple(y.shape[:2]) != sizes:
                raise ValueError(f"of [batch, time, ...] = {tuple(given[0].shape)} it makes {tuple(y.shape)}")


def _constants(structure):
    """Arrays among the arguments of a call."""
    if isinstance(structure, dict):
        structure = structure.values()
    elif not isinstance(structure, (list, tuple)):
        return [structure] if hasattr(structure, "shape") else []
    return [constant for part in structure for constant in _constants(part)]


def _check_constant(constant, rank):
    shape = (1,) * (rank - len(constant.shape)) + tuple(constant.shape)
    if len(shape) > rank or any(size != 1 for size in shape[:2]):
        raise ValueError(
            f"it combines the sequence with a constant of shape {tuple(constant.shape)}, which has a batch or time axis"
        )
