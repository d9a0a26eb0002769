"""What `x + y`, `keras.ops.relu(x)` and the like put into a functional model; the classes themselves are private."""

# fmt: off
STEPWISE = {
    "Absolute", "Add", "Cast", "Clip", "Divide", "Elu", "Exp", "Gelu", "LeakyRelu", "Log", "LogicalAnd", "LogicalNot",
    "LogicalOr", "Maximum", "Minimum", "Multiply", "Negative", "Power", "Relu", "Sigmoid", "Silu", "Softplus", "Sqrt",
    "Square", "Subtract", "Tanh", "TrueDivide",
}
# fmt: on


def check_operation(operation):
    """Refuse an operation that is not known to treat every step by itself.

    Raises:
        ValueError: another operation.
    """
    if type(operation).__name__ not in STEPWISE:
        raise ValueError("this operation may mix time steps; put it into a kseq layer")
