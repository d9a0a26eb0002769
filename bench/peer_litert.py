"""The models in LiteRT: a tf.function converted by TFLiteConverter, the state as inputs and outputs, XNNPACK."""

import math

import models
import numpy as np
import tensorflow as tf
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter


def state_shapes(model, batch):
    """Shapes of the state; float32 all, the position of C too, so that every leaf is a plain input."""
    d, depth = models.CHANNELS[model], models.DEPTH[model]
    if model == "A":
        return [(batch, (models.KERNEL - 1) * d)] * depth
    if model == "B":
        return [(batch, d)] * (2 * depth)
    return [(1,)] + [(batch, models.HEADS, models.WINDOW, models.HEAD_DIM)] * (2 * depth)


def step_function(model, batch, write):
    """`(x [B, 1, D], *state) -> (y, *state)` on tensors."""
    layers = models.weights(model)
    d = models.CHANNELS[model]

    def conv(x, *state):
        x, new = tf.reshape(x, (batch, d)), []
        for w, past in zip(layers, state, strict=True):
            window = tf.concat([past, x], 1)
            new.append(window[:, d:])
            x = tf.nn.relu(window @ w["kernel"].reshape(-1, d) + w["bias"])
        return tf.reshape(x, (batch, 1, d)), *new

    def lstm(x, *state):
        x, new = tf.reshape(x, (batch, d)), []
        for n, w in enumerate(layers):
            h, c = state[2 * n], state[2 * n + 1]
            z = tf.concat([x, h], 1) @ np.concatenate([w["kernel"], w["recurrent"]]) + w["bias"]
            i, f, g, o = tf.split(z, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            x = tf.sigmoid(o) * tf.tanh(c)
            new += [x, c]
        return tf.reshape(x, (batch, 1, d)), *new

    def attention(x, position, *caches):
        x, new = tf.reshape(x, (batch, d)), []
        angle = position * models.inverse_wavelengths()
        cos, sin = tf.cos(angle), tf.sin(angle)
        slots = np.arange(models.WINDOW, dtype=np.float32)
        if write == "shift":
            bias = -1e9 * tf.cast(slots < models.WINDOW - 1 - position, tf.float32)
        else:
            bias = -1e9 * tf.cast(slots > position, tf.float32)
            here = tf.equal(slots, tf.math.floormod(position, float(models.WINDOW)))[None, None, :, None]

        def rotate(x):
            a, b = tf.split(x, 2, -1)
            return tf.concat([a * cos - b * sin, b * cos + a * sin], -1)

        def heads(x, kernel):
            return tf.reshape(x @ kernel.reshape(d, d), (batch, models.HEADS, 1, models.HEAD_DIM))

        def store(cache, row):
            if write == "shift":
                return tf.concat([cache[:, :, 1:], row], 2)
            return tf.where(here, row, cache)

        for n, w in enumerate(layers):
            h = rms_norm(x, w["norm1"])
            q = rotate(heads(h, w["query"])) * models.HEAD_DIM**-0.5
            k = store(caches[2 * n], rotate(heads(h, w["key"])))
            v = store(caches[2 * n + 1], heads(h, w["value"]))
            new += [k, v]
            p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) + bias)
            x = x + tf.reshape(p @ v, (batch, d)) @ w["output"].reshape(d, d)
            h = rms_norm(x, w["norm2"])
            x = x + (gelu_tanh(h @ w["gate"]) * (h @ w["up"])) @ w["down"]
        return tf.reshape(x, (batch, 1, d)), position + 1.0, *new

    return {"A": conv, "B": lstm, "C": attention}[model]


def rms_norm(x, scale):
    return x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + models.EPSILON) * scale


def gelu_tanh(x):
    return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def convert(model, batch, write):
    """The flatbuffer of a step, whose inputs are named in their order."""
    shapes = [(batch, 1, models.CHANNELS[model]), *state_shapes(model, batch)]
    specs = [tf.TensorSpec(shape, tf.float32, name=f"in{i:02}") for i, shape in enumerate(shapes)]
    module = tf.Module()
    module.step = tf.function(step_function(model, batch, write), input_signature=specs)
    return tf.lite.TFLiteConverter.from_concrete_functions([module.step.get_concrete_function()], module).convert()


def ordered(signature):
    """A signature's inputs and outputs as Python had them; the converter numbers outputs but lists them as it likes."""
    return sorted(signature["inputs"]), sorted(signature["outputs"], key=lambda name: int(name.rpartition("_")[2]))


def step(model, batch, variant, position=0):
    """`step(frame) -> frame`, NumPy to NumPy, one thread; `variant` is one of `variants(model)`."""
    runtime, write = variant
    state = [np.zeros(shape, np.float32) for shape in state_shapes(model, batch)]
    if model == "C":
        state[0] += position
    return {"interpreter": interpret, "compiled": compiled}[runtime](convert(model, batch, write), state)


def interpret(content, state):
    """The interpreter, the state copied from its outputs to its inputs."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    names_in, names_out = ordered(interpreter.get_signature_list()["serving_default"])
    inputs = [runner.get_input_details()[name]["index"] for name in names_in]
    outputs = [runner.get_output_details()[name]["index"] for name in names_out]
    for index, value in zip(inputs[1:], state, strict=True):
        interpreter.tensor(index)()[...] = value

    def run(x):
        interpreter.set_tensor(inputs[0], x)
        interpreter.invoke()
        y = interpreter.get_tensor(outputs[0])
        for new, old in zip(outputs[1:], inputs[1:], strict=True):  # one copy in place; views must not outlive it
            np.copyto(interpreter.tensor(old)(), interpreter.tensor(new)())
        return y

    return run


def compiled(content, state):
    """The compiled model, whose state buffers change places after every step."""
    model = CompiledModel.from_buffer(content)  # on the processor with one thread by default
    signature = model.get_signature_by_index(0)
    names_in, names_out = ordered(signature)
    key = signature["key"]
    inputs = [model.create_input_buffer_by_name(key, name) for name in names_in]
    outputs = [model.create_output_buffer_by_name(key, name) for name in names_out]
    for buffer, value in zip(inputs[1:], state, strict=True):
        buffer.write(value)
    shape = tuple(inputs[0].get_tensor_details()["shape"])
    (x_buffer, *old), (y_buffer, *new) = inputs, outputs

    def run(x):
        nonlocal old, new
        x_buffer.write(x)
        model.run_by_name(
            key,
            dict(zip(names_in, [x_buffer, *old], strict=True)),
            dict(zip(names_out, [y_buffer, *new], strict=True)),
        )
        old, new = new, old
        return y_buffer.read(x.size, np.float32).reshape(shape)

    return run


def variants(model):
    """The runtimes, and the ways to write the cache that convert."""
    writes = ("shift", "select") if model == "C" else ("shift",)
    return [(runtime, write) for runtime in ("interpreter", "compiled") for write in writes]
