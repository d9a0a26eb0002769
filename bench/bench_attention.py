"""Attention: steps and chunks of the four-block transformer, steps late in a stream, and whole sequences of a layer.

    python bench/bench_attention.py [--quick] [--json] [--only "step/*"] [--systems "kseq*"]

    step/B=16/window=128/chunk=1               model C of `models.py`, one frame a call
    chunk/B=1/window=128/chunk=160             the same, 160 frames a call
    late/B=1/window=128/chunk=1/at=100000      the same, one frame a call, from this position on
    forward/B=1/window=128/T=8000              attention alone (4 heads of 64, 256 channels) over a whole sequence
    train/B=1/window=128/T=8000                the same, the loss and its gradient by every weight

Metrics are the microseconds of a call, and the frames of one stream in a second. Models, threads and checks against the
float64 reference are those of `bench_step.py` and `bench_layers.py`. Whole sequences in `torch` are
`scaled_dot_product_attention` with a mask.
"""

import bench_layers
import bench_step
from harness import Bench, Unavailable, median_us

BATCHES, CHUNK, POSITIONS, LENGTHS = (1, 16), 160, (100, 100_000), (1000, 8000)
SYSTEMS = [system for system in bench_step.SYSTEMS if system.name not in ("kseq[tensorflow]", "kseq[torch]")]


def cases():
    import models

    window = f"window={models.WINDOW}"
    return [
        *(f"step/B={batch}/{window}/chunk=1" for batch in BATCHES),
        f"chunk/B=1/{window}/chunk={CHUNK}",
        *(f"late/B=1/{window}/chunk=1/at={position}" for position in POSITIONS),
        *(f"{task}/B=1/{window}/T={steps}" for steps in LENGTHS for task in ("forward", "train")),
    ]


def prepare(system, case, quick):
    """What a case says, checked, as a function that times it."""
    task, *sizes = case.split("/")
    sizes = {name: int(number) for name, number in (size.split("=") for size in sizes)}
    batch, frames = sizes["B"], sizes.get("chunk") or sizes["T"]
    if task in ("forward", "train"):
        measure = whole(system, task, f"local/T={frames}", batch, quick)
    elif task == "late":
        measure = late(system, batch, sizes["at"])
    else:
        measure = step(system, batch, frames, quick)

    def measured():
        microseconds = measure()
        return {"us": microseconds, "frames_per_second": frames * 1e6 / microseconds}

    return measured


def step(system, batch, chunk, quick):
    """Calls of some frames."""
    import models

    if chunk > 1 and not takes_chunks(system):
        raise Unavailable("its step is written for one frame")
    x = models.frames("C", batch, chunk)
    microseconds, call = bench_step.fastest(system, "C", batch, chunk)
    count = bench_step.repeats(microseconds, quick)
    return lambda: median_us(lambda: call(x), count, min(count, 20))


def takes_chunks(system):
    return system.startswith(("kseq", "sequence-layers"))


def late(system, batch, position):
    """Few calls of one frame, which stay near the position; a peer whose step has a position argument begins there."""
    import models

    x, tried = models.frames("C", batch, 1), []
    if takes_chunks(system):
        steps = [make() for make in bench_step.candidates(system, "C", batch)]
        chunk = models.frames("C", batch, CHUNK)
        for call in steps:
            for _ in range(position // CHUNK):
                call(chunk)
            for _ in range(position % CHUNK):
                call(x)
    else:
        steps = [make() for make in bench_step.candidates(system, "C", batch, position=position)]
    for call in steps:
        tried.append((median_us(lambda call=call: call(x), 20), call))
    _, call = min(tried, key=lambda pair: pair[0])
    return lambda: median_us(lambda: call(x), 50, 5)


def whole(system, task, model, batch, quick):
    """A layer over a whole sequence."""
    import layer_models

    if system == "torch":
        import peer_torch

        x, kernels = layer_models.signal(model, batch), layer_models.attention_kernels()
        call = peer_torch.local_attention(task, kernels, x)
        bench_layers.check(model, task, call(), kernels, x)
        timed = bench_layers.rounds_of(bench_layers.milliseconds(call), call, quick)
    else:
        if system.startswith("kseq"):
            candidates = [layer_models.ours(model, bench_layers.pure)]
        elif system == "sequence-layers":
            candidates = [layer_models.theirs(model, block_size) for block_size in (64, 128)]
        else:
            raise Unavailable("its step alone differs" if "best" in system else "it runs steps that others have made")
        timed = bench_layers.prepare_task(candidates, model, task, batch, quick)
    return lambda: timed()["ms"] * 1e3


def main():
    bench = Bench(
        "attention",
        prepare,
        cases=cases(),
        systems=SYSTEMS,
        metrics={"us": "lower", "frames_per_second": "higher"},
        baseline="sequence-layers",
        rounds=(7, 3),
    )
    bench.main()


if __name__ == "__main__":
    main()
