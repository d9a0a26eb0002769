"""Keras models in tract: traced on torch to ONNX, and made to stream by its `Pulse`, which aligns branches by itself.

Keras's loops over time would be traced as so many steps: its recurrent layers are exported as torch's, which are
operations of ONNX.
"""

import contextlib
import io
import os
import tempfile
import warnings

import keras
import numpy as np
import torch
import tract
from coverage_torch import as_module
from harness import Unavailable

LARGEST_PULSE = 16
EXPORT = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {1: "S"}, "y": {1: "U"}}}


def stream(model, frames):
    """`push(frames) -> frames`, how many frames it takes at a time, and its delay in outputs."""
    channels = model.input.shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        export(model, frames, path)
        size = 1
        while True:
            pulsed, problem = pulsed_by(path, size, channels)
            if pulsed is not None:
                break
            size *= 2
            if size > LARGEST_PULSE:
                raise Unavailable(problem)
    delay = int(pulsed.property("pulse.delay").to_numpy().reshape(-1)[0])
    state = pulsed.into_runnable().spawn_state()
    return lambda x: state.run([np.ascontiguousarray(x)])[0].to_numpy(), size, delay


def pulsed_by(path, size, channels):
    """The model by pulses of so many frames, or why there is none."""
    try:
        loaded = tract.onnx().load(path)
        loaded.set_input_fact(0, f"1,S,{channels},f32")
        model = loaded.into_model()
        model.transform(tract.Pulse(size, symbol="S"))
        return model, None
    except tract.TractError as error:
        return None, f"tract: {' '.join(str(error).partition('Stack backtrace')[0].split())[:200]}"


def export(model, frames, path):
    """Write the model as ONNX."""
    model = keras.models.clone_model(model, clone_function=of_torch)
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated; it needs no further package
        try:
            x = torch.from_numpy(frames)
            torch.onnx.export(Inference(model).eval(), (x,), path, **EXPORT, opset_version=17, dynamo=False)
        except Exception as error:  # of operations that have no form in ONNX
            raise Unavailable(f"torch.onnx: {' '.join(str(error).split())[:200]}") from None


class Inference(torch.nn.Module):
    """A Keras model as torch takes it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x, training=False)


def of_torch(layer):
    """The layer itself, or one that runs its recurrences in torch's modules."""
    if type(layer) is keras.layers.RNN:
        cell = layer.cell
        return Recurrence(cell.cells if isinstance(cell, keras.layers.StackedRNNCells) else [cell])
    if isinstance(layer, (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)):
        return Recurrence([layer.cell])
    return keras.layers.Identity() if isinstance(layer, keras.layers.Masking) else layer  # what is given is not padded


class Recurrence(keras.layers.Layer):
    """Keras's cells, one after the other, as torch's modules with their weights."""

    def __init__(self, cells):
        super().__init__()
        self.parts = [as_module(cell) for cell in cells]

    def call(self, x, mask=None):
        for part in self.parts:
            x, _ = part(x)
        return x

    def compute_output_spec(self, x, mask=None):
        return keras.KerasTensor((*x.shape[:2], self.parts[-1].hidden_size), x.dtype)
