"""The models in google/sequence-layers on jax: a step as its documentation gives it, its best step, and layer mode."""

import functools

import jax
import jax.numpy as jnp
import models
import numpy as np
import sequence_layers.jax as sl


def config(model, ring=False, block_size=128):
    """The model's configuration; `ring` is its opt-in ring buffer, `block_size` its layer mode's attention block."""
    if model == "A":
        layers = [
            sl.Conv1D.Config(models.CHANNELS["A"], models.KERNEL, padding="causal", activation=jax.nn.relu)
            for _ in range(models.DEPTH["A"])
        ]
    elif model == "B":
        layers = [sl.LSTM.Config(models.CHANNELS["B"]) for _ in range(models.DEPTH["B"])]
    else:
        rope = sl.ApplyRotaryPositionalEncoding.Config(models.WAVELENGTH)
        attention = sl.LocalDotProductSelfAttention.Config(
            num_heads=models.HEADS,
            units_per_head=models.HEAD_DIM,
            block_size=block_size,
            max_past_horizon=models.WINDOW - 1,
            input_projection=sl.SeparateQueryKeyValueProjection(),
            query_network=rope,
            key_network=rope,
            use_kv_cache_ringbuffer=ring,
            name="attention",
        )
        d = models.CHANNELS["C"]
        output = sl.EinsumDense.Config("...hc,hcd->...d", (d,), name="output")
        gate = sl.Dense.Config(models.HIDDEN, use_bias=False, activation=jax.nn.gelu, name="gate")
        up = sl.Dense.Config(models.HIDDEN, use_bias=False, name="up")
        down = sl.Dense.Config(d, use_bias=False, name="down")
        norm1, norm2 = (sl.RMSNormalization.Config(epsilon=models.EPSILON, name=name) for name in ("norm1", "norm2"))
        product = sl.Parallel.Config([gate, up], combination=sl.CombinationMode.PRODUCT, name="product")
        layers = [
            sl.Serial.Config(
                [
                    sl.Residual.Config([norm1, attention, output], name="attend"),
                    sl.Residual.Config([norm2, product, down], name="feed"),
                ],
                name=f"block{i}",
            )
            for i in range(models.DEPTH["C"])
        ]
    return sl.Serial.Config(layers)


def build(model, **options):
    """The layer and its parameters, with the bench's weights in them."""
    layer = config(model, **options).make()
    x = sl.Sequence.from_values(jnp.zeros((1, models.WINDOW, models.CHANNELS[model])))
    shapes = jax.eval_shape(lambda key: layer.init(key, x, training=False), jax.random.key(0))
    names = iter_weights(model)

    def fill(path, leaf):
        path = "/".join(key.key for key in path if hasattr(key, "key"))
        w = names(path)
        if w.size != leaf.size:
            raise ValueError(f"{path} has shape {leaf.shape}, the bench's weight {w.shape}")
        return jnp.asarray(w.reshape(leaf.shape))

    return layer, jax.tree_util.tree_map_with_path(fill, shapes)


def iter_weights(model):
    """A function from a parameter's path to the bench's weight."""
    weights = models.weights(model)
    kinds = {  # the first part of a path that is found names the weight
        "A": ("bias", "kernel"),
        "B": ("recurrent_kernel", "bias", "kernel"),
        "C": ("norm1", "norm2", "query", "key", "value", "gate", "up/", "down", "output"),
    }[model]

    def find(path):
        digits = next(part for part in path.split("/") if part[-1:].isdigit())
        index = int("".join(c for c in digits if c.isdigit()))
        kind = next(kind for kind in kinds if kind in path)
        return weights[index][kind.replace("recurrent_kernel", "recurrent").rstrip("/")]

    return find


def step(model, batch, best=False):
    """`step(frames) -> frames`, NumPy to NumPy.

    Plain: jit of the layer's step, parameters and state as arguments, nothing donated. Best: state donated, weights
    closed over, ring buffer.
    """
    layer, params = build(model, ring=best and model == "C")
    spec = sl.ShapeDType((models.CHANNELS[model],), jnp.float32)
    state = layer.apply(params, batch, spec, training=False, method=layer.get_initial_state)
    masks = functools.cache(lambda length: np.ones((batch, length), bool))

    def apply(params, x, state):
        return layer.apply(params, x, state, training=False, method=layer.step)

    if best:
        # the attention's initial state holds one buffer twice, which cannot be donated twice
        state = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)
        call = jax.jit(lambda x, state: apply(params, x, state), donate_argnums=1)
    else:
        compiled = jax.jit(apply)

        def call(x, state):
            return compiled(params, x, state)

    def run(x):
        nonlocal state
        # NumPy goes straight into the jitted call: jnp.asarray first would add 10 us
        y, state = call(sl.Sequence(x, masks(x.shape[1])), state)
        return np.asarray(y.values)

    return run


def layer_mode(model, block_size=128):
    """`(forward, params)`: `forward(params, values [B, T, D]) -> values`, a pure function to jit."""
    layer, params = build(model, block_size=block_size)

    def forward(params, values):
        x = sl.Sequence(values, jnp.ones(values.shape[:2], bool))
        return layer.apply(params, x, training=False, method=layer.layer).values

    return forward, params
