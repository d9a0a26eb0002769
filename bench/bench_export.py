"""What exported steps cost where Keras is not: size, time, memory and error of every format and precision.

    python bench/bench_export.py [--quick] [--json] [--only "A/*"] [--systems "litert*"]

Models A, B, C of `models.py` at batch 1 and 16, each exported by a process of its own, on the backend that writes the
format, and streamed by `kseq.ExportedStream` in one that has no Keras: one frame [B, 1, D] in, one out. `p50_us`,
`p99_us` and `max_us` are of 100,000 steps (`--quick`: 2,000) on one thread; `first_ratio` is the first push after
loading, in medians; `load_s` is loading, with what warms up; `alloc_bytes` is what a step holds of Python's and NumPy's
memory at its height, `kept_bytes` what it keeps in the mean of many; `error` is the largest difference from the float64
reference, as a part of its largest number. On a machine that does something else p99 and max are that.
"""

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc

import threads
from harness import Bench, System, Unavailable, percentile

PRECISIONS = {
    "litert": ("float32", "float16", "int8_dynamic", "int8"),
    "onnx": ("float32", "float16", "int8"),
    "saved_model": ("float32",),
    "stablehlo": ("float32", "bfloat16"),
}
SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "saved_model": "", "stablehlo": ".stablehlo"}
WRITERS = {"litert": "tensorflow", "onnx": "torch", "saved_model": "tensorflow", "stablehlo": "jax"}
RUNS = {
    "litert": (threads.ONE, ("ai-edge-litert",)),
    "onnx": (threads.ONE, ("onnxruntime",)),
    "saved_model": (threads.TENSORFLOW, ("tensorflow",)),
    "stablehlo": (threads.JAX, ("jax", "jaxlib")),
}
SYSTEMS = [
    System(f"{form} {precision}", RUNS[form][0], ("kseq", *RUNS[form][1]))
    for form, precisions in PRECISIONS.items()
    for precision in precisions
]
METRICS = dict.fromkeys(
    ["p50_us", "p99_us", "max_us", "size_bytes", "error", "first_ratio", "load_s", "alloc_bytes", "kept_bytes"], "lower"
)
KEPT_STEPS = 1000


def prepare(system, case, quick):
    """The exported step, timed; the file is written by another process."""
    import models
    import numpy as np

    model, batch = models.parse(case)
    form, precision = system.split()
    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "step" + SUFFIXES[form])
    write_elsewhere(model, batch, form, precision, path)
    from kseq.runtime import ExportedStream

    x = models.frames(model, batch, models.CHECK_STEPS)
    frames = [np.ascontiguousarray(x[:, t : t + 1]) for t in range(x.shape[1])]
    before = time.perf_counter()
    stream = ExportedStream(path)
    load = time.perf_counter() - before
    before = time.perf_counter_ns()  # at once: what else is computed drives the weights from the cache
    first = stream.push(frames[0])
    first_us = (time.perf_counter_ns() - before) / 1e3
    got = np.concatenate([first, *[stream.push(frame) for frame in frames[1:]]], axis=1)
    want = models.reference(model, x)
    error = float(np.abs(got - want).max() / np.abs(want).max())
    steps = 2_000 if quick else 100_000

    def measure():
        assert folder.name  # is kept
        times, clock = [], time.perf_counter_ns
        for n in range(steps):
            frame = frames[n % len(frames)]
            start = clock()
            stream.push(frame)
            times.append((clock() - start) / 1e3)
        times.sort()
        return {
            "p50_us": percentile(times, 50),
            "p99_us": percentile(times, 99),
            "max_us": times[-1],
            "size_bytes": size_of(path),
            "error": error,
            "first_ratio": first_us / percentile(times, 50),
            "load_s": load,
            **memory(stream, frames[0]),
        }

    return measure


def memory(stream, frame):
    """What a step holds of Python's and NumPy's memory, in bytes: at its height, and afterwards."""
    tracemalloc.start()
    try:
        for _ in range(10):
            stream.push(frame)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        stream.push(frame)
        peak = tracemalloc.get_traced_memory()[1] - before
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(KEPT_STEPS):
            stream.push(frame)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return {"alloc_bytes": peak, "kept_bytes": kept / KEPT_STEPS}


def size_of(path):
    """Bytes of a file, or of all in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(path) for name in names)


def write_elsewhere(model, batch, form, precision, path):
    """Export in a process of the backend that writes the format."""
    command = [sys.executable, os.path.abspath(__file__), "--write", model, str(batch), form, precision, path]
    env = {**os.environ, **threads.KSEQ[WRITERS[form]]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["it said nothing"])[-1])


def write(model, batch, form, precision, path):
    """Export a model of the bench."""
    import models
    import peer_kseq

    import kseq

    frames = models.frames(model, int(batch), models.CHECK_STEPS, seed=2)
    calibration = [frames] if precision == "int8" and form == "litert" else None
    kseq.export(peer_kseq.build(model), path, form, int(batch), precision=precision, calibration=calibration)


def main():
    if sys.argv[1:2] == ["--write"]:
        return write(*sys.argv[2:])
    import models

    Bench(
        "export",
        prepare,
        cases=models.cases(),
        systems=SYSTEMS,
        metrics=METRICS,
        rounds=(1, 1),
        timeout=3600,  # 100,000 steps of C at batch 16 are many minutes
    ).main()


if __name__ == "__main__":
    main()
