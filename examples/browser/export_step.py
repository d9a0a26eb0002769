"""Write what the page streams: a step as ONNX, its first state, and frames.

    KERAS_BACKEND=torch python examples/browser/export_step.py examples/browser
    npm install onnxruntime-web && cp -r node_modules/onnxruntime-web/dist examples/browser/ort
    python -m http.server --directory examples/browser

`stream(model)` is what the page must show.
"""

import json
import pathlib
import sys

import keras
import numpy as np

import kseq
from kseq.deploy.entry import export


def write(folder, frames=20):
    """Write step.onnx, initial.json and frames.json into a folder; returns what a stream gives for the frames."""
    folder = pathlib.Path(folder)
    keras.utils.set_random_seed(0)
    model = kseq.Serial([kseq.Conv1D(16, 5, activation="relu"), kseq.GRU(16), kseq.Dense(4)])
    model.build((None, None, 8))
    manifest = export(model, folder / "step.onnx")
    initial = dict(zip((leaf.tensor for leaf in manifest.state), manifest.initial_state, strict=True))
    (folder / "initial.json").write_text(json.dumps({name: x.ravel().tolist() for name, x in initial.items()}))
    x = np.random.default_rng(0).standard_normal((frames, 8)).astype("float32")
    (folder / "frames.json").write_text(json.dumps(x.tolist()))
    return kseq.Stream(model).push(x[None])[0]


if __name__ == "__main__":
    print(write(sys.argv[1]))
