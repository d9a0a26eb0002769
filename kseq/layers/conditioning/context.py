"""Conditioning on what is known when a stream begins: `Conditioning`, `FiLM` and `UpsampleConditioning`."""

import math
from typing import Any, Unpack

from keras import ops

from ...annotations import Shape
from ...arguments import as_size, check_choice
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, hold_rows
from ..counting import COUNTED, Counted, bounded, count
from ..structures import as_sequence
from .base import Combination, ConditionedLayer, ConditioningOptions, Projection


class ContextConditioning(ConditionedLayer):
    """A conditioned layer whose conditioning is context: one value for a row, or one for each of its steps.

    It is projected once, when a stream begins, and kept in the state. Subclasses explain the arguments.
    """

    context_names: tuple[str, ...]
    static_context: tuple[str, ...]
    context_state: tuple[str, ...]

    in_specs = False  # which have no word for context

    source: str
    per_step: bool
    positions: Counted
    #: Steps that read one value of a conditioning that has some for steps.
    upsample_ratio: int = 1

    def __init__(
        self, source: str = "conditioning", positions: Counted = "valid", **kwargs: Unpack[ConditioningOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if not isinstance(source, str) or not source:
            raise ValueError(f"`source` must be a name in the context; received {source!r}")
        check_choice("positions", positions, COUNTED)
        self.context_names = (source,)

    def set_per_step(self, per_step: bool) -> None:
        """Keep whether the conditioning is a sequence, and what follows for the context and the state."""
        self.per_step, source = bool(per_step), self.source
        self.static_context = () if self.per_step else (source,)
        self.context_state = ("conditioning", "valid") if self.per_step else ("conditioning",)

    @property
    def counts_steps(self) -> bool:
        return self.per_step and self.positions == "valid"

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),)) if self.counts_steps else Timing()

    @property
    def creates_mask(self) -> bool:
        return self.per_step

    @property
    def mask_reads_context(self) -> bool:
        return self.per_step

    def build(self, input_shape: Shape, context_shape: dict[str, Shape] | None = None) -> None:
        if context_shape is None:
            raise ValueError(
                f"{self._named} is built by a call with its context, or by `build(input_shape, "
                f"context_shape={{{self.source!r}: shape}})`; received no `context_shape`"
            )
        shape = tuple(context_shape[self.source])
        self._check_shape(shape)
        self.build_projection(input_shape[2:], shape[2 if self.per_step else 1 :])

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return self.conditioned_spec(input_spec)

    def _check_shape(self, shape, channels=None):
        """Refuse a conditioning without its axes, or of other channels than that which the layer was built for."""
        axes = ("batch", "time") if self.per_step else ("batch",)
        found = tuple(shape[len(axes) :])
        if len(shape) < len(axes) or None in found or channels not in (None, found):
            wanted = "..." if channels is None else ", ".join(map(str, channels))
            raise ValueError(
                f"the context {self.source!r} of {self._named} must have the shape [{', '.join(axes)}, {wanted}]; "
                f"received {tuple(shape)}"
            )

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        if not self.built:
            self.check_context(context)
            shapes = {name: tuple(as_sequence(x).values.shape) for name, x in (context or {}).items()}
            self.build((1, 1, *input_spec.shape), context_shape=shapes)
        state = self._known(batch_size, context)
        return state | {"position": ops.zeros((batch_size,), dtype="int32")} if self.per_step else state

    def _known(self, batch, context):
        """What is made of the context: the conditioning projected, and of steps which of them are valid."""
        given = self.standardize_context(context)[self.source]
        shape = tuple(given.values.shape)
        self._check_shape(shape, self._given_shape)
        if isinstance(batch, int) and isinstance(shape[0], int) and batch != shape[0]:
            raise ValueError(
                f"the context {self.source!r} of {self._named} must have {batch} rows, as the input has; received "
                f"shape {shape}"
            )
        # Copies, since a compiled step may write over its state.
        if self.per_step:
            if shape[1] == 0:
                given = given.pad_time(0, 1)
            return {"conditioning": ops.copy(self.projected(given.values)), "valid": ops.copy(given.with_mask().mask)}
        if given.mask is not None:
            raise ValueError(
                f"the context {self.source!r} of {self._named} is one value for each row, and has no mask; received "
                "one: `per_step` reads a value for each step"
            )
        return {"conditioning": ops.copy(self.projected(given.values[:, None])[:, 0])}

    def call_layer(self, x: Sequence, *, training: bool = False, context: dict[str, Any] | None = None) -> Sequence:
        state = self._known(x.values.shape[0], context) | {"position": ops.zeros((1,), dtype="int32")}
        return self.call_step(x, state, training=training)[0]

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        known = state["conditioning"]
        if not self.per_step:
            return Sequence(self.combined(x.values, known[:, None]), x.mask), state
        positions, after = count(x.mask, ops.shape(x.values)[1], state["position"], self.positions)
        steps = ops.shape(known)[1]
        index = positions // self.upsample_ratio
        here = bounded(index, 0, steps - 1)
        if positions.shape[0] == 1:
            c, valid = (ops.take(part, here[0], axis=1) for part in (known, state["valid"]))
        else:
            c = ops.take_along_axis(known, here[:, :, None], axis=1)
            valid = ops.take_along_axis(state["valid"], here, axis=1)
        mask = ops.logical_and(valid, index < steps)
        mask = mask if x.mask is None else ops.logical_and(mask, x.mask)
        return Sequence(self.combined(x.values, c), mask), state | {"position": after}

    def hold_step(self, x: Sequence, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        y, new_state = self.call_step(x, state, training=training)  # of which the conditioning is never another
        if not self.per_step:
            return y, state
        return y, new_state | {"position": hold_rows(active, new_state["position"], state["position"])}

    @property
    def rollback_obstacle(self) -> str | None:
        return "positions are not counted backwards" if self.per_step else None

    def call_rollback(self, state: Any, steps: Any) -> Any:
        return state


@register
class Conditioning(ContextConditioning):
    """Combines each step with a conditioning that is context.  [B, T, ...] -> [B, T, ...].

    The conditioning is one value for each row, [B, ...] (a speaker, a style), or with `per_step` a sequence [B, S, ...]
    whose steps go with those of the input. It is projected, and combined: added, multiplied, put after or before the
    last axis, or as a scale and a shift of the input. `SynchronousConditioning` has one that flows along instead.

    Mask: unchanged; with `per_step` an output is invalid too where the conditioning is, and beyond its end. Timing:
    none, but with `per_step` an output depends on how many valid steps came before. State: the projected conditioning,
    which `Stream.push(chunk, context=...)` replaces, and the position of the next step.
    Source: google/sequence-layers, `Conditioning`.

    Args:
        combination: "add", "mul", "concat" (the conditioning after the input) or "concat_before"; "affine" is
            `x * (scale + affine_scale_offset) + shift`, "affine_scale" and "affine_shift" one half of it.
        projection: "linear", "linear_affine" (scale and shift of "affine") or, where nothing is scaled or shifted,
            "identity"; by default what is linear.
        source: name of the conditioning in the context.
        per_step: whether the conditioning is a sequence.
        positions: of `per_step`: `"valid"` counts valid steps, `"all"` all steps from the first valid one on.
        **kwargs: the options of all conditioning: see `kseq.layers.conditioning.base.ConditionedLayer`.

    Raises:
        ValueError: a projection that does not go with the combination, channels that do not broadcast, an input of
            integers, or a context of other rows or channels, or one value for each row with a mask.

    Example:
        >>> import kseq, numpy as np
        >>> layer, speaker = kseq.Conditioning("add", source="speaker"), np.ones((1, 5), "float32")
        >>> layer(np.zeros((1, 7, 3), "float32"), context={"speaker": speaker}).shape
        (1, 7, 3)
    """

    def __init__(
        self,
        combination: Combination = "add",
        projection: Projection | None = None,
        source: str = "conditioning",
        per_step: bool = False,
        positions: Counted = "valid",
        **kwargs: Unpack[ConditioningOptions],
    ) -> None:
        super().__init__(source, positions, **kwargs)
        self.set_per_step(per_step)
        self.set_modes(combination, projection)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"combination": "affine", "source": "speaker"}, context={"speaker": (5,)}),
            Example(
                {"combination": "concat", "projection": "identity", "per_step": True},
                (4, 12, 2, 3),
                context={"conditioning": (30, 2)},
            ),
        ]


@register
class FiLM(ContextConditioning):
    """Scales and shifts each channel by what a conditioning says.  [B, T, ...] -> [B, T, ...].

    `x * (scale + affine_scale_offset) + shift`, where scale and shift are linear in the conditioning: one value for
    each row, [B, ...], or with `per_step` a sequence. It is `kseq.Conditioning("affine")`, which says the rest.

    Source: Perez et al., 2018, "FiLM: Visual Reasoning with a General Conditioning Layer".

    Args:
        source, per_step, positions, **kwargs: as in `Conditioning`.

    Raises:
        ValueError: as `Conditioning`.

    Example:
        >>> import kseq, numpy as np
        >>> layer, x = kseq.FiLM(kernel_initializer="zeros"), np.ones((1, 7, 3), "float32")
        >>> float(layer(x, context={"conditioning": np.ones((1, 5), "float32")}).sum())
        21.0
    """

    def __init__(
        self,
        source: str = "conditioning",
        per_step: bool = False,
        positions: Counted = "valid",
        **kwargs: Unpack[ConditioningOptions],
    ) -> None:
        super().__init__(source, positions, **kwargs)
        self.set_per_step(per_step)
        self.set_modes("affine", None)

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"projection_channel_shape": (3,), "per_step": True, "positions": "all"}
        return [
            Example({"affine_scale_offset": 0.0}, context={"conditioning": (5,)}),
            Example(small, (4, 12, 2, 3), context={"conditioning": (14, 2)}),
        ]


@register
class UpsampleConditioning(ContextConditioning):
    """Combines each step with a conditioning of a lower rate that is context.  [B, T, ...] -> [B, T, ...].

    The conditioning is a sequence [B, S, ...] of which each step goes with `upsample_ratio` steps of the input: it is
    projected at its own rate. All else is as in `Conditioning` with `per_step`.

    Source: google/sequence-layers, `UpsampleConditioning` of its TensorFlow layers.

    Args:
        upsample_ratio: steps of the input for each of the conditioning.
        combination, projection, source, positions, **kwargs: as in `Conditioning`.

    Raises:
        ValueError: a ratio below 1, and what `Conditioning` refuses.

    Example:
        >>> import kseq, numpy as np
        >>> layer, slow = kseq.UpsampleConditioning(4, "mul"), np.ones((1, 2, 5), "float32")
        >>> layer(np.zeros((1, 8, 3), "float32"), context={"conditioning": slow}).shape
        (1, 8, 3)
    """

    upsample_ratio: int

    def __init__(
        self,
        upsample_ratio: int,
        combination: Combination = "add",
        projection: Projection | None = None,
        source: str = "conditioning",
        positions: Counted = "valid",
        **kwargs: Unpack[ConditioningOptions],
    ) -> None:
        super().__init__(source, positions, **kwargs)
        self.set_per_step(True)
        self.upsample_ratio = as_size("upsample_ratio", upsample_ratio)
        self.set_modes(combination, projection)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"upsample_ratio": 3, "combination": "affine_scale"}, context={"conditioning": (10, 2)}),
            Example({"upsample_ratio": 2, "positions": "all"}, context={"conditioning": (7, 2)}),
        ]
