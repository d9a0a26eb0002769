"""`CrossAttention`: of each step to one or several sources that are known when a stream begins."""

from typing import Any, Unpack

from keras import ops

from ...arguments import check_names
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example
from ..structures import as_sequence
from . import clock as clocks
from . import sources
from .base import Attention, AttentionOptions
from .in_blocks import Keys, Queries, in_parts
from .visibility import Steps, Visibility

_ALL = Visibility(None, None)


@register
class CrossAttention(Attention):
    """Multi-head attention of each step to sources that are context.  [B, T, C] -> [B, T, output_dim].

    A source is a sequence [B, S, D] in `context`, each row of its own length: steps see all of its valid steps, and
    zeros where there are none. Several are joined, one after the other, and one softmax goes over all. They are
    projected once, when a stream begins, and are its state. Mask: unchanged. Timing: none, but that of `query_network`.
    Source: Vaswani et al., 2017, "Attention Is All You Need".

    Args:
        num_heads: heads of queries.
        key_dim: size of each head's queries and keys.
        source: the name of the source in the context, or several names.
        use_separate_projections: whether several sources have keys and values of projections of their own; where not,
            they must have equally many channels.
        **kwargs: the options of all attention: see `kseq.layers.attention.Attention`. Positions count valid steps of
            the query's sequence and of each source, and `key_network` and `value_network` see a source as a whole.

    Raises:
        ValueError: no name or one twice, sources of unequal channels that share a projection, a context without one.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.CrossAttention(num_heads=2, key_dim=4, source="text")
        >>> layer(np.zeros((1, 7, 6), "float32"), context={"text": np.zeros((1, 3, 5), "float32")}).shape
        (1, 7, 6)
    """

    context_names: tuple[str, ...]

    in_specs = False  # which have no word for context

    source: Any

    context_state: tuple[str, ...] = "keys", "values", "valid", "positions"

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        source: str | list[str] = "source",
        use_separate_projections: bool = False,
        **kwargs: Unpack[AttentionOptions],
    ) -> None:
        super().__init__(num_heads, key_dim, **kwargs)
        self.keep(locals())
        self.context_names = tuple(check_names("source", source))

    @property
    def timing(self) -> Timing:
        return self.networks_timing("query")

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        if context_shape is None:
            raise ValueError(f"{self._named} is built with its context; received none")
        for name, shape in context_shape.items():
            sources.check_rank(self._named, name, shape)
        channels = {name: context_shape[name][-1] for name in self.context_names}
        if not self.use_separate_projections and len(set(channels.values())) > 1:
            raise ValueError(
                f"sources that share a projection must have equally many channels; received {channels}: "
                "`use_separate_projections` gives each its own"
            )
        self.build_projections(input_shape[-1], *channels.values())

    def _sources(self, context: Any, batch: Any, training: bool) -> Keys:
        """Keys and values of all sources, and what is known of their steps."""
        found = []
        for i, (name, x) in enumerate(self.standardize_context(context).items()):
            which = i if self.use_separate_projections else 0
            x = sources.checked(self._named, name, x, batch, self.channels_of("key", which))
            time = ops.shape(x.values)[1]
            steps, _ = clocks.read(clocks.start(1, False), time, x.mask)
            heads, _ = self.project(x, ("key", "value"), steps.position, training=training, source=which)
            valid = x.with_mask().mask
            position = ops.broadcast_to(steps.position, ops.shape(valid))
            found.append((heads["key"], heads["value"], valid, position))
        keys, values, valid, positions = zip(*found, strict=True)
        valid, position = ops.concatenate(valid, axis=1), ops.concatenate(positions, axis=1)
        steps = Steps(ops.arange(0, valid.shape[1], dtype="int32"), valid, position)
        return Keys(ops.concatenate(keys, axis=2), ops.concatenate(values, axis=2), steps)

    def _read(self, x, steps, heads, keys, training):
        queries, scores = Queries(heads["query"], steps), None
        if self.return_attention_scores:
            y, weights = self.read_values(queries, keys, _ALL, training)
            scores = ops.transpose(weights, (0, 2, 1, 3))
        else:
            y = in_parts(self.attending(_ALL, training), queries, keys, None, self.variables)
        return self.outputs(y, heads.get("gate"), scores, x.mask)

    def output_spec(self, input_spec: SequenceSpec) -> Any:
        spec = super().output_spec(input_spec)
        if not self.return_attention_scores:
            return spec
        steps: Any = None  # as many as the sources have
        return spec, SequenceSpec((self.num_heads, steps), self.compute_dtype)

    @property
    def _of_queries(self):
        return ("query", "gate") if self.use_gate else ("query",)

    def call_layer(self, x: Sequence, *, training: bool = False, context: Any = None) -> Sequence:
        steps, _ = clocks.read(clocks.start(1, False), ops.shape(x.values)[1], x.mask)
        heads, _ = self.project(x, self._of_queries, steps.position, training=training)
        return self._read(x, steps, heads, self._sources(context, x.values.shape[0], training), training)

    # State: keys and values of the sources, which of their steps are valid, and where they are asked for, positions of
    # these and of the next valid step; states of the query's network.

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        context = self.check_context(context)
        if not self.built:
            self.build(
                (1, 1, *input_spec.shape), {name: tuple(as_sequence(x).values.shape) for name, x in context.items()}
            )
        key, value, steps = self._sources(context, batch_size, False)
        # A copy of what may be the source's own mask, since a compiled step may write over its state.
        state = {"keys": key, "values": value, "valid": ops.copy(steps.valid)}
        if self.position is not None:
            state |= {"positions": steps.position, "clock": clocks.start(batch_size, False)}
        networks = self.network_states(batch_size, ("query",))
        return state | {"networks": networks} if networks else state

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self.hold_step(x, state, None, training=training)

    def hold_step(self, x: Sequence, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        time = x.values.shape[1]
        clock = state["clock"] if "clock" in state else clocks.start(1, False)
        steps, after = clocks.read(clock, time, x.mask)
        heads, networks = self.project(
            x, self._of_queries, steps.position, state=state.get("networks", {}), active=active, training=training
        )
        index = ops.arange(0, state["keys"].shape[2], dtype="int32")
        keys = Keys(state["keys"], state["values"], Steps(index, state["valid"], state.get("positions")))
        new_state = state | ({"networks": networks} if networks else {})
        if "clock" in state:
            moved = ops.concatenate([clock[:, :1], after], axis=1)
            new_state["clock"] = moved if active is None else ops.where(active[:, None], moved, clock)
        return self._read(x, steps, heads, keys, training), new_state

    @property
    def rollback_obstacle(self) -> str | None:
        if self._networks.get("query"):
            return "the query's network keeps nothing of the steps before"
        return None if self.position is None else "positions are not counted backwards"

    def call_rollback(self, state: Any, steps: Any) -> Any:
        return state

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 2}
        return [
            Example(small, context={"source": (5, 4)}),
            Example(
                small | {"source": ["text", "voice"], "use_separate_projections": True, "num_key_value_heads": 1},
                context={"text": (5, 4), "voice": (3, 2)},
            ),
        ]
