"""`CallSite`: what an adapter may want to know of a call besides its layer and the specs of what it is given."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """What a model does not say and a stream has to know.

    Attributes:
        max_length: steps that attention to an unlimited past has room for.
        window: steps that it sees instead, itself included, or `None` where the past is unlimited.
    """

    max_length: int = 1024
    window: int | None = None


BY_DEFAULT = StreamOptions()


@dataclasses.dataclass(frozen=True)
class CallSite:
    """Where in a model a layer is called.

    Attributes:
        batch, time: rows and steps of the input, where the model says so.
        zeros: steps of zeros that a layer of zero padding would put before and after the input over time, and then over
            each axis of space: the layer reads what that one reads.
        tensors: of the model's graph, by the number of the slot in which the call has them.
        options: of the stream.
    """

    batch: int | None = None
    time: int | None = None
    zeros: tuple[tuple[int, int], ...] = ()
    tensors: tuple[Any, ...] = ()
    options: StreamOptions = BY_DEFAULT


#: Of a layer of which nothing is known but what it is given.
ANYWHERE = CallSite()
