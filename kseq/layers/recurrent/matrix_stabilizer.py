"""Recurrences of matrices whose inputs are weighted by exponentials of any size: the state is kept divided by one."""

from typing import Any

from keras import ops

from .matrix_products import LogWeights, between, bounded, grouped, one_step, sums, weighted
from .matrix_scan import scan_chunks

#: The largest stabiliser whose exponential outputs are divided by.
_MOST = 40.0


def scan_stabilized(
    q: Any, k: Any, v: Any, log_forget: Any, log_input: Any, state: Any, stabilizer: Any
) -> tuple[Any, Any, Any]:
    """Memory and normaliser of the mLSTM: S_t = exp(log_forget_t) S_{t-1} + exp(log_input_t) k_t [v_t, 1]^T.

    What a query reads of the values is divided by what it reads of the ones, or by one where that is less.

    Args:
        q, k: [B, T, H, K].
        v: [B, T, H, V].
        log_forget: [B, T, H], at most zero.
        log_input: [B, T, H], zero as is the key at steps that are not there: a stabiliser is not below it anyway.
        state: [B, H, K, V + 1], divided by exp(stabilizer).
        stabilizer: [B, H], at least zero: then what is below one is below one as it is kept, and outputs, which do not
            depend on the stabiliser, need no exponential above one. It follows from the gates, without a gradient.

    Returns:
        outputs [B, T, H, V], state, stabiliser.
    """
    log_forget = bounded(log_forget)
    if q.shape[1] == 1:
        kept, added = log_forget[:, 0] + stabilizer, log_input[:, 0]
        stabilizer = ops.stop_gradient(_largest(kept, added))
        weight = ops.exp(added - stabilizer)[:, None, :, None]
        y, state = one_step(q, k * weight, _with_ones(v), ops.exp(kept - stabilizer)[..., None, None], state)
        return _normalized(y, stabilizer[:, None]), state, stabilizer
    y, (state, stabilizer) = scan_chunks(_chunk, (state, stabilizer), q, k, v, log_forget, log_input)
    return y, state, stabilizer


def _chunk(states, arrays):
    hidden = ops.stop_gradient
    state, before = states[0], hidden(states[1])
    q, k, v, log_forget, log_input = arrays
    total = sums(log_forget)  # [B, H, L]
    within = between(total) + log_input[..., None, :]
    last = total[..., -1]
    at_end = last[..., None] - total + log_input
    after = hidden(_largest(before + last, ops.max(at_end, axis=-1)))
    reads = total + before[..., None]
    each = hidden(_largest(reads, ops.max(within, axis=-1)))
    log = LogWeights(
        within - each[..., None],
        reads - each,
        at_end - after[..., None],
        last + before - after,
    )
    y, state = weighted(q, k, _with_ones(v), LogWeights(*(grouped(x, q.shape[1]) for x in log)), state)
    return _normalized(y, each), (state, after)


def _with_ones(v):
    return ops.concatenate([v, ops.ones_like(v[..., :1])], axis=-1)


def _normalized(y, stabilizer):
    read, sum_read = y[..., :-1], y[..., -1:]
    # Less is lost in rounding beside weights of up to one, and a query of zeros divides zero by this.
    least = ops.exp(-ops.where(stabilizer < _MOST, stabilizer, ops.cast(_MOST, y.dtype)))[..., None]
    size = ops.abs(sum_read)
    return read / ops.where(size > least, size, least)


def _largest(x, y):
    """Of two numbers and zero; `ops.maximum` makes float32 of float64 on torch."""
    larger = ops.where(x > y, x, y)
    return ops.where(larger > 0, larger, ops.zeros_like(larger))
