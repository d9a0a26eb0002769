"""Generation at batch 1: microseconds of a new token, and of the bare compiled step beside it, on the processor.

    python bench/bench_generation.py [--quick] [--json] [--only "gru/*"] [--systems "kseq*"]

    gru/greedy             `kseq.generate`, the most likely token each
    gru/drawn              drawn at temperature 0.8
    gru/top_p              drawn of the most likely ones that have 0.9 together

Models have a vocabulary of 96 characters: `gru` (an embedding of 64, a GRU of 256) and `attention` (two blocks of 128
channels with a cache of 1024 steps). Prompts have three tokens, and 512 are made. Metrics are the microseconds of a
token, those of the compiled step alone (a token in and logits out, as many times over, in the same round), and
`rate`, the tokens that are made in the time of one such step. The first token of `greedy` must be that of the whole
sequence.
"""

import time

import threads
from harness import Bench, System

VOCABULARY, TOKENS, PROMPT = 96, 512, [1, 2, 3]
OPTIONS = {
    "greedy": {"temperature": 0},
    "drawn": {"temperature": 0.8, "seed": 1},
    "top_p": {"temperature": 0.8, "top_p": 0.9, "seed": 1},
}
SYSTEMS = [
    System(f"kseq[{backend}]", threads.KSEQ[backend], ("kseq", "keras", *packages))
    for backend, packages in {"jax": ("jax", "jaxlib"), "tensorflow": ("tensorflow",), "torch": ("torch",)}.items()
]


def build(kind):
    """A model of tokens."""
    import keras

    import kseq

    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32")
    if kind == "attention":
        x = kseq.Embedding(VOCABULARY, 128)(ids)
        for _ in range(2):
            x = x + attention()(kseq.RMSNormalization()(x))
            x = x + kseq.Dense(128)(kseq.Dense(256, activation="gelu")(kseq.RMSNormalization()(x)))
    else:
        x = kseq.GRU(256)(kseq.Embedding(VOCABULARY, 64)(ids))
    return keras.Model(ids, kseq.Dense(VOCABULARY)(x))


def attention():
    import kseq

    return kseq.SelfAttention(4, 32, max_length=1024, position=kseq.RotaryPosition())


def prepare(system, case, quick):
    """What a case says, checked, as a function that times it."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    kind, task = case.split("/")
    model = build(kind)
    steps, tokens = step(model), generation(model, OPTIONS[task])

    def measured():
        bare, made = steps(), tokens()
        return {"us": made, "step_us": bare, "rate": bare / made}

    return measured


def step(model):
    """Calls of the compiled step, one after the other."""
    import numpy as np

    import kseq
    from kseq.runtime.ends import Ends
    from kseq.streaming.compiled import compile_step
    from kseq.streaming.graph import as_layer

    layer = as_layer(model)
    ends = Ends(layer, model.name, 1, None)
    specs = ends.layer_specs
    run = compile_step(kseq.StepFunction(layer, 1, specs[0] if len(specs) == 1 else specs))
    beside = tuple(x.values for x in ends.all_there(1))
    no_masks = (None,) * len(specs)

    def rounds():
        state, token = run.initial_state(), np.array([[PROMPT[0]]], "int32")
        began = time.perf_counter()
        for _ in range(TOKENS):
            _, state = run((token, *beside), no_masks, None, state)
        return (time.perf_counter() - began) * 1e6 / TOKENS

    rounds()  # compiles
    return rounds


def generation(model, options):
    """All tokens of a prompt."""
    import numpy as np

    import kseq

    first = np.argmax(np.asarray(model.predict(np.array([PROMPT]), verbose=0))[0, -1])
    if options.get("temperature") == 0 and kseq.generate(model, PROMPT, 1, **options)[0] != first:
        raise ValueError("the first token must be that of the whole sequence")
    kseq.generate(model, PROMPT, TOKENS, **options)

    def rounds():
        began = time.perf_counter()
        made = kseq.generate(model, PROMPT, TOKENS, **options)
        return (time.perf_counter() - began) * 1e6 / len(made)

    return rounds


def main():
    bench = Bench(
        "generation",
        prepare,
        cases=[f"{kind}/{task}" for kind in ("gru", "attention") for task in OPTIONS],
        systems=SYSTEMS,
        metrics={"us": "lower", "step_us": "lower", "rate": "higher"},
        baseline="kseq[jax]",
        rounds=(7, 3),
    )
    bench.main()


if __name__ == "__main__":
    main()
