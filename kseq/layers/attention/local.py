"""Local self attention with lookahead, rotary positions, and a cache that is a ring."""

import math
from typing import Any, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer, hold_rows
from ..rotary import rotate

# Queries that attend together in layer mode; keys are read once per block rather than once per query.
_QUERY_BLOCK = 64
_INVISIBLE = -1e9


@register
class LocalSelfAttention(SequenceLayer):
    """Multi-head attention of each step to a window around it.  [B, T, C] -> [B, T, output_dim].

    A step attends to itself, to `max_past_horizon` steps before it and to `max_future_horizon` steps after it, as far
    as they are valid. Mask: unchanged. Timing: latency `max_future_horizon`. The cache of keys and values is a ring of
    the window's size, written in place. The weights are laid out as those of `keras.layers.MultiHeadAttention`.
    Source: Vaswani et al., 2017, "Attention Is All You Need"; Su et al., 2021, "RoFormer" for rotary positions.

    Args:
        num_heads: attention heads.
        key_dim: size of each head's queries, keys and values.
        max_past_horizon: visible steps before each step.
        max_future_horizon: visible steps after each step.
        rope_wavelength: longest wavelength of the rotary positions (RoPE, half-split), or `None` for no positions.
            Positions count valid steps.
        output_dim: size of the output projection, by default the input's channels; `False` for none, which gives
            [B, T, num_heads, key_dim].
        use_bias: whether projections add a bias.
        attention_logits_soft_cap: if given, logits are bounded to it by a tanh.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras.

    Raises:
        ValueError: sizes below 1, negative horizons, or an odd `key_dim` with rotary positions.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.LocalSelfAttention(num_heads=2, key_dim=4, max_past_horizon=3, max_future_horizon=1)
        >>> layer(np.zeros((1, 7, 6), "float32")).shape, layer.timing.output_latency
        ((1, 7, 6), 1)
    """

    takes_complex = False

    num_heads: int
    key_dim: int
    max_past_horizon: int
    max_future_horizon: int

    input_rank: int | None = 3

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        max_past_horizon: int,
        max_future_horizon: int = 0,
        rope_wavelength: float | None = None,
        output_dim: int | bool | None = None,
        use_bias: bool = True,
        attention_logits_soft_cap: float | None = None,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.num_heads = as_size("num_heads", num_heads)
        self.key_dim = as_size("key_dim", key_dim)
        self.max_past_horizon = as_size("max_past_horizon", max_past_horizon, 0)
        self.max_future_horizon = as_size("max_future_horizon", max_future_horizon, 0)
        if rope_wavelength is not None and key_dim % 2:
            raise ValueError(f"rotary positions need an even `key_dim`; received {key_dim}")

    def build(self, input_shape: Shape) -> None:
        heads = (self.num_heads, self.key_dim)
        self._projections = {}
        for name in ("query", "key", "value"):
            self._add_projection(name, (input_shape[-1], *heads), heads)
        if self.output_dim is not False:
            (size,) = self.output_spec(SequenceSpec(tuple(input_shape[2:]))).shape
            self._add_projection("attention_output", (*heads, size), (size,))

    def _add_projection(self, name, kernel_shape, bias_shape):
        kernel = self.add_parameter(f"{name}_kernel", kernel_shape, "kernel")
        bias = self.add_parameter(f"{name}_bias", bias_shape, "bias") if self.use_bias else None
        self._projections[name] = (kernel, bias)

    @property
    def _reach(self) -> int:
        """Other steps in the window."""
        return self.max_past_horizon + self.max_future_horizon

    @property
    def timing(self) -> Timing:
        return Timing(
            input_latency=self.max_future_horizon,
            output_latency=self.max_future_horizon,
            receptive_field_per_step=((-self.max_past_horizon, self.max_future_horizon),),
        )

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        if self.output_dim is False:
            return SequenceSpec((self.num_heads, self.key_dim), self.compute_dtype)
        return SequenceSpec((input_spec.shape[-1] if self.output_dim is None else self.output_dim,), self.compute_dtype)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        query, key, value, _ = self._project(x, 0)
        past, future = self.max_past_horizon, self.max_future_horizon
        around = [(0, 0), (0, 0), (past, future), (0, 0)]
        valid = ops.pad(x.with_mask().mask, [(0, 0), (past, future)], constant_values=False)
        if x.mask is None and isinstance(x.values.shape[1], int):
            valid = valid[:1]  # the same in every row
        return Sequence(self._combine(self._attend(query, ops.pad(key, around), ops.pad(value, around), valid)), x.mask)

    # State: a ring of keys and values [B, H, window, D], which of its slots are valid [B, window], and the clock
    # [B, 2] int32: the slot to write next and the position of the next valid step. With lookahead also the queries
    # that wait for their future [B, H, F, D] and their mask [B, F].

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        window, future = self._reach + 1, self.max_future_horizon
        ring = (batch_size, self.num_heads, window, self.key_dim)
        state = {
            "keys": ops.zeros(ring, dtype=self.compute_dtype),
            "values": ops.zeros(ring, dtype=self.compute_dtype),
            "valid": ops.zeros((batch_size, window), dtype="bool"),
            "clock": ops.zeros((batch_size, 2), dtype="int32"),
        }
        if future:
            waiting = (batch_size, self.num_heads, future, self.key_dim)
            state["queries"] = ops.zeros(waiting, dtype=self.compute_dtype)
            state["mask"] = ops.zeros((batch_size, future), dtype="bool")
        return state

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self._step(x, state)

    def hold_step(self, x: Sequence, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        if x.values.shape[1] > 1:
            return super().hold_step(x, state, active, training=training)
        # What is written into the ring of a held row is what stood there: nothing else of a ring changes.
        y, new_state = self._step(x, state, active)
        small = new_state.keys() - {"keys", "values"}
        held = hold_rows(active, *({name: part[name] for name in small} for part in (new_state, state)))
        return y, new_state | held

    def _step(self, x: Sequence, state, active=None):
        time = x.values.shape[1]
        slot, position = state["clock"][:, 0], state["clock"][:, 1:]
        query, key, value, position = self._project(x, position)
        new_state = {}
        mask = x.mask
        if self.max_future_horizon:
            waiting = ops.concatenate([state["queries"], query], axis=2)
            history = ops.concatenate([state["mask"], x.with_mask().mask], axis=1)
            query, new_state["queries"] = waiting[:, :, :time], waiting[:, :, time:]
            mask, new_state["mask"] = history[:, :time], history[:, time:]
        valid = x.with_mask().mask
        if time == 1:
            keys = _write_slot(state["keys"], slot, key, active)
            values = _write_slot(state["values"], slot, value, active)
            here = ops.arange(0, self._reach + 1, dtype="int32")[None, :] == slot[:, None]
            valid = ops.where(here, valid, state["valid"])
            y = self._attend_window(query, keys, values, valid[:, None, None, :])
            slot = ops.where(slot == self._reach, 0, slot + 1)
        else:
            keys, values, valid = self._in_order(state, slot, key, value, valid)
            y = self._attend(query, keys[:, :, 1:], values[:, :, 1:], valid[:, 1:])
            keys, values, valid = keys[:, :, time:], values[:, :, time:], valid[:, time:]
            slot = ops.zeros_like(slot)
        new_state |= {
            "keys": keys,
            "values": values,
            "valid": valid,
            "clock": ops.concatenate([slot[:, None], position], axis=1),
        }
        return Sequence(self._combine(y), mask), new_state

    def _in_order(self, state, slot, key, value, valid):
        """The ring from its oldest slot to its newest, followed by the chunk."""
        order = (slot[:, None] + ops.arange(0, self._reach + 1, dtype="int32")[None, :]) % (self._reach + 1)
        by_head = order[:, None, :, None]
        return (
            ops.concatenate([ops.take_along_axis(state["keys"], by_head, axis=2), key], axis=2),
            ops.concatenate([ops.take_along_axis(state["values"], by_head, axis=2), value], axis=2),
            ops.concatenate([ops.take_along_axis(state["valid"], order, axis=1), valid], axis=1),
        )

    def _project(self, x: Sequence, position):
        """Queries, keys and values [B, H, T, D], and the position after the last step [B, 1]."""
        heads = []
        for name in ("query", "key", "value"):
            kernel, bias = self._projections[name]
            flat = ops.matmul(x.values, ops.reshape(self.weight(kernel), (kernel.shape[0], -1)))
            y = ops.reshape(flat, (*ops.shape(flat)[:2], self.num_heads, self.key_dim))
            heads.append(y if bias is None else y + self.weight(bias))
        if x.mask is None:
            steps = ops.arange(0, ops.shape(x.values)[1], dtype="int32")[None, :]
            positions, after = position + steps, position + ops.shape(x.values)[1]
        else:
            positions = position + ops.cumsum(ops.cast(x.mask, "int32"), axis=1) - 1
            after = position + ops.sum(ops.cast(x.mask, "int32"), axis=1, keepdims=True)
        if self.rope_wavelength is not None:
            heads[:2] = [rotate(h, positions, self.rope_wavelength) for h in heads[:2]]
        query, key, value = (ops.transpose(h, (0, 2, 1, 3)) for h in heads)
        return query * self.key_dim**-0.5, *_finite_values(key, value), after

    def _attend(self, query, key, value, valid):
        """Query `i` of [B, H, T, D] attends to the keys `i` to `i + reach` of [B, H, T + reach, D]."""
        time, reach = query.shape[2], self._reach
        block = min(_QUERY_BLOCK, max(16, reach + 1))
        if not isinstance(time, int) or time <= 2 * block:
            ahead = ops.arange(0, ops.shape(key)[2])[None, :] - ops.arange(0, ops.shape(query)[2])[:, None]
            visible = ops.logical_and(ahead >= 0, ahead <= reach)
            return self._attend_window(query, key, value, ops.logical_and(valid[:, None, None, :], visible))
        # Block `n` of queries reads the blocks `n` to `n + more` of keys.
        more = -(-reach // block)
        blocks = -(-time // block)
        short = blocks * block - time
        query = ops.pad(query, [(0, 0), (0, 0), (0, short), (0, 0)])
        query = ops.reshape(query, (ops.shape(query)[0], self.num_heads, blocks, block, self.key_dim))
        extra = (blocks + more) * block - (time + reach)
        key, value = (
            _overlapping_blocks(ops.pad(k, [(0, 0), (0, 0), (0, extra), (0, 0)]), 2, blocks, more, block)
            for k in (key, value)
        )
        valid = _overlapping_blocks(ops.pad(valid, [(0, 0), (0, extra)], constant_values=False), 1, blocks, more, block)
        ahead = ops.arange(0, (more + 1) * block)[None, :] - ops.arange(0, block)[:, None]
        visible = ops.logical_and(ahead >= 0, ahead <= reach)
        y = self._attend_window(query, key, value, ops.logical_and(valid[:, None, :, None, :], visible))
        return ops.reshape(y, (ops.shape(y)[0], self.num_heads, blocks * block, self.key_dim))[:, :, :time]

    def _attend_window(self, query, key, value, visible):
        """Softmax attention of [..., Q, D] to [..., K, D] where `visible`, broadcast to [..., Q, K]."""
        logits = ops.cast(ops.einsum("...qd,...kd->...qk", query, key), _softmax_dtype(self.compute_dtype))
        if self.attention_logits_soft_cap is not None:
            logits = self.attention_logits_soft_cap * ops.tanh(logits / self.attention_logits_soft_cap)
        logits = ops.where(visible, logits, ops.cast(_INVISIBLE, logits.dtype))
        weights = ops.exp(logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True)))
        weights = ops.where(visible, weights / ops.sum(weights, axis=-1, keepdims=True), 0)
        return ops.einsum("...qk,...kd->...qd", ops.cast(weights, self.compute_dtype), value)

    def _combine(self, y):
        """[B, H, T, D] to the output's channels."""
        y = ops.transpose(y, (0, 2, 1, 3))
        if self.output_dim is False:
            return y
        kernel, bias = self._projections["attention_output"]
        size = kernel.shape[-1]
        y = ops.reshape(y, (*ops.shape(y)[:2], self.num_heads * self.key_dim))
        y = ops.matmul(y, ops.reshape(self.weight(kernel), (-1, size)))
        return y if bias is None else y + self.weight(bias)

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 2, "max_past_horizon": 3}
        return [
            Example(small | {"rope_wavelength": 100.0}),
            Example(small | {"max_future_horizon": 2, "use_bias": False, "output_dim": 4}),
            Example({"num_heads": 1, "key_dim": 3, "max_past_horizon": 0, "output_dim": False}),
        ]


def _finite_values(key, value):
    """Values of which only finite ones are left, and keys that are undefined where a value is not there.

    The product with values reads all of them, at weight zero where they are invisible, and zero times infinity is not
    zero. Keys are compared one by one: only who sees an undefined one has an undefined output.
    """
    finite = ops.isfinite(value)
    return ops.where(finite, key, ops.cast(math.nan, key.dtype)), ops.where(finite, value, ops.zeros_like(value))


def _softmax_dtype(compute_dtype):
    return compute_dtype if compute_dtype == "float64" else "float32"


def _overlapping_blocks(x, axis, blocks, more, block):
    """Split `axis` into blocks and join each with the `more` blocks after it, on the next axis."""
    shape = list(x.shape)
    shape = [ops.shape(x)[0], *shape[1:axis], blocks + more, block, *shape[axis + 1 :]]
    x = ops.reshape(x, shape)
    cut = [slice(None)] * axis
    return ops.concatenate([x[(*cut, slice(i, i + blocks))] for i in range(more + 1)], axis=axis + 1)


def _write_slot(ring, slot, entry, active=None):
    """Write an entry [B, H, 1, D] into the slot of each row [B] of a ring [B, H, window, D], where `active` [B]."""
    if active is not None:
        there = ops.take_along_axis(ring, slot[:, None, None, None], axis=2)
        entry = ops.where(active[:, None, None, None], entry, there)
    # A scatter even for one row: XLA updates the donated ring in place, where it copies around a slice update.
    heads, batch = ring.shape[1], ops.shape(ring)[0]
    rows = ops.repeat(ops.arange(0, batch, dtype="int32"), heads)
    index = ops.stack([rows, ops.tile(ops.arange(0, heads, dtype="int32"), (batch,)), ops.repeat(slot, heads)], axis=1)
    return ops.scatter_update(ring, index, ops.reshape(entry, (-1, entry.shape[-1])))
