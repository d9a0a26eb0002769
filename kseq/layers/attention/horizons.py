"""`Horizons`: what attention to a stream sees of it, and so what it keeps, and how late it is."""

import dataclasses
from typing import Any, Unpack

import keras
from keras import ops

from ... import timing as algebra
from ...arguments import as_size, check_choice
from ...sequence import SequenceSpec
from ...timing import Timing
from .base import Attention, AttentionOptions
from .cache import Cache
from .visibility import Visibility


class StreamedOptions(AttentionOptions, total=False):
    """The options of attention to what flows along; `SelfAttention` explains them."""

    block_size: int
    prefix_length: int
    use_segment_ids: bool
    max_length: int
    overflow: str
    num_sink_steps: int
    max_rollback: int
    cache_dtype: str | None


class Horizons(Attention):
    """The part of `StreamedAttention` that says what it sees, and what it keeps; `SelfAttention` has the arguments.

    Attributes:
        has_source: whether keys and values are made of a second input.
        visibility: what queries see.
    """

    horizon_generator: Any
    num_inputs: int

    has_source = False
    max_past_horizon: int | None
    max_future_horizon: int | list[int] | None
    visibility: Visibility

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        max_past_horizon: int | None = None,
        max_future_horizon: int | list[int] | None = 0,
        block_size: int = 1,
        prefix_length: int = 0,
        use_segment_ids: bool = False,
        max_length: int = 1024,
        overflow: str = "error",
        num_sink_steps: int = 0,
        max_rollback: int = 0,
        cache_dtype: str | None = None,
        **kwargs: Unpack[AttentionOptions],
    ) -> None:
        super().__init__(num_heads, key_dim, **kwargs)
        self.keep(locals())
        if max_past_horizon is not None:
            self.max_past_horizon = as_size("max_past_horizon", max_past_horizon, 0)
        if max_future_horizon is not None:
            self.max_future_horizon = _horizons(max_future_horizon)
        future = self.max_future_horizon
        seed = kwargs.get("seed")
        self.horizon_generator = keras.random.SeedGenerator(seed) if isinstance(future, list) else None
        for name in ("block_size", "prefix_length", "max_length", "num_sink_steps", "max_rollback"):
            setattr(self, name, as_size(name, getattr(self, name), 1 if name in ("block_size", "max_length") else 0))
        check_choice("overflow", overflow, ("error", "slide"))
        if cache_dtype is not None:
            check_choice("cache_dtype", cache_dtype, ("float32", "bfloat16", "float16", "int8"))
        self.num_inputs = 1 + self.has_source + use_segment_ids
        self.input_rank = None if use_segment_ids else 3
        self.visibility = Visibility(
            self.max_past_horizon,
            future[-1] if isinstance(future, list) else future,
            self.block_size,
            self.prefix_length,
            self.num_sink_steps,
        )
        if overflow == "slide" and self.max_past_horizon is None and self.visibility.after is not None:
            self.visibility = dataclasses.replace(self.visibility, past=self._past_that_fits())
        self._check_together()

    def drawn_future(self, training: bool) -> Any:
        """Of several horizons one at random while training; else `None`, for the farthest."""
        if not training or not isinstance(self.max_future_horizon, list):
            return None
        count = len(self.max_future_horizon)
        drawn = keras.random.randint((), 0, count, seed=self.horizon_generator)
        return ops.take(ops.convert_to_tensor(self.max_future_horizon, dtype="int32"), drawn)

    def _past_that_fits(self):
        """Blocks before its own that a query sees, where all that it sees are `max_length` steps."""
        needed = self.block_size + self.visibility.after
        if self.max_length < needed:
            raise ValueError(
                f"`max_length` must be at least {needed}, a block and the future of its steps; "
                f"received {self.max_length}"
            )
        return (self.max_length - needed) // self.block_size

    def _check_together(self):
        if self.num_sink_steps and self.use_segment_ids:
            raise ValueError(
                "`num_sink_steps` keeps the first steps of a stream, and excludes `use_segment_ids`; "
                f"received {self.num_sink_steps} and True"
            )
        if self.return_attention_scores and self.visibility.after is None:
            raise ValueError("`return_attention_scores` needs a number of steps as `max_future_horizon`; received None")
        if self.max_rollback and (obstacle := self.never_rolls_back):
            raise ValueError(f"`max_rollback` must be 0, since {obstacle}; received {self.max_rollback}")
        if self.max_rollback % self.block_size:
            raise ValueError(
                f"`max_rollback` must be a multiple of the block, {self.block_size}; received {self.max_rollback}"
            )

    # What it is.

    @property
    def window(self) -> int | None:
        """Other steps that a block of queries may look at; `None` where they are not limited."""
        before, after = self.visibility.before, self.visibility.after
        return None if before is None or after is None else before + after

    @property
    def latency(self) -> int:
        """Steps that a query waits for its future."""
        return self.visibility.after or 0

    @property
    def slots(self) -> int:
        """Slots of the cache's ring."""
        if self.visibility.before is None:
            return self.max_length
        return self.visibility.before + self.latency + self.block_size + self.max_rollback

    @property
    def cache(self) -> Cache:
        (heads, key_dim), (_, value_dim) = self.shape_of("key"), self.value_shape
        sinks = self.num_sink_steps if self.visibility.before is not None else 0
        return Cache(
            self.slots,
            heads,
            key_dim,
            value_dim,
            self.compute_dtype,
            self.cache_dtype or self.compute_dtype,
            positions=self.needs_positions,
            segments=self.use_segment_ids,
            sinks=sinks,
            ages=bool(sinks) and self.visibility.waits_for_prefix,
        )

    @property
    def needs_positions(self) -> bool:
        return super().needs_positions or bool(self.prefix_length or self.num_sink_steps)

    @property
    def timing(self) -> Timing:
        own = Timing(
            block_size=self.block_size,
            input_latency=self.latency,
            output_latency=self.latency,
            receptive_field_per_step=self.visibility.field,
        )
        return algebra.serial([self.networks_timing(), own]) if self.sublayers else own

    @property
    def step_obstacle(self) -> str | None:
        return None if self.visibility.after is not None else "each step sees the whole future"

    @property
    def step_remedy(self) -> str | None:
        return (
            None if self.visibility.after is not None else "`max_future_horizon`, the number of steps that it waits for"
        )

    @property
    def training_obstacle(self) -> str | None:
        if self.cache.stored == self.compute_dtype:
            return None
        return f"gradients do not go through keys and values that are kept as {self.cache_dtype}"

    @property
    def counts_steps(self) -> bool:
        return super().counts_steps or bool(self.prefix_length or self.num_sink_steps)

    @property
    def seen(self) -> int:
        """Steps around a block of queries, itself among them, that scores are of."""
        return self.max_length if self.window is None else self.window + self.block_size

    @property
    def never_rolls_back(self) -> str | None:
        """Why no stream can be rolled back, or `None`."""
        if self.sublayers:
            return "networks of queries, keys and values keep nothing of the steps before"
        if self.use_segment_ids or self.num_sink_steps:
            return "segments and sink steps are not counted backwards"
        return None

    def check_ids(self, spec: SequenceSpec) -> None:
        """Refuse a last input that is no ids of segments, where it should be."""
        if self.use_segment_ids and (spec.shape != () or not keras.backend.is_int_dtype(spec.dtype)):
            raise ValueError(
                f"{self._named} takes segment ids [batch, time] of integers as its last input; received "
                f"channel shape {tuple(spec.shape)} and dtype {spec.dtype}"
            )

    def output_spec(self, input_spec: Any) -> Any:
        specs = input_spec if type(input_spec) is tuple else (input_spec,)
        self.check_ids(specs[-1])
        spec = super().output_spec(specs[0])
        if not self.return_attention_scores:
            return spec
        return spec, SequenceSpec((self.num_heads, self.cache.sinks + self.seen), self.compute_dtype)


def _horizons(value) -> int | list[int]:
    """One number of steps, or several that are drawn from, from the nearest to the farthest."""
    if not isinstance(value, (list, tuple)) or len(value) == 1:
        return as_size("max_future_horizon", value, 0)
    found = [as_size("max_future_horizon", one, 0) for one in value]
    if found != sorted(set(found)) or not found:
        raise ValueError(f"`max_future_horizon` must be one number, or several that grow; received {value!r}")
    return found
