"""kseq's record store: one `Writer.write` a record, batches from `store.batches`.

Its shuffled ragged batches are padded to one of 16 lengths at most, which costs cells but spares compilations; every
other system pads to the longest of each batch.
"""

import os

import kseq.data as kd


def write(folder, data, size):
    path = os.path.join(folder, "store")
    if data.kind == "ragged":
        with kd.Writer(path, {"tokens": kd.Field("int32", (None,))}) as writer:
            for row in data:
                writer.write({"tokens": row})
        return
    schema = {"x": kd.Field("float64", (10, 10)), "y": kd.Field("float64", (2, 10, 2))}
    with kd.Writer(path, schema) as writer:
        for x, y in data:
            writer.write({"x": x, "y": y})


def read(folder, data, size, order):
    store = kd.open(os.path.join(folder, "store"))
    if data.kind == "fixed":
        options = {"shuffle": {"sequential": False, "shuffled": True, "block": "block"}[order]}
        if order == "block":  # whole batches of neighbours, as hypersequence shuffles
            options |= {"block_size": size, "blocks_in_flight": 1}
        batches = store.batches(batch_size=size, inputs="x", targets="y", seed=0, **options)
        return lambda: batches
    if order == "sequential":
        batches = store.batches(batch_size=size, inputs="tokens", shuffle=False, bucket=False, pad_to="max")
    else:
        batches = store.batches(batch_size=size, inputs="tokens", shuffle=True, seed=0)
    return lambda: (sequence for (sequence,) in batches)  # of Keras's (inputs,)
