"""Which of twenty ordinary Keras models a system streams, how far off it is, and what a step takes, on the processor.

    python bench/bench_coverage.py [--quick] [--json] [--only "wavenet"] [--systems "kseq*"]

The models are those of `stock_models.py`, of Keras's own layers with random weights, at batch 1 on one thread
(`threads.py`). `streams` is 1 where all outputs that come, pushed frame by frame, are within 1e-4 of those of the whole
sequence, else 0; `max_error` is the largest difference; `missing` is how many of the whole sequence's outputs do not
come, as the last ones do not where a system has no end of a stream; `step_us` is the time of eight frames, pushed one
by one, divided by their number, of what streams: a model that halves the rate computes at every other one. A system
that takes so many frames at a time and no fewer is given as many.

    tract                the model traced on torch to ONNX, by `Pulse`
    continual-inference  chains of what it has, on torch
    sequence-layers      chains of what it has, on jax
    keras stateful       the model with `stateful=True` in its recurrent layers, called frame by frame
    keras predict        the same on jax, by `predict_on_batch`, which loses the state and does not say so
"""

import threads
from harness import Bench, System, Unavailable, median_us

STEPS, TOLERANCE, PERIOD = 48, 1e-4, 8
MODELS = (
    *("wavenet", "separable", "strided", "pooled", "transformer", "llama", "nested", "cells", "same", "image"),
    *("masked", "unet", "unpadded", "vocoder", "video", "shared", "spectral", "binned", "normalized", "branches"),
)
SYSTEMS = [
    System("kseq[jax]", threads.KSEQ["jax"], ("kseq", "keras", "jax", "jaxlib")),
    System("kseq[tensorflow]", threads.KSEQ["tensorflow"], ("kseq", "keras", "tensorflow")),
    System("kseq[torch]", threads.KSEQ["torch"], ("kseq", "keras", "torch")),
    System("tract", threads.KSEQ["torch"], ("tract", "onnx", "keras", "torch")),
    System("continual-inference", threads.KSEQ["torch"], ("continual-inference", "keras", "torch")),
    System("sequence-layers", threads.KSEQ["jax"], ("sequence-layers", "keras", "jax", "jaxlib")),
    System("keras stateful[torch]", threads.KSEQ["torch"], ("keras", "torch")),
    System("keras stateful[jax]", threads.KSEQ["jax"], ("keras", "jax", "jaxlib")),
    System("keras predict[jax]", threads.KSEQ["jax"], ("keras", "jax", "jaxlib")),
]


def of_kseq(model):
    """`push(frames)` and `flush()` of a stream of the model."""
    import kseq

    stream = kseq.Stream(model)
    return stream.push, stream.flush


def stateful(model, predicts=False):
    """A function of frames: the model whose recurrent layers keep their states, called, or by `predict_on_batch`."""
    import keras

    recurrent = []

    def again(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.RNN):
            config["stateful"] = True
            recurrent.append(layer)
        return type(layer).from_config(config)

    x = keras.Input(batch_shape=(1, None, model.input.shape[-1]))
    made = keras.models.clone_model(model, input_tensors=x, clone_function=again)
    made.set_weights(model.get_weights())
    if predicts and not recurrent:
        raise Unavailable("it has no state that could be lost")
    return made.predict_on_batch if predicts else lambda frame: keras.ops.convert_to_numpy(made(frame))


def opened(system, model, frames):
    """`push`, `flush` or `None`, how many frames it takes at a time, and how many of its first outputs are none."""
    if system.startswith("kseq"):
        return *of_kseq(model), 1, 0
    if system == "tract":
        import peer_coverage_tract

        push, size, late = peer_coverage_tract.stream(model, frames)
        return push, None, size, late
    if system == "continual-inference":
        import peer_coverage_continual

        return peer_coverage_continual.stream(model), None, 1, 0
    if system == "sequence-layers":
        import peer_coverage_sequence_layers

        return *peer_coverage_sequence_layers.stream(model), 0
    return stateful(model, system.startswith("keras predict")), None, 1, 0


def prepare(system, case, quick):
    """Compare a stream with the whole, and time its frames if they are equal."""
    import keras
    import numpy as np
    import stock_models

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
    keras.utils.set_random_seed(0)
    model = stock_models.build(next(f for f in stock_models.MODELS if f.__name__ == case))
    x = np.random.default_rng(0).normal(size=(1, STEPS, stock_models.CHANNELS)).astype("float32")
    wanted = model.predict(x, verbose=0)
    push, flush, size, late = opened(system, model, x)
    # Copies: on the processor an array may share the memory of the next step's.
    parts = [push(x[:, t : t + size]) for t in range(0, STEPS, size)]
    parts += [] if flush is None else [flush()]
    parts = [np.array(part) for part in parts if part is not None]
    if not parts:
        raise Unavailable(f"it gives nothing of {STEPS} frames")
    found = np.concatenate(parts, axis=1)[:, late:]
    missing = wanted.shape[1] - found.shape[1]
    compared = wanted[:, : found.shape[1]]
    if missing < 0 or found.shape != compared.shape:
        return lambda: {"streams": 0, "missing": missing}
    error = float(np.abs(found - compared).max())
    if not error < TOLERANCE:
        return lambda: {"streams": 0, "max_error": error, "missing": missing}
    push, flush, *_ = opened(system, model, x)  # not what has been flushed
    frames, found = x[:, :size], {"streams": 1, "max_error": error, "missing": missing}
    calls = max(PERIOD // size, 1)

    def period():
        for _ in range(calls):
            push(frames)

    # From its hundredth call on a step is a program on torch; and attention takes 1,024 steps.
    periods = (0.2e6 if quick else 1e6) / median_us(period, 2, 110 if flush else 1)
    count = int(min(max(periods, 1), 100))

    def measure():
        if flush:
            flush()
        return found | {"step_us": median_us(period, count, 1) / (calls * size)}

    return measure


def main():
    metrics = {"streams": "higher", "max_error": "lower", "missing": "lower", "step_us": "lower"}
    Bench("coverage", prepare, cases=MODELS, systems=SYSTEMS, metrics=metrics, baseline="kseq[jax]").main()


if __name__ == "__main__":
    main()
