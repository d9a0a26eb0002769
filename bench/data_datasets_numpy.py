"""Hugging Face datasets as its documentation shows it to NumPy users: `with_format("numpy")`, a slice or ids a batch.

The dtype has to be said: the format otherwise gives float64 data as float32.
"""

import os

import datasets
import numpy as np
from data_common import pad_rows, plan
from data_datasets import write as write


def read(folder, data, size, order):
    dtype = np.int32 if data.kind == "ragged" else np.float64
    table = datasets.Dataset.from_file(os.path.join(folder, "data.arrow")).with_format("numpy", dtype=dtype)
    rng = np.random.default_rng(0)

    def batch(part):
        if data.kind == "ragged":
            return pad_rows(list(part["tokens"]))
        return part["x"].reshape(-1, 10, 10), part["y"].reshape(-1, 2, 10, 2)

    def scattered():
        for ids in plan(data, size, order, rng).tolist():
            yield batch(table[ids])

    def neighbours():
        for start in plan(data, size, order, rng)[:, 0].tolist():
            yield batch(table[start : start + size])

    return scattered if order == "shuffled" else neighbours
