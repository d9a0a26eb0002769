"""What a graph of ONNX may leave to no runtime: scales that belong to weights, state that can stay where it is."""

from typing import Any

import numpy as np

# Operations that change some places of their first argument, or none: runtimes write these alone where both are one.
_UPDATES = ("Identity", "ScatterND", "ScatterElements", "TensorScatter")


def states_in_place(model: Any, state: Any) -> list[str]:
    """The leaves of a state, by the names of their inputs, which a call may write where they are.

    These are those of which nothing else is read than what is written again.

    Args:
        model: of ONNX.
        state: of the manifest.
    """
    readers = _readers(model.graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for leaf in state:
        maker = makers.get(leaf.new_tensor)
        if maker is None or maker.op_type not in _UPDATES or maker.input[0] != leaf.tensor:
            continue
        if maker.op_type == "Identity" or [id(node) for node in readers[leaf.tensor]] == [id(maker)]:
            found.append(leaf.tensor)
    return found


def drop_identities(model: Any) -> None:
    """Leave out nodes that change nothing, but where an output needs a name of its own.

    That is one that is an input, a constant or another output too. (onnx_ir's own pass loses the name of the second of
    two outputs that are one tensor, so that a state would never be written.)
    """
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a graph within it reads names of this one
    outputs = {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "Identity"]:
        [old], [new] = node.input, node.output
        if new in outputs:
            made = [n for n in graph.node if old in n.output]
            if not made or old in outputs:
                continue
            made[0].output[list(made[0].output).index(old)] = new
        else:
            old, new = new, old
        graph.node.remove(node)
        for reader in graph.node:
            reader.input[:] = [new if name == old else name for name in reader.input]


def fold_scales(model: Any) -> None:
    """Multiply into a matrix, and add to its bias, what its product is scaled and shifted by, channel by channel.

    So a normalization by fixed numbers after a convolution or a `Dense` costs nothing.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers, kept = _readers(graph), {value.name for value in graph.output}
    for product in [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]:
        matrix = numpy_helper.to_array(constants[product.input[1]])
        chain, scale, shift = [], np.ones((), matrix.dtype), np.zeros((), matrix.dtype)
        last = product
        while matrix.ndim == 2 and last.output[0] not in kept and len(readers[last.output[0]]) == 1:
            [node] = readers[last.output[0]]
            number = _channelwise(node, last.output[0], constants, matrix.shape[1])
            if number is None:
                break
            if node.op_type in ("Mul", "Div"):
                factor = number if node.op_type == "Mul" else 1 / number
                scale, shift = scale * factor, shift * factor
            else:
                shift = shift + number if node.op_type == "Add" else shift - number
            chain.append(node)
            last = node
        if not any(node.op_type in ("Mul", "Div") for node in chain):
            continue
        names = f"{product.input[1]}_scaled_{product.name}", f"{product.input[1]}_shift_{product.name}"
        arrays = matrix * scale, np.broadcast_to(shift, matrix.shape[1:]).copy()
        for name, array in zip(names, arrays, strict=True):
            graph.initializer.append(numpy_helper.from_array(array.astype(matrix.dtype), name))
        product.input[1] = names[0]
        chain[-1].CopyFrom(_add(chain[-1], product.output[0], names[1]))
        for node in chain[:-1]:
            graph.node.remove(node)
    _drop_unread(graph)


def divide_by_roots(model: Any) -> None:
    """Write a product with one over a root as a quotient, which is what runtimes know normalizations by."""
    graph = model.graph
    readers, makers = _readers(graph), {name: node for node in graph.node for name in node.output}
    for inverse in [node for node in graph.node if node.op_type == "Reciprocal"]:
        root, products = makers.get(inverse.input[0]), readers[inverse.output[0]]
        if root is None or root.op_type != "Sqrt":
            continue
        if any(node.op_type != "Mul" or node.input[0] == node.input[1] for node in products):
            continue
        if inverse.output[0] in {value.name for value in graph.output}:
            continue
        for product in products:
            [x] = [name for name in product.input if name != inverse.output[0]]
            product.op_type = "Div"
            product.input[:] = [x, root.output[0]]
        graph.node.remove(inverse)


def _add(node, x, shift):
    from onnx import helper

    return helper.make_node("Add", [x, shift], list(node.output), name=node.name)


def _readers(graph):
    """By name the nodes that read a tensor."""
    found = {value.name: [] for value in graph.input}
    for node in graph.node:
        found |= {name: [] for name in node.output}
    for node in graph.node:
        for name in node.input:
            if name in found:
                found[name].append(node)
    return found


def _channelwise(node, x, constants, channels):
    """The constant, a number or one for each channel, with which a node changes a tensor, or `None`."""
    from onnx import numpy_helper

    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    other = [name for name in node.input if name != x]
    if len(other) != 1 or other[0] not in constants:
        return None
    if node.op_type in ("Sub", "Div") and node.input[0] != x:
        return None
    number = numpy_helper.to_array(constants[other[0]])
    if number.size == 1:
        return number.reshape(())
    return number.reshape(-1) if number.size == channels == number.shape[-1] else None


def _drop_unread(graph):
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    made = {name for node in graph.node for name in node.output} | {tensor.name for tensor in kept}
    shapes = [value for value in graph.value_info if value.name in made]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
