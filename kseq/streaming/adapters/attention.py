"""Adapters of Keras's multi-head attention: kseq's attention with its variables.

Keys and values that are made of the queries' own sequence, or of one that flows along, go into a cache. Those of a
sequence that is context are made once.
"""

from typing import Any

import keras

from ...layers.attention import CrossAttention, SelfAttention, SynchronousAttention
from ...model_graph import Call, Tensor
from ...registry import adapts
from ...sequence import Sequence
from .adapted import Adapted
from .call_site import CallSite
from .operation import InputSlot
from .refusal import Refusal

_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
PLAIN = (keras.layers.Attention, keras.layers.AdditiveAttention)  # of one head, without projections
_CAUSAL = "use_causal_mask=True in its call"
_OF_AXES = "keras.layers.Reshape before it, or keras.layers.TimeDistributed for attention within each step"
_MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")


class _AttentionOfStock(Adapted):
    """Attention in the place of a stock layer, which has the variables.

    Attributes:
        read_slots: which of the call's tensors it reads.
    """

    read_slots: tuple[int, ...]


class StockSelfAttention(_AttentionOfStock, SelfAttention):
    """Keras's attention of a sequence to itself."""


class StockSynchronousAttention(_AttentionOfStock, SynchronousAttention):
    """Keras's attention of a sequence to one that flows along."""


class StockCrossAttention(_AttentionOfStock, CrossAttention):
    """Keras's attention of a sequence to one that is context."""


def source_of(call: Call) -> dict[str, Any]:
    """What attention reads as context: a sequence of its own that it sees as a whole, or nothing."""
    if not isinstance(call.operation, (*_ATTENTION, *PLAIN)):
        return {}
    given = arguments_of(call)
    query, value, mask = given.get("query"), given.get("value"), given.get("value_mask")
    if given.get("use_causal_mask") or value is query or not isinstance(value, Tensor):
        return {}
    if given.get("key") not in (None, value):
        return {}
    return {"source": Sequence(value, mask) if isinstance(mask, Tensor) else value}


def arguments_of(call: Call) -> dict[str, Any]:
    """What attention is called with, by the names of multi-head attention."""
    if not isinstance(call.operation, PLAIN):
        return dict(zip(("query", "value", "key", *_MASKS), call.arguments, strict=False)) | call.keywords
    given = dict(zip(("inputs", "mask"), call.arguments, strict=False)) | call.keywords
    named = dict(zip(("query", "value", "key"), given.pop("inputs"), strict=False))
    masks = given.pop("mask", None) or ()
    return named | dict(zip(("query_mask", "value_mask", "key_mask"), masks, strict=False)) | given


@adapts(*_ATTENTION, in_specs=False)
def attention(layer: Any, specs: Any, call: Any, site: CallSite) -> Any:
    """Attention to the past, to a window of steps, or to a sequence that is context."""
    if any(len(spec.shape) != 1 for spec in specs):
        shapes = " and ".join(str(tuple(spec.shape)) for spec in specs)
        raise Refusal(f"its inputs must have rank 3; received channels of shapes {shapes}", _OF_AXES)
    options = _options_of(layer)
    dropout, window = options.pop("dropout"), options.pop("sliding_window")
    classes = StockSelfAttention, StockSynchronousAttention, StockCrossAttention
    made, slots = placed(classes, options, call, site, dropout, window)
    return adopting(made, layer, slots)


def placed(classes: Any, options: Any, call: Call, site: CallSite, dropout: float, window: int | None = None) -> Any:
    """Attention as it is called, and the slots that it reads.

    Args:
        classes: of attention to itself, to a sequence that flows along, and to one that is context.
        options: of all of them.
        call, site: what is adapted, and where.
        dropout, window: of the layer.

    Raises:
        Refusal: a call of which the numbers depend on what a stream has not seen, or not kept.
    """
    to_itself, to_another, to_context = classes
    given = {name: value for name, value in arguments_of(call).items() if value is not None}
    query, value = given.pop("query"), given.pop("value")
    key, causal = given.pop("key", value), given.pop("use_causal_mask", False)
    if given.pop("training", False) and dropout:
        raise Refusal("called with training=True it draws random numbers", "training=None in its call")
    if given.pop("return_attention_scores", False):
        raise Refusal("it gives the weights of attention, of all steps", "return_attention_scores=False in its call")
    is_context = not isinstance(value, InputSlot)
    if is_context:
        given.pop("value_mask", None)
    for name in given:
        raise Refusal(f"it is called with `{name}`, which is not adapted", "the masks that Keras's layers pass on")
    if is_context:
        if window is not None:
            raise Refusal("its `sliding_window` moves over a sequence of another length", "sliding_window=None")
        return to_context(source="source", **options), (query.index,)
    at = [site.tensors[slot.index] for slot in (query, value, key)]
    if at[1] is not at[2]:
        raise Refusal("its keys are made of another sequence than its values", "one sequence for both")
    if not causal and window is None:
        instead = _CAUSAL if isinstance(call.operation, PLAIN) else f"{_CAUSAL}, or its `sliding_window`"
        raise Refusal("without a causal mask it sees steps that are still to come", instead)
    of_stream = site.options.window
    past = [n - 1 for n in (window, of_stream) if n is not None]
    options |= {
        "max_past_horizon": min(past) if past else None,
        "max_future_horizon": 0 if causal or window is None else window - 1,
        "max_length": site.options.max_length,
    }
    if at[0] is at[1]:
        return to_itself(**options), (query.index,)
    return to_another(**options), (query.index, value.index)


def _options_of(layer) -> dict[str, Any]:
    """Arguments of kseq's attention, and the stock layer's `dropout` and `sliding_window`."""
    config = layer.get_config()
    options = {name: config.get(name) for name in ("dropout", "sliding_window", "use_bias")}
    options |= {"use_gate": bool(config.get("use_gate")), "name": layer.name, "dtype": layer.dtype_policy}
    if isinstance(layer, keras.layers.GroupQueryAttention):
        heads = {"num_heads": config["num_query_heads"], "num_key_value_heads": config["num_key_value_heads"]}
        return options | heads | {"key_dim": config["head_dim"]}
    if config.get("attention_axes") not in (None, (1,), [1]):
        raise Refusal(f"it attends along the axes {config['attention_axes']}", "attention_axes=None")
    output = config.get("output_shape")
    if output is not None and len(output) > 1:
        raise Refusal(f"its output has channels of shape {tuple(output)}", "an output_shape of one axis")
    sizes = {name: config[name] for name in ("num_heads", "key_dim", "value_dim")}
    return options | sizes | {"output_dim": output[0] if output else None}


def adopting(made: Any, layer: Any, slots: Any) -> Any:
    """Attention that has the variables of a stock layer, of whose call it reads these slots."""
    try:
        made.adopt_projections(layer.weights)
    except ValueError as error:  # of a layer that is quantised, or has weights of LoRA
        raise Refusal(f"its weights are not those of plain projections: {error}") from None
    made.adapted, made.read_slots, made.built = layer, slots, True
    return made
