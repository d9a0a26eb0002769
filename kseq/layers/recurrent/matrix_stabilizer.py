"""Recurrences of matrices whose inputs are weighted by exponentials of any size: the state is kept divided by one."""

from typing import Any

from keras import ops

from ..loops import scan
from .matrix_products import SIZE, LogWeights, between, bounded, grouped, one_step, sums, weighted
from .matrix_scan import chunk_size, in_chunks, in_time, scan_chunks


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
    v = ops.concatenate([v, ops.ones_like(v[..., :1])], axis=-1)
    if q.shape[1] == 1:
        kept, added = log_forget[:, 0] + stabilizer, log_input[:, 0]
        stabilizer = ops.stop_gradient(_largest(kept, added))
        weight = ops.exp(added - stabilizer)[:, None, :, None]
        y, state = one_step(q, k * weight, v, ops.exp(kept - stabilizer)[..., None, None], state)
        return _normalized(y, stabilizer[:, None]), state, stabilizer
    size = chunk_size(q.shape[1], SIZE)
    steps = ops.shape(q)[1]
    q, k, v, log_forget, log_input = (in_chunks(x, size) for x in (q, k, v, log_forget, log_input))
    total = sums(log_forget)  # [n, B, H, L]
    within = between(total) + log_input[..., None, :]
    last = total[..., -1]
    at_end = last[..., None] - total + log_input
    hidden = ops.stop_gradient
    after = _stabilizers(hidden(last), hidden(ops.max(at_end, axis=-1)), hidden(stabilizer))
    before = ops.concatenate([hidden(stabilizer)[None], after[:-1]])
    reads = total + before[..., None]
    each = hidden(_largest(reads, ops.max(within, axis=-1)))
    log = LogWeights(
        within - each[..., None],
        reads - each,
        at_end - after[..., None],
        last + before - after,
    )
    chunks = weighted(q, k, v, LogWeights(*(grouped(x, q.shape[2]) for x in log)))
    y, state = scan_chunks(chunks, state)
    return _normalized(in_time(y, steps), in_time(each, steps)), state, after[-1]


def _normalized(y, stabilizer):
    read, sum_read = y[..., :-1], y[..., -1:]
    least, size = ops.exp(-stabilizer)[..., None], ops.abs(sum_read)
    return read / ops.where(size > least, size, least)


def _largest(x, y):
    """Of two numbers and zero; `ops.maximum` makes float32 of float64 on torch."""
    larger = ops.where(x > y, x, y)
    return ops.where(larger > 0, larger, ops.zeros_like(larger))


def _stabilizers(last, at_end, start):
    """The stabilisers after each chunk [n, B, H]: what remains of the one before, the largest input, or zero."""

    def step(stabilizer, inputs):
        stabilizer = _largest(stabilizer + inputs[0], inputs[1])
        return stabilizer, stabilizer

    return scan(step, start, (last, at_end))[1]
