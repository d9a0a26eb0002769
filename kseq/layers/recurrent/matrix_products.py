"""The products of `matrix_scan.py`: of a chunk's queries, keys, values and decays, how it reads and what it adds.

Arrays are queries and keys [B, T, G, K], values [B, T, H, V], logarithms of decays [B, T, H] or [B, T, H, K], and
states [B, H, K, V]. Heads come in G groups that share their queries and keys, one after the other. Where a key is zero
and its decay is one (a logarithm of zero) the state stays what it was: so are invalid steps.

Decays are sums of logarithms, and every exponent that is taken is a sum over steps between two, never above zero: what
is forgotten becomes zero, and nothing overflows.
"""

from typing import Any, NamedTuple

from keras import ops

from ...hints import barrier, is_exporting
from .matrix_scan import MatrixChunks, chunk_size, in_chunks, in_time, scan_chunks

#: Steps in a chunk: its products are of matrices of this size.
SIZE = 64
#: Steps whose keys decay each by itself that are compared one by one.
_FEW = 4
#: What a step forgets at most, as a logarithm. Less than the rounding of anything that is added afterwards, and sums of
#: many such steps leave digits to the others.
_LEAST = -50.0
#: The logarithm of zero.
_NEVER = -1e30


class LogWeights(NamedTuple):
    """Logarithms of what is multiplied, [n, B, G, R, ...]: of the steps of a chunk, and of the state before it.

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
    of_keys = len(log_decay.shape) == 4
    size = chunk_size(q.shape[1], SIZE)
    q, k, v, log_decay, steps = *(in_chunks(x, size) for x in (q, k, v, log_decay)), ops.shape(q)[1]
    total = sums(log_decay)
    if of_keys:
        chunks = _decayed_by_keys(q, k, v, total)
    else:
        chunks = weighted(q, k, v, log_weights(grouped(total, q.shape[2])))
    y, state = scan_chunks(chunks, state)
    return in_time(y, steps), state


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
    size = chunk_size(q.shape[1], SIZE)
    q, k, v, beta, log_decay, steps = *(in_chunks(x, size) for x in (q, k, v, beta, log_decay)), ops.shape(q)[1]
    y, state = scan_chunks(_delta(q, k, v, beta, sums(log_decay)), state)
    return in_time(y, steps), state


def bounded(log_decay: Any) -> Any:
    """Logarithms of decays, none of them so low that sums of many would lose the digits of the others."""
    least = ops.cast(_LEAST, log_decay.dtype)
    return ops.where(log_decay < least, least, log_decay)


def sums(x: Any) -> Any:
    """Sums of x [n, B, H, L, ...] over the steps of a chunk up to each.

    In a few additions of all steps: `ops.cumsum` makes float32 of float64 on torch, and a product with a triangle would
    round the logarithms on what multiplies in less than float32.
    """
    shift, rest = 1, [(0, 0)] * (len(x.shape) - 4)
    while shift < x.shape[3]:
        x = x + ops.pad(x[:, :, :, :-shift], [(0, 0), (0, 0), (0, 0), (shift, 0), *rest])
        shift *= 2
    return x


def grouped(x: Any, groups: int) -> Any:
    """x [n, B, H, ...] as [n, B, G, R, ...]."""
    number, batch = ops.shape(x)[:2]
    return ops.reshape(x, (number, batch, groups, x.shape[2] // groups, *x.shape[3:]))


def ungrouped(x: Any) -> Any:
    """x [n, B, G, R, ...] as [n, B, H, ...]."""
    number, batch = ops.shape(x)[:2]
    return ops.reshape(x, (number, batch, x.shape[2] * x.shape[3], *x.shape[4:]))


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


def weighted(q: Any, k: Any, v: Any, log: LogWeights) -> MatrixChunks:
    """Chunks of q and k [n, B, G, L, K] and v [n, B, H, L, V], by weights of the heads of each group."""
    groups, keys = q.shape[2], q.shape[4]
    scores = _of_heads(ops.einsum("nbgik,nbgjk->nbgij", q, k), log.within) * barrier(ops.exp(log.within))
    reads = _of_heads(q, log.within) * ops.exp(log.reads)[..., None]
    update = ops.einsum("nbgjk,nbgrjv->nbgrkv", k, ops.exp(log.writes)[..., None] * grouped(v, groups))
    transition = ops.repeat(ops.exp(log.across)[..., None, None], keys, axis=-2)
    return MatrixChunks(ungrouped(transition), ungrouped(update), _reader(ungrouped(scores), ungrouped(reads), v))


def _of_heads(x, like):
    """What a group shares, [n, B, G, ...], for each of its heads, [n, B, G, R, ...].

    Its gradient, a sum over heads, is one over arrays that are there: a compiler for processors that merges it with all
    that they are made of takes many times as long.
    """
    return barrier(ops.repeat(x[:, :, :, None], like.shape[3], axis=3))


def _reader(scores, reads, values):
    """What is read of the values of a chunk by scores [n, B, H, L, L], and of the state before by reads [.., L, K]."""

    def read(states):
        return ops.einsum("nbhij,nbhjv->nbhiv", scores, values) + ops.einsum("nbhik,nbhkv->nbhiv", reads, states)

    return read


def _decayed_by_keys(q, k, v, total):
    """Chunks whose keys decay each by itself: q, k and total [n, B, H, L, K], v [n, B, H, L, V]."""
    local = ops.reshape(_local(*(ops.reshape(x, (-1, *x.shape[3:])) for x in (q, k, v, total))), ops.shape(v))
    last = total[:, :, :, -1:]
    update = ops.einsum("nbhjk,nbhjv->nbhkv", k * ops.exp(last - total), v)

    def read(states):
        return local + ops.einsum("nbhik,nbhkv->nbhiv", q * ops.exp(total), states)

    return MatrixChunks(ops.swapaxes(ops.exp(last), -1, -2), update, read)


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


def _delta(q, k, v, beta, total):
    """Chunks of the delta rule: q and k [n, B, H, L, K], v [n, B, H, L, V], beta and total [n, B, H, L].

    What step i writes, u_i = beta_i (v_i - what the state has under k_i), depends on what those before it wrote: in all
    a triangular system of equations, solved for what is written where the state is zero, and for what less is written
    because of the state ("WY form").
    """
    size, keys, columns = q.shape[3], q.shape[4], v.shape[4]
    decay = ops.exp(between(total))
    steps = ops.arange(size)
    earlier = ops.cast(steps[:, None] > steps[None, :], decay.dtype)
    from_before = ops.exp(total)[..., None]
    system = ops.einsum("nbhik,nbhjk->nbhij", k, k) * decay * earlier * beta[..., None]
    wanted = ops.concatenate([v, from_before * k], axis=-1) * beta[..., None]
    solved = _solved(system, wanted)
    new, replaced = solved[..., :columns], solved[..., columns:]
    scores = ops.einsum("nbhik,nbhjk->nbhij", q, k) * decay
    writes = ops.exp(total[..., -1:] - total)[..., None] * k
    last = ops.exp(total[..., -1])[..., None, None]
    transition = last * ops.eye(keys, dtype=decay.dtype) - ops.einsum("nbhjk,nbhjm->nbhkm", writes, replaced)
    update = ops.einsum("nbhjk,nbhjv->nbhkv", writes, new)
    reads = from_before * q - ops.einsum("nbhij,nbhjk->nbhik", scores, replaced)
    return MatrixChunks(transition, update, _reader(scores, reads, new))


def _solved(below, wanted):
    """What `x + below @ x` is `wanted` of, with matrices that are zero from their diagonals on."""
    size = below.shape[-1]
    if not is_exporting():
        return ops.solve_triangular(below + ops.eye(size, dtype=below.dtype), wanted, lower=True)
    # Other runtimes multiply: the sum of all powers of `-below`, of which the one of `size` is zero, by its factors.
    power = -below
    for _ in range(max(size - 1, 0).bit_length()):
        wanted, power = wanted + ops.matmul(power, wanted), ops.matmul(power, power)
    return wanted
