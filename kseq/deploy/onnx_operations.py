"""Operations of torch in those of ONNX that onnxruntime has, and runs well; the others torch's exporter translates."""

import operator
from collections.abc import Callable, Sequence
from typing import Any


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """By operation of torch the function that writes it in operations of ONNX."""
    import torch

    aten = torch.ops.aten
    return {
        aten.where.self: where,
        aten.einsum.default: einsum,
        aten.squeeze.dim: squeeze,
        aten.isfinite.default: isfinite,
        aten.sort.stable: sort,
        operator.floordiv: floordiv,
    }


def _operations() -> Any:
    """The operations of ONNX that torch's exporter writes in."""
    from onnxscript import opset18

    return opset18


def where(condition, x, other):
    """`torch.where`; of booleans by logic, since onnxruntime chooses numbers alone."""
    op = _operations()

    if x.dtype.name != "BOOL":
        return op.Where(condition, x, other)
    return op.Or(op.And(condition, x), op.And(op.Not(condition), other))


def isfinite(x):
    """`torch.isfinite`: the difference of a number to itself is undefined where it is not."""
    op = _operations()

    return op.Equal(op.Sub(x, x), op.CastLike(op.Constant(value_float=0.0), x))


def floordiv(x, y):
    """`x // y` of sizes that are not known: of whole numbers ONNX's quotient is cut off towards zero."""
    op = _operations()

    return op.Div(op.Sub(x, op.Mod(x, y)), y)


def squeeze(x, dim: int):
    """`torch.squeeze` of one axis, which it leaves where it is longer than one, and ONNX refuses."""
    op = _operations()

    return op.Squeeze(x, op.Constant(value_ints=[dim])) if x.shape[dim] == 1 else op.Identity(x)


def sort(x, stable: bool | None = None, dim: int = -1, descending: bool = False):
    """`torch.sort` with `stable`: the largest of all, among equal ones the first."""
    op = _operations()
    kind, size = x.dtype, x.shape[dim]
    if kind.name in ("BOOL", "INT8", "UINT8"):
        x = op.Cast(x, to=7)  # int64
    count = op.Constant(value_ints=[size])
    values, order = op.TopK(x, count, axis=dim, largest=int(descending), sorted=1)
    return op.Cast(values, to=int(kind)), order


def einsum(equation: str, tensors: Sequence[Any], path: Sequence[int] | None = None):
    """`torch.einsum`: of two tensors as a product of matrices, which onnxruntime merges with what is around it."""
    op = _operations()

    terms, wanted = _terms(equation, [len(x.shape) for x in tensors])
    product = _Product.of(terms, wanted, [list(x.shape) for x in tensors]) if len(tensors) == 2 else None
    if product is None:
        return op.Einsum(*tensors, equation=equation)
    a, b = tensors
    a = _laid_out(op, a, terms[0], [product.batch_of(terms[0]), product.free[0], product.summed], product.sizes)
    b = _laid_out(op, b, terms[1], [product.batch_of(terms[1]), product.summed, product.free[1]], product.sizes)
    y = op.MatMul(a, b)
    made = product.batch + product.free[0] + product.free[1]
    if max(map(len, product.free)) != 1 or min(map(len, product.free)) != 1:
        y = op.Reshape(y, op.Constant(value_ints=[product.sizes[letter] for letter in made]))
    return y if made == wanted else op.Transpose(y, perm=[made.index(letter) for letter in wanted])


def _terms(equation, ranks):
    """The letters of every tensor and of the result, with capitals that are not used for the axes of an ellipsis."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = {letter for term in terms for letter in term}
    spare = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in letters]
    counts = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    most = max([0, *[n for term, n in zip(terms, counts, strict=True) if "..." in term]])
    terms = [term.replace("...", "".join(spare[most - n : most])) for term, n in zip(terms, counts, strict=True)]
    if "->" not in equation:
        every = "".join(terms)
        right = "..." + "".join(sorted(letter for letter in every if every.count(letter) == 1 and letter not in spare))
    return terms, right.replace("...", "".join(spare[:most]))


class _Product:
    """A product of matrices: which letters of two terms are rows, columns, summed over, and of many products."""

    def __init__(self, batch, free, summed, sizes):
        self.batch, self.free, self.summed, self.sizes = batch, free, summed, sizes

    @classmethod
    def of(cls, terms, wanted, shapes):
        """That of two terms, or `None` where it is more than one."""
        a, b = terms
        sizes = {}
        for term, shape in zip(terms, shapes, strict=True):
            if len(set(term)) != len(term) or not all(isinstance(size, int) for size in shape):
                return None
            for letter, size in zip(term, shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    return None  # one is 1, and stands for the other's
        summed = "".join(letter for letter in a if letter in b and letter not in wanted)
        if any(letter not in wanted for letter in set(a) ^ set(b)) or not summed:
            return None
        batch = "".join(letter for letter in wanted if letter in a and letter in b)
        free = ["".join(letter for letter in wanted if letter in term and letter not in batch) for term in terms]
        if not b.replace("".join(free[1]), "").strip(summed) and not batch:
            # A matrix: what is before the rows of the other needs no layout.
            batch, free[0] = free[0][:-1], free[0][-1:]
        return cls(batch, free, summed, sizes)

    def batch_of(self, term):
        """The letters of many products that a term has: all, or none of a matrix."""
        return "".join(letter for letter in self.batch if letter in term)


def _laid_out(op, x, term, groups, sizes):
    """A tensor with its axes in the order of groups, of which the last two are an axis each."""
    order = "".join(groups)
    if order != term:
        x = op.Transpose(x, perm=[term.index(letter) for letter in order])
    if len(groups[1]) == len(groups[2]) == 1:
        return x
    shape = [sizes[letter] for letter in groups[0]]
    for group in groups[1:]:
        size = 1
        for letter in group:
            size *= sizes[letter]
        shape.append(size)
    return op.Reshape(x, op.Constant(value_ints=shape))
