"""Codes of sequences of any length, judged by what is made of them alone: kseq, principal components, sequitur.

    python bench/bench_autoencoder.py [--quick] [--json] [--only vowels] [--systems "kseq*"]

    toy        windows of 20 to 40 steps, (2 sin t, 2 cos t) to their sum; 60,000 training sequences, each seen once
    vowels     JapaneseVowels, a code of 16 numbers
    gestures   PickupGestureWiimoteZ, which aeon ships (pip install aeon; without it the case is not measured)

Outputs are free-running: made of the codes (16 numbers) alone, at the length that kseq predicts; it is one of the 16.
The other two predict none and are given the true one: `pca` is 16 principal components of rows resampled to the longest
training row, and for the toy a linear map to the outputs; `sequitur` (pip install sequitur) is its LSTM_AE under
`quick_train`, for as many epochs as take 60 s. `kseq` is the cosine autoencoder, `kseq[recurrent]` stacks of GRU, as is
`kseq` for the toy. A round is a seed. Systems choose nothing on the test part.

`nmse` is the squared error over the steps that output and target have, and of the target's steps that are missed, by
the squares of the target, in the scale of the training part. `sequences_per_s` are training sequences by processor
seconds of one thread after the first epoch, which compiles. `train_s` is the whole training in processor seconds.
"""

import itertools
import statistics
import time

import threads
from harness import Bench, System, Unavailable

SECONDS = 60.0
METRICS = {
    "mse": "lower",
    "nmse": "lower",
    "length_exact": "higher",
    "knn_accuracy": "higher",
    "probe_accuracy": "higher",
    "sequences_per_s": "higher",
    "train_s": "lower",
}
SYSTEMS = [
    System("kseq", threads.KSEQ["jax"], ("kseq", "keras", "jax")),
    System("kseq[recurrent]", threads.KSEQ["jax"], ("kseq", "keras", "jax")),
    System("pca", threads.ONE, ("numpy",)),
    System("sequitur", threads.TORCH, ("sequitur", "torch")),
]
GRU = {"epochs": 60, "batch": 32, "rate": 4e-3, "noise": 0.2, "layer_sizes": [128]}
COSINE = {"epochs": 10, "batch": 32, "rate": 1e-3, "encoder": "cosine", "decoder": "cosine"}
RECIPES = {
    ("kseq", "toy"): {"epochs": 1, "batch": 50, "rate": 5e-3, "layer_sizes": [50, 30]},
    ("kseq", "vowels"): COSINE,
    ("kseq", "gestures"): {**COSINE, "cosines": 16},
    ("kseq[recurrent]", "vowels"): GRU,
    ("kseq[recurrent]", "gestures"): GRU,
}


def has(system, case):
    return system != "kseq[recurrent]" or case != "toy"


def prepare(system, case, quick):
    import autoencoder_data

    task = autoencoder_data.load(case, quick)
    seeds = itertools.count()

    def measure():
        seed = next(seeds)
        if system == "pca":
            found = principal_components(task)
        elif system == "sequitur":
            found = sequitur(task, seed, SECONDS / 10 if quick else SECONDS)
        else:
            found = kseq_autoencoder(task, RECIPES[system, case], seed, quick)
        return scores(task, *found)

    return measure


def scores(task, outputs, codes, more):
    """The metrics of a case.

    Args:
        task: the data.
        outputs: what was made of the test part.
        codes: of the training part and of the test part.
        more: what the system measured itself; `lengths_known` where it was given the lengths of the outputs.
    """
    import autoencoder_data as data
    import numpy as np

    if not all(np.isfinite(output).all() for output in outputs):
        raise ValueError("outputs that are not finite")
    found = dict(more)
    if not found.pop("lengths_known", False):
        found["length_exact"] = data.length_exact(outputs, task.test_outputs)
    if task.labels:
        found["nmse"] = data.nmse(outputs, task.test_outputs)
        found["knn_accuracy"] = data.knn_accuracy(*codes, task.labels)
        found["probe_accuracy"] = data.probe_accuracy(*codes, task.labels)
    else:
        found["mse"] = data.mse(outputs, task.test_outputs)
    return found


def kseq_autoencoder(task, recipe, seed, quick):
    import autoencoder_data
    import keras

    import kseq

    recipe = dict(recipe)
    epochs, batch, rate = (recipe.pop(name) for name in ("epochs", "batch", "rate"))
    epochs = max(epochs // 10, min(epochs, 2)) if quick else epochs
    keras.utils.set_random_seed(seed)
    dims = (task.train[0].shape[1], task.train_outputs[0].shape[1])
    ae = kseq.models.SequenceAutoencoder(*dims, latent_dim=autoencoder_data.CODE, seed=seed, **recipe)
    steps = epochs * -(-len(task.train) // batch)
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, steps, alpha=0.01, warmup_target=rate, warmup_steps=max(steps // 20, 1)
    )
    ae.compile(optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0))
    ends = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.process_time()))
    begin = time.process_time()
    outputs = task.train_outputs if task.train_outputs is not task.train else None
    ae.fit(task.train, outputs, batch_size=batch, epochs=epochs, verbose=0, callbacks=[clock])
    more = {"train_s": time.process_time() - begin}
    if epochs > 1:
        each = statistics.median(b - a for a, b in itertools.pairwise(ends))
        more["sequences_per_s"] = len(task.train) / each
    return ae.predict(task.test), (ae.encode(task.train), ae.encode(task.test)), more


def principal_components(task):
    """Codes of resampled rows, and a linear map of codes to resampled outputs, which are given their true lengths."""
    import autoencoder_data
    import numpy as np

    begin = time.process_time()
    steps = max(map(len, task.train))

    def flat(rows):
        return np.stack([autoencoder_data.resample(row, steps).reshape(-1) for row in rows])

    x, y = flat(task.train), flat(task.train_outputs)
    middle, base = x.mean(axis=0), y.mean(axis=0)
    _, axes = np.linalg.eigh((x - middle).T @ (x - middle))
    axes = axes[:, : -autoencoder_data.CODE - 1 : -1]
    codes, test_codes = (x - middle) @ axes, (flat(task.test) - middle) @ axes
    # The axes again where outputs are inputs.
    back = np.linalg.lstsq(codes, y - base, rcond=None)[0]
    used = time.process_time() - begin
    made = (test_codes @ back + base).reshape(len(task.test), steps, -1)
    outputs = [autoencoder_data.resample(row, len(target)) for row, target in zip(made, task.test_outputs, strict=True)]
    return outputs, (codes, test_codes), {"train_s": used, "lengths_known": True}


def sequitur(task, seed, seconds):
    import autoencoder_data
    import numpy as np
    import torch
    from sequitur import quick_train
    from sequitur.models import LSTM_AE

    if task.train_outputs is not task.train:
        raise Unavailable("it makes its inputs again, and nothing else of them")
    torch.set_num_threads(1)
    rows = [torch.from_numpy(row) for row in task.train]

    def train(epochs):
        torch.manual_seed(seed)
        begin = time.process_time()
        found = quick_train(LSTM_AE, rows, autoencoder_data.CODE, epochs=epochs, h_dims=[64])
        return (time.process_time() - begin) / epochs, found

    train(1)  # what is loaded with the first epoch
    each, _ = train(1)
    epochs = max(int(seconds / each), 1)
    each, (encoder, decoder, _, _) = train(epochs)
    with torch.no_grad():
        test_codes = [encoder(torch.from_numpy(row)) for row in task.test]
        outputs = [decoder(code, len(row)).numpy() for code, row in zip(test_codes, task.test, strict=True)]
        codes = [encoder(row).numpy() for row in rows]
    more = {"train_s": each * epochs, "sequences_per_s": len(rows) / each, "lengths_known": True}
    return outputs, (np.stack(codes), np.stack([code.numpy() for code in test_codes])), more


def main():
    bench = Bench(
        "autoencoder",
        prepare,
        cases=["toy", "vowels", "gestures"],
        systems=SYSTEMS,
        metrics=METRICS,
        baseline="kseq",
        rounds=(3, 1),
        timeout=3600,
        has=has,
    )
    bench.main()


if __name__ == "__main__":
    main()
