"""Keras's cells as torch's recurrent modules, with their weights."""

import keras
import numpy as np
import torch


def as_module(cell):
    kernel, recurrent, bias = (np.array(keras.ops.convert_to_numpy(w)) for w in cell.weights)
    kinds = {"LSTMCell": torch.nn.LSTM, "GRUCell": torch.nn.GRU, "SimpleRNNCell": torch.nn.RNN}
    made = kinds[type(cell).__name__](kernel.shape[0], recurrent.shape[0], batch_first=True)
    biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    if isinstance(cell, keras.layers.GRUCell):  # update, reset, new: torch begins with reset
        kernel, recurrent, biases = (np.concatenate(in_order(w), axis=-1) for w in (kernel, recurrent, biases))
    made.requires_grad_(False)
    values = kernel.T, recurrent.T, *biases
    for parameter, value in zip(made.parameters(), values, strict=True):
        parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return made


def in_order(weights):
    update, reset, new = np.split(weights, 3, axis=-1)
    return reset, update, new
