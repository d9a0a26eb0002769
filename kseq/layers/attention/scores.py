"""Softmax attention of queries to the keys that they see."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from ..complex_values import real_dtype

INVISIBLE = -3e38  # below all logits that are finite in float32


class Sinks(NamedTuple):
    """What every query sees beside the keys: learned keys and values, or a logit whose value is zero.

    Attributes:
        keys, values: [N, H, D] and [N, Hkv, Dv], or `None`.
        scalars: [H], or `None`.
    """

    keys: Any = None
    values: Any = None
    scalars: Any = None


def attend(
    query: Any,
    key: Any,
    value: Any,
    visible: Any,
    *,
    scale: Any,
    content: Any = None,
    bias: Any = None,
    soft_cap: float | None = None,
    sinks: Sinks | None = None,
    dropout: Any = None,
    interleaved: bool = False,
    compare: Any = None,
) -> tuple[Any, Any]:
    """What queries [..., H, Q, D] read of values [..., Hkv, K, Dv], and the weights of it [..., H, Q, K].

    Query head `h` reads the key and value head `h // (H / Hkv)`. The softmax is computed in float32 at least. A query
    that sees nothing reads zeros.

    Args:
        query: of any scale.
        key: [..., Hkv, K, D].
        value: finite.
        visible: bool [..., Q, K] or what broadcasts to it, or `None` where all is visible.
        scale: what queries are multiplied by for their logits with keys, a number or [D].
        content: a function of scaled queries that gives what is compared with keys, or `None` for these themselves.
        bias: a function of queries and scaled queries that gives what is added to logits [..., H, Q, K], or `None`.
        soft_cap: logits are bounded to it by a tanh.
        sinks: what is always visible; logits with its keys are those of unscaled queries.
        dropout: a function of the weights, or `None`.
        interleaved: whether query head `h` reads the head `h % Hkv` instead.
        compare: a function of what is compared and keys that gives logits [..., H, Q, K], or `None` for products.
    """
    dtype = keras.backend.standardize_dtype(query.dtype)
    wide = real_dtype(dtype)
    scaled = query * scale
    compared = scaled if content is None else content(scaled)
    if compare is None:
        logits = _by_key_head(compared, key, "...hgqd,...hkd->...hgqk", interleaved)
    else:
        logits = compare(compared, key)
    logits = ops.cast(logits, wide)
    if bias is not None:
        logits = logits + ops.cast(bias(query, scaled), wide)
    logits = _capped(logits, soft_cap)
    if visible is not None:
        visible = ops.expand_dims(visible, -3)
        logits = ops.where(visible, logits, ops.cast(INVISIBLE, wide))
    sink = None if sinks is None else _sink_logits(query, sinks, soft_cap, wide)
    greatest = ops.max(logits, axis=-1, keepdims=True)
    if sink is not None:
        greatest = ops.maximum(greatest, ops.max(sink, axis=-1, keepdims=True))
    greatest = ops.stop_gradient(greatest)
    weights, of_sinks = ops.exp(logits - greatest), None
    if visible is not None:
        weights = ops.where(visible, weights, ops.zeros_like(weights))
    total = ops.sum(weights, axis=-1, keepdims=True)
    if sink is not None:
        of_sinks = ops.exp(sink - greatest)
        total = total + ops.sum(of_sinks, axis=-1, keepdims=True)
    elif visible is not None:
        total = ops.where(total > 0, total, ops.ones_like(total))
    weights = ops.cast(weights / total, dtype)
    if dropout is not None:
        weights = dropout(weights)
    y = _by_key_head(weights, value, "...hgqk,...hkd->...hgqd", interleaved)
    if sinks is not None and sinks.values is not None and of_sinks is not None:
        group = query.shape[-3] // sinks.values.shape[1]
        by_head = ops.tile(sinks.values, (1, group, 1)) if interleaved else ops.repeat(sinks.values, group, axis=1)
        y = y + ops.einsum("...hqn,nhd->...hqd", ops.cast(of_sinks / total, dtype), by_head)
    return y, weights


def at_places(weights: Any, places: Any) -> Any:
    """Weights [B, H, Q, K] of the keys at places int32 [B or 1, Q, W], zero outside: [B, Q, H, W]."""
    keys = ops.shape(weights)[-1]
    inside = ops.logical_and(places >= 0, places < keys)[:, None]
    here = ops.broadcast_to(ops.clip(places, 0, keys - 1)[:, None], (*ops.shape(weights)[:-1], places.shape[-1]))
    found = ops.take_along_axis(weights, here, axis=-1)
    return ops.transpose(ops.where(inside, found, ops.zeros_like(found)), (0, 2, 1, 3))


def finite_values(key: Any, value: Any) -> tuple[Any, Any]:
    """Keys that are undefined where a value is not finite, and values of which only finite ones are left.

    The product with values reads all of them, at weight zero where they are invisible, and zero times infinity is not
    zero. Keys are compared one by one: only who sees an undefined one has an undefined output.

    Args:
        key: [..., D].
        value: [..., Dv].
    """
    finite = ops.isfinite(value)
    undefined = ops.cast(math.nan, key.dtype)
    if key.shape[-1] == value.shape[-1]:
        key = ops.where(finite, key, undefined)
    else:
        key = ops.where(ops.all(finite, axis=-1, keepdims=True), key, undefined)
    return key, ops.where(finite, value, ops.zeros_like(value))


def _by_key_head(x, y, equation, interleaved):
    """An einsum of x [..., H, Q, ·], its heads split into groups that share a head of y [..., Hkv, K, ·]."""
    heads, key_heads = x.shape[-3], y.shape[-3]
    if heads == key_heads:
        return ops.einsum(equation.replace("g", ""), x, y)
    groups = (key_heads, heads // key_heads)
    if interleaved:
        groups, equation = groups[::-1], equation.replace("hg", "gh")
    shape = (*ops.shape(x)[:-3], *groups, *ops.shape(x)[-2:])
    found = ops.einsum(equation, ops.reshape(x, shape), y)
    return ops.reshape(found, (*ops.shape(found)[:-4], heads, *ops.shape(found)[-2:]))


def _capped(logits, soft_cap):
    return logits if soft_cap is None else soft_cap * ops.tanh(logits / soft_cap)


def _sink_logits(query, sinks, soft_cap, wide):
    """Logits [..., H, Q, N] of what is always visible."""
    if sinks.keys is None:
        return ops.cast(sinks.scalars, wide)[:, None, None] + ops.zeros_like(query[..., :1], dtype=wide)
    return _capped(ops.cast(ops.einsum("...hqd,nhd->...hqn", query, sinks.keys), wide), soft_cap)
