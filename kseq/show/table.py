"""`summary`: what a model is made of and what it costs to stream it, as a table or as plain data."""

import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..layers import Network, SequenceLayer
from ..layers.structures import first, parts
from ..model_graph import in_words, is_graph
from ..obstacles import NotStreamable
from ..printable import printable
from ..sequence import SequenceSpec
from ..streaming.graph import as_layer
from ..streaming.reading import read_nodes

# Narrow enough that a model fits into 80 characters; only names wrap.
_COLUMNS = ("output\nshape", "params", "block", "ratio", "latency\nin / out", "past", "future", "state\nbytes")
_TEXT_WIDTH = 240
_TIMING = ("block", "ratio", "input_latency", "output_latency", "past", "future")


def summary(model: keras.Model | SequenceLayer, print_fn: Callable[[str], Any] | None = None) -> None:
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
        table.add_row(*map(Text, _cells(row)), end_section=i == len(rows) - 1)

    text = io.StringIO()
    console = Console() if print_fn is None else Console(file=text)
    if not console.is_terminal:
        # A file has no width to keep to; the table takes what it needs.
        console = Console(file=console.file, color_system=None, width=_TEXT_WIDTH)
    console.print(table)
    for note in _notes(rows):
        console.print(Text(note), soft_wrap=True)
    if print_fn is not None:
        print_fn(text.getvalue().rstrip("\n"))


def summary_rows(model: keras.Model | SequenceLayer) -> list[dict[str, Any]]:
    """The rows of `summary` as plain data that JSON can hold; the last row is the whole model.

    Args:
        model: as for `summary`.

    Returns:
        Dicts with `layer` (its name), `type`, `depth` (of nesting), `output_shape`, `parameters`, `block`, `ratio`
        (text), `input_latency`, `output_latency`, `past`, `future` (steps, "all", or `None` where no input matters),
        `state_bytes` (of one stream; `None` where it depends on context), and `obstacle`: why it does not stream, or
        `None`. What is not known of a layer that does not stream is `None`.

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
        spec = built_for(model)
        return [*_rows_within(model, spec, 0), layer_row(model, spec, 0)]
    if not is_graph(model):
        raise TypeError(
            "expected a kseq layer, or a sequential or functional Keras model; "
            f"received {model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(f"{in_words(model)} must be built before it is shown: give it a keras.Input")
    found = read_nodes(model, as_layer)
    return [*_node_rows(found.nodes, found.input_specs, 0), model_row(model, 0)]


def _node_rows(nodes, input_specs, depth):
    """A row for every node of a network that its author made, and for those within it."""
    specs = dict(enumerate(input_specs))
    for node in nodes:
        spec = node.given_specs(specs)
        node.give(specs, node.layer.output_spec(spec))
        if is_graph(node.layer.origin()):
            yield model_row(node.layer.origin(), depth)
        elif not node.hidden and not is_identity(node.layer):
            yield layer_row(node.layer, spec, depth)
        yield from _rows_within(node.layer, spec, depth + 1)


def _rows_within(layer, spec, depth):
    if is_graph(layer.origin()) and not isinstance(layer, Network):  # it does not stream
        found = read_nodes(layer.origin(), as_layer)
        yield from _node_rows(found.nodes, found.input_specs, depth)
    elif isinstance(layer, Network):
        yield from _node_rows(layer.nodes, parts(spec), depth)


def is_identity(layer: SequenceLayer) -> bool:
    """Whether it is a network of nothing, as the shortcut of most residuals is."""
    return isinstance(layer, Network) and not layer.nodes


def model_row(model: keras.Model, depth: int = 0) -> dict[str, Any]:
    """The row of a model, or of one within a model."""
    try:
        layer = as_layer(model)
    except NotStreamable as error:
        return _row(model, depth, model.outputs[0].shape, obstacle="; ".join(map(str, error.obstacles)))
    specs = layer.nodes_read.input_specs
    return layer_row(layer, specs if len(specs) > 1 else specs[0], depth) | {
        "layer": model.name,
        "type": type(model).__name__,
        "parameters": model.count_params(),
    }


def layer_row(layer: SequenceLayer, spec: Any, depth: int = 0) -> dict[str, Any]:
    """The row of a layer that is given this spec, or a tuple of them."""
    rows = layer.obstacles()
    obstacle = layer.step_obstacle if isinstance(layer, Network) else "; ".join(row.advice for row in rows)
    row = _row(layer.origin(), depth, (None, None, *first(layer.output_spec(spec)).shape), obstacle or None)
    if not obstacle:
        row |= _timing(layer.timing) | {"state_bytes": _state_bytes(layer, spec)}
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
        # A layer may look only ahead, or only back: neither is a negative number.
        "past": _steps(None if past is None else max(-past, 0)),
        "future": _steps(None if future is None else max(future, 0)),
    }


def _steps(steps):
    return "all" if steps is not None and math.isinf(steps) else steps


def _state_bytes(layer, spec):
    if layer.context_names:  # of any length
        return None
    return sum(math.prod(leaf.shape) * _item_size(leaf.dtype) for leaf in layer.state_specs(spec))


def _item_size(dtype):
    name = keras.backend.standardize_dtype(dtype)
    # NumPy knows bfloat16 only where jax or tensorflow has taught it.
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def built_for(layer: SequenceLayer) -> Any:
    """The spec that a layer was built for, or a tuple of them.

    Raises:
        ValueError: a layer that is not built.
    """
    shapes = layer.channel_shape
    if shapes is None:
        raise ValueError(f"{layer.name} must be built before it is shown: call it once, or call `build(input_shape)`")
    return SequenceSpec(shapes) if layer.num_inputs == 1 else tuple(map(SequenceSpec, shapes))


def _cells(row):
    latency = None if row["input_latency"] is None else f"{row['input_latency']} / {row['output_latency']}"
    values = [row["parameters"], row["block"], row["ratio"], latency, row["past"], row["future"], row["state_bytes"]]
    name = f"{'  ' * row['depth']}{row['layer']} ({row['type']})"
    name = printable(name, keep="")
    return [name, shape_text(row["output_shape"]), *map(_text, values)]


def shape_text(shape: Any) -> str:
    """The shape of a batch of sequences, of B streams and T steps."""
    batch, time, *channels = shape
    return ", ".join(map(str, (batch or "B", time or "T", *channels)))


def _text(value):
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else value


def _notes(rows):
    """Why layers do not stream: said of the innermost ones, or of the whole where it is not a layer's fault."""
    innermost = [row for row, after in itertools.pairwise(rows) if after["depth"] <= row["depth"]]
    found = [row for row in innermost if row["obstacle"]] or [row for row in rows[-1:] if row["obstacle"]]
    return [printable(f"{row['layer']} ({row['type']}) does not stream: {row['obstacle']}", keep="") for row in found]
