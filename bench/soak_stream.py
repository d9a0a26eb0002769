"""Whether streams grow: resident memory over many pushes, and over many streams made, pushed and deleted.

    python bench/soak_stream.py [--backend jax] [--pushes 20000] [--streams 1000] [--json]

Each backend runs in a process of its own. Growth is counted from after the warm-up: a fifth of the work, in which
everything is compiled and allocators take what they keep. A row is over its limit, and the exit status 1, where the
rest grew by more than `--limit` MiB (1,000 streams that each kept 5 KiB), or three times that where weights change.
"""

import argparse
import contextlib
import gc
import json
import os
import subprocess
import sys
import time

import threads

BACKENDS = ("jax", "tensorflow", "torch")
CHUNKS = (1, 3, 1, 7, 0, 2, 16, 1)


def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def model_of():
    import keras

    import kseq

    x = keras.Input((None, 4))
    y = kseq.Conv1D(8, 3, padding="reverse_causal")(x)
    y = keras.layers.Dropout(0.1)(y, training=True)
    y = kseq.GRU(8)(kseq.SelfAttention(2, 4, max_past_horizon=6, max_future_horizon=1)(y))
    return keras.Model(x, y)


def pushes(count):
    """One stream, pushed again and again, with chunks that are refused, and begun anew now and then."""
    import numpy as np

    import kseq

    stream = kseq.Stream(model_of())
    chunks = [np.random.default_rng(n).normal(size=(n, 4)).astype("float32") for n in CHUNKS]
    for i in range(count):
        stream.push(chunks[i % len(chunks)])
        if i % 100 == 50:
            with contextlib.suppress(ValueError):
                stream.push(np.zeros((1, 5)))
        if i % 500 == 499:
            stream.flush()
        yield


def streams(count):
    """Streams of one model, one after the other."""
    import numpy as np

    import kseq

    model, x = model_of(), np.ones((1, 4), "float32")
    for _ in range(count):
        kseq.Stream(model).push(x)
        yield


def versions(count):
    """The same with other weights each time: on jax each compiles, so memory comes and goes."""
    import numpy as np

    import kseq

    model, x = model_of(), np.ones((1, 4), "float32")
    kernel = model.trainable_variables[0]
    for _ in range(count):
        kseq.Stream(model).push(x)
        kernel.assign(kernel.value * 0.99)
        yield


def soak(work, count):
    """Memory before and after all but the first fifth of some work, and its seconds."""
    steps, part = work(count), count // 20
    for _ in range(4 * part):
        next(steps)
    gc.collect()
    before, started = resident_mib(), time.perf_counter()
    for i, _ in enumerate(steps):
        if i % part == 0:
            gc.collect()  # layers are in cycles: what waits to be collected is no growth
    gc.collect()
    return {"before_mib": before, "after_mib": resident_mib(), "seconds": time.perf_counter() - started}


def run(backend, args):
    """Rows of one backend, measured in this process."""
    if backend == "torch":
        import torch

        torch.set_num_threads(1)
    rows = []
    for work, count, limit in (
        (pushes, args.pushes, args.limit),
        (streams, args.streams, args.limit),
        (versions, max(args.streams // 10, 20), 3 * args.limit),
    ):
        found = soak(work, count)
        grown = found["after_mib"] - found["before_mib"]
        row = {"backend": backend, "case": work.__name__, "count": count, **found, "grown_mib": grown}
        rows.append({**row, "limit_mib": limit, "ok": grown <= limit})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="repeatable; default: all")
    parser.add_argument("--pushes", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--limit", type=float, default=4.0, metavar="MIB", help="growth that is still none")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", choices=BACKENDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(run(args.worker, args)))
        return
    rows = []
    for backend in args.backend or BACKENDS:
        options = [f"--{name}={getattr(args, name)}" for name in ("pushes", "streams", "limit")]
        command = [sys.executable, __file__, f"--worker={backend}", *options]
        done = subprocess.run(command, env=os.environ | threads.KSEQ[backend], stdout=subprocess.PIPE, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    if args.json:
        print(json.dumps({"bench": "soak_stream", "rows": rows}))
    else:
        for row in rows:
            memory = f"{row['before_mib']:8.1f} ->{row['after_mib']:8.1f} MiB: {row['grown_mib']:+6.2f}"
            verdict = "ok" if row["ok"] else f"OVER {row['limit_mib']} MiB"
            print(f"{row['backend']:11}{row['count']:6} {row['case']:8}{memory} in {row['seconds']:.0f} s", verdict)
    sys.exit(not all(row["ok"] for row in rows))


if __name__ == "__main__":
    main()
