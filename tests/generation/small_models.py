"""Small models that generate, and what they give by definition: a whole sequence for every step."""

import keras
import numpy as np
from keras import ops

import kseq

VOCABULARY = 11
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [4], [9, 8, 7, 1, 2]]


def wide(seed=0):
    """An initialiser of weights so large that tokens are not alike."""
    return keras.initializers.RandomNormal(stddev=2.0, seed=seed)


def recurrent(vocabulary=VOCABULARY, seed=0):
    keras.utils.set_random_seed(seed)
    head = kseq.Dense(vocabulary, kernel_initializer=wide())
    layers = [kseq.Embedding(vocabulary, 8, wide(1)), kseq.GRU(8), head]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


def attentive(vocabulary=VOCABULARY, max_length=40, seed=0, **options):
    """Attention and a window: a state of a cache, and one that holes would be in."""
    keras.utils.set_random_seed(seed)
    options = options or {"max_length": max_length, "position": kseq.RotaryPosition()}
    ids = keras.Input((None,), dtype="int32")
    x = kseq.Embedding(vocabulary, 8, wide(1))(ids)
    x = x + kseq.SelfAttention(2, 4, **options)(x)
    x = kseq.Conv1D(8, 3, padding="causal")(x)
    return keras.Model(ids, kseq.Dense(vocabulary, kernel_initializer=wide())(x))


def sliding(vocabulary=VOCABULARY, seed=0, **options):
    """Attention to the last steps and the first ones alone, whose ring of slots comes round."""
    options = {"max_past_horizon": 4, "num_sink_steps": 2, "position": kseq.RotaryPosition()} | options
    return attentive(vocabulary, seed=seed, **options)


def outputs(model, steps):
    """The last output for a whole sequence, float64; what follows it changes nothing, and saves shapes to compile."""
    steps = np.asarray(steps)
    rest = np.zeros((-len(steps) % 32, *steps.shape[1:]), steps.dtype)
    y = model(ops.convert_to_tensor(np.concatenate([steps, rest])[None]))
    return ops.convert_to_numpy(y)[0, len(steps) - 1].astype("float64")


def most_likely(model, prompt, count):
    steps = list(prompt)
    for _ in range(count):
        steps.append(int(outputs(model, np.array(steps, "int32")).argmax()))
    return steps[len(prompt) :]
