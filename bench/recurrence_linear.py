"""Linear recurrences of vectors for the recurrence bench: the layers, and the RG-LRU of the libraries that have one.

`MODELS` has for each recurrence what the table of `recurrence_models.py` asks for: tasks with their sizes, what makes
the kseq layer, and by system what makes `(forward, weights)` with the same weights. What results are held to is the
layer's own step, one at a time.
"""

UNITS, HEADS = 256, 4
WHOLE = tuple(f"{task}/B={batch}/T=2000" for batch in (1, 8) for task in ("forward", "train"))


def rg_lru():
    import kseq

    return _moved(lambda: kseq.RGLRU(UNITS, num_heads=HEADS))


def complex_rg_lru():
    import kseq

    return _moved(lambda: kseq.RGLRU(UNITS, num_heads=HEADS, only_real=False))


def min_gru():
    import kseq

    return _moved(lambda: kseq.MinGRU(UNITS))


def min_lstm():
    import kseq

    return _moved(lambda: kseq.MinLSTM(UNITS))


def s4d():
    import kseq

    return _moved(lambda: kseq.S4D(state_dim=64))


def s5():
    import kseq

    return _moved(lambda: kseq.S5(state_dim=UNITS))


def rg_lru_of_recurrentgemma(make=rg_lru):
    """Its layer without a state before the sequence, where its complex numbers are complex."""
    import jax.numpy as jnp
    from recurrentgemma.jax import layers

    ours = make()
    theirs = layers.RGLRU(width=UNITS, num_heads=HEADS, only_real=ours.only_real)
    parameters = _nested(ours, {"kernel": "w", "bias": "b"})

    def forward(parameters, x):
        positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
        return theirs.apply({"params": parameters}, x, positions, return_cache=False)[0]

    return forward, parameters


def complex_rg_lru_of_recurrentgemma():
    return rg_lru_of_recurrentgemma(complex_rg_lru)


def rg_lru_of_sequence_layers():
    import jax.numpy as jnp
    import sequence_layers.jax as sl

    layer = sl.RGLRU.Config(units=UNITS, num_heads=HEADS).make()

    def forward(parameters, x):
        sequence = sl.Sequence(x, jnp.ones(x.shape[:2], bool))
        return layer.apply({"params": parameters}, sequence, training=False, method=layer.layer).values

    return forward, _nested(rg_lru(), {"kernel": "kernel", "bias": "bias"})


def _moved(make):
    """A layer, built, with weights that differ a little from those at the start, the same ones each time."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(4)  # of the initializers, who are made with the layer
    rng, layer = np.random.default_rng(4), make()
    layer.build((None, None, UNITS))
    layer.set_weights([w + 0.05 * rng.standard_normal(w.shape).astype("float32") for w in layer.get_weights()])
    return layer


def _nested(layer, names):
    """Weights by name, those of the gates in a tree of their own; `names` are of their kernels and biases."""
    import jax.numpy as jnp

    found = {}
    for variable in layer.weights:
        gate, _, part = variable.name.rpartition("_")
        place = found.setdefault(gate, {}) if part in names else found
        place[names.get(part, variable.name)] = jnp.asarray(variable.value)
    return found


MODELS = {
    "rg_lru": {
        "tasks": WHOLE,
        "layer": rg_lru,
        "peers": {"recurrentgemma": rg_lru_of_recurrentgemma, "sequence-layers": rg_lru_of_sequence_layers},
    },
    "complex_rg_lru": {
        "tasks": WHOLE[:2],
        "layer": complex_rg_lru,
        "peers": {"recurrentgemma": complex_rg_lru_of_recurrentgemma},
    },
    "s4d": {"tasks": WHOLE[:2], "layer": s4d},
    "s5": {"tasks": WHOLE, "layer": s5},
    "min_gru": {"tasks": WHOLE[:2], "layer": min_gru},
    "min_lstm": {"tasks": WHOLE[:2], "layer": min_lstm},
}
