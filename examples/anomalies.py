"""Beats that are unlike the others: an autoencoder learns an electrocardiogram, and what it cannot say is odd.

    pip install 'kseq[examples]'
    pip install --no-deps aeon     # for its series; without it the example makes one of its own
    python examples/anomalies.py --picture anomalies.png

The series is `ecg-diff-count-3`, which the package aeon ships: 10,000 values without anomalies to learn from, and as
many with three. Windows of two beats go through `anomaly_score`; the score of a value is the mean of those of the
windows that hold it. How well scores tell odd values from others is the area under the curve of hits against false
alarms: 0.5 is chance, 1 is perfect. The window's length was chosen with an eye on this series.
"""

import argparse
import importlib.util
import json
import pathlib

import kseq  # noqa: F401, isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np

from kseq.models import SequenceAutoencoder

WINDOW, STEP = 40, 4  # two beats


def shipped():
    """Values to learn from, values to look at, and which of these are odd, of aeon; None where it is not installed."""
    found = importlib.util.find_spec("aeon")
    if found is None or found.origin is None:
        return None
    folder = pathlib.Path(found.origin).parent / "datasets" / "data" / "UnitTest"
    paths = [folder / f"ecg-diff-count-3_{part}.csv" for part in ("TRAIN_NA", "TEST")]
    if not all(path.exists() for path in paths):
        return None
    train, test = (np.loadtxt(path, delimiter=",", skiprows=1) for path in paths)
    return train[:, 1].astype("float32"), test[:, 1].astype("float32"), test[:, 2] > 0


def made_up(count=10000, period=20):
    """The same of a series that is made: pulses with a little noise, five in a row late and low three times."""

    def series(rng, odd=()):
        values, is_odd = 0.03 * rng.standard_normal(count), np.zeros(count, bool)
        for beat, start in enumerate(range(0, count - period, period)):
            time = np.arange(period) / period
            late, height = (0.2, 0.6) if beat in odd else (0, 1)
            values[start : start + period] += height * np.exp(-(((time - 0.4 - late) / 0.06) ** 2))
            values[start : start + period] += 0.25 * np.exp(-(((time - 0.7) / 0.08) ** 2))
            is_odd[start : start + period] = beat in odd
        return values.astype("float32"), is_odd

    train, _ = series(np.random.default_rng(0))
    return (train, *series(np.random.default_rng(1), odd=(*range(78, 83), *range(330, 335), *range(347, 352))))


def windows(values):
    """Windows [WINDOW, 1] of a series, and where each begins."""
    starts = np.arange(0, len(values) - WINDOW + 1, STEP)
    return [values[start : start + WINDOW, None] for start in starts], starts


def scores(ae, values):
    """For each value the mean of the scores of all windows that hold it."""
    rows, starts = windows(values)
    total, count = np.zeros(len(values)), np.zeros(len(values))
    for start, score in zip(starts, ae.anomaly_score(rows, batch_size=256).sequences, strict=True):
        total[start : start + WINDOW] += score
        count[start : start + WINDOW] += 1
    return total / np.maximum(count, 1)


def area(found, odd):
    """The probability that an odd value has a higher score than another one."""
    ranks = np.empty(len(found))
    ranks[np.argsort(found, kind="stable")] = np.arange(1, len(found) + 1)
    hits = odd.sum()
    return float((ranks[odd].sum() - hits * (hits + 1) / 2) / (hits * (len(odd) - hits)))


def draw(path, values, found, odd):
    """The series, with what is odd shaded, and below it the scores."""
    from matplotlib.figure import Figure

    figure = Figure((11, 4.5), layout="constrained", dpi=120)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(values, linewidth=0.5)
    below.plot(found, linewidth=0.7, color="tab:red")
    for axis in (above, below):
        axis.fill_between(np.arange(len(odd)), 0, 1, where=odd, alpha=0.3, transform=axis.get_xaxis_transform())
    above.set(ylabel="value", title="shaded: what people call odd")
    below.set(ylabel="score", xlabel="step")
    figure.savefig(path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, help="so many values at most; default: all")
    parser.add_argument("--picture", metavar="FILE.png", help="draw series and scores here")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON and nothing else")
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    given = shipped()
    train, test, odd = (part[: options.steps] for part in given or made_up())
    ae = SequenceAutoencoder(input_dim=1, latent_dim=20, encoder="cosine", decoder="cosine", cosines=40)
    ae.adapt(windows(train)[0])
    found = scores(ae, test)
    measured = {"series": "ecg-diff-count-3" if given else "made up", "steps": len(test), "area": area(found, odd)}
    if options.picture:
        draw(options.picture, test, found, odd)
    if options.json:
        print(json.dumps(measured))
    else:
        print(f"{len(test)} values ({measured['series']}), {odd.sum()} of them odd: area {measured['area']:.3f}")
    return measured


if __name__ == "__main__":
    main()
