"""Which of twenty ordinary Keras models a system streams, how far off it is, and what a step takes, on the processor.

    python bench/bench_coverage.py [--quick] [--json] [--only "wavenet"] [--systems "kseq*"]

The models are those of `stock_models.py`, of Keras's own layers with random weights, at batch 1 on one thread
(`threads.py`). `streams` is 1 where all outputs, pushed frame by frame, are within 1e-4 of those of the whole sequence,
else 0; `max_error` is the largest difference, which is missing where the outputs are of another number; `step_us` is
the time of one pushed frame, of what streams. `keras stateful` is the same model with `stateful=True` in its recurrent
layers, called frame by frame, on torch.
"""

import threads
from harness import Bench, System, median_us

STEPS, TOLERANCE = 48, 1e-4
MODELS = (
    *("wavenet", "separable", "strided", "pooled", "transformer", "llama", "nested", "cells", "same", "image"),
    *("masked", "unet", "unpadded", "vocoder", "video", "shared", "spectral", "binned", "normalized", "branches"),
)
SYSTEMS = [
    System("kseq[jax]", threads.KSEQ["jax"], ("kseq", "keras", "jax", "jaxlib")),
    System("kseq[tensorflow]", threads.KSEQ["tensorflow"], ("kseq", "keras", "tensorflow")),
    System("kseq[torch]", threads.KSEQ["torch"], ("kseq", "keras", "torch")),
    System("keras stateful", threads.KSEQ["torch"], ("keras", "torch")),
]


def of_kseq(model):
    """`push(frame)` and `flush()` of a stream of the model."""
    import kseq

    stream = kseq.Stream(model)
    return stream.push, stream.flush


def stateful(model):
    """The same of the model whose recurrent layers keep their states, which has nothing to flush."""
    import keras

    def again(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.RNN):
            config["stateful"] = True
        return type(layer).from_config(config)

    x = keras.Input(batch_shape=(1, None, model.input.shape[-1]))
    made = keras.models.clone_model(model, input_tensors=x, clone_function=again)
    made.set_weights(model.get_weights())
    return (lambda frame: keras.ops.convert_to_numpy(made(frame))), None


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
    push, flush = (of_kseq if system.startswith("kseq") else stateful)(model)
    # Copies: on the processor an array may share the memory of the next step's.
    parts = [np.array(push(x[:, t : t + 1])) for t in range(STEPS)]
    found = np.concatenate(parts if flush is None else [*parts, flush()], axis=1)
    if found.shape != wanted.shape:
        return lambda: {"streams": 0}
    error = float(np.abs(found - wanted).max())
    if not error < TOLERANCE:
        return lambda: {"streams": 0, "max_error": error}
    push, _ = (of_kseq if system.startswith("kseq") else stateful)(model)  # not what has been flushed
    frame, count = x[:, :1], 100 if quick else 300
    return lambda: {"streams": 1, "max_error": error, "step_us": median_us(lambda: push(frame), count)}


def main():
    metrics = {"streams": "higher", "max_error": "lower", "step_us": "lower"}
    Bench("coverage", prepare, cases=MODELS, systems=SYSTEMS, metrics=metrics, baseline="kseq[jax]").main()


if __name__ == "__main__":
    main()
