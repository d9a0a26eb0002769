"""The `tfrecord` package, which reads TFRecord files without TensorFlow: a stream of records in file order.

A record is one bytes feature, which is parsed twice as fast as a list of integers. Its shuffle is a buffer; length
buckets are then made as for the others, of windows of the stream.
"""

import os

import numpy as np
from data_common import BUFFER, WINDOW, from_bytes, grouped, to_bytes
from tfrecord.iterator_utils import shuffle_iterator
from tfrecord.reader import tfrecord_loader
from tfrecord.writer import TFRecordWriter


def write(folder, data, size):
    writer = TFRecordWriter(os.path.join(folder, "data.tfrecord"))
    for record in to_bytes(data):
        writer.write({"record": (record, "byte")})
    writer.close()


def read(folder, data, size, order):
    path = os.path.join(folder, "data.tfrecord")
    rng = np.random.default_rng(0)
    count = len(data)

    def groups():
        """Lists of records, a batch each."""
        stream = (example["record"] for example in tfrecord_loader(path, None, {"record": "byte"}))
        if order == "block":
            return shuffle_iterator(grouped(stream, size), min(BUFFER, count) // size)
        if order == "sequential":
            return grouped(stream, size)
        stream = shuffle_iterator(stream, min(BUFFER, count))
        return buckets(stream) if data.kind == "ragged" else grouped(stream, size)

    def buckets(stream):
        for window in grouped(stream, WINDOW * size):
            window.sort(key=len)
            batches = list(grouped(window, size))
            for i in rng.permutation(len(batches)).tolist():
                yield batches[i]

    return lambda: (from_bytes(group, data.kind) for group in groups())
