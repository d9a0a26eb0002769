"""The data of the autoencoder bench, and what is said of codes and outputs: all systems share both.

Each case is a `Task`: lists of arrays in the scale of the training part, which is what errors are measured in.
"""

import dataclasses
import importlib.util
import pathlib

import numpy as np

CODE = 16


@dataclasses.dataclass
class Task:
    """Sequences and what should come of them; `labels` where they have classes."""

    train: list
    train_outputs: list
    test: list
    test_outputs: list
    labels: tuple = ()


def load(case, quick):
    return {"toy": toy, "vowels": vowels, "gestures": gestures}[case](quick)


def toy(quick):
    """Windows of 20 to 40 of 1,000 points t on [0, 150]: (2 sin t, 2 cos t) to their sum."""
    rng, t = np.random.default_rng(0), np.linspace(0, 150, 1000)

    def draw(count):
        lengths = rng.integers(20, 41, count)
        times = [t[a : a + n] for a, n in zip(rng.integers(0, 1001 - lengths), lengths, strict=True)]
        rows = [np.stack([2 * np.sin(x), 2 * np.cos(x)], axis=1).astype("float32") for x in times]
        return rows, [row.sum(axis=1, keepdims=True) for row in rows]

    return Task(*draw(6_000 if quick else 60_000), *draw(1_000))


def vowels(quick):
    """JapaneseVowels as it ships with kseq: 270 and 370 utterances of nine speakers, 12 channels, 7 to 29 steps."""
    from kseq.datasets import japanese_vowels

    (train, labels), (test, test_labels) = japanese_vowels.load()
    return scaled(train.rows, test.rows, (labels, test_labels))


def gestures(quick):
    """PickupGestureWiimoteZ as it ships with aeon: 50 and 50 gestures of ten classes, one channel, 29 to 361 steps."""
    spec = importlib.util.find_spec("aeon")
    if spec is None:
        raise ModuleNotFoundError("aeon, which has the data", name="aeon")
    folder = pathlib.Path(spec.origin).parent / "datasets" / "data" / "PickupGestureWiimoteZ"
    (train, labels), (test, test_labels) = (
        read_ts(folder / f"PickupGestureWiimoteZ_{part}.ts") for part in ("TRAIN", "TEST")
    )
    return scaled(train, test, (labels, test_labels))


def read_ts(path):
    """Rows [T, 1] and labels of a file of series of one channel, each `value,value,...:label`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip().lower() == "@data")
    pairs = [line.rsplit(":", 1) for line in lines[begin + 1 :] if line.strip()]
    rows = [np.array(values.split(","), "float32")[:, None] for values, _ in pairs]
    return rows, np.array([int(label) for _, label in pairs])


def scaled(train, test, labels):
    """A task of reconstruction, each channel with mean 0 and deviation 1 over all steps of the training part."""
    steps = np.concatenate(train).astype("float64")
    mean, deviation = steps.mean(axis=0), steps.std(axis=0)
    train, test = ([((row - mean) / deviation).astype("float32") for row in rows] for rows in (train, test))
    return Task(train, train, test, test, labels)


def resample(row, steps):
    """A row [T, C] at so many steps, linear between neighbours, as float64 [steps, C]."""
    place = np.linspace(0, len(row) - 1, steps)
    low = np.minimum(place.astype(int), max(len(row) - 2, 0))
    high = np.minimum(low + 1, len(row) - 1)
    part = (place - low)[:, None]
    return row[low] * (1 - part) + row[high] * part


def nmse(outputs, targets):
    """Squared error over the steps that both have, and of targets beyond them, by the squares of the targets."""
    error = energy = 0.0
    for output, target in zip(outputs, targets, strict=True):
        target = np.asarray(target, "float64")
        both = min(len(output), len(target))
        error += np.square(output[:both] - target[:both]).sum() + np.square(target[both:]).sum()
        energy += np.square(target).sum()
    return error / energy


def mse(outputs, targets):
    """As `nmse`, by the number of targets: the mean squared error where lengths are right."""
    return nmse(outputs, targets) * np.mean(np.square(np.concatenate(targets), dtype="float64"))


def length_exact(outputs, targets):
    return np.mean([len(output) == len(target) for output, target in zip(outputs, targets, strict=True)])


def knn_accuracy(codes, test_codes, labels):
    """How many test codes have the label of the nearest training code."""
    distances = np.square(test_codes[:, None] - codes[None]).sum(axis=-1)
    return np.mean(labels[0][distances.argmin(axis=1)] == labels[1])


def probe_accuracy(codes, test_codes, labels):
    """How many test codes a multinomial logistic regression tells, of codes with deviation 1 and penalty 1."""
    from scipy.optimize import minimize

    mean, deviation = codes.mean(axis=0), codes.std(axis=0) + 1e-8
    x, x_test = ((np.float64(each) - mean) / deviation for each in (codes, test_codes))
    classes, place = np.unique(labels[0], return_inverse=True)
    hot, size = np.eye(len(classes))[place], (x.shape[1], len(classes))

    def loss(weights):
        kernel, bias = weights[: size[0] * size[1]].reshape(size), weights[size[0] * size[1] :]
        logits = x @ kernel + bias
        logits -= logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        off = np.exp(logits - total) - hot
        value = ((total - logits) * hot).sum() + 0.5 * np.square(kernel).sum()
        return value, np.concatenate([(x.T @ off + kernel).reshape(-1), off.sum(axis=0)])

    weights = minimize(loss, np.zeros((size[0] + 1) * size[1]), jac=True, method="L-BFGS-B").x
    kernel, bias = weights[: size[0] * size[1]].reshape(size), weights[size[0] * size[1] :]
    return np.mean(classes[(x_test @ kernel + bias).argmax(axis=1)] == labels[1])
