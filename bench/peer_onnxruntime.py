"""The models in onnxruntime: the torch steps exported to ONNX, the state as inputs and outputs of the graph."""

import io
import warnings

import models
import numpy as np
import onnxruntime
import peer_torch
import torch


def export(model, batch, write):
    """The ONNX bytes of a step."""
    state = peer_torch.initial_state(model, batch)
    x = torch.from_numpy(models.frames(model, batch, 1))
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated; it needs no further package
        torch.onnx.export(
            peer_torch.step_function(model, write).eval(),
            (x, *state),
            file,
            input_names=["x"] + [f"state{i}" for i in range(len(state))],
            output_names=["y"] + [f"new{i}" for i in range(len(state))],
            opset_version=18,
            dynamo=False,
        )
    return file.getvalue()


def step(model, batch, write, position=0):
    """`step(frame) -> frame`, NumPy to NumPy, one thread; `write` is one of `variants(model)`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(export(model, batch, write), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    state = [np.asarray(s) for s in peer_torch.initial_state(model, batch, position)]

    def run(x):
        nonlocal state
        y, *state = session.run(None, dict(zip(names, [x, *state], strict=True)))
        return y

    return run


def variants(model):
    """The ways to write the cache that export; a scatter does not pay, a session cannot write into its inputs."""
    return ["shift", "select"] if model == "C" else ["shift"]
