"""Products of one row with several constant matrices are one product in a compiled step, on jax."""

import keras
import numpy as np
import pytest

import kseq
from kseq.streaming.products import merged

if keras.backend.backend() != "jax":
    pytest.skip("of jax's programs", allow_module_level=True)

import jax
import jax.numpy as jnp


def normal(*shape, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def products_of(fn, *arguments):
    """Shapes of the matrices of all products."""
    found = jax.make_jaxpr(fn)(*arguments).jaxpr.eqns
    return [e.invars[1].aval.shape for e in found if e.primitive.name == "dot_general"]


A, B, C = normal(4, 2), normal(4, 3, 2, seed=1), normal(4, 5, seed=2)


def mixed(x):
    y = x @ A
    z = jnp.tanh(x) @ C  # another input
    return {"y": y, "rest": (x @ jnp.reshape(B, (4, 6)), z @ C.T, y.sum() * 2.0, x @ A, C)}


@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 4), (4,)])
def test_products_of_one_row_are_one_product(shape):
    x = normal(*shape)
    assert products_of(merged(mixed), x) == [(4, 10), (4, 5), (5, 4)]
    expected, found = mixed(x), jax.jit(merged(mixed))(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), expected, found)


@pytest.mark.parametrize("shape", [(2, 4), (2, 1, 4), (0, 4)])
def test_products_of_more_rows_stay(shape):
    assert len(products_of(merged(mixed), normal(*shape))) == 5
    jax.tree.map(np.testing.assert_array_equal, mixed(normal(*shape)), merged(mixed)(normal(*shape)))


def test_what_is_not_alike_stays():
    half = normal(4, 2, dtype="bfloat16")

    def fn(x, given):
        narrow = x.astype("bfloat16")
        kept = x @ A, narrow @ half, x @ given, A.T @ x.T, jnp.matmul(x, C, precision="highest")
        return *kept, jnp.einsum("bc,cde->bde", x, B)

    x, given = normal(1, 4), normal(4, 2)
    assert len(products_of(merged(fn), x, given)) == 6
    for a, b in zip(fn(x, given), merged(fn)(x, given), strict=True):
        np.testing.assert_array_equal(a, b)


def test_effects_and_functions_of_functions_stay():
    seen = []

    def fn(x, flag):
        jax.debug.callback(seen.append, x.sum())
        y = jax.lax.cond(flag, lambda x: x @ A, lambda x: x @ A + 1, x)
        return jax.jit(lambda x: x @ A)(x) + y, jnp.where(flag, x @ A, x @ (2 * A)), jax.nn.gelu(x)

    for flag in (True, False):
        for a, b in zip(fn(normal(1, 4), flag), jax.jit(merged(fn))(normal(1, 4), flag), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.effects_barrier()
    assert len(seen) == 4


def test_a_stream_of_attention_and_gates():
    layer = kseq.Serial(
        [
            kseq.LocalSelfAttention(num_heads=2, key_dim=2, max_past_horizon=2, rope_wavelength=10.0),
            kseq.Parallel([kseq.Dense(3, activation="gelu"), kseq.Dense(3)], combination="product"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(1, 7, 4)).astype("float32")
    whole = np.asarray(layer(x))
    stream = kseq.Stream(layer)
    y = np.concatenate([stream.push(x[:, t : t + 1]) for t in range(7)], axis=1)
    np.testing.assert_allclose(y, whole, rtol=1e-4, atol=1e-5)
