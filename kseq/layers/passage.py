"""Calls of a layer that go on from a state, and which layers Keras is calling at present."""

import contextvars
from typing import Any

import keras

from .leaves import leaves
from .structures import parts


class Passage:
    """A call that goes on from a state, which Keras, who would cast it, does not look into.

    Attributes:
        state: what it goes on from, `None` for the first one; after the call the next one.
        mask: of the outputs, in the form in which Keras takes it.
    """

    state: Any
    mask: Any

    def __init__(self, state: Any) -> None:
        self.state, self.mask = state, None


class Noted:
    """A call of whose outputs the mask is noted, since nothing that Keras passes on beside it says what it is.

    Attributes:
        mask: of the outputs, in the form in which Keras takes it.
    """

    mask: Any = None


# Layers that Keras is calling at present, each with its `Passage`, with `Noted`, or `None`.
CALLED: contextvars.ContextVar[tuple[Any, ...]] = contextvars.ContextVar("called", default=())


def passage_of(layer: Any) -> Passage | Noted | None:
    """That of the call that Keras makes at present, if it is one of this layer whose mask the call alone knows."""
    called = CALLED.get()
    return called[-1][1] if called and called[-1][0] is layer else None


def check_passage(layer: Any, x: Any, context: Any, state: Any) -> None:
    """Refuse to go on from a state where that cannot be.

    Args:
        layer: that is called.
        x: on what, sequences.
        context: what it is given of one, or `None`.
        state: from what it goes on, or `None` for the first state.

    Raises:
        NotStreamable: a layer that cannot step, with the reason.
        ValueError: symbols of a functional model, a context beside a state, or a state that is none of the layer's.
    """
    layer.check_steps()
    if any(isinstance(array, keras.KerasTensor) for array in (*_arrays(x), *leaves(() if state is None else state))):
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) takes `initial_state` and `return_state` where it is called on "
            "arrays; received symbols of a functional model, whose states `kseq.Stream` and `kseq.StepFunction` keep"
        )
    if state is None:
        return
    if context is not None:
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) takes a `context`, or an `initial_state` that was made of one; "
            "received both"
        )
    layer.check_state(state, x)


def _arrays(x):
    return [array for part in parts(x) for array in part]
