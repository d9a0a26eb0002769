"""What `x + y`, `keras.ops.relu(x)` and the like put into a functional model; the classes themselves are private."""

import re
from typing import Any

# Value by value, of inputs of one rank.
# fmt: off
POINTWISE = {
    "Abs", "Absolute", "Add", "Angle", "Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctan2", "Arctanh",
    "BitwiseAnd", "BitwiseInvert", "BitwiseLeftShift", "BitwiseNot", "BitwiseOr", "BitwiseRightShift", "BitwiseXor",
    "Cast", "Cbrt", "Ceil", "Celu", "Clip", "Conj", "Conjugate", "ConvertToTensor", "Copy", "Cos", "Cosh", "Deg2rad",
    "Digitize", "Divide", "DivideNoNan", "Elu", "Equal", "Erf", "Erfc", "Erfinv", "Exp", "Exp2", "Expm1", "Fabs",
    "Floor", "FloorDivide", "Fmax", "Fmin", "Fmod", "FullLike", "Gcd", "Gelu", "Greater", "GreaterEqual", "HardShrink",
    "HardSigmoid", "HardSilu", "HardTanh", "Heaviside", "Hypot", "I0", "Imag", "Isclose", "Isfinite", "Isinf", "Isnan",
    "Isneginf", "Isposinf", "Isreal", "Lcm", "Ldexp", "LeakyRelu", "LeftShift", "Less", "LessEqual", "Log", "Log10",
    "Log1p", "Log2", "LogSigmoid", "Logaddexp", "Logaddexp2", "LogicalAnd", "LogicalNot", "LogicalOr", "LogicalXor",
    "Maximum", "Minimum", "Mod", "Multiply", "NanToNum", "Negative", "Nextafter", "NotEqual", "OnesLike", "Polar",
    "Power", "Rad2deg", "Real", "Reciprocal", "Relu", "Relu6", "RightShift", "Round", "Rsqrt", "SaturateCast", "Selu",
    "Sigmoid", "Sign", "Signbit", "Silu", "Sin", "Sinc", "Sinh", "SoftShrink", "Softplus", "Softsign", "SparsePlus",
    "SparseSigmoid", "Sqrt", "Square", "Squareplus", "StopGradient", "Subtract", "Tan", "Tanh", "TanhShrink",
    "Threshold", "TrueDivide", "Trunc", "Where", "ZerosLike",
}
# Along the axis, or the axes, of their attribute `axis`.
ALONG_AXES = {
    "All", "Amax", "Amin", "Any", "Argmax", "Argmin", "Argsort", "Average", "Concatenate", "CountNonzero", "Cumprod",
    "Cumsum", "Diff", "ExpandDims", "Flip", "Glu", "LogSoftmax", "Logsumexp", "Max", "Mean", "Median", "Min", "Norm",
    "Normalize", "OneHot", "Prod", "Repeat", "Roll", "Softmax", "Sort", "Sparsemax", "Squeeze", "Stack", "Std", "Sum",
    "Take", "Var",
}
# fmt: on
# Those of them whose axis is counted in the output, which has one more.
ADDS_AXIS = {"ExpandDims", "OneHot", "Stack"}

MIXES_TIME = "this operation may mix time steps; put it into a kseq layer"


def check_operation(call: Any, specs: Any) -> None:
    """Refuse an operation that is not known to treat every step by itself.

    Args:
        call: of the operation, with something in the place of its tensors.
        specs: of the tensors.

    Raises:
        ValueError: another operation, or this one along batch or time, with the reason.
    """
    operation, name = call.operation, type(call.operation).__name__
    ranks = [2 + len(spec.shape) for spec in specs]
    if name in POINTWISE:
        check_ranks(specs)
        attributes = {key: value for key, value in vars(operation).items() if not key.startswith("_")}
        for constant in _constants((call.arguments, call.keywords, attributes)):
            _check_constant(constant, ranks[0])
    elif name in ALONG_AXES:
        check_axes(operation.axis, max(ranks) + (name in ADDS_AXIS))
    elif name == "GetItem":
        _check_key(call.arguments[1], ranks[0])
    elif name == "Transpose":
        if tuple(operation.axes or (1, 0))[:2] != (0, 1):
            raise ValueError("it moves batch or time to another axis")
    elif name == "Swapaxes":
        check_axes((operation.axis1, operation.axis2), ranks[0])
    elif name == "Matmul":
        if len(ranks) != 1 or ranks[0] < 3 or any(len(w.shape) != 2 for w in call.arguments[1:2]):
            raise ValueError("only a product of channels with a constant matrix on the right keeps time steps apart")
    elif name == "Einsum":
        if len(ranks) != 1 or not keeps_time(operation.subscripts, ranks[0]):
            raise ValueError(f"{operation.subscripts!r} may mix time steps")
    else:
        raise ValueError(MIXES_TIME)


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


def keeps_time(equation: str, rank: int) -> bool:
    """Whether a product of a sequence of a rank with a constant, by an equation, keeps batch and time apart."""
    match = re.fullmatch(r"([a-zA-Z.]+),([a-zA-Z.]+)->([a-zA-Z.]+)", equation.replace(" ", ""))
    if match is None:
        return False
    given, constant, made = match.groups()
    if given.startswith("...") or made.startswith("..."):  # of which batch and time are the first
        hidden = rank - len(given.removeprefix("..."))
        return given.startswith("...") and made.startswith("...") and "." not in constant and hidden >= 2
    return given[:2] == made[:2] and not set(given[:2]) & set(constant + given[2:] + made[2:])


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


def _check_key(key, rank):
    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis in key:
        at, given = key.index(Ellipsis), sum(k is not None for k in key) - 1
        key = key[:at] + (slice(None),) * (rank - given) + key[at + 1 :]
    if any(k != slice(None) for k in (*key, slice(None), slice(None))[:2]):
        raise ValueError(f"it takes a part of batch or time by {key!r}; only channels can be cut")
