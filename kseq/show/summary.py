"""`summary`: what a model is made of and what it costs to stream it, as a table or as plain data."""

import io
import itertools
import math

import keras
import numpy as np
from keras import tree
from rich.box import HORIZONTALS
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..layers import Repeat, Serial
from ..layers.base import SequenceLayer
from ..sequence import SequenceSpec
from ..streaming import adapters, as_layer
from ..timing import Timing

# Narrow enough that a model fits into 80 characters; only names wrap.
_COLUMNS = ("output\nshape", "params", "block", "ratio", "latency\nin / out", "past", "future", "state\nbytes")
_TEXT_WIDTH = 240
_TIMING = ("block", "ratio", "input_latency", "output_latency", "past", "future")


def summary(model, print_fn=None):
    """Print a table of a model's layers: sizes, timing, and the state that each stream needs.

    Shapes are of B streams and T steps. Blocks and latencies are in time steps of a layer's input (output latency: of
    its output); past and future are the steps before and after its own that an output depends on. The last line is the
    whole model by the algebra of timings, so it holds the delays that align branches.

    Args:
        model: a kseq layer, a `keras.Sequential` or a functional model, built.
        print_fn: called with the table as text, once; the default prints to the terminal.

    Raises:
        ValueError: a model or layer that is not built.
        TypeError: neither a kseq layer nor a sequential or functional Keras model.

    Example:
        >>> import kseq, keras
        >>> kseq.summary(keras.Sequential([keras.Input((None, 3)), kseq.GRU(2)]), print_fn=lambda text: None)
    """
    rows = summary_rows(model)
    table = Table(box=HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("layer", overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows, 1):
        table.add_row(*map(escape, _cells(row)), end_section=i == len(rows) - 1)

    console = Console() if print_fn is None else Console(file=io.StringIO())
    if not console.is_terminal:
        # A file has no width to keep to; the table takes what it needs.
        console = Console(file=console.file, color_system=None, width=_TEXT_WIDTH)
    console.print(table)
    for note in _notes(rows):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if print_fn is not None:
        print_fn(console.file.getvalue().rstrip("\n"))


def summary_rows(model) -> list[dict]:
    """The rows of `summary` as plain data that JSON can hold; the last row is the whole model.

    Args:
        model: as for `summary`.

    Returns:
        Dicts with `layer` (its name), `type`, `depth` (of nesting), `output_shape`, `parameters`, `block`, `ratio`
        (text), `input_latency`, `output_latency`, `past`, `future` (steps, "all", or `None` where no input matters),
        `state_bytes` (of one stream), and `obstacle`: why it does not stream, or `None`. What is not known of a layer
        that does not stream is `None`.

    Raises:
        ValueError: a model or layer that is not built.
        TypeError: neither a kseq layer nor a sequential or functional Keras model.

    Example:
        >>> import kseq
        >>> layer = kseq.Conv1D(4, 3, padding="causal")
        >>> layer.build((None, None, 2))
        >>> row = summary_rows(layer)[-1]
        >>> row["parameters"], row["past"], row["future"], row["state_bytes"]
        (28, 2, 0, 16)
    """
    if isinstance(model, SequenceLayer):
        spec = _built_for(model)
        _, *parts = _layer_rows(model, spec, -1)
        return [*parts, _layer_row(model, spec, 0)]
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise TypeError(
            "expected a kseq layer, or a sequential or functional Keras model; "
            f"received {model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(f"the model {model.name!r} must be built before it has a summary: give it a keras.Input")
    return [*_model_rows(model, 0), _model_row(model, 0)]


def _model_rows(model, depth):
    for operation in getattr(model, "operations", None) or model.layers:
        if isinstance(operation, keras.layers.InputLayer) or adapters.joins_masks(operation, operation.input):
            continue
        if isinstance(operation, keras.Model):
            yield _model_row(operation, depth)
            yield from _model_rows(operation, depth + 1)
        elif isinstance(operation, SequenceLayer):
            yield from _layer_rows(operation, _spec(_first(operation.input)), depth)
        else:
            yield _stock_row(operation, depth)


def _layer_rows(layer, spec, depth):
    yield _layer_row(layer, spec, depth)
    for child in getattr(layer, "sublayers", ()):
        if not (isinstance(child, Serial) and not child.layers):  # the shortcut of most residuals
            yield from _layer_rows(child, spec, depth + 1)
        if isinstance(layer, (Serial, Repeat)):
            spec = child.output_spec(spec)


def _model_row(model, depth):
    try:
        layer = as_layer(model)
    except ValueError as error:
        return _row(model, depth, model.outputs[0].shape, obstacle=str(error))
    return _layer_row(layer, _spec(model.inputs[0]), depth) | {
        "layer": model.name,
        "type": type(model).__name__,
        "parameters": model.count_params(),
    }


def _layer_row(layer, spec, depth):
    obstacle = layer.step_obstacle
    row = _row(layer, depth, (None, None, *layer.output_spec(spec).shape), obstacle=obstacle)
    if obstacle is None:
        row |= _timing(layer.timing) | {"state_bytes": _state_bytes(layer, spec)}
    return row


def _stock_row(operation, depth):
    shape = _first(operation.output).shape
    obstacle = adapters.obstacle(operation, len(shape))
    row = _row(operation, depth, shape, obstacle=obstacle)
    if obstacle is None:
        row |= _timing(Timing()) | {"state_bytes": 0}
    return row


def _row(layer, depth, shape, obstacle):
    return {
        "layer": layer.name,
        "type": type(layer).__name__,
        "depth": depth,
        "output_shape": list(shape),
        "parameters": layer.count_params() if isinstance(layer, keras.layers.Layer) else 0,
        **dict.fromkeys(_TIMING),
        "state_bytes": None,
        "obstacle": obstacle,
    }


def _timing(timing):
    past, future = timing.receptive_field or (None, None)
    return {
        "block": timing.block_size,
        "ratio": str(timing.ratio),
        "input_latency": timing.input_latency,
        "output_latency": timing.output_latency,
        # A layer may look only ahead, or only back: neither is a negative reach.
        "past": _reach(None if past is None else max(-past, 0)),
        "future": _reach(None if future is None else max(future, 0)),
    }


def _reach(steps):
    return "all" if steps is not None and math.isinf(steps) else steps


def _state_bytes(layer, spec):
    return sum(math.prod(leaf.shape) * _item_size(leaf.dtype) for leaf in tree.flatten(layer.initial_state(1, spec)))


def _item_size(dtype):
    name = keras.backend.standardize_dtype(dtype)
    # NumPy knows bfloat16 only where jax or tensorflow has taught it.
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def _built_for(layer):
    config = layer.get_build_config() if layer.built else None
    if not config or "input_shape" not in config:
        raise ValueError(
            f"{layer.name} must be built before it has a summary: call it once, or call `build(input_shape)`"
        )
    return SequenceSpec(tuple(config["input_shape"][2:]))


def _first(tensors):
    """The values of a layer's or a model's input or output, which may be a sequence."""
    return tree.flatten(tensors)[0]


def _spec(tensor):
    return SequenceSpec(tuple(tensor.shape[2:]), tensor.dtype)


def _cells(row):
    latency = None if row["input_latency"] is None else f"{row['input_latency']} / {row['output_latency']}"
    values = [row["parameters"], row["block"], row["ratio"], latency, row["past"], row["future"], row["state_bytes"]]
    name = f"{'  ' * row['depth']}{row['layer']} ({row['type']})"
    batch, time, *channels = row["output_shape"]
    shape = ", ".join(map(str, (batch or "B", time or "T", *channels)))
    return [name, shape, *map(_text, values)]


def _text(value):
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else value


def _notes(rows):
    """Why layers do not stream: said of the innermost ones, or of the whole where it is not a layer's fault."""
    innermost = [row for row, after in itertools.pairwise(rows) if after["depth"] <= row["depth"]]
    found = [row for row in innermost if row["obstacle"]] or [row for row in rows[-1:] if row["obstacle"]]
    return [f"{row['layer']} ({row['type']}) does not stream: {row['obstacle']}" for row in found]
