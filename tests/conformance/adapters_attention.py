"""Attention of the reference: dot products of a stream with itself, with a source that flows along, and with context.

Where it cuts its computation into blocks and how it keeps its cache changes no number. Its rows that see nothing
average all values where it is not told to make them zero; ours are always zero.
"""

import operator
from typing import Any

import numpy as np
from keras import ops
from reference import (
    _FACTORIES,
    _HINTS,
    _TYPES,
    DEVIATIONS,
    Implementation,
    Plan,
    _make,
    _options,
    _policy,
    _readable,
    _reference,
    _Unsupported,
)

import kseq

_FIELDS = ("receptive_field", "receptive_field_per_step")
DEVIATIONS += [
    # An unlimited past streams, from a cache.
    (
        lambda name, config: -1 in (config.get("max_past_horizon"), config.get("max_past_horizon_blocks")),
        ("supports_step",),
    ),
    # A source that flows along is an input, and within the receptive field.
    (lambda name, config: name in _SYNCHRONOUS, _FIELDS),
    # Networks of queries, keys and values see what they see.
    (lambda name, config: any(config.get(network) for network in _NETWORKS), _FIELDS),
]
_SYNCHRONOUS = ("StreamingDotProductAttention", "StreamingLocalDotProductAttention")
# By the reference's name: ours, and the default.
_SHARED = {
    "num_heads": ("num_heads", None),
    "units_per_head": ("key_dim", None),
    "num_kv_heads": ("num_key_value_heads", None),
    "use_bias": ("use_bias", False),
    "query_scale": ("query_scale", None),
    "per_dim_scale": ("use_per_dim_scale", False),
    "per_dim_key_scale": ("use_per_dim_key_scale", False),
    "attention_logits_soft_cap": ("attention_logits_soft_cap", None),
    "num_sink_embeddings": ("num_sink_embeddings", 0),
    "use_sink_scalars": ("use_sink_scalars", False),
    "attention_probabilities_dropout_rate": ("dropout", 0.0),
    "broadcast_dropout_across_queries": ("broadcast_dropout_across_queries", False),
}
_WITHOUT_EFFECT = {
    "zero_fully_masked": False,
    "use_kv_cache_ringbuffer": False,
    "experimental_accumulate_logits_in_float32": False,
    "flash_attention_query_block_size": None,
    "flash_attention_key_block_size": None,
    "remat_outer": False,
    "remat_inner": False,
    "recompute_kv_per_step": False,
}
_NETWORKS = {"query_network": None, "key_network": None, "value_network": None}
_PROJECTION = {"projection": "CombinedQueryKeyValueProjection"}
_SEPARATE_SOURCE = {"projection": "QueryAndKeyValueProjection"}


def _attention(cls, config, spec, own, projection=_PROJECTION, positions="relative_position_embedding", **fixed):
    """A layer of ours and its plan.

    Args:
        cls: our class.
        config, spec: of the node.
        own: by the reference's name our argument, its default and what makes ours of its value.
        projection: how the reference projects by default.
        positions: the option that has the position scheme.
        fixed: our arguments that are not options of the reference.
    """
    supported = {name: default for name, (_, default, *_) in (_SHARED | own).items()}
    supported |= _WITHOUT_EFFECT | _NETWORKS | {"input_projection": projection, positions: None} | _TYPES
    options = _options(config, supported, **_HINTS)
    policy = _policy(options, spec)
    given = {ours: options[name] for name, (ours, _) in _SHARED.items()}
    given |= {ours: make(options[name]) for name, (ours, _, make) in own.items()}
    sources = given["source"] if given.get("use_separate_projections") else None
    places, share = _projection_names(options["input_projection"], sources)
    plan = Plan(places | {name: name for name in _SCALES})
    heads = {"query": given["num_heads"], "key": given["num_key_value_heads"] or given["num_heads"]}
    given["position"], names = _position(options[positions])
    wavelengths = [_rope_wavelength(options[network]) for network in ("query_network", "key_network")]
    if given["position"] is None and wavelengths[0] is not None and wavelengths[0] == wavelengths[1]:
        given["position"] = kseq.RotaryPosition(wavelengths[0])
        options |= {"query_network": None, "key_network": None}
    for role in ("query", "key", "value"):
        node, attribute = options[f"{role}_network"], f"{role}_network"
        if node is not None:
            inner = kseq.SequenceSpec((heads.get(role, heads["key"]), given["key_dim"]), spec.dtype)
            given[attribute], network_plan = _make(node, inner)
            plan.children.append((attribute, (), operator.attrgetter(attribute), network_plan))
    plan.names.update(names)
    if "source" in given or cls is kseq.SynchronousAttention:
        of_keys = [place for name, place in places.items() if name.startswith("key") and name.endswith("kernel")]
        plan.of_sources = lambda weights: [len(weights[f"params/{path}"]) for path, _ in of_keys]
    layer = cls(**given, **fixed, share_key_value=share, output_dim=False, kernel_initializer="zeros", dtype=policy)
    return layer, plan


def _rope_wavelength(network):
    """The wavelength of a network that does what our rotary positions do, which count valid steps; else `None`."""
    if network is None or network["layer"] != "ApplyRotaryPositionalEncoding":
        return None
    config = dict(network["config"])
    wavelength, axis = config.pop("max_wavelength"), config.pop("axis", -1)
    usual = {"only_advance_position_for_valid_timesteps": True, "positions_in_at_least_fp32": True}
    as_usual = all(value == usual.get(name) for name, value in config.items() if name != "name")
    return wavelength if axis in (-1, 3) and as_usual else None


def _horizon(value):
    return None if value == -1 else value


_SCALES = ("per_dim_scale", "per_dim_key_scale", "sink_key_embeddings", "sink_value_embeddings", "sink_scalars")


def _position(node):
    """The position scheme of a node, and where its variables are."""
    if node is None:
        return None, {}
    config, place = node["config"], "relative_position_embedding"
    options = {name: value for name, value in config.items() if name not in ("num_heads", "units_per_head")}
    options = {k: v for k, v in options.items() if not k.endswith(("_init", "_sharding", "_dtype")) and k != "name"}
    if node["relpos"] == "TransformerXLRelativePositionEmbedding":
        names = {"position_kernel": "pos_proj/kernel", "position_u": "u", "position_v": "v"}
        return kseq.TransformerXLPosition(**options), {ours: f"{place}/{theirs}" for ours, theirs in names.items()}
    scheme = {"T5RelativePositionEmbedding": kseq.T5Position, "ShawRelativePositionEmbedding": kseq.ShawPosition}
    if node["relpos"] not in scheme:
        raise _Unsupported(f"relative_position_embedding={node['relpos']}")
    return scheme[node["relpos"]](**options), {"position_embeddings": f"{place}/embedding"}


def _projection_names(projection, sources=None):
    """Where kernels and biases are, and whether keys and values are one projection.

    Args:
        projection: what the reference says of it.
        sources: names of those that have projections of their own, if any.
    """
    kind = projection["projection"]
    config = projection.get("config", {})
    _options(config, {"share_kv_projection": False}, **_FACTORIES)
    share = config.get("share_kv_projection", False) or kind == "QueryAndSharedKeyValueProjection"
    if kind == "CombinedQueryKeyValueProjection":
        places = [("query_key_value_projection", i) for i in (0, 1, None if share else 2)]
    elif kind == "SeparateQueryKeyValueProjection":
        places = [("query_projection", None), ("key_projection", None), ("value_projection", None)]
    elif kind == "QueryAndKeyValueProjection":
        places = [("query_projection", None), ("key_value_projection", 0), ("key_value_projection", 1)]
    elif kind == "QueryAndSharedKeyValueProjection":
        places = [("query_projection", None), ("shared_key_value_projection", None), (None, None)]
    else:
        raise _Unsupported(f"input_projection={kind}")
    names: dict[str, Any] = {}
    for role, (place, i) in zip(("query", "key", "value"), places, strict=True):
        if place is None or (role == "value" and share):
            continue
        for number, source in enumerate([""] if sources is None or role == "query" else sources):
            ours, theirs = f"{role}_{number}" if number else role, f"{source}_projection/{place}" if source else place
            # The bias lacks the kernel's first axis, the input's.
            names[f"{ours}_kernel"] = (f"{theirs}/kernel", () if i is None else (slice(None), i))
            names[f"{ours}_bias"] = (f"{theirs}/bias", () if i is None else (i,))
    return names, share


_HORIZONS = {
    "max_past_horizon": ("max_past_horizon", None, _horizon),
    "max_future_horizon": ("max_future_horizon", 0, _horizon),
}


@_reference("DotProductSelfAttention", "LocalDotProductSelfAttention")
def _self_attention(config, spec, name):
    config = {key: value for key, value in config.items() if key != "block_size"}  # a block of the computation
    return _attention(kseq.SelfAttention, config, spec, _HORIZONS)


@_reference("DotProductSelfAttentionV2")
def _self_attention_v2(config, spec, name, own=_HORIZONS, **fixed):
    config = dict(config)
    segments, positions = config.pop("segment_ids_name", None), config.pop("position_name", None)
    if positions is not None:
        raise _Unsupported("position_name")
    layer, plan = _attention(
        kseq.SelfAttention,
        config,
        spec,
        own,
        positions="unknown",
        use_segment_ids=segments is not None,
        interleave_groups=True,
        **fixed,
    )
    if segments is not None:
        plan.implementation = GivenSegments
    return layer, plan


@_reference("BlockwiseDotProductSelfAttention")
def _blockwise(config, spec, name):
    config = dict(config)
    own = {
        "max_past_horizon_blocks": ("max_past_horizon", None, _horizon),
        "max_future_horizon_blocks": ("max_future_horizon", 0, _horizon),
    }
    return _self_attention_v2(config, spec, name, own, block_size=config.pop("block_size"))


class GivenSegments(Implementation):
    """A layer whose second input is the segment ids among the reference's constants, which count all steps."""

    def _more(self, constants, steps):
        ids = constants[self._node["config"]["segment_ids_name"]]
        ids = np.asarray(ids[0] if isinstance(ids, tuple) else ids).astype("int32")
        return np.pad(ids, [(0, 0), (0, max(0, steps - ids.shape[1]))])[:, :steps]

    def _run(self, values, mask, more):
        x = self._given(values, mask)
        return self._layer((x, kseq.Sequence(ops.convert_to_tensor(more), x.mask)))

    def initial_state(self, batch, channel_shape, dtype, constants):
        specs = kseq.SequenceSpec(tuple(channel_shape), dtype), kseq.SequenceSpec((), "int32")
        return 0, self._layer.initial_state(batch, specs)

    def step(self, values, mask, state, constants):
        before, state = state
        after = before + values.shape[1]
        y, y_mask, state = self._chunk(values, mask, self._more(constants, after)[:, before:], state)
        return ops.convert_to_numpy(y), ops.convert_to_numpy(y_mask), (after, state)

    def _step(self, values, mask, more, state):
        x = self._given(values, mask)
        y, state = self._layer.step((x, kseq.Sequence(ops.convert_to_tensor(more), x.mask)), state)
        return *_readable(y), state


# Sources.


def _one_source(value):
    return value


_SOURCE = {"source_name": ("source", None, _one_source)}


@_reference("DotProductAttention")
def _cross(config, spec, name):
    return _attention(kseq.CrossAttention, config, spec, _SOURCE, _SEPARATE_SOURCE)


@_reference("MultiSourceDotProductAttention")
def _multi_source(config, spec, name):
    own = {
        "source_names": ("source", None, lambda names: [names] if isinstance(names, str) else list(names)),
        "use_separate_kv_projections": ("use_separate_projections", False, bool),
    }
    return _attention(kseq.CrossAttention, config, spec, own, _SEPARATE_SOURCE, interleave_groups=True)


@_reference(*_SYNCHRONOUS, alone=True)
def _synchronous(config, spec, name):
    config = {key: value for key, value in config.items() if key != "block_size"}
    if not config.pop("use_query_delay_buffer", True):
        raise _Unsupported("use_query_delay_buffer=False")
    source = config.pop("source_name")
    layer, plan = _attention(kseq.SynchronousAttention, config, spec, _HORIZONS, _SEPARATE_SOURCE)
    plan.implementation = type("BesideSource", (BesideSource,), {"source": source})
    return layer, plan


class BesideSource(Implementation):
    """A layer whose second input is the source among the reference's constants, cut like the input when stepped."""

    source: str

    def _more(self, constants, steps):
        return constants[self.source]

    def _run(self, values, mask, more):
        return self._layer((self._given(values, mask), kseq.Sequence(*map(ops.convert_to_tensor, more))))

    def initial_state(self, batch, channel_shape, dtype, constants):
        source = kseq.SequenceSpec(tuple(constants[self.source][0].shape[2:]))
        return self._layer.initial_state(batch, (kseq.SequenceSpec(tuple(channel_shape), dtype), source))

    def step(self, values, mask, state, constants):
        y, y_mask, state = self._chunk(values, mask, constants[self.source], state)
        return ops.convert_to_numpy(y), ops.convert_to_numpy(y_mask), state

    def _step(self, values, mask, more, state):
        given = self._given(values, mask), kseq.Sequence(*map(ops.convert_to_tensor, more))
        y, state = self._layer.step(given, state)
        return *_readable(y), state
