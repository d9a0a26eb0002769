"""Microseconds per streaming step: one frame [B, 1, D] of NumPy in, one out, state kept between, on the processor.

    python bench/bench_step.py [--quick] [--json] [--only "A/*"] [--systems "kseq*"]

Models A, B, C of `models.py` at batch 1 and 16. Each system runs the same weights in its own process on one thread
(`threads.py`) and has to agree with the float64 reference over 150 steps before it is timed. `sequence-layers` is its
jitted step; `sequence-layers (best)` adds donated state, closed-over weights and the ring buffer. `torch`,
`onnxruntime` and `litert` have variants, of which each case takes the fastest.

Cases that begin with `push ` are of kseq alone: what `Stream.push` adds to the compiled call that it ends in, of the
same NumPy and with its output read, by turns in one process.
"""

import statistics

import threads
from harness import Bench, System, median_us

XLA = ("jax", "jaxlib")
SYSTEMS = [
    System("kseq[jax]", threads.KSEQ["jax"], ("kseq", "keras", *XLA)),
    System("kseq[tensorflow]", threads.KSEQ["tensorflow"], ("kseq", "keras", "tensorflow")),
    System("kseq[torch]", threads.KSEQ["torch"], ("kseq", "keras", "torch")),
    System("sequence-layers", threads.JAX, ("sequence-layers", *XLA)),
    System("sequence-layers (best)", threads.JAX, ("sequence-layers", *XLA)),
    System("torch", threads.TORCH, ("torch",)),
    System("onnxruntime", threads.ONE, ("onnxruntime", "onnx", "torch")),
    System("litert", threads.TENSORFLOW, ("ai-edge-litert", "tensorflow")),
    System("tract", threads.ONE, ("tract", "onnx", "torch")),
]


PUSH = "push "


def candidates(system, model, batch, **options):
    """The steps of a system, as functions that make one; most have a single one. Options are the peer's."""
    if system.startswith("kseq"):
        import peer_kseq

        return [lambda: peer_kseq.step(model, batch)]
    if system.startswith("sequence-layers"):
        import peer_sequence_layers

        return [lambda: peer_sequence_layers.step(model, batch, best=system.endswith("(best)"))]
    if system == "torch":
        import peer_torch as peer
    elif system == "onnxruntime":
        import peer_onnxruntime as peer
    elif system == "tract":
        import peer_tract as peer
    else:
        import peer_litert as peer
    return [lambda variant=variant: peer.step(model, batch, variant, **options) for variant in peer.variants(model)]


def fastest(system, model, batch, chunk=1):
    """Microseconds of the fastest step of a system for chunks of so many frames, and the step, which was checked."""
    import models

    x, tried = models.frames(model, batch, chunk), []
    for make in candidates(system, model, batch):
        models.check_step(model, batch, step := make(), chunk)
        tried.append((median_us(lambda step=step: step(x), 20), step))
    return min(tried, key=lambda pair: pair[0])


def repeats(microseconds, quick):
    """How often a call that takes so long is timed in a round."""
    seconds = 0.1 if quick else 0.3
    return int(min(max(seconds * 1e6 / microseconds, 10), 2000))


def added(model, batch, quick):
    """What times a push beside the compiled call that it ends in."""
    import models
    import peer_kseq

    x, push = models.frames(model, batch, 1), peer_kseq.step(model, batch)
    models.check_step(model, batch, push)
    bare, turns = peer_kseq.bare(push, x), 3 if quick else 10

    def measure():
        pairs = [(median_us(lambda: push(x), 50, 5), median_us(bare, 50, 5)) for _ in range(turns)]
        return {"step_us": statistics.median(whole - call for whole, call in pairs)}

    return measure


def prepare(system, case, quick):
    """The system's step, timed on one frame."""
    import models

    model, batch = models.parse(case.removeprefix(PUSH))
    if case.startswith(PUSH):
        return added(model, batch, quick)
    x = models.frames(model, batch, 1)
    microseconds, step = fastest(system, model, batch)
    steps = repeats(microseconds, quick)
    return lambda: {"step_us": median_us(lambda: step(x), steps, min(steps, 20))}


def main():
    import models

    bench = Bench(
        "step",
        prepare,
        cases=[*models.cases(), *[PUSH + case for case in models.cases()]],
        systems=SYSTEMS,
        metrics={"step_us": "lower"},
        baseline="sequence-layers",
        has=lambda system, case: system.startswith("kseq") or not case.startswith(PUSH),
    )
    bench.main()


if __name__ == "__main__":
    main()
