"""The `kseq demo`: train on ragged speech, save, load, and stream the same numbers."""

import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import kseq

from ..annotations import AnyPath
from ..datasets import japanese_vowels
from ..ragged import Ragged
from ..show import summary, summary_rows

# From the documentation of the data: 10 kHz audio, frames of 25.6 ms, one every 6.4 ms.
FRAME_SHIFT_SECONDS = 6.4e-3
BATCH_SIZE = 30  # divides 270 utterances: a smaller last batch would be compiled once more


def run(
    out: AnyPath | None = None,
    epochs: int = 40,
    seed: int = 0,
    report: Callable[[str], Any] = print,
    verbose: str | int = "auto",
) -> dict[str, Any]:
    """Run the demo and return its results.

    Args:
        out: folder for the saved model; a new temporary folder if not given.
        epochs: passes over the training data.
        seed: seed of the weights, the dropout and the order of the data.
        report: called with each line of text.
        verbose: Keras's verbosity while it trains.

    Returns:
        A dict that JSON can hold; the keys are in the README.

    Raises:
        OSError: the folder cannot be made or written.

    Example:
        >>> results = kseq.cli.demo_run.run(epochs=1, report=lambda line: None, verbose=0)  # doctest: +SKIP
    """
    # Before training: a folder that cannot be made should not cost a minute.
    folder = pathlib.Path(out or tempfile.mkdtemp(prefix="kseq-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    (train, train_labels), (test, test_labels) = japanese_vowels.load()
    report(
        f"Japanese Vowels: {len(train_labels)} utterances to train on, {len(test_labels)} to test on, "
        f"of {min(test.lengths)} to {max(test.lengths)} frames; backend {keras.backend.backend()}"
    )

    model = build_model(train.values, steps=epochs * -(-len(train_labels) // BATCH_SIZE))
    started = time.perf_counter()
    fit(model, train, train_labels, epochs, verbose)
    train_seconds = time.perf_counter() - started

    path = folder / "japanese_vowels.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    report(f"trained in {train_seconds:.1f} s; saved as {path} and loaded back")

    whole = whole_logits(model, test)
    streamed, step_seconds, latency = stream_logits(loaded, test)
    results = {
        "accuracy": accuracy(whole, test_labels),
        "streamed_accuracy": accuracy(streamed, test_labels),
        "max_abs_diff": float(max(np.abs(a - b).max() for a, b in zip(whole, streamed, strict=True))),
        "step_us": step_seconds * 1e6,
        "train_seconds": train_seconds,
        "backend": keras.backend.backend(),
        "real_time_factor": step_seconds / FRAME_SHIFT_SECONDS,
        "latency_frames": latency,
        "path": str(path),
        "summary": summary_rows(loaded),
    }
    report(
        f"\ntest accuracy, whole utterances    {results['accuracy']:.4f}\n"
        f"test accuracy, frame by frame      {results['streamed_accuracy']:.4f}\n"
        f"largest difference of the logits   {results['max_abs_diff']:.1e}\n"
        f"one step, median                   {results['step_us']:.0f} us\n"
        f"real-time factor                   {results['real_time_factor']:.4f} "
        f"(one step a frame, one frame every {FRAME_SHIFT_SECONDS * 1e3:.1f} ms)\n"
        f"latency                            {latency} frames\n"
    )
    summary(loaded, print_fn=report)
    return results


def build_model(frames: NDArray[Any], steps: int) -> keras.Model:
    """The shipped spec's model, which names the speaker at every frame; `frames` [N, 12] give the scale."""
    scale = {"mean": frames.mean(0).tolist(), "variance": frames.var(0).tolist()}
    return kseq.load_spec(kseq.spec.shipped()["japanese_vowels"], vars=scale | {"steps": steps})


def fit(model: keras.Model, rows: Ragged, labels: NDArray[Any], epochs: int, verbose: str | int) -> None:
    """Train with the utterance's label at every valid frame; padding has no weight in the loss."""
    values, mask = kseq.pad(rows)  # [B, T, 12], [B, T]
    targets = np.repeat(labels[:, None], values.shape[1], axis=1)  # [B, T]
    model.fit(
        [values, mask],
        targets,
        sample_weight=mask.astype("float32"),
        batch_size=BATCH_SIZE,
        epochs=epochs,
        # A bar needs a terminal, which moves the cursor; elsewhere a line an epoch is what there is to read.
        verbose=(1 if sys.stdout.isatty() else 2) if verbose == "auto" else verbose,
    )


def whole_logits(model: keras.Model, rows: Ragged) -> list[NDArray[Any]]:
    """Logits [T_i, 9] of each utterance, in one padded batch."""
    values, mask = kseq.pad(rows)
    return kseq.unpad(model.predict([values, mask], batch_size=len(values), verbose=0), mask)


def stream_logits(model: keras.Model, rows: Iterable[NDArray[Any]]) -> tuple[list[NDArray[Any]], float, int]:
    """Logits [T_i, 9] of each utterance block by block, the median time of a step, and the latency in frames."""
    stream = kseq.Stream(model)
    block, seconds, logits = stream.timing.block_size, [], []
    for row in rows:
        outputs = []
        for start in range(0, len(row), block):
            before = time.perf_counter()
            outputs.append(stream.push(row[start : start + block]))
            seconds.append(time.perf_counter() - before)
        outputs.append(stream.flush())  # the next utterance starts anew
        logits.append(np.concatenate(outputs))
    return logits, statistics.median(seconds), stream.timing.input_latency


def accuracy(logits: Sequence[NDArray[Any]], labels: NDArray[Any]) -> float:
    """Share of utterances whose mean log-probability over frames is largest for the right speaker."""
    classes = [log_softmax(frames).mean(0).argmax() for frames in logits]
    return float(np.mean(np.array(classes) == labels))


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Log-probabilities along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
