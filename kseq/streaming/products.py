"""Products of one row with several constant matrices, as one product with these side by side.  On jax."""

import collections
import itertools
from collections.abc import Callable
from typing import Any

# What gives a constant another form.
_FORMS = ("reshape", "transpose", "squeeze", "convert_element_type", "copy")


def merged(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of trees of arrays in which such products are one.

    Queries, keys and values are products of one input, and so are a gate and what it opens. A step of one row waits for
    its weights and for each of its operations to begin: one product with wide weights is done sooner than three with
    narrow ones. They are laid side by side once, when the function is traced. Products of more rows stay what they
    are: XLA copies their weights first, which wide ones do not make faster. Sums are those of before, but for the order
    of their terms.

    Args:
        fn: what it closes over is constant.
    """
    import jax

    def call(*arguments):
        traced, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
        found = _run(traced, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return call


def _run(traced, arguments):
    """The outputs of a traced function."""
    from jax import ensure_compile_time_eval, lax, numpy

    program, values = traced.jaxpr, _constants(traced)
    groups = _groups(program, values)
    values |= zip(program.invars, arguments, strict=True)
    for equation in program.eqns:
        output = next(iter(equation.outvars), None)
        if output in values:
            continue
        if output not in groups:
            values |= _computed(program, equation, values)
            continue
        group = groups[output]
        x, matrices = values[equation.invars[0]], [values[each.invars[1]] for each in group]
        with ensure_compile_time_eval():
            matrix = numpy.concatenate(matrices, axis=1)
        product = lax.dot_general(x, matrix, **equation.params)
        ends = itertools.accumulate(part.shape[1] for part in matrices)
        for each, part, end in zip(group, matrices, ends, strict=True):
            values[each.outvars[0]] = lax.slice_in_dim(product, end - part.shape[1], end, axis=product.ndim - 1)
    return [_value(atom, values) for atom in program.outvars]


def _constants(traced):
    """What a function closes over, by variable, also in the form in which it is read."""
    from jax import ensure_compile_time_eval

    program = traced.jaxpr
    values = dict(zip(program.constvars, traced.consts, strict=True))
    with ensure_compile_time_eval():
        for equation in program.eqns:
            if equation.primitive.name in _FORMS and all(_is_known(atom, values) for atom in equation.invars):
                values |= _computed(program, equation, values)
    return values


def _groups(program, constants):
    """By its output each product of x [1, ..., C] and a constant [C, N] that is not alone, and all that are alike."""
    found = collections.defaultdict(list)
    for equation in program.eqns:
        if equation.primitive.name == "dot_general" and not any(_is_literal(atom) for atom in equation.invars):
            x, matrix = equation.invars
            one_row = x.aval.ndim > 0 and x.aval.size == x.aval.shape[-1]
            of_last_and_first = (((x.aval.ndim - 1,), (0,)), ((), ()))
            plain = matrix.aval.ndim == 2 and equation.params["dimension_numbers"] == of_last_and_first
            if one_row and plain and matrix in constants:
                found[x, matrix.aval.dtype, str(equation.params)].append(equation)
    return {each.outvars[0]: group for group in found.values() if len(group) > 1 for each in group}


def _computed(program, equation, values):
    """The outputs of an equation of a program, by variable."""
    from jax.extend import core

    inputs = list(dict.fromkeys(atom for atom in equation.invars if not _is_literal(atom)))
    outputs = [atom for atom in equation.outvars if not isinstance(atom, core.DropVar)]
    alone = program.replace(constvars=[], invars=inputs, outvars=outputs, eqns=[equation], effects=equation.effects)
    run = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))
    return dict(zip(outputs, run(*[values[atom] for atom in inputs]), strict=True))


def _is_literal(atom):
    from jax.extend import core

    return isinstance(atom, core.Literal)


def _is_known(atom, values):
    return not _is_literal(atom) and atom in values


def _value(atom, values):
    return atom.val if _is_literal(atom) else values[atom]
