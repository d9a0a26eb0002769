"""The models as functional torch steps: the fastest of eager, eager with an in-place ring, and a frozen trace.

`step_function(model)` is also what the onnxruntime peer exports, with the state as flat inputs and outputs.
"""

import math

import models
import torch
from torch.nn import functional

torch.set_num_threads(1)


def tensors(model):
    return [{name: torch.from_numpy(w) for name, w in layer.items()} for layer in models.weights(model)]


def initial_state(model, batch, position=0):
    """The state as a flat list of tensors, of C after so many steps, of which it remembers zeros."""
    d, depth = models.CHANNELS[model], models.DEPTH[model]
    if model == "A":
        return [torch.zeros(batch, (models.KERNEL - 1) * d) for _ in range(depth)]
    if model == "B":
        return [torch.zeros(batch, d) for _ in range(2 * depth)]
    cache = (batch, models.HEADS, models.WINDOW, models.HEAD_DIM)
    return [torch.tensor(position)] + [torch.zeros(cache) for _ in range(2 * depth)]


class Conv(torch.nn.Module):
    """A: `(x [B, 1, D], *state) -> (y, *state)`, each convolution one concatenate and one matmul."""

    def __init__(self):
        super().__init__()
        self.layers = [(w["kernel"].reshape(-1, w["kernel"].shape[2]), w["bias"]) for w in tensors("A")]

    def forward(self, x, *state):
        new = []
        x = x[:, 0]
        for (kernel, bias), past in zip(self.layers, state, strict=True):
            window = torch.cat([past, x], 1)
            new.append(window[:, x.shape[1] :])
            x = torch.relu(torch.addmm(bias, window, kernel))
        return (x[:, None], *new)


class Lstm(torch.nn.Module):
    """B: `(x, *state) -> (y, *state)`, both matmuls of a cell as one."""

    def __init__(self):
        super().__init__()
        self.layers = [(torch.cat([w["kernel"], w["recurrent"]]), w["bias"]) for w in tensors("B")]

    def forward(self, x, *state):
        new = []
        x = x[:, 0]
        for i, (kernel, bias) in enumerate(self.layers):
            h, c = state[2 * i], state[2 * i + 1]
            i_gate, f_gate, g, o_gate = torch.addmm(bias, torch.cat([x, h], 1), kernel).chunk(4, 1)
            c = torch.sigmoid(f_gate) * c + torch.sigmoid(i_gate) * torch.tanh(g)
            x = torch.sigmoid(o_gate) * torch.tanh(c)
            new += [x, c]
        return (x[:, None], *new)


class Attention(torch.nn.Module):
    """C: `(x, position, *caches) -> (y, position, *caches)`.

    Args:
        write: How a step enters the cache: "ring" in place, "shift" by concatenation, "select" by a one-hot `where`.
    """

    def __init__(self, write):
        super().__init__()
        self.write = write
        self.inverse = torch.from_numpy(models.inverse_wavelengths())
        self.slots = torch.arange(models.WINDOW)
        d = models.CHANNELS["C"]
        self.blocks = [
            {
                "norm1": w["norm1"],
                "qkv": torch.cat([w[name].reshape(d, d) for name in ("query", "key", "value")], 1),
                "output": w["output"].reshape(d, d),
                "norm2": w["norm2"],
                "gate_up": torch.cat([w["gate"], w["up"]], 1),
                "down": w["down"],
            }
            for w in tensors("C")
        ]

    def forward(self, x, position, *caches):
        new = []
        angle = position.to(torch.float32) * self.inverse
        cos, sin = torch.cos(angle), torch.sin(angle)
        if self.write == "shift":
            valid = self.slots >= models.WINDOW - 1 - position
        else:
            valid = self.slots <= position
        bias = torch.where(valid, 0.0, -1e9)
        x = x[:, 0]
        for i, w in enumerate(self.blocks):
            h = rms_norm(x, w["norm1"])
            qkv = (h @ w["qkv"]).reshape(-1, 3, models.HEADS, 1, models.HEAD_DIM)
            q = rotate(qkv[:, 0], cos, sin) * models.HEAD_DIM**-0.5
            k = self.store(caches[2 * i], rotate(qkv[:, 1], cos, sin), position)
            v = self.store(caches[2 * i + 1], qkv[:, 2], position)
            new += [k, v]
            p = torch.softmax(q @ k.transpose(2, 3) + bias, -1)  # [B, H, 1, W]
            x = torch.addmm(x, (p @ v).reshape(x.shape), w["output"])
            h = rms_norm(x, w["norm2"])
            gate, up = (h @ w["gate_up"]).chunk(2, 1)
            x = torch.addmm(x, gelu_tanh(gate) * up, w["down"])
        return (x[:, None], position + 1, *new)

    def store(self, cache, new, position):
        if self.write == "shift":
            return torch.cat([cache[:, :, 1:], new], 2)
        slot = position % models.WINDOW
        if self.write == "select":
            return torch.where((self.slots == slot)[:, None], new, cache)
        return cache.index_copy_(2, slot[None], new)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rms_norm(x, scale):
    if torch.onnx.is_in_onnx_export():  # no such operator in the opset
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + models.EPSILON) * scale
    return functional.rms_norm(x, x.shape[-1:], scale, models.EPSILON)


def gelu_tanh(x):
    if torch.onnx.is_in_onnx_export():
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return functional.gelu(x, approximate="tanh")


def step_function(model, write="shift"):
    """A module `(x, *state) -> (y, *state)`."""
    return {"A": Conv, "B": Lstm}[model]() if model != "C" else Attention(write)


def step(model, batch, variant, position=0):
    """`step(frame) -> frame`, NumPy to NumPy; `variant` is one of `variants(model)`, `position` that of the first."""
    form, write = variant
    with torch.inference_mode():
        function = step_function(model, write).eval()
        state = initial_state(model, batch, position)
        if form == "trace":
            example = (torch.from_numpy(models.frames(model, batch, 1)), *state)
            function = torch.jit.freeze(torch.jit.trace(function, example))
            for _ in range(3):  # the first runs compile
                function(example[0], *[s.clone() for s in state])
            state = initial_state(model, batch, position)

    @torch.inference_mode()
    def run(x):
        nonlocal state
        y, *state = function(torch.from_numpy(x), *state)
        return y.numpy()

    return run


def variants(model):
    """The forms worth measuring: how it runs, and how it writes its cache."""
    writes = ("ring", "shift") if model == "C" else ("shift",)
    return [(form, write) for write in writes for form in ("eager", "trace")]


def local_attention(task, kernels, x):
    """A call of causal attention to a window, `scaled_dot_product_attention` with a mask, or of its training step.

    It gives outputs [B, T, C], or the loss and the gradients of the kernels of queries, keys, values and outputs.
    """
    x, kernels = torch.from_numpy(x), [torch.from_numpy(w).requires_grad_(task == "train") for w in kernels]
    age = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
    visible = (age >= 0) & (age < models.WINDOW)

    def forward():
        query, key, value = (torch.einsum("btd,dhc->bhtc", x, w) for w in kernels[:3])
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return torch.einsum("bhtc,hcd->btd", y, kernels[3])

    def train():
        loss = forward().square().mean()
        return loss.detach().numpy(), [g.numpy() for g in torch.autograd.grad(loss, kernels)]

    def run():
        with torch.inference_mode():
            return forward().numpy()

    return train if task == "train" else run
