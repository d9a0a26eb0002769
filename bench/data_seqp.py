"""seqp: an HDF5 data set a record, retrieved one by one.

A fixed record is one array of its 140 values: with two fields there would be two data sets a record. The order comes
from the sampler, which is faster than seqp's own loader (it also has no epochs and gives no mask).
"""

import os

import numpy as np
from data_common import pad_rows, plan, split_pairs
from seqp.hdf5 import Hdf5RecordReader, Hdf5RecordWriter


def write(folder, data, size):
    with Hdf5RecordWriter(os.path.join(folder, "data.hdf5")) as writer:
        for record in data:
            if data.kind == "fixed":
                record = np.concatenate([part.ravel() for part in record])
            writer.write(record)


def read(folder, data, size, order):
    rng = np.random.default_rng(0)
    retrieve = Hdf5RecordReader(os.path.join(folder, "data.hdf5")).retrieve

    def epoch():
        for ids in plan(data, size, order, rng).tolist():
            rows = [retrieve(i) for i in ids]
            yield pad_rows(rows) if data.kind == "ragged" else split_pairs(np.stack(rows))

    return epoch
