"""Milliseconds over whole sequences: forward and training step of layers and models at B=8, T=1000, on jax.

    python bench/bench_layers.py [--quick] [--json] [--only "B/*"] [--systems "kseq*"]

A, B and C are the models of the step bench (A: five causal convolutions), `stft` frames of 64 every 16 steps, `audio`
frames of 400 every 160 steps of two seconds, `pair` a strided convolution and the transposed one that undoes its
stride. `A/step` is one step of A at B=1. A training step is the loss (mean square of the outputs) and its gradient by
every weight, without an optimiser. The systems share jax, the weights and one thread (`threads.py`), so that the
figures compare the libraries alone. Outputs are checked against the float64 reference before timing, gradients through
its derivative along the weights. `sequence-layers` uses the faster of two attention blocks; `keras` is stock Keras
layers where there are any.
"""

import statistics
import time

import threads
from harness import Bench, System, Unavailable, median_us

BATCH, STEPS = 8, 1000
MODELS = "A", "B", "C", "stft", "audio", "pair"
SYSTEMS = [
    System("kseq[jax]", threads.KSEQ["jax"], ("kseq", "keras", "jax", "jaxlib")),
    System("sequence-layers", threads.JAX, ("sequence-layers", "jax", "jaxlib")),
    System("keras", threads.KSEQ["jax"], ("keras", "jax", "jaxlib")),
]


def candidates(system, model):
    """`(forward, weights)` pairs of a system; `forward(weights, x) -> y` is pure."""
    import layer_models

    if model in layer_models.SHAPES:
        if system == "keras":
            raise Unavailable("Keras has no causal one")
        return [layer_models.ours(model, pure) if system.startswith("kseq") else layer_models.theirs(model)]
    if system == "sequence-layers":
        import peer_sequence_layers

        blocks = (64, 128) if model == "C" else (128,)
        return [peer_sequence_layers.layer_mode(model, block_size) for block_size in blocks]
    if system == "keras":
        return [pure(stock(model))]
    import peer_kseq

    return [pure(peer_kseq.build(model))]


def pure(layer):
    """A built Keras layer as a pure function and its weights."""
    fixed = [v.value for v in layer.non_trainable_variables]

    def forward(weights, x):
        return layer.stateless_call(weights, fixed, x)[0]

    return forward, [v.value for v in layer.trainable_variables]


def stock(model):
    """The model made of Keras's own layers."""
    import keras
    import models

    if model == "C":
        raise Unavailable("Keras has no local attention, RoPE or gated unit layer")
    d = models.CHANNELS[model]
    if model == "A":
        layers = [keras.layers.Conv1D(d, models.KERNEL, padding="causal", activation="relu") for _ in range(5)]
    else:
        layers = [keras.layers.LSTM(d, return_sequences=True) for _ in range(2)]
    network = keras.Sequential([keras.Input((None, d)), *layers])
    for layer, weights in zip(layers, models.weights(model), strict=True):
        layer.set_weights(list(weights.values()))
    return network


def compile_call(forward, weights, x, task):
    """The jitted task as a function without arguments that waits for its result."""
    import jax
    import jax.numpy as jnp

    def loss(weights, x):
        return jnp.mean(jnp.square(jnp.abs(forward(weights, x))))

    # What has no weights is trained through.
    function = jax.jit(forward if task == "forward" else jax.value_and_grad(loss, 0 if weights else 1))
    return lambda: jax.block_until_ready(function(weights, x))


def check(model, task, result, weights, x):
    """Raise if the outputs, or the gradient along the weights themselves, are not the reference's."""
    import jax
    import layer_models
    import models
    import numpy as np

    def reference(x, scale=1.0):
        if model in layer_models.SHAPES:
            return layer_models.reference(model, x, scale)
        return models.reference(model, x, scale=scale)

    if task == "forward":
        models.check(model, np.asarray(result[:1]), reference(x[:1]))
        return
    along = weights if weights else x  # without weights the input is scaled, and not they
    products = jax.tree.map(lambda w, g: np.vdot(np.float64(w), np.float64(g)), along, result[1])
    got = sum(jax.tree.leaves(products))  # d loss(a * weights) / da at a = 1
    a = 1e-4
    scaled = {True: lambda s: reference(x, scale=s), False: lambda s: reference(x * s)}[bool(weights)]
    high, low = (np.mean(np.abs(scaled(1 + sign * a)) ** 2) for sign in (1, -1))
    want = (high - low) / (2 * a)
    if not abs(got - want) < 1e-3 * abs(want):
        raise ValueError(f"model {model}: derivative along the weights {got:.6g}, reference {want:.6g}")


def prepare(system, case, quick):
    """The task of a case, or the step."""
    model, task = case.split("/")
    if task == "step":
        return prepare_step(system, model, quick)
    return prepare_task(candidates(system, model), model, task, BATCH, quick)


def prepare_task(candidates, model, task, batch, quick):
    """Compile the candidates' task, check its result, choose the fastest."""
    import jax
    import layer_models
    import models

    x = layer_models.signal(model, batch) if model in layer_models.SHAPES else models.frames(model, batch, STEPS)
    on_device = jax.device_put(x)
    tried = []
    for forward, weights in candidates:
        call = compile_call(forward, weights, on_device, task)
        check(model, task, call(), weights, x)
        tried.append((milliseconds(call), call))
    return rounds_of(*min(tried, key=lambda pair: pair[0]), quick)


def rounds_of(first, call, quick):
    """What times a call that took `first` milliseconds, a fifth of a second or one second a round."""
    repeats = int(min(max((200 if quick else 1000) / first, 1), 20))
    return lambda: {"ms": statistics.median(milliseconds(call) for _ in range(repeats))}


def prepare_step(system, model, quick):
    """One step of one frame, NumPy to NumPy."""
    import models

    if system == "keras":
        raise Unavailable("Keras's layers have no step")
    if system == "sequence-layers":
        import peer_sequence_layers as peer
    else:
        import peer_kseq as peer
    step = peer.step(model, 1)
    frame = models.frames(model, 1, 1)
    return lambda: {"ms": median_us(lambda: step(frame), 300 if quick else 2000) / 1e3}


def milliseconds(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def main():
    bench = Bench(
        "layers",
        prepare,
        cases=[*(f"{model}/{task}" for model in MODELS for task in ("forward", "train")), "A/step"],
        systems=SYSTEMS,
        metrics={"ms": "lower"},
        baseline="sequence-layers",
        rounds=(7, 2),
    )
    bench.main()


if __name__ == "__main__":
    main()
