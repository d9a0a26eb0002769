"""Weights of fewer bits in a model of ONNX."""

import pathlib
import tempfile
from typing import Any

import numpy as np

# Numbers of a tensor from which on it is worth fewer bits; constants of a layer are fewer.
_LEAST = 16


def narrowed(model: Any, precision: str) -> Any:
    """A model with the weights of its products in fewer bits.

    `"float16"`: they are widened again when the file is loaded, so it is smaller, and as fast as before. `"int8"`: the
    products are of integers, with a scale for each column of the weights and one for what is multiplied with them. The
    weights are of 7 bits: the sum of two products by 8 does not fit the 16 bits in which processors without VNNI add
    them, and results would differ from processor to processor. By 7 bits they are the same, as fast.
    """
    return _in_integers(model) if precision == "int8" else _in_halves(model)


def _in_halves(model):
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < _LEAST:
            continue
        array = numpy_helper.to_array(tensor)
        most = np.finfo(np.float16).max
        if np.abs(array[np.isfinite(array)]).max(initial=0) > most:
            continue  # a bound, as of what is not seen
        wide, name = tensor.name, f"{tensor.name}_float16"
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [wide], name=f"{wide}_widened", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _in_integers(model):
    import onnx

    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ImportError(f"onnxruntime's quantization needs {error.name}: `pip install 'kseq[export]'`") from error
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "int8.onnx"
        quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(path)
