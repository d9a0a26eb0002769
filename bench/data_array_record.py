"""array_record without grain: raw records in groups of one, read by number.

A `read` costs time with the number of records in the file, so it is asked for 100 batches at once in file order. For
single records `seek` and `read` without read-ahead (`max_parallelism:0`) is the fast pair: with the default options it
is 200 times slower in random order.
"""

import os

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from data_common import WINDOW, from_bytes, plan, to_bytes


def write(folder, data, size):
    writer = ArrayRecordWriter(os.path.join(folder, "data.array_record"), "group_size:1,uncompressed")
    for record in to_bytes(data):
        writer.write(record)
    writer.close()


def read(folder, data, size, order):
    path = os.path.join(folder, "data.array_record")
    if order == "sequential":
        return lambda: forward(ArrayRecordReader(path), size, data.kind)
    rng = np.random.default_rng(0)
    reader = ArrayRecordReader(path, "max_parallelism:0")
    seek, fetch = reader.seek, reader.read

    def scattered():
        for ids in plan(data, size, order, rng).tolist():
            records = []
            for i in ids:
                seek(i)
                records.append(fetch())
            yield from_bytes(records, data.kind)

    def blocks():
        for ids in plan(data, size, order, rng)[:, 0].tolist():
            seek(ids)
            yield from_bytes([fetch() for _ in range(size)], data.kind)

    return scattered if order == "shuffled" else blocks


def forward(reader, size, kind):
    """Batches in file order."""
    count, step = reader.num_records(), WINDOW * size
    for start in range(0, count, step):
        records = reader.read(start, min(start + step, count))
        for i in range(0, len(records), size):
            yield from_bytes(records[i : i + size], kind)
