"""Models A and B in tract: whole sequences in torch, exported to ONNX and made to stream by `Pulse`."""

import contextlib
import io
import os
import tempfile
import warnings

import models
import numpy as np
import torch
import tract
from harness import Unavailable

EXPORT = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {1: "S"}, "y": {1: "S"}}}


class Convolutions(torch.nn.Module):
    """A: [B, S, D] -> [B, S, D]."""

    def __init__(self):
        super().__init__()
        self.layers = [(as_tensor(w["kernel"].transpose(2, 1, 0)), as_tensor(w["bias"])) for w in models.weights("A")]

    def forward(self, x):
        x = x.transpose(1, 2)
        for kernel, bias in self.layers:
            x = torch.relu(torch.conv1d(torch.nn.functional.pad(x, (models.KERNEL - 1, 0)), kernel, bias))
        return x.transpose(1, 2)


class Recurrences(torch.nn.Module):
    """B: [B, S, D] -> [B, S, D]."""

    def __init__(self):
        super().__init__()
        self.layers = [lstm(w) for w in models.weights("B")]

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return x


def as_tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def lstm(weights):
    size = models.CHANNELS["B"]
    made = torch.nn.LSTM(size, size, batch_first=True).requires_grad_(False)
    values = weights["kernel"].T, weights["recurrent"].T, weights["bias"], np.zeros_like(weights["bias"])
    for parameter, value in zip(made.parameters(), values, strict=True):
        parameter.copy_(as_tensor(value))
    return made


def variants(model):
    """The one way there is; what attention of C does to time, `Pulse` does not know."""
    if model == "C":
        raise Unavailable("tract's Pulse has no attention with a mask")
    return ["pulse"]


def step(model, batch, variant):
    """`step(frame) -> frame`, NumPy to NumPy."""
    net = (Convolutions() if model == "A" else Recurrences()).eval()
    x = torch.from_numpy(models.frames(model, batch, 8))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        silence = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            warnings.simplefilter("ignore")  # the tracing exporter is deprecated; it needs no further package
            torch.onnx.export(net, (x,), path, **EXPORT, opset_version=17, dynamo=False)
        loaded = tract.onnx().load(path)
        loaded.set_input_fact(0, f"{batch},S,{models.CHANNELS[model]},f32")
        pulsed = loaded.into_model()
        pulsed.transform(tract.Pulse(1, symbol="S"))
    state = pulsed.into_runnable().spawn_state()
    return lambda x: state.run([np.ascontiguousarray(x)])[0].to_numpy()
