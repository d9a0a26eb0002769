"""Adapters of Keras's attention without projections: queries, keys and values are the sequences themselves."""

from typing import Any

import keras
from keras import ops

from ...layers.attention import CrossAttention, SelfAttention, SynchronousAttention
from ...layers.attention.scores import attend, finite_values
from ...model_graph import Call
from ...registry import adapts
from ...sequence import Sequence, SequenceSpec
from .adapted import Adapted
from .attention import PLAIN, arguments_of, placed
from .call_site import CallSite
from .operation import InputSlot
from .refusal import Refusal


class _PlainAttention(Adapted):
    """Attention of one head whose queries, keys and values are what it reads."""

    key_dim: int
    value_size: int
    read_slots: tuple[int, ...]

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return SequenceSpec((self.value_size,), self.compute_dtype)

    def project(
        self,
        x: Sequence,
        roles: Any,
        position: Any,
        state: Any = None,
        active: Any = None,
        training: bool = False,
        source: int = 0,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        found = dict.fromkeys(roles, x.values[:, None])
        if "value" in found:
            found["key"], found["value"] = finite_values(found["key"], found["value"])
        return found, {}

    def channels_of(self, role: str, source: int = 0) -> int:
        return self.key_dim

    def read_values(
        self, queries: Any, keys: Any, visibility: Any, training: bool, future: Any = None
    ) -> tuple[Any, Any]:
        (query, of_query), (key, value, of_key) = queries, keys
        visible = visibility.visible(of_query, of_key, future)
        return attend(query, key, value, visible, scale=1, compare=self.compare)

    def compare(self, query: Any, key: Any) -> Any:
        """What the stock layer takes for the likeness of queries [..., Q, D] and keys [..., K, D], [..., Q, K]."""
        layer = self.adapted
        scale = layer.scale if layer.use_scale else None
        scale = 1 if scale is None else ops.cast(ops.convert_to_tensor(scale), query.dtype)
        additive = isinstance(layer, keras.layers.AdditiveAttention)
        if not additive and layer.score_mode == "dot":
            return scale * ops.einsum("...qd,...kd->...qk", query, key)
        sums = query[..., :, None, :] + key[..., None, :, :]
        if additive:
            return ops.sum(scale * ops.tanh(sums), axis=-1)
        weight = ops.cast(ops.convert_to_tensor(layer.concat_score_weight), query.dtype)
        return weight * ops.sum(ops.tanh(scale * sums), axis=-1)

    def combine(self, y: Any, gate: Any = None) -> Any:
        return y[:, 0]

    def outputs(self, y: Any, gate: Any, scores: Any, mask: Any) -> Any:
        return Sequence(self.combine(y), mask).mask_invalid()  # as Keras's


class PlainSelfAttention(_PlainAttention, SelfAttention):
    """Keras's attention of a sequence to itself, as it is."""


class PlainSynchronousAttention(_PlainAttention, SynchronousAttention):
    """Keras's attention of a sequence to one that flows along, as they are."""


class PlainCrossAttention(_PlainAttention, CrossAttention):
    """Keras's attention of a sequence to one that is context, as they are."""


@adapts(*PLAIN, in_specs=False)
def plain_attention(layer: Any, specs: Any, call: Call, site: CallSite) -> Any:
    """Attention to the past, or to a sequence that is context."""
    given = arguments_of(call)
    query, value = given["query"], given["value"]
    sizes = [
        specs[part.index].shape if isinstance(part, InputSlot) else tuple(part.shape[2:]) for part in (query, value)
    ]
    if any(len(size) != 1 for size in sizes):
        raise Refusal(f"its inputs must have rank 3; received channels of shapes {sizes[0]} and {sizes[1]}")
    options = {"num_heads": 1, "key_dim": sizes[0][0], "value_dim": sizes[1][0], "output_dim": False}
    options |= {"use_bias": False, "flash_attention": False, "name": layer.name, "dtype": layer.dtype_policy}
    classes = PlainSelfAttention, PlainSynchronousAttention, PlainCrossAttention
    made, slots = placed(classes, options, call, site, layer.dropout)
    made.adapted, made.read_slots, made.built = layer, slots, True
    return made
