"""What record stores notice of damage, and what is left when their writer is killed: kseq beside its peers.

    python bench/bench_data_durability.py [--quick] [--flips N] [--json] [--only flip] [--systems kseq]

4000 int32 sequences (mean length about 60; for hypersequence all of length 60), written one by one. The cases:

`flip`: a random bit of a random byte of the store's files is changed, in a fresh copy, and all records are read: 20
times (--quick: 5; --flips N), at the same shares of the size for every system. Few of them hit what is no data, such
as the offsets of Arrow's lists, where a reader may crash: hundreds show that. `detected` is an error, `silent` other
records than those that were written and no error, `harmless` the right records, `crashed` a process that died of a
signal or did not end.
`truncated`: the largest file is cut at 60 %: how many of the first records are right, and whether there was an error.
`killed`: SIGKILL after the last record was written, before the writer is closed: how many records can be read. kseq's
stores are repaired first. A buffer that a writer fills before it writes is lost, as is kseq's chunk of 16 MB, larger
than these data: beside it is a writer that commits every 300 records.

`kseq` opens a store as it is, `kseq (verified)` compares checksums. Every read is a process of its own, since some
readers crash. array_record is asked for its number of records and for these, as grain does. Of kseq's TFRecord sink
that was killed, the file is read that it was writing aside.
"""

import argparse
import functools
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import threads
from harness import System, choose, describe_machine, explain, progress

RECORDS, LENGTH, GROUP = 4000, 60, 100  # GROUP: records in a batch of those formats that have batches
COMMIT = 300
CASES = ["flip", "truncated", "killed"]
METRICS = {
    "flip": {"detected": "higher", "silent": "lower", "harmless": "higher", "crashed": "lower"},
    "truncated": {"records": "higher", "error": "higher", "crashed": "lower"},
    "killed": {"records": "higher", "error": "lower", "crashed": "lower"},
}
KSEQ = ("kseq", "numpy", "pyarrow", "xxhash")
SYSTEMS = [
    System("kseq", threads.KSEQ["jax"], KSEQ),
    System("kseq (verified)", threads.KSEQ["jax"], KSEQ),
    System("kseq (commits)", threads.KSEQ["jax"], KSEQ),
    System("tfrecord/tensorflow", threads.TENSORFLOW, ("tensorflow",)),
    System("tfrecord/kseq", threads.KSEQ["jax"], KSEQ),
    System("tfrecord/tfrecord", threads.ONE, ("tfrecord", "crc32c")),
    System("array_record", threads.ONE, ("array_record",)),
    System("arrow", threads.ONE, ("pyarrow",)),
    System("parquet", threads.ONE, ("pyarrow",)),
    System("parquet (checksums)", threads.ONE, ("pyarrow",)),
    System("hypersequence", threads.TENSORFLOW, ("hypersequence",)),
]
TIMEOUT = 60  # seconds of one read


def has(system, case):
    """Whether a system is part of a case."""
    return {"kseq (verified)": case != "killed", "kseq (commits)": case == "killed"}.get(system, True)


# The systems: each a function that imports what it needs and gives `write(folder, records)`, a generator that stops
# once before it closes its writer, `read(folder)`, an iterable of arrays, and `rescue(folder)` or None, done before a
# store is read whose writer was killed.


def use_kseq(verify=False, commit=None):
    import kseq.data as kd

    def write(folder, records):
        writer = kd.Writer(folder / "store", {"tokens": ("int32", (None,))})
        for number, record in enumerate(records, 1):
            writer.write({"tokens": record})
            if commit and number % commit == 0:
                writer.commit()
        yield
        writer.close()

    def read(folder):
        return (record["tokens"] for record in kd.open(folder / "store", verify=verify))

    return write, read, lambda folder: kd.repair(folder / "store")


def use_tensorflow():
    import numpy as np
    import tensorflow as tf

    def write(folder, records):
        writer = tf.io.TFRecordWriter(str(folder / "data.tfrecord"))
        for record in records:
            writer.write(record.tobytes())
        yield
        writer.close()

    def read(folder):
        stream = tf.data.TFRecordDataset(str(folder / "data.tfrecord")).as_numpy_iterator()
        return (np.frombuffer(record, np.int32) for record in stream)

    return write, read, None


def use_kseq_tfrecord():
    from kseq.data import Schema, formats

    schema = Schema({"tokens": ("int32", (None,))})

    def write(folder, records):
        sink = formats.write(folder / "data.tfrecord", schema)
        for record in records:
            sink.write({"tokens": record})
        yield
        sink.close()

    def read(folder):
        return (record["tokens"] for record in formats.read(folder / "data.tfrecord", schema=schema))

    def rescue(folder):
        (aside,) = folder.glob(".data.tfrecord.*")
        aside.rename(folder / "data.tfrecord")

    return write, read, rescue


def use_tfrecord():
    import numpy as np
    from tfrecord.reader import tfrecord_loader
    from tfrecord.writer import TFRecordWriter

    def write(folder, records):
        writer = TFRecordWriter(str(folder / "data.tfrecord"))
        for record in records:
            writer.write({"tokens": (record.tobytes(), "byte")})
        yield
        writer.close()

    def read(folder):
        stream = tfrecord_loader(str(folder / "data.tfrecord"), None, {"tokens": "byte"})
        return (np.frombuffer(example["tokens"], np.int32) for example in stream)

    return write, read, None


def use_array_record():
    import numpy as np
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    def write(folder, records):
        writer = ArrayRecordWriter(str(folder / "data.array_record"), "group_size:1,uncompressed")
        for record in records:
            writer.write(record.tobytes())
        yield
        writer.close()

    def read(folder):
        reader = ArrayRecordReader(str(folder / "data.array_record"))
        count = reader.num_records()
        return (np.frombuffer(record, np.int32) for record in (reader.read(0, count) if count else ()))

    return write, read, None


def arrow_batches(records):
    """Batches of an Arrow column of lists."""
    import pyarrow as pa

    for start in range(0, len(records), GROUP):
        tokens = pa.array(records[start : start + GROUP], pa.list_(pa.int32()))
        yield pa.RecordBatch.from_arrays([tokens], ["tokens"])


def use_arrow():
    import pyarrow as pa

    def write(folder, records):
        with open(folder / "data.arrow", "wb", buffering=0) as file:
            writer = None
            for batch in arrow_batches(records):
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch)
            yield
            writer.close()

    def read(folder):
        column = pa.ipc.open_file(pa.memory_map(str(folder / "data.arrow"))).read_all()["tokens"]
        return (row.values.to_numpy() for chunk in column.chunks for row in chunk)

    return write, read, None


def use_parquet(checksums):
    import pyarrow.parquet as pq

    def write(folder, records):
        writer = None
        for batch in arrow_batches(records):
            if writer is None:
                path = str(folder / "data.parquet")
                writer = pq.ParquetWriter(path, batch.schema, write_page_checksum=checksums)
            writer.write_batch(batch)
        yield
        writer.close()

    def read(folder):
        table = pq.read_table(str(folder / "data.parquet"), page_checksum_verification=checksums)
        return (row.values.to_numpy() for chunk in table["tokens"].chunks for row in chunk)

    return write, read, None


def use_hypersequence():
    from hypersequence import HyperSequenceFile, HyperSequenceWriter

    def write(folder, records):
        writer = HyperSequenceWriter(str(folder / "data.hsq"), batch_size=GROUP)
        for record in records:
            writer.append(inputs=record, outputs=record[:1])
        yield
        writer.close()

    def read(folder):
        file = HyperSequenceFile(str(folder / "data.hsq"))
        return (row for i in range(len(file)) for row in file[i][0])

    return write, read, None


USE = {
    "kseq": use_kseq,
    "kseq (verified)": functools.partial(use_kseq, verify=True),
    "kseq (commits)": functools.partial(use_kseq, commit=COMMIT),
    "tfrecord/tensorflow": use_tensorflow,
    "tfrecord/kseq": use_kseq_tfrecord,
    "tfrecord/tfrecord": use_tfrecord,
    "array_record": use_array_record,
    "arrow": use_arrow,
    "parquet": functools.partial(use_parquet, False),
    "parquet (checksums)": functools.partial(use_parquet, True),
    "hypersequence": use_hypersequence,
}


# A system's process: it imports, and forks itself for everything else.


def make_records(system):
    import numpy as np
    from data_common import make_tokens

    if system == "hypersequence":
        return list(np.random.default_rng(0).integers(0, 32_000, (RECORDS, LENGTH), np.int32))
    return list(make_tokens(RECORDS))


def in_child(call, limit=TIMEOUT):
    """What `call()` returns in a process of its own, JSON values, or {"died": how} if it gave no answer."""
    incoming, outgoing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(incoming)
        with os.fdopen(outgoing, "w") as answer:
            signal.alarm(limit)  # which ends the process
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            answer.write(json.dumps(call()))
        os._exit(0)
    os.close(outgoing)
    with os.fdopen(incoming) as answer:
        text = answer.read()
    status = os.waitpid(child, 0)[1]
    if text:
        return json.loads(text)
    how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    return {"died": f"no end in {limit} s" if how == "SIGALRM" else how}


def write_all(write, folder, records):
    for _ in write(folder, records):
        pass


def write_and_die(write, folder, records):
    writing = write(folder, records)
    next(writing)  # held: writers that are let go of close themselves
    os.kill(os.getpid(), signal.SIGKILL)


def read_all(read, folder, records, rescue=None):
    """Read and compare: how many records came, how many of the first are right, and the error at the end if any."""
    import numpy as np

    count, right, error = 0, 0, None
    try:
        if rescue is not None:
            rescue(folder)
        for record in read(folder):
            if count == right and count < len(records) and np.array_equal(record, records[count]):
                right += 1
            count += 1
    except Exception as caught:
        error = explain(caught).replace(f"{folder}/", "")
    return {"count": count, "right": right, "error": error}


def flip(folder, rng):
    """Change one bit of one of the files, and say which."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    place = int(rng.random() * sum(path.stat().st_size for path in files))
    bit = rng.randrange(8)
    for path in files:
        size = path.stat().st_size
        if place < size:
            break
        place -= size
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
    return f"{path.name} byte {place} bit {bit}"


def outcome(answer):
    """What a read of a store with a changed bit came to."""
    if "died" in answer:
        return "crashed"
    if answer["error"] is not None:
        return "detected"
    return "harmless" if answer["count"] == answer["right"] == RECORDS else "silent"


def run_flip(read, folder, records, flips):
    rng, counts, notes = random.Random(0), dict.fromkeys(METRICS["flip"], 0), []
    for number in range(flips):
        copy = folder.with_name(f"flip{number}")
        shutil.copytree(folder, copy)
        what = flip(copy, rng)
        answer = in_child(lambda copy=copy: read_all(read, copy, records))
        counts[outcome(answer)] += 1
        wrong = answer.get("error") and answer["count"] > answer["right"]
        how = answer.get("died") or answer["error"] or f"{answer['count']} records, the first {answer['right']} right"
        notes.append(f"{what}: {outcome(answer)}{', after wrong records' if wrong else ''}: {how}")
        shutil.rmtree(copy)
    return counts, notes


def run_one(case, read, rescue, folder, records):
    """The cases `truncated` and `killed`."""
    if case == "truncated":
        path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        os.truncate(path, path.stat().st_size * 6 // 10)
        rescue = None
    answer = in_child(lambda: read_all(read, folder, records, rescue))
    if "died" in answer:
        return {"records": 0, "error": 0, "crashed": 1}, [answer["died"]]
    notes = [answer["error"]] if answer["error"] else []
    if answer["count"] > answer["right"]:
        notes.append(f"{answer['count']} records came, of which the first {answer['right']} are right")
    return {"records": answer["right"], "error": int(answer["error"] is not None), "crashed": 0}, notes


def work(name, cases, flips):
    """All cases of one system: `{case: [values, notes]}` or `{case: reason}`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    answers = {}
    try:
        system, records = USE[name](), make_records(name)
    except Exception as error:
        return dict.fromkeys(cases, explain(error))
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="kseq-bench-") as temporary:
            folder = pathlib.Path(temporary, "data")
            folder.mkdir()
            if case == "killed":
                wrote = in_child(lambda folder=folder: write_and_die(system[0], folder, records))
                failed = None if wrote.get("died") == "SIGKILL" else wrote
            else:
                failed = in_child(lambda folder=folder: write_all(system[0], folder, records))
                whole = failed or in_child(lambda folder=folder: read_all(system[1], folder, records))
                failed = None if whole.get("right") == RECORDS == whole.get("count") else whole
            if failed is not None:
                answers[case] = f"what was written cannot be read: {failed}"
            elif case == "flip":
                answers[case] = run_flip(system[1], folder, records, flips)
            else:
                answers[case] = run_one(case, *system[1:], folder, records)
    return answers


# The parent.


def ask(system, cases, flips):
    """The answers of a system's process."""
    command = [sys.executable, os.path.abspath(__file__), "--worker", system.name, "--flips", str(flips)]
    command += [word for case in cases for word in ("--only", case)]
    limit = (10 + flips) * TIMEOUT
    try:
        done = subprocess.run(command, env={**os.environ, **system.env}, capture_output=True, text=True, timeout=limit)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(cases, f"no answer in {limit} s")
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        return dict.fromkeys(cases, f"the process ended with status {done.returncode}: {last[:200]}")


def rows_of(case, system, answer):
    """A case's rows of one system; the notes are what was seen, one a read."""
    values, notes = answer if isinstance(answer, list) else ({}, [answer])
    for metric, better in METRICS[case].items():
        row = {"case": case, "system": system, "metric": metric, "value": values.get(metric), "better": better}
        yield row if values else {**row, "reason": answer}
    if values and notes:
        yield {"case": case, "system": system, "metric": "notes", "value": notes}


def print_tables(report):
    machine = report["machine"]
    print(f"{report['bench']}: {machine['cpu']}, {machine['cores']} cores")
    print(", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items()))
    rows = {(row["case"], row["system"], row["metric"]): row for row in report["rows"]}
    for case in dict.fromkeys(row["case"] for row in report["rows"]):
        systems = list(dict.fromkeys(row["system"] for row in report["rows"] if row["case"] == case))
        width = max(map(len, systems))
        print(f"\n{case:{width + 2}}" + "".join(f"{metric:>10}" for metric in METRICS[case]))
        for system in systems:
            found = [rows[case, system, metric] for metric in METRICS[case]]
            line = f"  {system:{width}}"
            if found[0]["value"] is None:
                print(f"{line} {found[0]['reason']}")
                continue
            notes = rows.get((case, system, "notes"), {"value": [""]})["value"] if case != "flip" else [""]
            print(line + "".join(f"{row['value']:>10}" for row in found) + f"  {notes[0][:90]}".rstrip())


def main():
    parser = argparse.ArgumentParser(prog="bench_data_durability.py", description="The bench of damage and crashes.")
    parser.add_argument("--quick", action="store_true", help="fewer flips")
    parser.add_argument("--flips", type=int, metavar="N", help="so many flips")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with what each read came to")
    parser.add_argument("--only", action="append", metavar="CASE", help="a case or a glob of cases; repeatable")
    parser.add_argument("--systems", action="append", metavar="SYSTEM", help="a system or a glob; repeatable")
    parser.add_argument("--worker", metavar="SYSTEM", help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = choose(parser, "--only", args.only, CASES)
    flips = args.flips or (5 if args.quick else 20)
    if args.worker:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print
        json.dump(work(args.worker, cases, flips), answers)
        return answers.close()
    names = choose(parser, "--systems", args.systems, [system.name for system in SYSTEMS])
    systems, rows = [system for system in SYSTEMS if system.name in names], []
    machine, started = describe_machine(systems), time.monotonic()
    for system in systems:
        progress(f"{system.name}, {time.monotonic() - started:.0f} s")
        chosen = [case for case in cases if has(system.name, case)]
        answers = ask(system, chosen, flips) if chosen else {}
        rows += [row for case in chosen for row in rows_of(case, system.name, answers[case])]
    progress("")
    rows.sort(key=lambda row: CASES.index(row["case"]))  # stable: the order of the systems stays
    report = {"bench": "data_durability", "machine": machine, "rows": rows}
    if args.json:
        print(json.dumps(report))
    else:
        print_tables(report)


if __name__ == "__main__":
    main()
