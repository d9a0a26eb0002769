"""Language models of bytes, trained on the text of Python's own help, evaluated whole and streamed, and let to write.

    pip install kseq
    python examples/characters.py --spec character_lstm

All of it is done by the commands that anybody has for a text of their own; this script only runs them:

    kseq data convert train.txt train --option level=byte window=129
    kseq train character_lstm --data train --validation valid --targets tokens+1 --out character_lstm.keras
    kseq generate character_lstm.keras --prompt "The "

With several specs their numbers stand side by side: bits per byte of the tenth of the text that none was trained on.
"""

import argparse
import contextlib
import io
import json
import math
import pathlib
import tempfile

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
from keras import ops

import kseq.cli
from kseq.printable import printable

WINDOW = 129  # bytes of a record: those of 128 steps, and the last one to foretell


def text():
    """The text of Python's help, which comes with Python: 0.4 million characters."""
    from pydoc_data import topics

    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


def stores(folder, characters=None):
    """Stores `train` and `valid` in a folder, of nine tenths and one tenth of the text."""
    whole = text()[:characters]
    cut = len(whole) * 9 // 10
    for name, part in (("train", whole[:cut]), ("valid", whole[cut:])):
        (folder / f"{name}.txt").write_text(part, encoding="utf-8")
        run("data", "convert", folder / f"{name}.txt", folder / name, "--option", "level=byte", f"window={WINDOW}")


def run(*arguments, quietly=True):
    """A command of kseq, and what it printed; an error where it fails."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed) if quietly else contextlib.nullcontext():
        status = kseq.cli.main([str(argument) for argument in arguments])
    if status:
        raise SystemExit(status)
    return printed.getvalue()


def bits(logits, targets):
    """Bits per byte that a model takes for the targets [N, T], by its logits [N, T, 256]."""
    losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return float(ops.convert_to_numpy(ops.mean(losses))) / math.log(2)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spec", nargs="+", default=["character_lstm"], help="names of shipped specs, or files")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--characters", type=int, help="of the start of the text; by default all of it")
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--steps", type=int, default=200, help="bytes to write")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON, and nothing else")
    options = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        stores(folder, options.characters)
        for spec in options.spec:
            found.append(measure(folder, spec, options))
            if not options.json:
                report(found[-1])
    if options.json:
        print(json.dumps(found))
    return found


def measure(folder, spec, options):
    """Train a model of a spec, evaluate it in both modes, and let it write."""
    out = folder / "model.keras"
    common = ["--data", folder / "train", "--validation", folder / "valid", "--targets", "tokens+1", "--out", out]
    sizes = ["--epochs", options.epochs, "--batch-size", options.batch_size, "--max-shapes", 1]
    trained = json.loads(run("train", spec, *common, *sizes, "--json"))
    model = keras.saving.load_model(out)
    records = [record["tokens"] for record in kseq.data.open(folder / "valid")]
    tokens = np.stack([record for record in records if len(record) == WINDOW])
    whole = model.predict(tokens[:, :-1], verbose=0)
    stream = kseq.Stream(model, batch_size=len(tokens))
    streamed = np.concatenate([stream.push(tokens[:, t : t + 32]) for t in range(0, WINDOW - 1, 32)], axis=1)
    written = json.loads(
        run("generate", out, "--prompt", options.prompt, "--max-steps", options.steps, "--seed", 0, "--json")
    )
    return {
        "spec": spec,
        "parameters": model.count_params(),
        "training_seconds": trained["seconds"],
        "bits_per_byte": bits(whole, tokens[:, 1:]),
        "bits_per_byte_streamed": bits(streamed, tokens[:, 1:]),
        "largest_difference": float(np.abs(whole - streamed).max()),
        "written": written["text"],
    }


def report(measured):
    """What was measured, in words."""
    print(f"{measured['spec']}: {measured['parameters']} parameters, trained in {measured['training_seconds']:.0f} s")
    print(
        f"bits per byte: {measured['bits_per_byte']:.3f} whole, {measured['bits_per_byte_streamed']:.3f} streamed;",
        end=" ",
    )
    print(f"largest difference of the logits {measured['largest_difference']:.1g}")
    print(printable(measured["written"]))


if __name__ == "__main__":
    main()
