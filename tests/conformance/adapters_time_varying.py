"""Layers of the reference that have weights for each step."""

from reference import _HINTS, _TYPES, Plan, _function, _options, _policy, _reference

import kseq


@_reference("SequenceDense", "MaskedDense")
def _dense_of_steps(config, spec, name):
    own = {"features": None, "num_steps": None, "use_bias": True, "activation": None}
    options = _options(config, own | _TYPES, **_HINTS)
    layer = getattr(kseq, name)(
        options["features"],
        options["num_steps"],
        activation=_function(options["activation"]),
        use_bias=options["use_bias"],
        kernel_initializer="zeros",
        positions="all",  # the reference counts all steps
        dtype=_policy(options, spec),
    )
    return layer, Plan({"kernel": "kernel", "bias": "bias"})


@_reference("SequenceEmbedding")
def _embedding_of_steps(config, spec, name):
    own = {
        "dimension": None,
        "num_embeddings_per_step": None,
        "num_steps": None,
        "round_num_embeddings_to_multiple_of": None,
    }
    options = _options(config, own | _TYPES)
    layer = kseq.SequenceEmbedding(
        options["num_embeddings_per_step"],
        options["dimension"],
        options["num_steps"],
        options["round_num_embeddings_to_multiple_of"] or 1,
        embeddings_initializer="zeros",
        positions="all",
        dtype=_policy(options, spec),
    )
    return layer, Plan({"embeddings": "embedding"})
