"""Adapters of KerasHub's layers, loaded with the first of its layers that is met in a model.

Blocks of which KerasHub has no public name are known by where it keeps them, and the parts of a block by the attributes
under which its checkpoints have them.
"""

import inspect
from typing import Any

import keras_hub
from keras import ops
from keras_hub.src.models.llama.llama_decoder import LlamaTransformerDecoder
from keras_hub.src.models.llama.llama_layernorm import LlamaLayerNorm

from ...layers.counting import bounded
from ...layers.position import PositionLayer
from ...registry import adapts
from ...sequence import Sequence, SequenceSpec
from .adapted import Adapted
from .attention import StockSelfAttention, StockSynchronousAttention, adopting, attention
from .call_site import CallSite
from .hub_decoder import HubDecoder, HubRotary, horizons
from .operation import InputSlot, Operation
from .refusal import Refusal

_OWN = keras_hub.layers
_STOCK = {cls.__mro__[2]: cls for cls in (StockSelfAttention, StockSynchronousAttention)}


@adapts(_OWN.TransformerDecoder, replace=False)
def transformer_decoder(layer: Any, specs: Any, call: Any, site: CallSite) -> Any:
    """A decoder's block without cross-attention."""
    slots = _slots_of(layer, call)
    part = layer._self_attention_layer
    sizes = {"num_heads": layer.num_heads, "key_dim": part.key_dim, "name": part.name, "dtype": part.dtype_policy}

    def make(kind):
        return adopting(_STOCK[kind](**sizes, **horizons(site)), part, ())

    def before(x):
        return layer._self_attention_layer_norm(x) if layer.normalize_first else x

    def after(x, read, training):
        x = x + layer._self_attention_dropout(read, training=training)
        x = x if layer.normalize_first else layer._self_attention_layer_norm(x)
        y = layer._feedforward_layer_norm(x) if layer.normalize_first else x
        y = layer._feedforward_output_dense(layer._feedforward_intermediate_dense(y))
        y = x + layer._feedforward_dropout(y, training=training)
        return y if layer.normalize_first else layer._feedforward_layer_norm(y)

    return _decoder(layer, make, before, after, slots)


@adapts(LlamaTransformerDecoder, replace=False)
def llama_decoder(layer: Any, specs: Any, call: Any, site: CallSite) -> Any:
    """A block of Llama's: rotary positions, keys shared by groups of queries, a gated product."""
    slots = _slots_of(layer, call)
    part = layer._self_attention_layer

    def make(kind):
        rotary = part.rotary_embedding_layer
        made = _STOCK[kind](
            layer.num_query_heads,
            layer.hidden_dim // layer.num_query_heads,
            num_key_value_heads=layer.num_key_value_heads,
            use_bias=False,
            query_network=HubRotary(rotary, "query_rotary", of_heads=True),
            key_network=HubRotary(rotary, "key_rotary", of_heads=True),
            name=part.name,
            dtype=part.dtype_policy,
            **horizons(site),
        )
        return adopting(made, part, ())

    def after(x, read, training):
        x = x + layer._self_attention_dropout(read, training=training)
        y = layer._feedforward_layernorm(x)
        gate = layer.activation(ops.cast(layer._feedforward_gate_dense(y), "float32"))
        y = layer._feedforward_intermediate_dense(y) * ops.cast(gate, layer.compute_dtype)
        return x + layer._feedforward_output_dense(y)

    return _decoder(layer, make, lambda x: layer._self_attention_layernorm(x), after, slots)


def _decoder(layer, make, before, after, slots):
    made = HubDecoder(layer, make, before, after, has_padding=len(slots) > 1)
    made.read_slots = slots
    return made


def _slots_of(layer, call) -> tuple[int, ...]:
    """The numbers of a block's input and of its padding mask, if it has one."""
    given = _named(layer, call)
    slots = [given.pop("decoder_sequence"), given.pop("decoder_padding_mask", None)]
    if "encoder_sequence" in given:
        raise Refusal("its cross-attention has no streaming form", "kseq.CrossAttention, in a block of kseq's layers")
    if given.pop("use_causal_mask", True) is not True:
        raise Refusal("without a causal mask it sees steps that are still to come", "use_causal_mask=True in its call")
    if given.pop("training", False) and layer.dropout:
        raise Refusal("called with training=True it draws random numbers", "training=None in its call")
    for name in given:
        raise Refusal(f"it is called with `{name}`, which is not adapted", "`decoder_padding_mask` alone")
    if not all(slot is None or isinstance(slot, InputSlot) for slot in slots):
        raise Refusal("its padding mask is a constant, which is as long as one sequence", "a mask that is an input")
    return tuple(slot.index for slot in slots if slot is not None)


def _named(layer, call) -> dict[str, Any]:
    """The arguments of a call by name, those left out that are `None`."""
    bound = inspect.signature(layer.call).bind(*call.arguments, **call.keywords).arguments
    return {name: value for name, value in bound.items() if value is not None}


@adapts(_OWN.CachedMultiHeadAttention, replace=False)
def cached_attention(layer: Any, specs: Any, call: Any, site: CallSite) -> Any:
    """Attention to a sequence that is context: what its masks of attention hide is not known of one that streams."""
    given = _named(layer, call)
    for name in ("attention_mask", "cache", "cache_update_index"):
        if name in given:
            instead = "keras.layers.MultiHeadAttention with use_causal_mask=True in its call"
            raise Refusal(f"it is called with `{name}`, which says for a whole sequence what it sees", instead)
    if isinstance(given["value"], InputSlot):
        instead = "keras.layers.MultiHeadAttention with use_causal_mask=True in its call"
        raise Refusal("it sees steps that are still to come", instead)
    return attention(layer, specs, call, site)


@adapts(LlamaLayerNorm, replace=False)
def llama_norm(layer: Any, specs: Any) -> Any:
    """The root mean square of channels."""
    return Operation.of(layer, specs)


@adapts(_OWN.RotaryEmbedding, replace=False)
def rotary_embedding(layer: Any, specs: Any, start_index: Any = 0) -> Any:
    """Channels rotated by the position of their step."""
    rank = 2 + len(specs.shape)
    if layer.sequence_axis not in (1, 1 - rank):
        raise Refusal(f"its sequence_axis {layer.sequence_axis} is not time", "sequence_axis=1")
    return HubRotary(layer, layer.name, _checked(start_index))


@adapts(_OWN.PositionEmbedding, replace=False)
def position_embedding(layer: Any, specs: Any, start_index: Any = 0) -> Any:
    """The vector of each step's position, whatever the input."""
    if len(specs.shape) != 1:
        raise Refusal(f"its positions are along axis {len(specs.shape)}, which is not time", "an input [B, T, C]")
    return HubPositions(layer, _checked(start_index))


@adapts(_OWN.TokenAndPositionEmbedding, replace=False)
def token_and_position_embedding(layer: Any, specs: Any, start_index: Any = 0) -> Any:
    """The vector of a token and that of its position."""
    return HubTokens(layer, _checked(start_index))


def _checked(start) -> int:
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise Refusal(f"its start_index {start!r} is not a number", "start_index=0")
    return start


class HubPositions(Adapted, PositionLayer):
    """Learned vectors of positions, in the shape of the input; there are so many and no more."""

    reads_every_step: bool = True

    def __init__(self, layer: Any, start: int) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.adapted, self._start = layer, start
        self._set_positions("all")
        self.built = True

    @property
    def embedding(self) -> Any:
        """The layer that has the vectors."""
        return self.adapted

    def room(self, state: Any) -> Any:
        return self.embedding.sequence_length - self._start - state["position"]

    @property
    def room_advice(self) -> str | None:
        return f"raise sequence_length (={self.embedding.sequence_length}) of `{self.name}`"

    def call_values(self, values: Any, positions: Any) -> Any:
        last = self.embedding.sequence_length - 1  # of steps that are not there, or have no room
        # Its own way from positions to vectors, of rows in the place of steps.
        positions = ops.broadcast_to(bounded(positions + self._start, 0, last), ops.shape(values)[:2])
        return self.embedding(values, positions=positions)


class HubTokens(HubPositions):
    """Learned vectors of tokens and of positions; where the layer says so, token 0 is a step that is not there."""

    @property
    def embedding(self) -> Any:
        return self.adapted.position_embedding

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return SequenceSpec((*input_spec.shape, self.adapted.embedding_dim), self.compute_dtype)

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        tokens = x.values
        given = Sequence(self.adapted.token_embedding(tokens), x.mask)
        places, state = PositionLayer.call_step(self, given, state, training=training)
        mask = x.mask
        if self.adapted.token_embedding.mask_zero:
            mask = tokens != 0 if mask is None else ops.logical_and(mask, tokens != 0)
        return Sequence(given.values + places.values, mask), state
