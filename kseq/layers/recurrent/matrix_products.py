"""The products of `matrix_scan.py`: of a chunk's queries, keys, values and decays, what it reads and the state after.

Arrays are queries and keys [B, T, G, K], values [B, T, H, V], logarithms of decays [B, T, H] or [B, T, H, K], and
states [B, H, K, V]. Heads come in G groups that share their queries and keys, one after the other. Where a key is zero
and its decay is one (a logarithm of zero) the state stays what it was: so are invalid steps.

Decays are sums of logarithms, and every exponent that is taken is a sum over steps between two, never above zero: what
is forgotten becomes zero, and nothing overflows.
"""

from typing import Any, NamedTuple

from keras import ops

from ...hints import barrier, is_exporting
from ...padding import sums_so_far
from .matrix_scan import scan_chunks

#: Steps whose keys decay each by itself that are compared one by one.
_FEW = 4
#: What a step forgets at most, as a logarithm. Less than the rounding of anything that is added afterwards, and sums of
#: many such steps leave digits to the others.
_LEAST = -50.0
#: The logarithm of zero.
_NEVER = -1e30


class LogWeights(NamedTuple):
    """Logarithms of what is multiplied, [B, G, R, ...]: of the steps of a chunk, and of the state before it.

    Attributes:
        within: what each step reads of each before it and of itself, [..., L, L].
        reads: what each step reads of the state, [..., L].
        writes: what remains of each step at the end, [..., L].
        across: what remains of the state at the end, [...].
    """

    within: Any
    reads: Any
    writes: Any
    across: Any


def scan_decayed(q: Any, k: Any, v: Any, log_decay: Any, state: Any) -> tuple[Any, Any]:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T and y_t = S_t^T q_t; outputs [B, T, H, V] and the last state.

    A decay is that of a head, [B, T, H], or, where every head has queries and keys of its own, of its keys each.
    """
    log_decay = bounded(log_decay)
    if q.shape[1] == 1:
        decay = ops.exp(log_decay[:, 0])
        decay = decay[..., None, None] if len(decay.shape) == 2 else decay[..., None]
        return one_step(q, k, v, decay, state)
    return scan_chunks(_by_keys if len(log_decay.shape) == 4 else _by_heads, state, q, k, v, log_decay)


def _by_heads(state, arrays):
    q, k, v, log_decay = arrays
    return weighted(q, k, v, log_weights(grouped(sums(log_decay), q.shape[1])), state)


def one_step(q: Any, k: Any, v: Any, decay: Any, state: Any) -> tuple[Any, Any]:
    """The recurrence for one step, with a decay that is broadcast to the state."""
    heads = v.shape[2]
    q, k = (ops.repeat(x[:, 0], heads // x.shape[2], axis=1) for x in (q, k))
    state = decay * state + k[..., None] * v[:, 0, :, None, :]
    return ops.einsum("bhk,bhkv->bhv", q, state)[:, None], state


def scan_delta(q: Any, k: Any, v: Any, beta: Any, log_decay: Any, state: Any) -> tuple[Any, Any]:
    """The gated delta rule: S_t = a_t (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, with a_t = exp(log_decay_t).

    What is written under a key takes the place of what the state has there, by `beta` [B, T, H].
    """
    log_decay = bounded(log_decay)
    if q.shape[1] == 1:
        key, state = k[:, 0], ops.exp(log_decay[:, 0])[..., None, None] * state
        new = beta[:, 0, :, None] * (v[:, 0] - ops.einsum("bhk,bhkv->bhv", key, state))
        state = state + key[..., None] * new[:, :, None, :]
        return ops.einsum("bhk,bhkv->bhv", q[:, 0], state)[:, None], state
    return scan_chunks(_delta, state, q, k, v, beta, log_decay)


def bounded(log_decay: Any) -> Any:
    """Logarithms of decays, none of them so low that sums of many would lose the digits of the others."""
    least = ops.cast(_LEAST, log_decay.dtype)
    return ops.where(log_decay < least, least, log_decay)


def sums(x: Any) -> Any:
    """Sums of x [B, H, L, ...] over the steps of a chunk up to each.

    Not by `ops.cumsum`, which makes float32 of float64 on torch, nor by a product with a triangle, which would round
    the logarithms on what multiplies in less than float32.
    """
    return sums_so_far(x, 2)


def grouped(x: Any, groups: int) -> Any:
    """x [B, H, ...] as [B, G, R, ...]."""
    return ops.reshape(x, (ops.shape(x)[0], groups, x.shape[1] // groups, *x.shape[2:]))


def ungrouped(x: Any) -> Any:
    """x [B, G, R, ...] as [B, H, ...]."""
    return ops.reshape(x, (ops.shape(x)[0], x.shape[1] * x.shape[2], *x.shape[3:]))


def between(total: Any) -> Any:
    """Of sums up to each step, [..., L], those over the steps after j up to i, [..., L, L]; none where j > i."""
    size = total.shape[-1]
    steps = ops.arange(size)
    return ops.where(
        steps[:, None] >= steps[None, :],
        total[..., :, None] - total[..., None, :],
        ops.cast(_NEVER, total.dtype),
    )


def log_weights(total: Any) -> LogWeights:
    """The weights of steps that decay alone, of sums of their logarithms [..., L]."""
    last = total[..., -1]
    return LogWeights(between(total), total, last[..., None] - total, last)


def weighted(q: Any, k: Any, v: Any, log: LogWeights, state: Any) -> tuple[Any, Any]:
    """What a chunk reads, and the state after, of q and k [B, G, L, K] and v [B, H, L, V], by weights of the heads."""
    groups = q.shape[1]
    scores = _of_heads(ops.einsum("bgik,bgjk->bgij", q, k), log.within) * barrier(ops.exp(log.within))
    reads = _of_heads(q, log.within) * ops.exp(log.reads)[..., None]
    y = _read(ungrouped(scores), v, ungrouped(reads), state)
    update = ops.einsum("bgjk,bgrjv->bgrkv", k, ops.exp(log.writes)[..., None] * grouped(v, groups))
    return y, ungrouped(ops.exp(log.across)[..., None, None] * grouped(state, groups) + update)


def _of_heads(x, like):
    """What a group shares, [B, G, ...], for each of its heads, [B, G, R, ...].

    Its gradient, a sum over heads, is one over arrays that are there: a compiler for processors that merges it with all
    that they are made of takes many times as long.
    """
    return barrier(ops.repeat(x[:, :, None], like.shape[2], axis=2))


def _read(scores, values, reads, state):
    """What is read of the values of a chunk by scores [B, H, L, L], and of the state before by reads [B, H, L, K]."""
    return ops.einsum("bhij,bhjv->bhiv", scores, values) + ops.einsum("bhik,bhkv->bhiv", reads, state)


def _by_keys(state, arrays):
    """Keys that decay each by itself: q, k and logarithms [B, H, L, K], v [B, H, L, V]."""
    q, k, v, log_decay = arrays
    total = sums(log_decay)
    local = ops.reshape(_local(*(ops.reshape(x, (-1, *x.shape[2:])) for x in (q, k, v, total))), ops.shape(v))
    last = total[:, :, -1:]
    y = local + ops.einsum("bhik,bhkv->bhiv", q * ops.exp(total), state)
    update = ops.einsum("bhjk,bhjv->bhkv", k * ops.exp(last - total), v)
    return y, ops.swapaxes(ops.exp(last), -1, -2) * state + update


def _local(q, k, v, total):
    """What steps read of those before them and of themselves: of each half its own, and of the second the first's.

    Between the halves decays are products of what is lost before and after the middle; both are at most one.
    """
    size = q.shape[-2]
    if size <= _FEW:
        steps = ops.arange(size)
        seen = (steps[:, None] >= steps[None, :])[..., None]
        log = ops.where(seen, total[:, :, None] - total[:, None], ops.cast(_NEVER, total.dtype))
        scores = ops.sum(q[:, :, None] * k[:, None] * ops.exp(log), axis=-1)
        return ops.einsum("nij,njv->niv", scores, v)
    half = size // 2
    own = _local(*(ops.reshape(x, (-1, half, x.shape[-1])) for x in (q, k, v, total)))
    first, second = slice(None, half), slice(half, None)
    before, after = total[:, first], total[:, second]
    middle = before[:, -1:]
    scores = ops.einsum("nik,njk->nij", q[:, second] * ops.exp(after - middle), k[:, first] * ops.exp(middle - before))
    own = ops.reshape(own, ops.shape(v))
    later = own[:, second] + ops.einsum("nij,njv->niv", scores, v[:, first])
    return ops.concatenate([own[:, first], later], axis=1)


def _delta(state, arrays):
    """The delta rule: q and k [B, H, L, K], v [B, H, L, V], beta and logarithms of decays [B, H, L].

    What step i writes, u_i = beta_i (v_i - what the state has under k_i), depends on what those before it wrote: in all
    a triangular system of equations.
    """
    q, k, v, beta, log_decay = arrays
    total = sums(log_decay)
    decay = ops.exp(between(total))
    steps = ops.arange(q.shape[2])
    earlier = ops.cast(steps[:, None] > steps[None, :], decay.dtype)
    system = ops.einsum("bhik,bhjk->bhij", k, k) * decay * earlier * beta[..., None]
    from_before = ops.exp(total)[..., None]
    wanted = v - ops.einsum("bhik,bhkv->bhiv", from_before * k, state)
    new = _solved(system, wanted * beta[..., None])
    y = _read(ops.einsum("bhik,bhjk->bhij", q, k) * decay, new, from_before * q, state)
    update = ops.einsum("bhjk,bhjv->bhkv", ops.exp(total[..., -1:] - total)[..., None] * k, new)
    return y, ops.exp(total[..., -1])[..., None, None] * state + update


def _solved(below, wanted):
    """What `x + below @ x` is `wanted` of, with matrices that are zero from their diagonals on."""
    if not is_exporting():
        return ops.solve_triangular(below + ops.eye(below.shape[-1], dtype=below.dtype), wanted, lower=True)
    return _substituted(below, wanted)  # other runtimes multiply


def _substituted(below, wanted):
    """The same by halves: the second is solved once what the first makes of it is taken away."""
    half = below.shape[-1] // 2
    if half == 0:
        return wanted
    first = _substituted(below[..., :half, :half], wanted[..., :half, :])
    rest = wanted[..., half:, :] - ops.matmul(below[..., half:, :half], first)
    return ops.concatenate([first, _substituted(below[..., half:, half:], rest)], axis=-2)
