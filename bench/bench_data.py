"""Records per second of record stores and loaders: kseq beside its peers, same data, one core each, warm files.

    python bench/bench_data.py [--quick] [--json] [--only "ragged/*"] [--systems kseq --systems lance]

`ragged`: 200,000 int32 sequences (mean length about 60, 1 to 512) as padded batches of 64 and their bool mask.
`ragged/write` writes them one by one; `sequential` is file order, padded to the longest of the batch; `shuffled`
shuffles all records into batches of similar length. `fixed16` and `fixed64`: 100,000 records of float64, an input
(10, 10) and an output (2, 10, 2), in batches of 16 or 64 (`block` shuffles whole batches of neighbours), each copied
into a staging buffer. Counts are rounded down to whole batches; --quick takes a tenth of them.

Each peer is used in the fastest way that we know, which its module `data_<name>.py` states; `datasets (numpy)` is the
documented form of `datasets` beside its fastest. Peers that read any record get their record numbers from one sampler,
whose time counts; peers that can only stream use a shuffle buffer of 10,000 records, which mixes less. Every system
has to read the data exactly before it is timed. The files lie in a temporary folder (TMPDIR chooses where).
"""

import functools
import importlib
import os
import shutil
import tempfile
import time

import threads
from harness import Bench, System

CASES = [
    "ragged/write",
    "ragged/sequential",
    "ragged/shuffled",
    "fixed16/sequential",
    "fixed16/shuffled",
    "fixed16/block",
    "fixed64/sequential",
    "fixed64/shuffled",
    "fixed64/block",
]
LANCE = {**threads.ONE, "LANCE_IO_THREADS": "1", "LANCE_CPU_THREADS": "1"}
SYSTEMS = [
    System("kseq", threads.KSEQ["jax"], ("kseq", "numpy", "pyarrow")),
    System("tf.data", threads.TENSORFLOW, ("tensorflow",)),
    System("array_record", threads.ONE, ("array_record",)),
    System("grain", threads.JAX, ("grain", "array_record")),
    System("seqp", threads.ONE, ("seqp", "h5py")),
    System("hypersequence", threads.TENSORFLOW, ("hypersequence",)),
    System("tfrecord", threads.ONE, ("tfrecord",)),
    System("datasets", threads.ONE, ("datasets", "pyarrow")),
    System("datasets (numpy)", threads.ONE, ("datasets", "pyarrow")),
    System("lance", LANCE, ("pylance", "pyarrow")),
]
MODULES = {
    "kseq": "data_kseq",
    "tf.data": "data_tf",
    "array_record": "data_array_record",
    "grain": "data_grain",
    "seqp": "data_seqp",
    "hypersequence": "data_hypersequence",
    "tfrecord": "data_tfrecord",
    "datasets": "data_datasets",
    "datasets (numpy)": "data_datasets_numpy",
    "lance": "data_lance",
}


@functools.cache
def folder():
    """This process's temporary folder; it goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="kseq-bench-")


@functools.cache
def written(system, kind, quick, size):
    """Write a system's file of one kind of data, once a process: (its folder, the seconds it took)."""
    import data_common

    path = os.path.join(folder().name, f"{kind}{size or ''}")
    os.mkdir(path)
    data = data_common.make_data(kind, quick)
    start = time.perf_counter()
    try:
        importlib.import_module(MODULES[system]).write(path, data, size or 64)
    except Exception:  # the next case is to meet the same error, not what is left of this one
        shutil.rmtree(path)
        raise
    return path, time.perf_counter() - start


def prepare(system, case, quick):
    """Write the file if it is not there, read and check one epoch, and give the round of the case."""
    import data_common

    data_common.pin()
    module = importlib.import_module(MODULES[system])
    name, order = case.split("/")
    kind, size = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz") or 64)
    data = data_common.make_data(kind, quick)
    seconds = 0.3 if quick else 1.0
    # the batch size is a property of the file in one of the formats only
    path, spent = written(system, kind, quick, size if system == "hypersequence" else None)
    if order == "write":
        data_common.check(module.read(path, data, size, "sequential")(), data, size, "sequential")
        return writing(module, data, int(len(data) * min(1, seconds / spent)))
    epoch = module.read(path, data, size, order)
    data_common.check(epoch(), data, size, order)
    measure = data_common.reading(epoch, data, size, seconds)
    return lambda: {"records_per_s": measure()}


def writing(module, data, count):
    """The round of a writing case: `count` records (all, or as many as take about a second) into a new file."""
    data = data.head(count)

    def measure():
        path = tempfile.mkdtemp(dir=folder().name)
        try:
            start = time.perf_counter()
            module.write(path, data, 64)
            return {"records_per_s": count / (time.perf_counter() - start)}
        finally:
            shutil.rmtree(path)

    return measure


if __name__ == "__main__":
    Bench(
        "data",
        prepare,
        cases=CASES,
        systems=SYSTEMS,
        metrics={"records_per_s": "higher"},
        baseline="kseq",
        rounds=(5, 3),
    ).main()
