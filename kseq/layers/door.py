"""How Keras calls a sequence layer: with tensors and their masks, or with sequences, of known and of unknown shapes."""

import functools
from typing import Any, Literal, TypeVar, overload

import keras
import numpy as np
from keras import ops

from ..annotations import BackendTensor, Shaped
from ..sequence import Sequence, SequenceSpec
from .passage import CALLED, Noted, Passage, check_passage, passage_of
from .rematerialize import rematerialized
from .structures import (
    as_sequence,
    as_sequences,
    check_returned,
    each,
    first,
    holds_sequences,
    parts,
    to_tensors,
)

AnyTensor = TypeVar("AnyTensor", bound=Shaped)


class KerasDoor(keras.layers.Layer):
    """The part of `SequenceLayer` that makes it a Keras layer, and refuses what does not fit it."""

    #: Whether layer mode is computed again for its gradients, as in a `keras.RematScope`.
    rematerialized = False

    @overload
    def __call__(
        self,
        x: Sequence,
        mask: None = None,
        training: bool | None = None,
        context: dict[str, Any] | None = None,
        initial_state: Any = None,
        return_state: Literal[False] = False,
    ) -> Sequence: ...
    @overload
    def __call__(
        self,
        x: np.ndarray,
        mask: Any = None,
        training: bool | None = None,
        context: dict[str, Any] | None = None,
        initial_state: Any = None,
        return_state: Literal[False] = False,
    ) -> BackendTensor: ...
    @overload
    def __call__(
        self,
        x: list[Any] | tuple[Any, ...],
        mask: Any = None,
        training: bool | None = None,
        context: dict[str, Any] | None = None,
        initial_state: Any = None,
        return_state: Literal[False] = False,
    ) -> Any: ...
    @overload
    def __call__(
        self,
        x: AnyTensor,
        mask: Any = None,
        training: bool | None = None,
        context: dict[str, Any] | None = None,
        initial_state: Any = None,
        return_state: Literal[False] = False,
    ) -> AnyTensor: ...
    @overload
    def __call__(
        self,
        x: Any,
        mask: Any = None,
        training: bool | None = None,
        context: dict[str, Any] | None = None,
        initial_state: Any = None,
        *,
        return_state: Literal[True],
    ) -> tuple[Any, Any]: ...
    def __call__(
        self,
        x: Any,
        mask: Any = None,
        training: bool | None = None,
        context: Any = None,
        initial_state: Any = None,
        return_state: bool = False,
    ) -> Any:
        """Layer mode on a tensor (gives a tensor) or on a `Sequence` (gives a `Sequence`).

        With `return_state` or an `initial_state` it is one step over the whole input instead, as many blocks as there
        are, and gives what `step` gives, warm-up included: `y, state` or `y` alone. Without an `initial_state` it
        begins with the first one, which is made of the context. The state goes on in another call, in `step`, or is
        rolled back. A functional model holds no such call; the `call` of a model or layer of one's own may.
        """
        # What is not given is not passed on: Keras would take a `None` for an answer, and not ask the layer around.
        sequences = as_sequences(x, self.num_inputs)
        given: dict[str, Any] = {} if training is None else {"training": training}
        if initial_state is not None or return_state:
            given["passage"] = Passage(initial_state)
        if context is not None or (self.context_names and initial_state is None):
            given["context"] = self.check_context(context)
        if holds_sequences(x, self.num_inputs):
            x = each(_with_symbol, each(Sequence.check, sequences))
        else:
            given["mask"] = mask
        if not self.built:
            self.build_for(sequences, context)  # Keras would pass `build` the shapes of masks too
        passage = given.get("passage")
        if passage is not None:
            check_passage(self, sequences, context, initial_state)
        noted = Noted() if passage is None and self.mask_reads_context else passage
        called = CALLED.set((*CALLED.get(), (self, noted)))
        try:
            y = super().__call__(x, **given)
        finally:
            CALLED.reset(called)
        return (y, passage.state) if passage is not None and return_state else y

    def call(
        self,
        x: Any,
        mask: Any = None,
        training: bool | None = None,
        context: Any = None,
        *,
        passage: Passage | None = None,
        x_mask: Any = None,
        context_mask: Any = None,
    ) -> Any:
        # Keras gives the mask of the only tensor as `mask`, those of several by their names.
        received = self.check_input(self._with_masks(x, x_mask if mask is None else mask))
        context = _context_with_masks(context, context_mask) if self.context_names else {}
        if passage is not None:
            return self._pass(x, received, context, passage, False if training is None else training)
        given = each(self.standardize, received)
        # Sizes that are not known while a graph is traced are `None`, symbols or tensors.
        batch, time = first(given).values.shape[:2]
        lengths = self.output_length(time) if isinstance(time, int) else None
        if (isinstance(batch, int) and batch == 0) or (lengths is not None and 0 in (time, *parts(lengths))):
            y = self.nothing(given, lengths)
        else:
            # What is traced may not say whether this is training, as in a model that is rematerialised.
            y = self._call_layer(given, context, False if training is None else training)
            y = each(lambda part: _apart_from(parts(received), part), y)
        if noted := passage_of(self):
            noted.mask = self._mask_for_keras(x, y)
        return self._formed(x, y)

    def _pass(self, x, received, context, passage, training):
        """The outputs of a call that goes on from a state, in the form of its input `x`."""
        y, passage.state = self.go_on(received, passage.state, context, training)
        y = each(lambda part: _apart_from(parts(received), part), y)
        passage.mask = self._mask_for_keras(x, y)
        return self._formed(x, y)

    def _mask_for_keras(self, x, y):
        """The mask of outputs in the form in which Keras takes it, by that of the input `x`."""
        return each(lambda part: (part.mask, None) if holds_sequences(x, self.num_inputs) else part.mask, y)

    def _formed(self, x, y):
        """Outputs in the form of the input `x`, regularised."""
        for part in parts(y):
            self._regularize(part)
        return y if holds_sequences(x, self.num_inputs) else each(_values, y)

    def rematerialized_call(self, layer_call: Any, *args: Any, **kwargs: Any) -> Any:
        return layer_call  # `_call_layer` does it: `training` is no array, and losses must not stay inside

    def _call_layer(self, x, context, training):
        """`call_layer`, rematerialised where a `keras.RematScope` or the layer says so."""

        def run(x, context):
            y = self.call_layer(x, training=training, **({"context": context} if self.context_names else {}))
            check_returned(self, "call_layer", "a Sequence", y, y)
            return y

        by_scope = super().rematerialized_call
        remat = keras.remat if self.rematerialized else lambda fn: by_scope(fn, each(_values, x))
        if remat(run) is run:
            return run(x, context)
        y, losses = rematerialized(run, (x, context), self.variables, remat)
        self.add_loss(losses)
        return y

    @property
    def activity_regularizer(self) -> Any:
        """Of the values of valid steps, per row; applied by `call`, since Keras would take masks for activity too."""
        return None if any(layer is self for layer, _ in CALLED.get()) else self._regularizer

    @activity_regularizer.setter
    def activity_regularizer(self, regularizer: Any) -> None:
        self._regularizer: Any = keras.regularizers.get(regularizer)

    def _regularize(self, y):
        if self._regularizer is not None:
            loss = self._regularizer(y.mask_invalid().values)
            self.add_loss(ops.divide_no_nan(loss, ops.cast(ops.shape(y.values)[0], loss.dtype)))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Keras's mask of the outputs: of tensors, and of the values of sequences, so that losses leave padding out."""
        if passage := passage_of(self):
            return passage.mask
        given = self._with_masks(inputs, previous_mask)
        if isinstance(first(given).values, keras.KerasTensor):
            return None  # known when there are values; Keras would write its making into the graph of a model
        if all(x.mask is None for x in parts(given)) and not self.creates_mask:
            return None
        mask = self._mask_of(given)
        return each(lambda m: (m, None), mask) if holds_sequences(inputs, self.num_inputs) else mask

    def _mask_of(self, x):
        time = first(x).values.shape[1]
        if time == 0:  # of no step there is none, where windows give outputs either
            rows = ops.shape(first(x).values)[0]
            return each(lambda length: ops.zeros((rows, length), dtype="bool"), self.output_length(0))
        nothing = 0 in first(x).values.shape[:2] or (time is not None and 0 in parts(self.output_length(time)))
        if self.mask_reads_values and not nothing:
            y = self.call_layer(each(self.standardize, each(to_tensors, x)))
            return each(lambda part: part.with_mask().mask, y)
        return self.output_mask(each(_whole_mask, x))

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = (input_shape,) if self.num_inputs == 1 else tuple(input_shape)
        specs = tuple(SequenceSpec(tuple(shape[2:])) for shape in shapes)
        return self._output_shapes(shapes[0][:2], self.output_spec(specs if self.num_inputs > 1 else specs[0]))

    def compute_output_spec(
        self,
        x: Any,
        mask: Any = None,
        training: bool | None = None,
        context: Any = None,
        *,
        x_mask: Any = None,
        context_mask: Any = None,
    ) -> Any:
        given = self._with_masks(x, x_mask if mask is None else mask)
        self.check_shapes(given)
        each(self.cast_spec, each(spec_of, given))  # an author's `output_spec` need not ask whether it is taken
        batch, specs = first(given).values.shape[:2], self.output_spec(each(spec_of, given))
        shapes = self._output_shapes(batch, specs)
        shapes = shapes if type(specs) is tuple else (shapes,)
        values = tuple(keras.KerasTensor(s, spec.dtype) for s, spec in zip(shapes, parts(specs), strict=True))
        if holds_sequences(x, self.num_inputs):
            masked = self.creates_mask or any(part.mask is not None for part in parts(given))
            values = tuple(Sequence(v, keras.KerasTensor(v.shape[:2], "bool") if masked else None) for v in values)
        return values if type(specs) is tuple else values[0]

    # What is given.

    @functools.cached_property
    def _fixed_channels(self):
        """Of a layer that is built: channel shapes of its inputs that fit its weights, or `None` where all do."""
        shape = self.channel_shape
        if shape is None or self.takes_any_channels or not self.weights:
            return None
        return (shape,) if self.num_inputs == 1 else shape

    def build_for(self, x: Any, context: Any = None) -> None:
        shapes = [tuple(part.values.shape) for part in parts(x)]
        for shape in shapes:
            self.check_rank(shape)
        given = {}
        if context is not None:
            given["context_shape"] = {name: tuple(as_sequence(value).values.shape) for name, value in context.items()}
        self.build(shapes[0] if self.num_inputs == 1 else shapes, **given)

    def _with_masks(self, x, mask):
        """The input as sequences, with masks that Keras gives beside tensors."""
        if mask is None or holds_sequences(x, self.num_inputs):
            return as_sequences(x, self.num_inputs)
        if self.num_inputs == 1:
            return Sequence(x, mask)
        return tuple(map(Sequence, x, mask))

    def _output_shapes(self, batch_and_time, specs):
        batch, time = batch_and_time
        lengths = None if time is None else self.output_length(time)
        if type(specs) is not tuple:
            return (batch, lengths, *specs.shape)
        lengths = (None,) * len(specs) if lengths is None else lengths
        return tuple((batch, length, *spec.shape) for length, spec in zip(lengths, specs, strict=True))

    def nothing(self, x: Any, lengths: Any) -> Any:
        """The outputs of no rows or no steps, which few algorithms, and fewer backends, can compute."""
        batch, time = ops.shape(first(x).values)[0], first(x).values.shape[1]
        masked = self.creates_mask or any(p.mask is not None for p in parts(x))

        def make(spec, length):
            mask = ops.zeros((batch, length), dtype="bool") if masked or (time == 0 and length) else None
            return Sequence(ops.zeros((batch, length, *spec.shape), dtype=spec.dtype), mask)

        specs = self.output_spec(each(spec_of, x))
        return tuple(map(make, specs, lengths)) if type(specs) is tuple else make(specs, lengths)

    def check_input(self, x: Any) -> Any:
        """The input as tensors, if its parts fit together, and with the layer."""
        x = each(lambda part: to_tensors(part.check()), x)
        self.check_shapes(x)
        return x

    def check_rank(self, shape: Any) -> None:
        if self.input_rank is not None and len(shape) != self.input_rank:
            raise ValueError(f"{self._named} takes values of rank {self.input_rank}; received shape {tuple(shape)}")

    def check_shapes(self, x: Any) -> None:
        x = parts(x)
        fixed = (self._fixed_channels if self.built else None) or (None,) * len(x)
        for part, channels in zip(x, fixed, strict=True):
            shape = tuple(part.values.shape)
            self.check_rank(shape)
            if channels is not None and shape[2:] != channels:
                raise ValueError(
                    f"{self._named} was built for channel shape {channels}; "
                    f"received {shape[2:]} in values of shape {shape}"
                )
        times = {part.values.shape[1] for part in x if isinstance(part.values.shape[1], int)}
        if len(times) > 1:
            raise ValueError(
                f"the inputs of {self._named} must have equally many time steps; received "
                + ", ".join(str(part.values.shape[1]) for part in x)
            )

    def check_context(self, context: Any) -> dict[str, Any]:
        """The context, if it has exactly the names that the layer reads."""
        context = {} if context is None else context
        if not isinstance(context, dict) or set(context) != set(self.context_names):
            wanted = f"a dict of {listed(self.context_names)}" if self.context_names else "none"
            received = listed(context) if isinstance(context, dict) else repr(context)
            raise ValueError(f"the context of {self._named} must be {wanted}; received {received or 'none'}")
        return context


def _context_with_masks(context, masks):
    """The context as sequences, with masks that Keras gives beside tensors."""
    if not isinstance(context, dict):
        return context
    masks = masks or {}
    return {
        name: as_sequence(value) if isinstance(value, (tuple, list)) else Sequence(value, masks.get(name))
        for name, value in context.items()
    }


def _values(x: Sequence):
    return x.values


def spec_of(x: Sequence) -> SequenceSpec:
    return x.spec


def _apart_from(received, y: Sequence) -> Sequence:
    """An output whose values are not the very tensor of an input: Keras puts the output's mask on it."""
    same = y.mask is not None and any(y.values is x.values for x in received)
    return Sequence(ops.copy(y.values), y.mask) if same else y


def _with_symbol(x: Sequence):
    """The sequence; while a model is made all parts of it are tensors."""
    return Sequence(x.values, _whole_mask(x)) if isinstance(x.values, keras.KerasTensor) else x


def _whole_mask(x: Sequence):
    """The mask of a tensor, all true where it has none."""
    return ops.ones_like(x.values[(..., *[0] * (len(x.values.shape) - 2))], dtype="bool") if x.mask is None else x.mask


def listed(items: Any) -> str:
    return " and ".join(map(str, items))
