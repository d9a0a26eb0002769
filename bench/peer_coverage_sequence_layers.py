"""Keras models in google/sequence-layers on jax, where they are chains of what it has."""

import coverage_chain
import jax
import jax.numpy as jnp
import keras
import numpy as np
import sequence_layers.jax as sl

# The padding of sequence-layers that steps and gives what Keras's gives, and invalid outputs behind.
PADDING = {"causal": "causal", "valid": "reverse_causal_valid"}


def stream(model):
    """`push(frames) -> frames`, `flush()`, and how many frames it takes at a time."""
    layers = coverage_chain.layers_of(model)
    layer = sl.Serial.Config([config(part, f"part{i}") for i, part in enumerate(layers)]).make()
    channels = (model.input.shape[-1],)
    size = layer.block_size
    x = sl.Sequence.from_values(jnp.zeros((1, 8 * size, *channels)))
    shapes = jax.eval_shape(lambda key: layer.init(key, x, training=False), jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(lambda path, leaf: weight(layers, path, leaf), shapes)
    spec = sl.ShapeDType(channels, jnp.float32)
    state = layer.apply(params, 1, spec, training=False, method=layer.get_initial_state)
    late = [layer.output_latency]

    @jax.jit
    def step(x, mask, state):
        y, state = layer.apply(params, sl.Sequence(x, mask), state, training=False, method=layer.step)
        return y.values, y.mask, state

    def run(x, valid):
        nonlocal state
        values, mask, state = step(x, np.full(x.shape[:2], valid), state)
        values, mask = np.array(values), np.array(mask)
        skipped = min(late[0], values.shape[1])
        late[0] -= skipped
        return values[:, skipped:][:, mask[0, skipped:]]

    def flush():
        blocks = -(-layer.input_latency // size)
        parts = [run(np.zeros((1, size, *channels), "float32"), False) for _ in range(blocks)]
        return np.concatenate(parts, axis=1) if parts else None

    return lambda x: run(x, True), flush, size


def config(layer, name):
    """What does the same in sequence-layers."""
    if isinstance(layer, keras.layers.Conv1D):
        if layer.padding not in PADDING and layer.kernel_size[0] > 1:
            raise coverage_chain.has_none(layer)
        return sl.Conv1D.Config(
            layer.filters,
            layer.kernel_size[0],
            layer.strides[0],
            layer.dilation_rate[0],
            PADDING.get(layer.padding, "causal"),
            activation=layer.activation,
            use_bias=layer.use_bias,
            name=name,
        )
    if isinstance(layer, keras.layers.LSTM):
        return sl.LSTM.Config(layer.units, name=name)
    for kind, twin in (
        (keras.layers.MaxPooling1D, sl.MaxPooling1D),
        (keras.layers.AveragePooling1D, sl.AveragePooling1D),
    ):
        if isinstance(layer, kind):
            if layer.padding != "valid":
                raise coverage_chain.has_none(layer)
            return twin.Config(layer.pool_size[0], layer.strides[0], padding=PADDING["valid"], name=name)
    if isinstance(layer, coverage_chain.STEPWISE):
        return sl.Lambda.Config(lambda values: layer(values), name=name)
    raise coverage_chain.has_none(layer)


def weight(layers, path, leaf):
    """The Keras layer's weight for a parameter."""
    keys = [key.key for key in path if hasattr(key, "key")]
    number = next(int(key.removeprefix("part")) for key in keys if key.startswith("part"))
    layer = layers[number]
    names = {w.name: w for w in layer.weights}
    made = np.array(keras.ops.convert_to_numpy(names[keys[-1]]))
    return jnp.asarray(made.reshape(leaf.shape))
