"""What an error says to someone who wrote a spec: what failed, of which arguments and inputs."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import keras

from ..keras_errors import unframed

if TYPE_CHECKING:
    from .plan import Plan


@contextlib.contextmanager
def whole_tracebacks() -> Iterator[None]:
    """Within it Keras leaves the tracebacks of errors whole, so that they tell who raised one."""
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


def frames_of(error: BaseException) -> list[FrameType]:
    """The frames that an error has come through, the innermost last."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def said(error: Exception, plan: Plan | None, given: Iterable[Any]) -> tuple[str, str | None]:
    """What an error says, and the argument that it names, if it names one that was given.

    Words of ours stay as they are. Those of Keras, of backends and of Python, which may be `tuple index out of range`,
    are followed by what was given.

    Args:
        error: that was raised.
        plan: of what was made or called, or `None`.
        given: the symbolic tensors that it was called with.
    """
    paragraph = unframed(error).partition("\n\n")[0]
    message = _TENSOR.sub(r"\2 of shape \1", _TENSOR_NAME.sub("", " ".join(paragraph.split())))
    places = {} if plan is None else {name: node for name, node in plan.places.items() if node is not None}
    named = next((name for name in re.findall(r"`(\w+)`", message) if name in places), None)
    is_plain = isinstance(error, (ValueError, TypeError)) and message
    if is_plain and frames_of(error)[-1].f_globals.get("__name__", "").startswith("kseq."):
        return message, named
    if not is_plain:
        message = f"fails with {type(error).__name__}" + (message and f": {message}")
    if places and not any(re.search(rf"\b{name}\b", message) for name in places):
        arguments = ", ".join(f"{name}={_short(node.plain())}" for name, node in places.items())
        message += f"; given {arguments}"
    shapes = [str(tuple(x.shape)) for x in given]
    if shapes and not any(shape in message for shape in shapes):
        inputs = " and ".join(f"{x.dtype} of shape {shape}" for x, shape in zip(given, shapes, strict=True))
        message += f"; the input is {inputs}"
    return message, named


def _short(value, most=40):
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


_TENSOR_NAME = re.compile(r" with name '(?:None|keras_tensor\w*)'")
# Its name says how many tensors this process has made before.
_TENSOR = re.compile(r"<KerasTensor shape=(\([^)]*\)), dtype=(\w+)[^>]*>")
