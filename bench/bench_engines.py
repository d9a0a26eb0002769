"""Microseconds per streaming step of `kseq.Stream(engine=...)` beside what others take: one run, one table.

    python bench/bench_engines.py [--quick] [--json] [--only "A/*"] [--systems "kseq*"]

As `bench_step.py` in all: models A, B, C at batch 1 and 16, the same weights, checked against a float64 reference, one
thread each, systems interleaved in rounds. `kseq xla` is the step that jax compiles, `kseq auto` the engine that
`engine="auto"` finds the fastest. `torch`, `onnxruntime` and `litert` are steps written by hand, of which each case
takes the fastest variant. Cases that end in `/T=160` push 160 frames at a time. `error` is the largest difference of
kseq's outputs from the reference, as a part of its largest number: float32 must be within 1e-4, integers are timed as
they are.
"""

import threads
from bench_step import SYSTEMS as OTHERS
from bench_step import fastest, repeats
from harness import Bench, System, median_us

ENGINES = ("xla", "onnxruntime", "litert", "auto", "onnxruntime int8", "litert int8", "auto int8")
PACKAGES = ("kseq", "keras", "jax", "jaxlib", "onnxruntime", "ai-edge-litert")
SYSTEMS = [System(f"kseq {engine}", threads.KSEQ["jax"], PACKAGES) for engine in ENGINES]
SYSTEMS += [s for s in OTHERS if not s.name.startswith("kseq")]
LONG = "/T=160"


def prepare(system, case, quick):
    """The system's step, timed on one chunk."""
    import models

    chunk = 160 if case.endswith(LONG) else 1
    model, batch = models.parse(case.removesuffix(LONG))
    x = models.frames(model, batch, chunk)
    if system.startswith("kseq "):
        import peer_kseq

        _, engine, *precision = system.split()
        step = peer_kseq.step(model, batch, engine=engine, precision=(precision or [None])[0])
        error = error_of(model, batch, step, chunk)
        if not precision and not error < models.TOLERANCE:
            raise ValueError(f"model {model} is off the reference by {error:.1e}")
        microseconds, given = median_us(lambda: step(x), 50 if chunk == 1 else 5), {"error": error}
    else:
        (microseconds, step), given = fastest(system, model, batch), {}
    steps = repeats(microseconds, quick)
    return lambda: {"step_us": median_us(lambda: step(x), steps, min(steps, 20)), **given}


def error_of(model, batch, step, chunk):
    """The largest difference of what a step gives, from its beginning on, as a part of the largest right number."""
    import models
    import numpy as np

    x = models.frames(model, batch, max(models.CHECK_STEPS // chunk, 2) * chunk)
    got = np.concatenate([np.array(step(x[:, t : t + chunk])) for t in range(0, x.shape[1], chunk)], axis=1)
    want = models.reference(model, x)
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def main():
    import models

    Bench(
        "engines",
        prepare,
        cases=models.cases() + [case + LONG for case in models.cases()],
        systems=SYSTEMS,
        metrics={"step_us": "lower", "error": "lower"},
        baseline="kseq xla",
        has=lambda system, case: system.startswith("kseq ") or not case.endswith(LONG),
    ).main()


if __name__ == "__main__":
    main()
