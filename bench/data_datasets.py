"""Hugging Face datasets in its fastest form: the "arrow" format, whose tables NumPy reads without a copy.

In file order 100 batches are one slice. Records in any order are asked for batch by batch, which is faster than more
at once, and by a list of numbers, which is faster than an array. Fixed records are lists of one length, which read up
to forty times faster than Array2D and Array3D.
"""

import os

import datasets
import numpy as np
from data_common import PAIR, WINDOW, arrow_batches, grouped, plan
from datasets.arrow_writer import ArrowWriter


def write(folder, data, size):
    path = os.path.join(folder, "data.arrow")
    if data.kind == "ragged":
        features = datasets.Features({"tokens": datasets.List(datasets.Value("int32"))})
        with ArrowWriter(features=features, path=path) as writer:
            for row in data:
                writer.write({"tokens": row})
            writer.finalize()
        return
    value = datasets.Value("float64")
    x, y = (datasets.List(value, length=length) for length in PAIR)
    with ArrowWriter(features=datasets.Features({"x": x, "y": y}), path=path) as writer:
        for group in grouped(data, 1000):
            flat = [np.stack(side).reshape(len(group), -1) for side in zip(*group, strict=True)]
            writer.write_batch({"x": flat[0], "y": flat[1]})
        writer.finalize()


def read(folder, data, size, order):
    table = datasets.Dataset.from_file(os.path.join(folder, "data.arrow")).with_format("arrow")
    rng = np.random.default_rng(0)
    step = WINDOW * size

    def forward():
        for start in range(0, len(table), step):
            yield from arrow_batches(table[start : start + step], size, data.kind)

    def scattered():
        for ids in plan(data, size, order, rng).tolist():
            yield from arrow_batches(table[ids], size, data.kind)

    def blocks():
        for start in plan(data, size, order, rng)[:, 0].tolist():
            yield from arrow_batches(table[start : start + size], size, data.kind)

    return {"sequential": forward, "shuffled": scattered, "block": blocks}[order]
