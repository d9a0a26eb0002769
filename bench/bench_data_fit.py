"""Microseconds per step of `model.fit`: batches from a kseq store beside the same batches already in memory.

    python bench/bench_data_fit.py [--quick] [--json] [--only CASE]

`embedding[BACKEND]`: 600 batches of 64 int32 sequences padded to a few lengths, so that a few programs are compiled,
all of them before the timing. The model is tiny (embedding, mean over the valid steps, one dense unit): the step's time
is mostly what Keras and its backend need for any step. `ram` is a `PyDataset` over a list of the batches of kseq's
first epoch, the least that feeding Keras can cost; what `kseq` takes more is the price of reading, shuffling and
padding.

`small[jax]`: 15 epochs of 270 sequences of 7 to 26 steps of 12 numbers in batches of 16, through a GRU of 32, compiling
and all: what the number of shapes costs that `kseq` chooses by itself, beside one shape (`max_shapes=1`).

--quick takes 150 batches.
"""

import functools
import os
import statistics
import tempfile
import time

import threads
from harness import Bench, System

BATCH, VOCABULARY = 64, 1000
SHAPES = 16  # at most
SMALL, EPOCHS = 270, 15


@functools.cache
def folder():
    """This process's temporary folder; it goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="kseq-bench-")


def make_batches(steps):
    """Write a store of `steps` batches of sequences and their targets, and give its batches and its sum of tokens."""
    import data_common
    import numpy as np

    import kseq.data as kd

    data = data_common.make_tokens(steps * BATCH)
    data.values %= VOCABULARY
    targets = np.random.default_rng(1).standard_normal((len(data), 1)).astype(np.float32)
    path = os.path.join(folder().name, "store")
    with kd.Writer(path, {"tokens": kd.Field("int32", (None,)), "y": kd.Field("float32", (1,))}) as writer:
        for row, target in zip(data, targets, strict=True):
            writer.write({"tokens": row, "y": target})
    store = kd.open(path)
    return store.batches(batch_size=BATCH, inputs="tokens", targets="y", shuffle=True, seed=0), int(data.values.sum())


def make_model():
    import keras
    from keras import ops

    class Mean(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.dense = keras.layers.Embedding(VOCABULARY, 8), keras.layers.Dense(1)

        def call(self, inputs):
            values, mask = inputs
            weights = ops.cast(mask, "float32")[..., None]
            total = ops.sum(self.embedding(values) * weights, 1)
            return self.dense(total / ops.maximum(ops.sum(weights, 1), 1))

    model = Mean()
    model.compile("sgd", "mse")
    return model


def in_memory(batches):
    """A data set over a list of batches."""
    import keras

    class List(keras.utils.PyDataset):
        def __init__(self, batches):
            super().__init__()
            self.batches = batches

        def __len__(self):
            return len(self.batches)

        def __getitem__(self, i):
            return self.batches[i]

    return List(batches)


def prepare(system, case, quick):
    import data_common

    data_common.pin()
    if case.startswith("small"):
        return prepare_small(system)
    steps = 150 if quick else 600
    batches, total = make_batches(steps)
    # one epoch, by number as Keras asks for them: the check, and the batches of `ram`
    epoch = [batches[i] for i in range(len(batches))]
    found = sum(int(batch[0][0].sum()) for batch in epoch)
    shapes = {batch[0][0].shape for batch in epoch}
    if found != total or len(shapes) > SHAPES:
        raise ValueError(f"the batches have {len(shapes)} shapes and a sum of {found}, written was {total}")
    data = in_memory(epoch) if system.startswith("ram") else batches
    model = make_model()

    def fit():
        start = time.perf_counter()
        model.fit(data, epochs=1, verbose=0, shuffle=False)
        return (time.perf_counter() - start) / len(data) * 1e6

    for _ in range(2):  # compiles every shape
        fit()
    return lambda: {"us_per_step": statistics.median(fit() for _ in range(1 if quick else 3))}


def prepare_small(system):
    """Whole trainings of a small store: each with a model of its own, which compiles anew."""
    import keras
    import numpy as np

    import kseq.data as kd

    rng, path = np.random.default_rng(0), os.path.join(folder().name, "small")
    with kd.Writer(path, {"x": ("float32", (None, 12)), "y": "int64"}) as writer:
        for _ in range(SMALL):
            length = rng.integers(7, 27)
            writer.write({"x": rng.standard_normal((length, 12), np.float32), "y": int(rng.integers(9))})
    options = {"max_shapes": 1} if system.startswith("one shape") else {}

    def fit():
        layers = [keras.Input((None, 12)), keras.layers.GRU(32), keras.layers.Dense(9)]
        model = keras.Sequential(layers)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        batches = kd.open(path).batches(batch_size=16, inputs="x", targets="y", shuffle=True, seed=0, **options)
        start = time.perf_counter()
        history = model.fit(batches, epochs=EPOCHS, verbose=0)
        if len(history.history["loss"]) != EPOCHS:
            raise ValueError("the training ended early")
        return (time.perf_counter() - start) / (EPOCHS * len(batches)) * 1e6

    return lambda: {"us_per_step": fit()}


def has(system, case):
    kind, backend = system[:-1].split("[")
    return case.endswith(f"[{backend}]") and kind != ("ram" if case.startswith("small") else "one shape")


PACKAGES = {"jax": ("keras", "jax", "jaxlib"), "tensorflow": ("keras", "tensorflow"), "torch": ("keras", "torch")}

if __name__ == "__main__":
    Bench(
        "data_fit",
        prepare,
        cases=[*(f"embedding[{backend}]" for backend in PACKAGES), "small[jax]"],
        systems=[
            System(f"{kind}[{backend}]", threads.KSEQ[backend], (*packages, "kseq", "pyarrow"))
            for backend, packages in PACKAGES.items()
            for kind in ("ram", "one shape", "kseq")
            if backend == "jax" or kind != "one shape"
        ],
        metrics={"us_per_step": "lower"},
        has=has,
    ).main()
