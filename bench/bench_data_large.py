"""A store of 2 GB: time to the first batch, memory of its own, batches per second of a first epoch.

    python bench/bench_data_large.py [--quick] [--json] [--only "sequential/*"] [--store FOLDER]

8,384,000 int32 sequences with 500 million tokens, written with `Writer.write_batch` into a temporary folder (TMPDIR
chooses where), or into FOLDER, where it is kept and found again. Every measurement is a fresh process, on one core:

`cold` and `warm`: milliseconds from `open` to the first batch of 64, with the store's pages dropped from the page
cache or read before. Imports are excluded: the process has opened a store of a few records in the same way before.
`epoch`: `private_mb` is how far the memory that is the process's own (anonymous, so neither mapped files nor page
cache) rises at most from before `open` to the end of the epoch, `private_before_mb` and `private_after_mb` what it is
then; `batches_per_s` is counted from the first batch. --quick takes fewer rounds, and of the shuffled epoch 5,000
batches; the check of all records is then of the sequential epoch only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import threads
from harness import System, choose, describe_machine, make_row, print_table, progress

RECORDS, CHUNK = 8_384_000, 64_000  # whole batches: the last is otherwise filled with records that came before
BATCH = 64
ORDERS = ("sequential", "shuffled")
CASES = [f"{order}/{what}" for order in ORDERS for what in ("cold", "warm", "epoch")]
METRICS = {
    "first_batch_ms": "lower",
    "private_mb": "lower",
    "private_before_mb": "lower",
    "private_after_mb": "lower",
    "batches_per_s": "higher",
}
SYSTEM = System("kseq", threads.KSEQ["jax"], ("kseq", "keras", "numpy", "pyarrow"))
TIMEOUT = 1800  # seconds of one process


def main():
    parser = argparse.ArgumentParser(prog="bench_data_large.py", description="The bench of a large store.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a part of the shuffled epoch")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", action="append", metavar="CASE", help="a case or a glob of cases; repeatable")
    parser.add_argument("--store", metavar="FOLDER", help="keep the store here, and use it if it is there")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return print(json.dumps(work(args.worker, args.folder, args.quick)))
    cases = choose(parser, "--only", args.only, CASES)
    machine = describe_machine([SYSTEM])
    with tempfile.TemporaryDirectory(prefix="kseq-bench-") as temporary:
        rows = run(cases, args.store or temporary, args.quick)
    progress("")
    report = {"bench": "data_large", "machine": machine, "rows": rows}
    if args.json:
        print(json.dumps(report))
    else:
        print_table(report)


def run(cases, folder, quick):
    """Build and check the store, then measure every case in rounds; returns the rows."""
    values, reasons = {case: [] for case in cases}, {}
    for what in ("build", *(f"{order}/check" for order in ORDERS if not quick or order == "sequential")):
        progress(what)
        reason = ask(what, folder, quick).get("reason")
        if reason:  # a store that is not there or not right has no numbers, in any order of reading
            return [row for case in cases for row in rows_of(case, [], f"{what}: {reason}")]
    for turn in range(2 if quick else 5):
        for case in cases:
            if case in reasons or (case.endswith("epoch") and turn >= (1 if quick else 3)):
                continue
            progress(f"{case}: round {turn + 1}")
            reason = prepare_cache(folder, cold=case.endswith("cold"))
            answer = {"reason": reason} if reason else ask(case, folder, quick)
            if "reason" in answer:
                reasons[case] = answer["reason"]
            else:
                values[case].append(answer)
    return [row for case in cases for row in rows_of(case, values[case], reasons.get(case))]


def rows_of(case, values, reason):
    """A case's rows: the first batch's time, or what an epoch gives."""
    metrics = [name for name in METRICS if (name == "first_batch_ms") != case.endswith("epoch")]
    return [
        make_row(case, SYSTEM.name, name, [value[name] for value in values if name in value], METRICS[name], reason)
        for name in metrics
    ]


def ask(what, folder, quick):
    """Have a fresh process do `what`; its answer, with "reason" where it failed."""
    command = [sys.executable, os.path.abspath(__file__), "--worker", what, "--folder", folder] + ["--quick"] * quick
    try:
        done = subprocess.run(
            command, env={**os.environ, **SYSTEM.env}, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"no answer in {TIMEOUT} s"}
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["nothing on stderr"]
    if done.returncode:
        return {"reason": f"status {done.returncode}: {lines[-1][:300]}"}
    return json.loads(lines[-1])


def store_files(folder):
    """The files of the store."""
    for place, _, names in os.walk(os.path.join(folder, "store")):
        yield from (os.path.join(place, name) for name in names)


def prepare_cache(folder, cold):
    """Drop the store's pages from the page cache, or read them into it; the reason where that is impossible."""
    if cold and not hasattr(os, "posix_fadvise"):
        return "this system cannot drop files from the page cache"
    for path in store_files(folder):
        with open(path, "rb", buffering=0) as file:
            if cold:
                os.fsync(file.fileno())  # pages that are not on the disk yet would stay
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                buffer = bytearray(1 << 22)
                while file.readinto(buffer):
                    pass
    return None


def work(what, folder, quick):
    """What a process does."""
    import data_common

    data_common.pin()
    if what == "build":
        return build(folder)
    order, what = what.split("/")
    if what == "check":
        return check(folder, order)
    first_batch(os.path.join(folder, "few"), order)  # imports, and whatever else happens once
    if what == "epoch":
        return epoch(folder, order, 5000 if quick and order == "shuffled" else None)
    milliseconds, _, _ = first_batch(os.path.join(folder, "store"), order)
    return {"first_batch_ms": milliseconds}


def build(folder):
    """Write both stores, unless they are there, and what the large one holds, for the check."""
    facts = os.path.join(folder, "facts.json")
    if os.path.exists(facts):  # which is written last
        return {}
    os.makedirs(folder, exist_ok=True)
    write(os.path.join(folder, "few"), 1, 1000)
    records, tokens, total = write(os.path.join(folder, "store"), RECORDS // CHUNK, CHUNK)
    with open(facts, "w") as file:
        json.dump({"records": records, "tokens": tokens, "total": total}, file)
    return {}


def write(path, chunks, size):
    """A store of `chunks` times `size` sequences: number of records, of tokens, and the sum of all tokens."""
    import data_common
    import numpy as np

    import kseq
    import kseq.data as kd

    tokens = total = 0
    with kd.Writer(path, {"tokens": kd.Field("int32", (None,))}) as writer:
        for seed in range(chunks):
            data = data_common.make_tokens(size, seed)
            offsets = np.concatenate([[0], np.cumsum(data.lengths)])
            writer.write_batch({"tokens": kseq.Ragged(data.values, offsets)})
            tokens += len(data.values)
            total += int(data.values.sum(dtype=np.int64))
    return chunks * size, tokens, total


def make_batches(path, order):
    import kseq.data as kd

    store = kd.open(path)
    if order == "sequential":
        return store.batches(batch_size=BATCH, inputs="tokens", shuffle=False, bucket=False, pad_to="max")
    return store.batches(batch_size=BATCH, inputs="tokens", shuffle=True, seed=0)


def first_batch(path, order):
    """Milliseconds from `open` to the first batch, that batch, and the iterator over the others."""
    import time

    start = time.perf_counter()
    batches = iter(make_batches(path, order))
    ((values, mask),) = next(batches)  # of Keras's (inputs,)
    milliseconds = (time.perf_counter() - start) * 1e3
    if values.shape != mask.shape or not mask[:, 0].any():
        raise ValueError(f"the first batch is no batch: shapes {values.shape} and {mask.shape}")
    return milliseconds, (values, mask), batches


def check(folder, order):
    """Compare one epoch with what was written: records, tokens and their sum."""
    import numpy as np

    with open(os.path.join(folder, "facts.json")) as file:
        wanted = json.load(file)
    records = tokens = total = 0
    for ((values, mask),) in make_batches(os.path.join(folder, "store"), order):
        records += int(mask[:, 0].sum())
        tokens += int(mask.sum())
        total += int(values.sum(dtype=np.int64))  # padding is zero
    found = {"records": records, "tokens": tokens, "total": total}
    return {} if found == wanted else {"reason": f"the epoch has {found}, written were {wanted}"}


def epoch(folder, order, limit):
    """Batches per second and memory through an epoch, or through `limit` batches of it."""
    import time

    if not os.path.exists("/proc/self/status"):
        return {"reason": "only Linux tells a process's anonymous memory"}
    before = anonymous()
    peak = Peak()
    _, _, batches = first_batch(os.path.join(folder, "store"), order)
    count, start = 0, time.perf_counter()
    for _ in batches:
        count += 1
        if count == limit:
            break
    seconds = time.perf_counter() - start
    highest = peak.stop()
    return {
        "batches_per_s": count / seconds,
        "private_mb": highest - before,
        "private_before_mb": before,
        "private_after_mb": anonymous(),
    }


def anonymous():
    """Megabytes of anonymous memory.

    It is the `Anonymous` line of smaps_rollup, private pages less those of mapped files, from a file that is read in
    microseconds: smaps_rollup walks all mapped pages, which would slow down what is measured.
    """
    with open("/proc/self/status") as status:
        kilobytes = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return kilobytes * 1024 / 1e6


class Peak:
    """A thread that watches anonymous memory every 5 ms."""

    def __init__(self):
        import threading

        self.highest, self.done = anonymous(), threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.done.wait(0.005):
            self.highest = max(self.highest, anonymous())

    def stop(self):
        self.done.set()
        self.thread.join()
        return max(self.highest, anonymous())


if __name__ == "__main__":
    main()
