"""Recurrences on jax: streaming steps, and whole sequences forward and in training.

    python bench/bench_recurrence.py [--quick] [--json] [--only "*/lstm/*"] [--systems "kseq*"]

    step/lstm/B=1              one frame of each stream, NumPy to NumPy, the state kept between
    forward/gru/B=8/T=1000     a whole sequence
    train/mamba2/B=1/T=2000    the same, the loss (mean square of the outputs) and its gradient by every weight

The models are the table of `recurrence_models.py`. `sequential` is what kseq's layer computes when `lax.scan` runs its
step over the sequence, with jax's own gradient: what a layer gains by being parallel, or by a gradient of its own, is
the ratio to it. All systems share jax, the weights and one thread (`threads.py`). Outputs, and gradients along the
weights, are checked against a NumPy float64 reference, or against `sequential` where there is none, before timing.
"""

import threads
from harness import Bench, System, Unavailable, median_us

XLA = ("jax", "jaxlib")
SYSTEMS = [
    System("kseq[jax]", threads.KSEQ["jax"], ("kseq", "keras", *XLA)),
    System("sequential", threads.KSEQ["jax"], ("kseq", "keras", *XLA)),
    System("keras", threads.KSEQ["jax"], ("keras", *XLA)),
    System("sequence-layers", threads.KSEQ["jax"], ("sequence-layers", *XLA)),
    System("sequence-layers (best)", threads.KSEQ["jax"], ("sequence-layers", *XLA)),
    System("recurrentgemma", threads.KSEQ["jax"], ("recurrentgemma", *XLA)),
]
TOLERANCE = 1e-3  # of a derivative along the weights


def cases():
    from recurrence_models import MODELS

    order = "step", "forward", "train"
    found = [(name, *task.split("/", 1)) for name, model in MODELS.items() for task in model.tasks]
    return [f"{task}/{name}/{sizes}" for name, task, sizes in sorted(found, key=lambda case: order.index(case[1]))]


def parse(case):
    """`"train/lstm/B=8/T=1000"` -> `("train", the model, {"B": 8, "T": 1000})`."""
    from recurrence_models import MODELS

    task, name, *sizes = case.split("/")
    return task, MODELS[name], {key: int(value) for key, value in (size.split("=") for size in sizes)}


def has(system, case):
    """Whether a system has a model at all."""
    task, model, _ = parse(case)
    if task == "step":
        return system == "kseq[jax]" or system in model.steps
    return system in ("kseq[jax]", "sequential") or system in model.peers


def prepare(system, case, quick):
    task, model, sizes = parse(case)
    if task == "step":
        measure = prepare_step(system, model, sizes["B"], quick)
    else:
        measure = prepare_whole(system, model, task, frames(model, sizes["B"], sizes["T"]), quick)
    return lambda: {"us": measure()}


def frames(model, batch, steps):
    import numpy as np

    return np.random.default_rng(1).standard_normal((batch, steps, model.channels)).astype("float32")


def prepare_step(system, model, batch, quick):
    """Calls of one frame, after the outputs of as many as `models.py` asks for were checked."""
    import bench_step
    import models
    import numpy as np

    if system == "kseq[jax]":
        import kseq

        step = kseq.Stream(model.layer(), batch_size=batch).push
    else:
        step = model.steps[system](batch)
    x = frames(model, batch, models.CHECK_STEPS)
    got = np.concatenate([np.array(step(x[:, t : t + 1])) for t in range(x.shape[1])], axis=1)
    check_outputs(model, got, x)
    frame = x[:, :1]
    count = bench_step.repeats(median_us(lambda: step(frame), 20), quick)
    return lambda: median_us(lambda: step(frame), count, min(count, 20))


def prepare_whole(system, model, task, x, quick):
    """The forward pass, or the training step, after its result was checked."""
    import bench_layers
    import jax

    forward, weights = candidate(system, model)
    on_device = jax.device_put(x)
    call = bench_layers.compile_call(forward, weights, on_device, task)
    result = call()
    if task == "forward":
        check_outputs(model, result[:1], x[:1])
    else:
        check_derivative(model, result[1], weights, x)
    timed = bench_layers.rounds_of(bench_layers.milliseconds(call), call, quick)
    return lambda: timed()["ms"] * 1e3


def candidate(system, model):
    """`(forward, weights)` of a system."""
    import bench_layers

    if system == "kseq[jax]":
        return bench_layers.pure(model.layer())
    return sequential(model.layer()) if system == "sequential" else model.peers[system]()


def sequential(layer):
    """A built layer's step, scanned, as a pure function and its weights."""
    import jax
    import keras

    import kseq

    variables = layer.trainable_variables

    def forward(weights, x):
        def step(state, frame):
            y, state = layer.step(kseq.Sequence(frame[:, None]), state)
            return state, y.values[:, 0]

        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            state = layer.initial_state(x.shape[0], kseq.SequenceSpec(x.shape[2:], str(x.dtype)))
            _, y = jax.lax.scan(step, state, x.swapaxes(0, 1))
        return y.swapaxes(0, 1)

    return forward, [v.value for v in variables]


def check_outputs(model, got, x):
    """Raise if outputs are not the reference's."""
    import jax
    import models
    import numpy as np

    if model.reference is not None:
        want = model.reference(np.float64(x))
    else:
        forward, weights = sequential(model.layer())
        want = jax.jit(forward)(weights, x)
    models.check("of the recurrence bench", np.asarray(got), np.asarray(want))


def check_derivative(model, gradients, weights, x):
    """Raise if the gradient along the weights themselves is not the reference's."""
    import bench_layers
    import jax
    import numpy as np

    products = jax.tree.map(lambda w, g: np.vdot(np.float64(w), np.float64(g)), weights, gradients)
    got = sum(jax.tree.leaves(products))  # d loss(a * weights) / da at a = 1
    if model.reference is not None:
        a = 1e-4
        high, low = (np.mean(np.abs(model.reference(np.float64(x), 1 + sign * a)) ** 2) for sign in (1, -1))
        want = (high - low) / (2 * a)
    else:
        forward, weights = sequential(model.layer())
        _, found = bench_layers.compile_call(forward, weights, x, "train")()
        want = sum(np.vdot(np.float64(w), np.float64(g)) for w, g in zip(weights, found, strict=True))
    if not abs(got - want) < TOLERANCE * abs(want):
        raise Unavailable(f"derivative along the weights {got:.6g}, reference {want:.6g}")


def main():
    bench = Bench(
        "recurrence",
        prepare,
        cases=cases(),
        systems=SYSTEMS,
        metrics={"us": "lower"},
        baseline="kseq[jax]",
        rounds=(7, 3),
        has=has,
    )
    bench.main()


if __name__ == "__main__":
    main()
