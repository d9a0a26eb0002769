"""What alignments share: the source in the state, projected once, and the outputs that follow from the alignments."""

import math
from typing import Any

from keras import ops

from ....annotations import Shape
from ....arguments import as_size
from ....sequence import Sequence, SequenceSpec
from ....timing import Timing
from ...base import SequenceLayer, hold_rows
from ...complex_values import real_dtype
from ...reordering import at_steps, valid_first
from .. import sources
from ..scores import INVISIBLE


class Alignment(SequenceLayer):
    """Heads that read a source by weights of its steps, the alignments.  [B, T, C] -> [B, T, num_heads, channels].

    The source is context. Its invalid steps are as if absent, wherever they stand: what is kept of it is the valid
    steps of each row one after the other. It is projected when a stream begins, by `project_source`, and no more then.
    With `return_attention_scores` a second output has the weights of all its steps, [B, T, num_heads, S].

    A subclass gives the alignments of a chunk from what it keeps in the state under "alignment" (`begin`, `align`).
    """

    context_names: tuple[str, ...]

    takes_complex = False
    takes_any_length = True
    in_specs = False  # which have no word for context

    num_heads: int
    key_dim: int
    source: str
    return_attention_scores: bool

    input_rank: int | None = 3
    context_state: tuple[str, ...] = "source", "alignment"  # an alignment to a source that is gone means nothing

    @property
    def moves(self) -> bool:
        """Whether alignments depend on those before."""
        return True

    def read_heads(self) -> None:
        """Check what all constructors take."""
        self.num_heads = as_size("num_heads", self.num_heads)
        self.key_dim = as_size("key_dim", self.key_dim)
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"`source` must be a name in the context; received {self.source!r}")
        if not isinstance(self.return_attention_scores, bool):
            raise TypeError(f"`return_attention_scores` must be a bool; received {self.return_attention_scores!r}")
        self.context_names = (self.source,)

    # What a subclass says.

    def build_heads(self, channels: int, source_channels: int) -> None:
        """Add the weights."""
        raise NotImplementedError

    def project_source(self, values: Any) -> dict[str, Any]:
        """What alignments compare with, by name, from the source's values [B, S, C]: computed once for a stream."""
        return {}

    def begin(self, mask: Any) -> Any:
        """What moves of the state, before the first step, for a source with this mask [B, S]; `()` if nothing does."""
        return ()

    def align(self, x: Sequence, source: dict[str, Any], alignment: Any) -> tuple[Any, Any]:
        """The weights of the source's steps [B, T, H, S], and what moves after the last of the steps.

        Args:
            x: the queries, zero at invalid steps, which move nothing.
            source: "values" [B, S, C], "mask" [B, S], and what `project_source` gave.
            alignment: what moves.
        """
        raise NotImplementedError

    # What follows.

    def build(self, input_shape: Shape, context_shape: dict[str, Shape] | None = None) -> None:
        if context_shape is None:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) is built by a call with its context, or by "
                f"`build(input_shape, context_shape={{{self.source!r}: shape}})`; received no `context_shape`"
            )
        sources.check_rank(self._named, self.source, context_shape[self.source])
        self._source_channels = int(context_shape[self.source][-1])
        self.build_heads(input_shape[-1], self._source_channels)

    def output_spec(self, input_spec: SequenceSpec) -> Any:
        if not self.built:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) gives as many channels as its source has, which it knows once it "
                "is built"
            )
        spec = SequenceSpec((self.num_heads, self._source_channels), self.compute_dtype)
        if not self.return_attention_scores:
            return spec
        steps: Any = None  # as many as the source has
        return spec, SequenceSpec((self.num_heads, steps), self.compute_dtype)

    @property
    def timings(self) -> tuple[Timing, ...]:
        return (self.timing,) * (2 if self.return_attention_scores else 1)

    def output_mask(self, mask: Any) -> Any:
        return (mask, mask) if self.return_attention_scores else mask

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),)) if self.moves else Timing()

    @property
    def rollback_obstacle(self) -> str | None:
        return "its state keeps nothing of the alignments before" if self.moves else None

    def call_rollback(self, state: Any, steps: Any) -> Any:
        return state

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        source = self.standardize_context(context)[self.source]
        if not self.built:
            shape = {self.source: tuple(source.values.shape)}
            self.build((1, 1, *input_spec.shape), context_shape=shape)
        source = sources.checked(self._named, self.source, source, batch_size, self._source_channels)
        values, mask, order = _packed(source.astype(self.compute_dtype))
        kept = {"values": values, "mask": mask} | self.project_source(values)
        if self.return_attention_scores and order is not None:
            kept["places"] = ops.cast(ops.argsort(order, axis=1), "int32")
        return {"source": kept, "alignment": self.begin(mask)}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> Any:
        source = state["source"]
        weights, alignment = self.align(x, source, state["alignment"])
        weights = ops.cast(weights, self.compute_dtype)
        y = Sequence(ops.einsum("bths,bsc->bthc", weights, source["values"]), x.mask)
        if self.return_attention_scores:
            if "places" in source:
                weights = ops.take_along_axis(weights, source["places"][:, None, None, :], axis=-1)
            y = y, Sequence(weights, x.mask)
        return y, {"source": source, "alignment": alignment}

    def hold_step(self, x: Sequence, state: Any, active: Any, *, training: bool = False) -> Any:
        y, new_state = self.call_step(x, state, training=training)  # of which the source is never another
        return y, new_state | {"alignment": hold_rows(active, new_state["alignment"], state["alignment"])}

    @property
    def wide_dtype(self) -> str:
        """What alignments are computed in: sums over many steps are too much for half precision."""
        return real_dtype(self.compute_dtype)

    def by_heads(self, x: Any, kernel: Any, bias: Any = None) -> Any:
        """Project [B, T, C] by a kernel [C, H, D] and a bias [H, D], if there is one, to [B, T, H, D]."""
        flat = ops.matmul(x, ops.reshape(self.weight(kernel), (kernel.shape[0], -1)))
        y = ops.reshape(flat, (*ops.shape(flat)[:2], *kernel.shape[1:]))
        return y if bias is None else y + self.weight(bias)


def weights_of(logits: Any, mask: Any) -> Any:
    """The softmax of logits [..., S] over valid steps; zero at all others, and in a row that has none."""
    logits = ops.where(mask, logits, ops.cast(INVISIBLE, logits.dtype))
    weights = ops.exp(logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True)))
    weights = ops.where(mask, weights, ops.zeros_like(weights))
    total = ops.sum(weights, axis=-1, keepdims=True)
    return weights / ops.where(total > 0, total, ops.ones_like(total))


def _packed(source: Sequence) -> tuple[Any, Any, Any]:
    """Values [B, S, C] and mask [B, S] of the valid steps of each row, one after the other, and of as many invalid.

    The third is where they stood, int32 [B, S], `None` where they stand there still.
    """
    if source.mask is None:  # a copy, since a compiled step may write over its state
        return ops.copy(source.values), source.with_mask().mask, None
    size = ops.shape(source.mask)[1]
    steps = ops.arange(0, size, dtype="int32")[None, :]
    order = valid_first(source.mask)
    return at_steps(source.values, order), steps < source.lengths()[:, None], order
