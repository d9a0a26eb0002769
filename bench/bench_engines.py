"""Microseconds per streaming step of `kseq.Stream(engine=...)` beside what others take: one run, one table.

    python bench/bench_engines.py [--quick] [--json] [--only "A/*"] [--systems "kseq*"]

As `bench_step.py` in all: models A, B, C at batch 1 and 16, the same weights, checked against a float64 reference, one
thread each, systems interleaved in rounds. `kseq xla` is the step that jax compiles, `kseq auto` the engine that
`engine="auto"` finds the fastest. `torch`, `onnxruntime` and `litert` are steps written by hand, of which each case
takes the fastest variant.
"""

import threads
from bench_step import SYSTEMS as OTHERS
from bench_step import fastest, repeats
from harness import Bench, System, median_us

ENGINES = ("xla", "onnxruntime", "litert", "auto")
PACKAGES = ("kseq", "keras", "jax", "jaxlib", "onnxruntime", "ai-edge-litert")
SYSTEMS = [System(f"kseq {engine}", threads.KSEQ["jax"], PACKAGES) for engine in ENGINES]
SYSTEMS += [s for s in OTHERS if not s.name.startswith("kseq")]


def prepare(system, case, quick):
    """The system's step, timed on one frame."""
    import models

    model, batch = models.parse(case)
    x = models.frames(model, batch, 1)
    if system.startswith("kseq "):
        import peer_kseq

        step = peer_kseq.step(model, batch, engine=system.split()[1])
        models.check_step(model, batch, step)
        microseconds = median_us(lambda: step(x), 50)
    else:
        microseconds, step = fastest(system, model, batch)
    steps = repeats(microseconds, quick)
    return lambda: {"step_us": median_us(lambda: step(x), steps, min(steps, 20))}


def main():
    import models

    Bench(
        "engines",
        prepare,
        cases=models.cases(),
        systems=SYSTEMS,
        metrics={"step_us": "lower"},
        baseline="kseq xla",
    ).main()


if __name__ == "__main__":
    main()
