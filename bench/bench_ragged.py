"""Padding ragged rows: kseq beside keras, torch, tf.ragged and NumPy.

Cases: `short` is 4,096 rows of 5 to 30 int32, `wide` 64 rows of 20 to 400 frames of 80 float32. `list` starts from a
list of arrays and `ragged` from each system's flat storage (Keras has none: its list stands there too); `gather` takes
the rows in shuffled order. Every system's batch is checked before it is timed; kseq makes the mask as well.

`wide/into` fills arrays that exist already, and its metric `gb_s` counts bytes of the padded batch; there `numpy` is
`np.copyto` of a batch that is padded already, which no padding can be expected to beat.
"""

import os

from harness import Bench, System, Unavailable, median_us

CASES = ["short/list", "short/ragged", "short/gather", "wide/list", "wide/ragged", "wide/into"]


def make_rows(case):
    """The rows of a case, and the order in which `gather` takes them."""
    import numpy as np

    rng = np.random.default_rng(0)
    if case.startswith("short"):
        rows = [rng.integers(0, 1000, n).astype(np.int32) for n in rng.integers(5, 31, 4096)]
    else:
        rows = [rng.standard_normal((n, 80), np.float32) for n in rng.integers(20, 401, 64)]
    return rows, rng.permutation(len(rows))


def pad_plainly(rows):
    """The batch by assignment, row by row."""
    import numpy as np

    batch = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype)
    for i, row in enumerate(rows):
        batch[i, : len(row)] = row
    return batch


def kseq(rows, kind, order):

    os.environ.setdefault("KERAS_BACKEND", "jax")
    from kseq import _ext
    from kseq.ragged import Ragged, pad

    if not _ext.COMPILED:
        raise Unavailable("kseq was built without a compiler")
    flat = Ragged.from_rows(rows)
    if kind == "list":
        return lambda: pad(rows)[0]
    if kind == "gather":
        return lambda: flat.pad(order)[0]
    if kind == "into":
        out = flat.pad()
        return lambda: flat.pad(out=out)[0]
    return lambda: flat.pad()[0]


def keras(rows, kind, order):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from keras.utils import pad_sequences

    if kind == "gather":
        return lambda: pad_sequences([rows[i] for i in order], padding="post", dtype=rows[0].dtype)
    return lambda: pad_sequences(rows, padding="post", dtype=rows[0].dtype)


def torch(rows, kind, order):
    import torch
    from torch.nn.utils.rnn import pad_sequence

    torch.set_num_threads(1)
    if kind == "list":
        tensors = [torch.from_numpy(row) for row in rows]
        return lambda: pad_sequence(tensors, batch_first=True).numpy()
    if kind == "ragged":
        nested = torch.nested.nested_tensor([torch.from_numpy(row) for row in rows], layout=torch.jagged)
        return lambda: torch.nested.to_padded_tensor(nested, 0).numpy()
    raise Unavailable("torch's nested tensors cannot be indexed by many rows")


def tf_ragged(rows, kind, order):
    import numpy as np
    import tensorflow as tf

    if kind == "list":
        # tf.ragged.stack takes seconds for as many rows; this is its fast way from a list of arrays.
        def convert():
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
            return tf.RaggedTensor.from_row_lengths(np.concatenate(rows), lengths, validate=False).to_tensor().numpy()

        return convert
    flat = tf.RaggedTensor.from_row_lengths(np.concatenate(rows), [len(row) for row in rows])
    if kind == "gather":
        return lambda: tf.gather(flat, order).to_tensor().numpy()
    return lambda: flat.to_tensor().numpy()


def numpy(rows, kind, order):
    import numpy as np

    if kind == "list":
        return lambda: pad_plainly(rows)
    if kind == "into":
        batch = pad_plainly(rows)
        out = np.empty_like(batch)

        def copy():
            np.copyto(out, batch)
            return out

        return copy
    values = np.concatenate(rows)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])

    def scatter():
        starts, lengths = offsets[:-1], np.diff(offsets)
        if kind == "gather":
            starts, lengths = starts[order], lengths[order]
        steps = np.arange(lengths.max())
        mask = steps < lengths[:, None]
        batch = np.zeros((*mask.shape, *values.shape[1:]), values.dtype)
        batch[mask] = values[(starts[:, None] + steps)[mask]]
        return batch

    return scatter


SYSTEMS = {"kseq": kseq, "keras": keras, "torch": torch, "tf.ragged": tf_ragged, "numpy": numpy}


def prepare(system, case, quick):
    import numpy as np

    shape, kind = case.split("/")
    rows, order = make_rows(case)
    call = SYSTEMS[system](rows, kind, order)
    wanted = pad_plainly([rows[i] for i in order] if kind == "gather" else rows)
    np.testing.assert_array_equal(np.asarray(call()), wanted)
    calls = {"short": 40, "wide": 80}[shape] // (4 if quick else 1)

    def measure():
        us = median_us(call, calls, warmup=5)
        return {"us": us, "gb_s": wanted.nbytes / us / 1e3}

    return measure


def has(system, case):
    """`into` is kseq against `np.copyto`; everything else is for everybody."""
    return not case.endswith("/into") or system in ("kseq", "numpy")


if __name__ == "__main__":
    Bench(
        "ragged",
        prepare,
        cases=CASES,
        systems=[
            System("kseq", packages=("kseq", "numpy")),
            System("keras", packages=("keras",)),
            System("torch", packages=("torch",)),
            System("tf.ragged", packages=("tensorflow", "tensorflow-cpu"), env={"TF_CPP_MIN_LOG_LEVEL": "2"}),
            System("numpy", packages=("numpy",)),
        ],
        metrics={"us": "lower", "gb_s": "higher"},
        baseline="kseq",
        has=has,
    ).main()
