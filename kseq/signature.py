"""What a class says of itself: the named arguments of its constructor, and the first sentence of its docstring."""

import functools
import inspect
import re
import typing
from typing import Any

#: What an argument is by the last word of its name: `kernel_initializer` takes a Keras initialiser, and `position` a
#: position scheme of attention, which are ours.
KERAS_SUFFIXES = ("initializer", "regularizer", "constraint", "activation")
OBJECT_SUFFIXES = (*KERAS_SUFFIXES, "position")


@functools.cache
def constructor_arguments(cls: Any, until: Any = ()) -> dict[str, inspect.Parameter]:
    """Named parameters of `cls(...)`, in order, with type hints resolved.

    Those of its parents are among them where it passes `**kwargs` on to them.

    Args:
        cls: any class.
        until: parents at which to stop, their own arguments left out.
    """
    found = {}
    for parent in cls.__mro__:
        if parent in until:
            break
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(parent.__init__).parameters.values()
        hints = _hints(parent.__init__)
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self":
                found.setdefault(p.name, p.replace(annotation=hints.get(p.name, p.annotation)))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def summary(cls: Any) -> str:
    """The first sentence of a class's docstring, without the shapes that follow it, or nothing.

    Example:
        >>> import kseq
        >>> summary(kseq.Conv1D)
        'Convolution over time.'
    """
    return re.split(r"\s\s|(?<=\.)\s", (inspect.getdoc(cls) or "").strip().partition("\n")[0])[0]


def _hints(function) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # a name that only type checkers import
        return {}
