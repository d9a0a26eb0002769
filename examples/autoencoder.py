"""A sequence autoencoder on spoken vowels: what it reads, what its codes are, and what it makes of them.

    pip install 'kseq[examples]'
    python examples/autoencoder.py --folder pictures

It is trained on 270 utterances of nine speakers (Japanese Vowels, which kseq ships), 7 to 29 frames of 12 numbers, and
makes of each a code of 16 numbers, of which one is the length. The pictures show utterances that it has not heard: the
input, the output of the predicted length, and the code; and all codes in the plane of their two principal components,
in which nobody told it about speakers. `--encoder recurrent` trains a GRU by gradients, whose code runs along in a
stream; by default principal components of cosines are found at once.
"""

import argparse
import json
import pathlib
import time

import kseq  # noqa: F401, isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np

from kseq.datasets import japanese_vowels
from kseq.models import SequenceAutoencoder, exponential_decay, length_errors, nmse


def standardized(train, *others):
    """Rows with the mean and deviation of the first ones taken out of each channel."""
    values = np.concatenate(train.rows)
    mean, deviation = values.mean(0), values.std(0)
    return [[(row - mean) / deviation for row in rows.rows] for rows in (train, *others)]


def autoencoder(encoder, steps):
    """A model for the vowels, compiled."""
    options = (
        {"encoder": "cosine", "decoder": "cosine"} if encoder == "cosine" else {"layer_sizes": [128], "noise": 0.2}
    )
    ae = SequenceAutoencoder(input_dim=12, latent_dim=16, **options)
    ae.compile(optimizer=keras.optimizers.Adam(exponential_decay(4e-3, 4e-4, steps)))
    return ae


def nearest(codes, labels, others):
    """The label of the nearest code for each of other codes."""
    squares = (others**2).sum(1)[:, None] + (codes**2).sum(1) - 2 * others @ codes.T
    return labels[squares.argmin(1)]


def plane(codes):
    """Codes on their two principal components."""
    flat = codes - codes.mean(0)
    return flat @ np.linalg.svd(flat, full_matrices=False)[2][:2].T


def draw_utterances(path, rows, made, codes):
    """Input, output and code of some utterances, one below the other."""
    figure, axes = new_figure(len(rows), 3, (10, 1.9 * len(rows)))
    for (left, middle, right), row, output, code in zip(axes, rows, made, codes, strict=True):
        scale = {"vmin": -3, "vmax": 3, "cmap": "RdBu_r", "aspect": "auto", "origin": "lower"}
        for axis, values, name in ((left, row, "input"), (middle, output, "output")):
            image = axis.imshow(values.T, **scale)
            axis.set(title=f"{name}, {len(values)} frames", xlabel="frame", ylabel="coefficient")
            axis.xaxis.get_major_locator().set_params(integer=True)
        right.bar(np.arange(len(code)), code, color=["tab:blue"] * (len(code) - 1) + ["tab:orange"])
        right.set(title="code; orange: the length", xlabel="number", ylabel="value")
    figure.colorbar(image, ax=axes[:, :2], location="bottom", aspect=60, label="deviations from the coefficient's mean")
    figure.savefig(path)


def draw_plane(path, codes, labels):
    """Codes in a plane, each speaker in a colour."""
    figure, axis = new_figure(1, 1, (6, 5))
    for label in np.unique(labels):
        axis.scatter(*plane(codes)[labels == label].T, s=12, label=f"speaker {label + 1}")
    axis.set(title="codes of utterances that were not trained on", xlabel="component 1", ylabel="component 2")
    axis.legend(fontsize=7)
    figure.savefig(path)


def new_figure(rows, columns, size):
    """A figure that needs no screen, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained", dpi=120)
    return figure, figure.subplots(rows, columns)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", choices=("cosine", "recurrent"), default="cosine", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help="default: 5, and 60 of a recurrent one")
    parser.add_argument("--folder", metavar="FOLDER", help="where pictures are drawn")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON and nothing else")
    options = parser.parse_args(argv)
    epochs = options.epochs or (5 if options.encoder == "cosine" else 60)
    keras.utils.set_random_seed(0)
    (train, train_labels), (test, labels) = japanese_vowels.load()
    train, test = standardized(train, test)
    ae, started = autoencoder(options.encoder, steps=9 * epochs), time.perf_counter()
    ae.fit(train, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - started
    codes, made = ae.encode(test), ae.predict(test)
    right = nearest(ae.encode(train), train_labels, codes) == labels
    measured = {"seconds": seconds, "nmse": nmse(test, made, mean=np.zeros(12))}
    measured |= length_errors(test, made) | {"speaker_of_nearest_code": float(right.mean())}
    if options.folder:
        folder = pathlib.Path(options.folder)
        folder.mkdir(parents=True, exist_ok=True)
        shown = [0, 120, 240, 369]
        draw_utterances(folder / "utterances.png", *([part[i] for i in shown] for part in (test, made, codes)))
        draw_plane(folder / "codes.png", codes, labels)
    if options.json:
        print(json.dumps(measured))
    else:
        print(f"trained in {seconds:.1f} s; of {len(test)} utterances that it has not heard:")
        print(f"squared error {measured['nmse']:.3f} of the mean's, length right in {measured['length_exact']:.1%},")
        print(f"the nearest code of those heard is of the same speaker in {measured['speaker_of_nearest_code']:.1%}")
    return measured


if __name__ == "__main__":
    main()
