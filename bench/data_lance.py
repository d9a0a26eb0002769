"""Lance: `to_batches` in file order and `take` in any other, both for many batches at once, which they need.

A `take` in ascending order is faster still, and for records of one shape worth the gathering afterwards. Its writer
takes Arrow batches; records that come one by one are gathered to batches of 8,192 first.
"""

import os

import lance
import numpy as np
import pyarrow as pa
from data_common import WINDOW, Pairs, Tokens, arrow_batches, arrow_columns, arrow_values, grouped, plan

TAKE = 25_600  # records


def write(folder, data, size):
    types = {name: column.type for name, column in arrow_columns(next(gather(data, 1))).items()}
    schema = pa.schema(list(types.items()))
    batches = (pa.record_batch(arrow_columns(part), schema=schema) for part in gather(data, 8192))
    lance.write_dataset(batches, os.path.join(folder, "data.lance"), schema=schema)


def gather(data, count):
    """The records, taken one by one, in groups of `count`."""
    for group in grouped(data, count):
        if data.kind == "ragged":
            yield Tokens(np.concatenate(group), np.fromiter(map(len, group), np.int64, len(group)))
        else:
            yield Pairs(*map(np.stack, zip(*group, strict=True)))


def read(folder, data, size, order):
    table = lance.dataset(os.path.join(folder, "data.lance"))
    rng = np.random.default_rng(0)

    def forward():
        for part in table.to_batches(batch_size=WINDOW * size):
            yield from arrow_batches(part, size, data.kind)

    def scattered():
        for ids in pieces(plan(data, size, order, rng)):
            yield from arrow_batches(table.take(ids.ravel()), size, data.kind)

    def sorted_first():
        for ids in pieces(plan(data, size, order, rng)):
            numbers, places = np.unique(ids, return_inverse=True)
            part = table.take(numbers)
            x, y = (arrow_values(part[name]) for name in ("x", "y"))
            for rows in places.reshape(-1, size):
                yield x[rows].reshape(-1, 10, 10), y[rows].reshape(-1, 2, 10, 2)

    def pieces(ids):
        step = TAKE // size
        return (ids[start : start + step] for start in range(0, len(ids), step))

    if order == "sequential":
        return forward
    return scattered if data.kind == "ragged" else sorted_first
