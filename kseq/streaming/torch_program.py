"""A torch function as a program of its operations, which runs without the Python that called them.  On torch."""

import warnings
from collections.abc import Callable
from typing import Any


def as_program(fn: Callable[..., tuple[Any, ...]], arrays: list[Any]) -> Callable[..., Any] | None:
    """What runs the operations of a function of tensors in order, or `None` where they are not the same at every call.

    It is traced with tensors that have no values: what looks at values, as random numbers with a seed do, cannot be
    traced, and is left as it is. The operations are those of the function, so it gives the same bit for bit.

    Args:
        fn: gives a tuple of tensors.
        arrays: examples of its arguments, in their shapes and dtypes.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    # Keras's and torch's warnings have been given by the calls before; that of `torch.jit` says to use `torch.compile`,
    # which takes a C++ compiler and a minute.
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            graph = make_fx(fn, tracing_mode="fake")(*arrays)
        except Exception:  # whatever it is, the function itself runs or raises in its place
            return None
        _simplify(graph)
        program: Any = torch.jit.trace(graph, tuple(arrays), check_trace=False)
        for _ in range(2):  # in which torch makes its plan
            program(*arrays)
    return program


def _simplify(graph):
    """Compute what is constant, and leave out what does nothing."""
    import torch
    from torch.fx.node import map_arg

    nodes = [node for node in graph.graph.nodes if node.op == "call_function"]
    if any(isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable for n in nodes):
        return  # what is written in place may be anything
    for node in nodes:
        if node.target in (torch.ops.aten.alias.default, torch.ops.aten.detach.default):
            node.replace_all_uses_with(node.args[0])
    known = {}
    for number, node in enumerate(graph.graph.nodes):
        given = node.all_input_nodes
        if node.op == "get_attr":
            known[node] = getattr(graph, node.target)
        elif node.op == "call_function" and all(n in known for n in given) and _is_repeatable(node.target):
            arguments = map_arg((node.args, node.kwargs), lambda n: known[n])
            known[node] = node.target(*arguments[0], **arguments[1])
            if isinstance(known[node], torch.Tensor) and any(user not in known for user in node.users):
                graph.register_buffer(f"known_{number}", known[node])
                with graph.graph.inserting_before(node):
                    node.replace_all_uses_with(graph.graph.get_attr(f"known_{number}"))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _is_repeatable(target):
    import torch

    return torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ())
