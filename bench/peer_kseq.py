"""The models in kseq, on the backend that KERAS_BACKEND names."""

import keras
import models

import kseq


def build(model):
    """The kseq layer with the bench's weights in it."""
    d = models.CHANNELS[model]
    make = {"A": conv, "B": lstm, "C": block}[model]
    parts = [make(d) for _ in range(models.DEPTH[model])]  # (layer, {weight names: leaf layer})
    layer = kseq.Serial([part for part, _ in parts])
    layer.build((None, None, d))
    for (_, leaves), weights in zip(parts, models.weights(model), strict=True):
        for names, leaf in leaves.items():
            arrays = [weights[name] for name in names]
            leaf.set_weights([a.reshape(v.shape) for a, v in zip(arrays, leaf.weights, strict=True)])
    return layer


def conv(d):
    layer = kseq.Conv1D(d, models.KERNEL, padding="causal", activation="relu")
    return layer, {("kernel", "bias"): layer}


def lstm(d):
    layer = kseq.LSTM(d)
    return layer, {("kernel", "recurrent", "bias"): layer}


def block(d):
    norm1, norm2 = (kseq.RMSNormalization(epsilon=models.EPSILON) for _ in range(2))
    attention = kseq.SelfAttention(
        num_heads=models.HEADS,
        key_dim=models.HEAD_DIM,
        max_past_horizon=models.WINDOW - 1,
        position=kseq.RotaryPosition(models.WAVELENGTH),
        use_bias=False,
    )
    gate = kseq.Dense(models.HIDDEN, use_bias=False, activation=gelu_tanh)
    up = kseq.Dense(models.HIDDEN, use_bias=False)
    down = kseq.Dense(d, use_bias=False)
    layer = kseq.Serial(
        [
            kseq.Residual([norm1, attention]),
            kseq.Residual([norm2, kseq.Parallel([gate, up], combination="product"), down]),
        ]
    )
    return layer, {
        ("norm1",): norm1,
        ("query", "key", "value", "output"): attention,
        ("norm2",): norm2,
        ("gate",): gate,
        ("up",): up,
        ("down",): down,
    }


@keras.saving.register_keras_serializable("bench")  # so that another process, which exports it, knows it
def gelu_tanh(x):
    return keras.ops.gelu(x, approximate=True)


def step(model, batch, **engine):
    """`step(frame) -> frame`: what a user calls, with the engine that runs it, and its precision, if they are named."""
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    return kseq.Stream(build(model), batch_size=batch, **engine).push


def bare(push, x):
    """The compiled call that a stream's push ends in: of the same NumPy, its output read, with a state of its own."""
    import numpy as np

    run = push.__self__._step
    for _ in range(101):  # on torch it is a program from its hundredth call on
        push(x)
    function, leaves = run._functions[x.shape[1], True, True], run.initial_state().leaves
    if keras.backend.backend() == "jax":

        def call():
            nonlocal leaves
            [(y, _)], leaves, _ = function.__self__.call(leaves, (), x)
            return np.asarray(y)

    elif keras.backend.backend() == "torch":
        import torch

        program = run.programs[function]

        def call():
            nonlocal leaves
            with torch.inference_mode():
                y, *leaves = program(*leaves, torch.from_numpy(x))
            return y.numpy()

    else:
        function = function.__self__

        def call():
            nonlocal leaves
            y, *leaves = function.call([function.takes[0](x), *leaves, *function.captured])
            return y.numpy()

    return call
