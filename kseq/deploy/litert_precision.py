"""Weights of fewer bits in a model of LiteRT."""

from typing import Any

import numpy as np

# What multiplies by weights or looks them up. Other constants are few, and may need all their digits, as frequencies
# of positions do.
_TAKING_WEIGHTS = (
    "BATCH_MATMUL",
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "EMBEDDING_LOOKUP",
    "FULLY_CONNECTED",
    "GATHER",
    "TRANSPOSE_CONV",
)
# Of these what is computed in integers where ranges are known beforehand. All else would lose too much by it: a state
# that changes by less than a 256th of its range not at all, what a softmax must not see is half of what it sees.
_OF_INTEGERS = tuple(name for name in _TAKING_WEIGHTS if name != "BATCH_MATMUL")
# The version of `DEQUANTIZE` from which on it widens float16.
_WIDENS = 3


def converted(tf: Any, converter: Any, precision: str, samples: Any) -> bytes:
    """What a converter of tensorflow makes, in a precision.

    Args:
        tf: tensorflow.
        converter: of a function.
        precision: `"float32"`, `"float16"`, `"int8_dynamic"` or `"int8"`.
        samples: for `"int8"`: its signature, and what it takes, call by call.
    """
    if precision == "float32":
        return converter.convert()
    if precision == "float16":
        return in_halves(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "int8":
        converter.representative_dataset = lambda: iter(samples)
        return _in_integers(tf, converter)
    return converter.convert()


def _in_integers(tf, converter):
    """A model whose products, and they alone, are computed in integers."""
    operators = vars(_schema().BuiltinOperator)
    others = [name for name in operators if name[0] != "_" and name not in _OF_INTEGERS]
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=others)
    try:  # what tensorflow calls a debugger is its only door to a choice of operations
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
    except ValueError as error:
        if "is in debug mode" not in str(error):
            raise
        converter.optimizations = []  # there are no products
        return converter.convert()
    return debugger.get_nondebug_quantized_model()


def in_halves(content: bytes) -> bytes:
    """A model with its weights in float16, which LiteRT widens once, when it is loaded.

    The converter of tensorflow rounds all constants, scales of 1e-9 to zero.
    """
    schema = _schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    taking = {getattr(schema.BuiltinOperator, name) for name in _TAKING_WEIGHTS}
    code = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(schema.OperatorCodeT(code, version=_WIDENS, builtinCode=code))
    narrow: dict[int, int] = {}  # buffers: several graphs may share one
    for graph in model.subgraphs:
        read = {int(n) for op in graph.operators if codes[op.opcodeIndex] in taking for n in op.inputs}
        widening = []
        for number in sorted(read):
            tensor = graph.tensors[number] if number >= 0 else None
            if tensor is None or tensor.type != schema.TensorType.FLOAT32 or len(tensor.shape) < 2:
                continue
            if tensor.buffer not in narrow:
                data = model.buffers[tensor.buffer].data
                if data is None or not len(data) or not _fits(weights := np.frombuffer(data, np.float32)):
                    continue
                narrow[tensor.buffer] = len(model.buffers)
                model.buffers.append(schema.BufferT(weights.astype(np.float16).view(np.uint8)))
            widening.append(
                schema.OperatorT(len(codes), [len(graph.tensors)], [number], schema.BuiltinOptions.DequantizeOptions)
            )
            widening[-1].builtinOptions = schema.DequantizeOptionsT()
            name = tensor.name + b"_float16"
            buffer, tensor.buffer = narrow[tensor.buffer], 0
            graph.tensors.append(
                schema.TensorT(tensor.shape, schema.TensorType.FLOAT16, buffer, name, hasRank=tensor.hasRank)
            )
        graph.operators = [*widening, *graph.operators]
    for buffer in narrow.keys() - {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}:
        model.buffers[buffer].data = None
    return _packed(schema, model)


def _fits(weights):
    return bool(np.abs(weights).max() <= np.finfo(np.float16).max)


def _packed(schema, model) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ImportError("weights of float16 are written by LiteRT: `pip install 'kseq[export]'`") from error
    return schema_py_generated
