"""A torch function as a program of its operations, which runs without the Python that called them.  On torch."""

import functools
import types
import warnings
from collections.abc import Callable
from typing import Any


def as_program(fn: Callable[..., tuple[Any, ...]], fixed: Any, others: Any) -> "Program | None":
    """What runs the operations of a function of tensors in order, or `None` where they are not the same at every call.

    It is traced with tensors that have no values: what looks at values, as random numbers with a seed do, cannot be
    traced, and is left as it is. The operations are those of the function, so it gives the same bit for bit.

    Args:
        fn: gives a tuple of tensors, and writes into none that it is given.
        fixed: examples of its first arguments, which are the same over many calls.
        others: examples of those that follow, in their shapes and dtypes.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    # Keras's and torch's warnings have been given by the calls before.
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            # Tensors that are no arguments, as the mean of a `Normalization`, are constants.
            traced = make_fx(fn, tracing_mode="fake", _allow_non_fake_inputs=True)(*fixed, *others)
        except Exception:  # whatever it is, the function itself runs or raises in its place
            return None
    draws = any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in traced.graph.nodes)
    return None if draws else Program(traced, len(fixed))


class Program:
    """The operations of a function: first those of its fixed arguments and of constants alone, then all others.

    It is Python that calls torch's functions, one after the other. `torch.compile` would need a C++ compiler where it
    runs, and a minute; `torch.jit`, which takes 1.06 to 1.45 times less for a step, is deprecated.

    Args:
        traced: a module of `torch.fx`.
        count: of fixed arguments.
    """

    def __init__(self, traced: Any, count: int) -> None:
        import torch
        from torch import fx

        known = _known(traced.graph, count)
        used = [node for node in known if any(user not in known for user in node.users)]
        first, rest, of_first, of_rest = fx.Graph(), fx.Graph(), {}, {}
        for node in known:
            of_first[node] = first.node_copy(node, of_first.__getitem__)
        first.output(tuple(of_first[node] for node in used))
        for node in used:
            of_rest[node] = rest.placeholder(node.name)
        for node in traced.graph.nodes:
            if node not in known:
                of_rest[node] = rest.node_copy(node, of_rest.__getitem__)
        _call_directly(rest)
        self._first = fx.GraphModule(traced, first).forward
        self._rest = fx.GraphModule(torch.nn.Module(), rest).forward

    def bind(self, fixed: Any) -> Callable[..., tuple[Any, ...]]:
        """The function of the other arguments, to which what follows from the fixed ones alone is computed once."""
        return functools.partial(self._rest, *self._first(*fixed))


def _known(graph, count):
    """The nodes that follow from the first arguments and from constants, in order; what does nothing is left out."""
    import torch

    known, written = {}, _written(graph)
    for number, node in enumerate(graph.nodes):
        if node.target in (torch.ops.aten.alias.default, torch.ops.aten.detach.default):
            node.replace_all_uses_with(node.args[0])
        follows = node.op == "call_function" and all(given in known for given in node.all_input_nodes)
        if node.op == "get_attr" or (node.op == "placeholder" and number < count) or (follows and node not in written):
            known[node] = None
    return known


def _written(graph):
    """The nodes that write into others, these, and what these are views of."""
    from torch.fx.node import map_arg

    found = set()
    for node in reversed(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if node in found or (schema is not None and schema.is_mutable):
            found.add(node)
            if schema is None:  # one of several outputs
                found.update(node.all_input_nodes)
            for kind, given in zip(schema.arguments if schema else (), node.args, strict=False):
                if kind.alias_info is not None:
                    map_arg(given, found.add)
    return found


def _call_directly(graph):
    """Call torch's functions and methods where these are operators: they read arguments in a third of the time."""
    import torch

    aten = torch.ops.aten
    for node in graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload) or node.target._schema.is_mutable:
            continue
        name = node.target._schema.name.removeprefix("aten::")
        if node.target in (aten.view.default, aten._unsafe_view.default):
            x = node.args[0]
            while x.target == "view":  # of a view, which is one of what that shows
                x = x.args[0]
            node.op, node.target, node.args = "call_method", "view", (x, node.args[1])
        elif node.target is aten.slice.Tensor and len(node.args) == 4:  # without a stride
            x, axis, start, _ = node.args
            node.target, node.args = torch.narrow, (x, axis, start, node.meta["val"].shape[axis])
        elif isinstance(getattr(torch, name, None), types.BuiltinFunctionType):
            node.target = getattr(torch, name)
        elif isinstance(getattr(torch.Tensor, name, None), types.MethodDescriptorType):
            node.op, node.target = "call_method", name
    graph.eliminate_dead_code()
