"""What the systems of `bench_data.py` share: the data, the sampler, padding, the check of what was read, the round.

Every system is a module `data_<name>.py` with two functions:

    write(folder, data, size)        write every record of `data` (`Tokens` or `Pairs`) into `folder`, one by one;
                                     `size` is the batch size, for the format that has to know it
    read(folder, data, size, order)  a function that gives an iterable over the batches of the next epoch; of `data`
                                     it may use the lengths, which every store can keep beside the records

Both raise `Unavailable` where the system cannot do the case.
"""

import dataclasses
import os
import time

import numpy as np

WINDOW = 100  # batches that are sorted by length together, and that are read at once where that is faster
BUFFER = 10_000  # records in the shuffle buffer of those systems that can only read a file from its start
PAIR = (100, 40)  # float64 values of a fixed record's input (10, 10) and output (2, 10, 2)


def pin():
    """Hold this process, and every thread that it starts from now on, to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@dataclasses.dataclass
class Tokens:
    """Ragged int32 records, stored flat."""

    values: np.ndarray
    lengths: np.ndarray
    kind = "ragged"

    def __len__(self):
        return len(self.lengths)

    def __iter__(self):
        """The records, as views."""
        ends = np.cumsum(self.lengths)
        for start, end in zip((ends - self.lengths).tolist(), ends.tolist(), strict=True):
            yield self.values[start:end]

    def head(self, count):
        return Tokens(self.values[: self.lengths[:count].sum()], self.lengths[:count])


@dataclasses.dataclass
class Pairs:
    """Records of fixed shape, an input and an output each."""

    x: np.ndarray
    y: np.ndarray
    lengths = None
    kind = "fixed"

    def __len__(self):
        return len(self.x)

    def __iter__(self):
        return zip(self.x, self.y, strict=True)


def make_tokens(count, seed=0):
    """Sequences with the lengths of sentences: lognormal, mean about 60, 1 to 512."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(3.78, 0.8, count), 1, 512).astype(np.int64)
    return Tokens(rng.integers(0, 32_000, lengths.sum(), np.int32), lengths)


def make_pairs(count):
    """Whole numbers as float64, so that sums are exact; a record's number stands first in its input and output."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1000, (count, 10, 10)).astype(np.float64)
    y = rng.integers(0, 1000, (count, 2, 10, 2)).astype(np.float64)
    x[:, 0, 0] = y[:, 0, 0, 0] = np.arange(count)
    return Pairs(x, y)


def make_data(kind, quick):
    """The data of a case. The counts are whole batches, as some of the systems drop the rest and others keep it."""
    count = {"ragged": 200_000, "fixed": 100_000}[kind] // (10 if quick else 1) // 64 * 64
    return make_tokens(count) if kind == "ragged" else make_pairs(count)


def to_bytes(data):
    """The records as bytes, for the systems that store nothing else."""
    if data.kind == "ragged":
        return (row.tobytes() for row in data)
    return (x.tobytes() + y.tobytes() for x, y in data)


def from_bytes(records, kind):
    """The batch of a list of records that `to_bytes` made."""
    flat = b"".join(records)
    if kind == "fixed":
        return split_pairs(np.frombuffer(flat).reshape(len(records), -1))
    return pad_flat(np.frombuffer(flat, np.int32), np.fromiter(map(len, records), np.int64, len(records)) // 4)


def split_pairs(flat):
    """Inputs and outputs, as views, of records that are rows of 140 values."""
    return flat[:, : PAIR[0]].reshape(-1, 10, 10), flat[:, PAIR[0] :].reshape(-1, 2, 10, 2)


def pad_flat(values, lengths):
    """The padded batch and its mask from rows that lie one after another: NumPy's fastest way without a loop."""
    mask = np.arange(lengths.max()) < lengths[:, None]
    batch = np.zeros(mask.shape, values.dtype)
    batch[mask] = values
    return batch, mask


def pad_rows(rows):
    """The same from a list of arrays; joining them first is faster than a loop that fills row after row."""
    return pad_flat(np.concatenate(rows), np.fromiter(map(len, rows), np.int64, len(rows)))


def arrow_tokens(column):
    """Flat values and lengths of an Arrow column of lists, without a copy where it is one chunk."""
    chunk = one_chunk(column)
    return chunk.flatten().to_numpy(), np.diff(chunk.offsets.to_numpy())


def arrow_values(column):
    """An Arrow column of lists of one length as a matrix, without a copy where it is one chunk."""
    chunk = one_chunk(column)
    return chunk.flatten().to_numpy().reshape(len(chunk), -1)


def one_chunk(column):
    if not hasattr(column, "chunks"):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def arrow_batches(table, size, kind):
    """The batches of `size` records in an Arrow table or record batch that holds many."""
    if kind == "fixed":
        x = arrow_values(table["x"]).reshape(-1, 10, 10)
        y = arrow_values(table["y"]).reshape(-1, 2, 10, 2)
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]
        return
    values, lengths = arrow_tokens(table["tokens"])
    ends = [0, *np.cumsum(lengths)[size - 1 :: size].tolist()]
    for i in range(len(ends) - 1):
        yield pad_flat(values[ends[i] : ends[i + 1]], lengths[i * size : (i + 1) * size])


def arrow_columns(data):
    """The fields of `data` as Arrow arrays; pairs as two columns of lists of one length."""
    import pyarrow as pa

    if data.kind == "ragged":
        offsets = np.concatenate([[0], np.cumsum(data.lengths)]).astype(np.int32)
        return {"tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(data.values))}
    columns = {"x": data.x, "y": data.y}
    return {
        name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array[0].size)
        for name, array in columns.items()
    }


def plan(data, size, order, rng):
    """Record numbers [batches, size] of one epoch, for the systems that read any record: the same for all of them.

    `shuffled` is a permutation of the records; ragged ones are then sorted by length within windows of `WINDOW`
    batches, and the batches permuted. `block` permutes whole batches of neighbours.
    """
    count = len(data)
    if order != "shuffled":
        ids = np.arange(count).reshape(-1, size)
        return ids if order == "sequential" else ids[rng.permutation(len(ids))]
    ids = rng.permutation(count)
    if data.lengths is None:
        return ids.reshape(-1, size)
    lengths = data.lengths.astype(np.uint16)  # which NumPy sorts by radix
    window = WINDOW * size
    for start in range(0, count, window):
        part = ids[start : start + window]
        ids[start : start + window] = part[np.argsort(lengths[part], kind="stable")]
    ids = ids.reshape(-1, size)
    return ids[rng.permutation(len(ids))]


def check(batches, data, size, order):
    """Raise unless `batches` are exactly the records of `data`, each once and in the order of the case."""
    if data.kind == "ragged":
        check_tokens(batches, data, size, order)
    else:
        check_pairs(batches, data, size, order)


def hashes(values):
    """A number a row that tells rows apart, whatever their padding with zeros."""
    return (values.astype(np.int64) * np.arange(1, values.shape[1] + 1) ** 2).sum(1)


def check_tokens(batches, data, size, order):
    found, cells = [], 0
    for values, mask in batches:
        expect(values.dtype == np.int32 and mask.dtype == bool, f"{values.dtype} values and {mask.dtype} mask")
        expect(values.shape == mask.shape and len(values) <= size, f"a batch of {values.shape}, mask {mask.shape}")
        expect(not values[~mask].any(), "padding that is not zero")
        lengths = mask.sum(1)
        rows = lengths > 0  # a batch may be filled up with empty rows
        expect((mask[:, 1:] <= mask[:, :-1]).all(), "a mask with holes")
        found.append(np.stack([lengths[rows], hashes(values)[rows]], 1))
        cells += mask.size
    found = np.concatenate(found)
    wanted = np.concatenate(
        [
            np.stack([mask.sum(1), hashes(values)], 1)
            for values, mask in (pad_rows(rows) for rows in grouped(data, size))
        ]
    )
    check_order(found, wanted, order)
    share = len(data.values) / cells
    expect(order == "sequential" or share > 0.6, f"{share:.0%} of the cells are tokens: no length buckets")


def check_pairs(batches, data, size, order):
    found, total = [], 0.0
    for x, y in batches:
        expect(x.dtype == y.dtype == np.float64, f"{x.dtype} inputs and {y.dtype} outputs")
        expect(x.shape == (len(x), 10, 10) and y.shape == (len(x), 2, 10, 2), f"shapes {x.shape} and {y.shape}")
        expect((x[:, 0, 0] == y[:, 0, 0, 0]).all(), "outputs of other inputs")
        found.append(np.array(x[:, 0, 0]))
        total += x.sum() + y.sum()
    check_order(np.concatenate(found)[:, None], np.arange(len(data), dtype=float)[:, None], order)
    expect(total == data.x.sum() + data.y.sum(), "other values")


def check_order(found, wanted, order):
    """Raise unless `found` is `wanted`, or for the shuffled orders the same rows in another order."""
    expect(len(found) == len(wanted), f"{len(found)} records of {len(wanted)}")
    same = np.array_equal(found, wanted)
    if order == "sequential":
        expect(same, "not the records in the order of the file")
        return
    expect(not same, "the order of the file, not a shuffled one")
    found, wanted = (rows[np.lexsort(rows.T)] for rows in (found, wanted))
    expect(np.array_equal(found, wanted), "not every record once")


def expect(fact, text):
    if not fact:
        raise ValueError(f"the check failed: {text}")


def grouped(records, size):
    """Lists of `size` neighbours; the last may be shorter."""
    batch = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def stager(data, size):
    """What is done with each batch: pairs are copied, so that lazy views are read; tokens are fresh arrays already."""
    if data.kind == "ragged":

        def take(values, mask):
            return len(values)

        return take
    inputs, outputs = np.empty((size, 10, 10)), np.empty((size, 2, 10, 2))

    def copy(x, y):
        np.copyto(inputs, x)
        np.copyto(outputs, y)
        return len(x)

    return copy


def reading(epoch, data, size, seconds):
    """The round of a reading case: whole epochs for at least `seconds`, or batches for as long if one takes longer.

    A slow system goes on in the next round where it stopped, so its start of an epoch counts as often as it comes.
    """
    stage, clock, count = stager(data, size), time.perf_counter, len(data)
    stream = iter(())

    def some():
        nonlocal stream
        records, start = 0, clock()
        while True:
            for batch in stream:
                records += stage(*batch)
                if clock() - start > seconds:
                    return records / (clock() - start)
            stream = iter(epoch())

    def whole():
        epochs, start = 0, clock()
        while clock() - start < seconds:
            for batch in epoch():
                stage(*batch)
            epochs += 1
        return epochs * count / (clock() - start)

    start = clock()
    for batch in epoch():
        stage(*batch)
        if clock() - start > seconds:
            return some
    return whole
