"""Attention in NumPy, in float64, over every pair of steps, as `kseq.SelfAttention` and its kin are defined."""

import math

import numpy as np

import kseq


def attention(layer, x, mask=None, ids=None, source=None, source_mask=None):
    """What a layer of self or synchronous attention gives in layer mode; anything at invalid steps.

    Args:
        layer: a `SelfAttention` or `SynchronousAttention` without networks, built.
        x: [B, T, C].
        mask: bool [B, T] of its steps.
        ids: [B, T] of segments, or `None`.
        source: [B, T, S] that keys and values are made of, with its mask; by default the input.
    """
    batch, time = x.shape[:2]
    mask = np.ones((batch, time), bool) if mask is None else mask
    if source is None:
        source, source_mask = x, mask
    elif source_mask is None:
        source_mask = np.ones((batch, time), bool)
    x, source = (np.where(m[..., None], z, 0).astype("float64") for z, m in ((x, mask), (source, source_mask)))
    position, segment = counted(source_mask, ids)
    seen = visible(layer, source_mask, position, segment)
    return read(layer, x, source, position, position, seen)


def cross(layer, x, source, mask=None, source_mask=None):
    """What a `CrossAttention` to one source gives."""
    masks = [np.ones(z.shape[:2], bool) if m is None else m for z, m in ((x, mask), (source, source_mask))]
    x, source = (np.where(m[..., None], z, 0).astype("float64") for z, m in zip((x, source), masks, strict=True))
    positions = [counted(m, None)[0] for m in masks]
    seen = np.broadcast_to(masks[1][:, None, :], (len(x), x.shape[1], source.shape[1]))
    return read(layer, x, source, *positions, seen)


def counted(mask, ids):
    """Of each step how many valid steps of its segment come before it, and the number of its segment.

    Where a step is invalid, as a source's may be, those of the last valid one before it; -1 before the first.
    """
    position, segment = np.zeros(mask.shape, int), np.zeros(mask.shape, int)
    for row in range(len(mask)):
        count, number, last = 0, 0, None
        for t in range(mask.shape[1]):
            if mask[row, t]:
                if ids is not None and last is not None and ids[row, t] != last:
                    count, number = 0, number + 1
                last = None if ids is None else ids[row, t]
                count += 1
            position[row, t], segment[row, t] = count - 1, number
    return position, segment


def visible(layer, valid, position, segment):
    """Bool [B, T, T]: which steps each sees."""
    block, prefix, time = layer.block_size, layer.prefix_length, valid.shape[1]
    of_prefix = -(-(prefix - 1) // block) * block if prefix else 0
    past, future = layer.max_past_horizon, layer.max_future_horizon
    after = math.inf if future is None else max(future * block, of_prefix)
    if past is None and layer.overflow == "slide" and future is not None:
        past = (layer.max_length - block - after) // block
    before = math.inf if past is None else max(past * block, of_prefix)
    i, j = np.arange(time)[:, None], np.arange(time)
    of_query, of_key = position[:, :, None], position[:, None, :]
    ahead = j // block - i // block
    in_window = ((past is None) or (ahead >= -past)) & ((future is None) or (ahead <= future))
    in_window = in_window | (of_key >= 0) & (of_key < layer.num_sink_steps) & ((future is None) or (ahead <= future))
    together = (of_query >= 0) & (of_query < prefix) & (of_key >= 0) & (of_key < prefix)
    together &= (-before <= j - i) & (j - i <= after)
    return valid[:, None, :] & (segment[:, :, None] == segment[:, None, :]) & (in_window | together)


def read(layer, x, source, of_queries, of_keys, seen):
    """Attention of x [B, Q, C] to a source [B, K, S] with positions of each, where `seen` [B, Q, K]."""
    weights = {w.name: np.asarray(v, "float64") for w, v in zip(layer.weights, layer.get_weights(), strict=True)}

    def heads(z, name):
        y = np.einsum("btc,chd->bthd", z, weights[f"{name}_kernel"])
        return y + weights.get(f"{name}_bias", 0)

    query, key = scaled(layer, heads(x, "query"), "query", weights), scaled(layer, heads(source, "key"), "key", weights)
    value = heads(source, "key" if layer.share_key_value else "value")
    query, key = rotated(layer, query, of_queries), rotated(layer, key, of_keys)
    key, value = by_query_head(layer, key), by_query_head(layer, value)
    logits, of_sinks, sink_values = products(layer, weights, query, key, of_queries, of_keys)
    logits = np.where(seen[:, None], logits, -np.inf)
    joined = np.concatenate([logits, of_sinks], axis=-1)
    largest = np.max(joined, axis=-1, keepdims=True, initial=-1e300)
    shares = np.exp(joined - largest)
    total = shares.sum(-1, keepdims=True)
    shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    count = logits.shape[-1]
    y = np.einsum("bhqk,bkhd->bqhd", shares[..., :count], value)
    if sink_values is not None:
        y = y + np.einsum("bhqn,nhd->bqhd", shares[..., count:], sink_values)
    if layer.use_gate:
        y = y / (1 + np.exp(-heads(x, "gate")))
    if layer.output_dim is False:
        return y
    return np.einsum("bqhd,hdc->bqc", y, weights["attention_output_kernel"]) + weights.get("attention_output_bias", 0)


def softplus(w):
    return np.log1p(np.exp(w)) / math.log(2)


def scaled(layer, y, role, weights):
    if layer.use_qk_norm:
        y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * weights[f"{role}_norm_scale"]
    return y * softplus(weights["per_dim_key_scale"]) if role == "key" and layer.use_per_dim_key_scale else y


def rotated(layer, y, position):
    scheme = layer.position
    if not isinstance(scheme, kseq.RotaryPosition):
        return y
    half = y.shape[-1] // 2
    pairs = y[..., :half] + 1j * y[..., half:]
    turning = scheme.max_wavelength ** (-np.arange(half) / half)
    pairs = pairs * np.exp(1j * position[:, :, None, None] * turning)
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def by_query_head(layer, y):
    groups = layer.num_heads // y.shape[2]
    return np.tile(y, (1, 1, groups, 1)) if layer.interleave_groups else np.repeat(y, groups, axis=2)


def products(layer, weights, query, key, of_queries, of_keys):
    """Logits [B, H, Q, K] of keys, those [B, H, Q, N] of sinks, and the values [N, H, D] of these or `None`."""
    scale = query.shape[-1] ** -0.5 if layer.query_scale is None else layer.query_scale
    large = query * (scale * softplus(weights["per_dim_scale"]) if layer.use_per_dim_scale else scale)
    distance = of_keys[:, None, :] - of_queries[:, :, None]
    compared, bias = large, 0
    scheme = layer.position
    if isinstance(scheme, kseq.AlibiPosition):
        bias = -np.array(scheme.slopes(layer.num_heads))[:, None, None] * abs(distance)[:, None]
    elif isinstance(scheme, kseq.T5Position):
        buckets = np.array(scheme.buckets())
        back = int(np.argmax(np.arange(len(buckets)) == scheme.max_distance))
        rows = buckets[np.clip(distance + back, 0, len(buckets) - 1)]
        bias = np.moveaxis(weights["position_embeddings"][rows], -1, 1)
    elif isinstance(scheme, kseq.ShawPosition):
        rows = np.clip(distance, -scheme.max_backward, scheme.max_forward) + scheme.max_backward
        bias = np.einsum(
            "bqhd,bqkhd->bhqk", large if scheme.scaled_query else query, weights["position_embeddings"][rows]
        )
    elif isinstance(scheme, kseq.TransformerXLPosition):
        before = -np.clip(distance, -scheme.max_backward, scheme.max_forward)
        half = scheme.position_bias_dim // 2
        angles = before[..., None] * 10000.0 ** (-np.arange(half) / max(half - 1, 1))
        sines = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
        sines = np.einsum("bqke,ehd->bqkhd", sines, weights["position_kernel"])
        compared = large + weights["position_u"]
        bias = np.einsum("bqhd,bqkhd->bhqk", large + weights["position_v"], sines)
    logits = np.einsum("bqhd,bkhd->bhqk", compared, key) + bias
    of_sinks, values = np.zeros((*logits.shape[:3], 0)), None
    if layer.num_sink_embeddings:
        of_sinks = np.einsum("bqhd,nhd->bhqn", query, weights["sink_key_embeddings"])
        values = by_query_head(layer, weights["sink_value_embeddings"][None])[0]
    cap = layer.attention_logits_soft_cap
    if cap is not None:
        logits, of_sinks = cap * np.tanh(logits / cap), cap * np.tanh(of_sinks / cap)
    if layer.use_sink_scalars:
        of_sinks = np.broadcast_to(weights["sink_scalars"][:, None, None], (*logits.shape[:3], 1))
    return logits, of_sinks, values
