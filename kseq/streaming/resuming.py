"""What a stream goes on from elsewhere: saved bytes, or the same state with other weights."""

import functools
from typing import Any, Self, cast

import keras

from ..layers.base import SequenceLayer
from ..runtime.base import BaseStream
from ..runtime.saved import ModelId, from_bytes
from .adapters import StreamOptions
from .compiled import freeze
from .graph import as_layer
from .saving import model_id


class Resumable(BaseStream):
    """The part of `Stream` that goes on from bytes, and takes new weights."""

    layer: SequenceLayer
    _weights: Any
    _steps: dict[Any, Any]
    _compiled: int
    _made_step: Any
    compilations: Any

    @classmethod
    def load(
        cls,
        model: keras.Model | SequenceLayer,
        saved: bytes,
        *,
        other_weights: bool = False,
        engine: str = "xla",
        precision: str | None = None,
    ) -> Self:
        """A stream that goes on where another was saved, of an equal model in any process and on any backend.

        On the same backend it gives what the other would have given, bit for bit, its random numbers included; on
        another what that computes of the same state, with random numbers of its own. After a `reset` random numbers
        begin with the seeds that the model has.

        Args:
            model: what was streamed, or the same made again, or loaded, with its weights.
            saved: what `save` gave.
            other_weights: whether the weights may have changed since.
            engine, precision: what runs the stream from now on, as in the class.

        Raises:
            TypeError: no bytes.
            ValueError: bytes that no stream was saved as, damaged ones, or such of another version, model or weights;
                with the reason.

        Example:
            >>> import kseq, numpy as np
            >>> layer = kseq.GRU(2)
            >>> layer.build((None, None, 3))
            >>> stream, x = kseq.Stream(layer), np.random.rand(4, 3).astype("float32")
            >>> y = stream.push(x[:2])
            >>> other = kseq.Stream.load(layer, stream.save())
            >>> bool(np.array_equal(stream.push(x[2:]), other.push(x[2:])))
            True
        """

        def identify(options):
            layer = as_layer(model, StreamOptions(**options))
            return model_id(layer, freeze(layer))

        found, made = from_bytes(saved, identify, other_weights), cast(Any, cls)
        options = {"engine": engine, "precision": precision, **found.options}
        stream = made(model, found.batch_size, dtype=found.dtype, context=found.context, **options)
        stream._go_on(found)
        return stream

    def refresh(self) -> None:
        """Take the weights that the model has now; what the state holds of earlier steps stays as it was made.

        The next push goes on from there. Where the weights are what they were, nothing is compiled; on jax, where they
        are part of what is compiled, each chunk size is compiled anew at its next call.

        Raises:
            ValueError: a model whose states now have other shapes or dtypes.
        """
        weights, steps = freeze(self.layer), {}
        if weights is self._weights:
            return
        if self._step is not None:
            step = steps[self._ends.layer_specs] = self._made_step(weights)
            if step.step.state != self._step.step.state:
                raise ValueError("the states of the model's layers have other shapes or dtypes than before")
            self._state = step.changed(self._state, self._step.leaves(self._state))
            self._step = step
        self._compiled = self.compilations
        self._weights, self._steps = weights, steps
        self.__dict__.pop("_id", None)

    @functools.cached_property
    def _id(self) -> ModelId:
        return model_id(self.layer, self._weights)
