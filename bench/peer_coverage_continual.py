"""Keras models in continual-inference on torch, where they are chains of what it has."""

import continual as co
import coverage_chain
import keras
import numpy as np
import torch
from coverage_torch import as_module


def stream(model):
    """`push(frame) -> frames` of one frame, none while it gives nothing."""
    parts = [part for layer in coverage_chain.layers_of(model) for part in modules(layer)]
    net = co.Sequential(*parts).eval()

    def push(x):
        y = net.forward_step(torch.from_numpy(x[:, 0]))
        if not isinstance(y, torch.Tensor):
            return None
        return y.numpy()[:, None]

    return push


class Stepwise(torch.nn.Module):
    """A Keras layer of [B, C, T]."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.transpose(1, 2)).transpose(1, 2)


def modules(layer):
    """What does the same in continual-inference, with its activation."""
    if isinstance(layer, keras.layers.Conv1D):
        size, reach = layer.kernel_size[0], (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        pads = {"causal": reach, "valid": 0, "same": reach // 2}
        if layer.padding == "same" and (reach % 2 or layer.strides[0] > 1):
            raise coverage_chain.has_none(layer)
        kernel = np.array(keras.ops.convert_to_numpy(layer.kernel))
        options = {"stride": layer.strides[0], "dilation": layer.dilation_rate[0], "padding": pads[layer.padding]}
        made = co.Conv1d(kernel.shape[1], layer.filters, size, bias=layer.use_bias, **options)
        made.weight.data.copy_(torch.from_numpy(kernel.transpose(2, 1, 0).copy()))
        if layer.use_bias:
            made.bias.data.copy_(torch.from_numpy(np.array(keras.ops.convert_to_numpy(layer.bias))))
        return [made, co.forward_stepping(Stepwise(layer.activation))]
    for kind, twin in ((keras.layers.MaxPooling1D, co.MaxPool1d), (keras.layers.AveragePooling1D, co.AvgPool1d)):
        if isinstance(layer, kind):
            if layer.padding != "valid":
                raise coverage_chain.has_none(layer)
            return [twin(layer.pool_size[0], layer.strides[0])]
    if isinstance(layer, (keras.layers.LSTM, keras.layers.GRU)):
        kind = co.LSTM if isinstance(layer, keras.layers.LSTM) else co.GRU
        given = as_module(layer.cell)
        made = kind(given.input_size, given.hidden_size)
        made.load_state_dict(given.state_dict())
        return [made]
    if isinstance(layer, coverage_chain.STEPWISE):
        return [co.forward_stepping(Stepwise(layer))]
    raise coverage_chain.has_none(layer)
