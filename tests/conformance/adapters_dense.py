"""Dense layers and embeddings of the reference."""

from reference import _FACTORIES, _HINTS, _TYPES, Plan, _function, _options, _policy, _reference

import kseq

_DENSE = {"activation": None, "projectable": True} | _TYPES


@_reference("Dense")
def _dense(config, spec, name):
    options = _options(config, {"features": None, "use_bias": True} | _DENSE, **_HINTS, **_FACTORIES)
    layer = kseq.Dense(options["features"], use_bias=options["use_bias"], **_common(options, spec))
    return layer, Plan({"kernel": "kernel", "bias": "bias"})


@_reference("DenseShaped")
def _dense_shaped(config, spec, name):
    options = _options(config, {"output_shape": None, "use_bias": True} | _DENSE, **_HINTS, **_FACTORIES)
    layer = kseq.DenseShaped(options["output_shape"], use_bias=options["use_bias"], **_common(options, spec))
    return layer, Plan({"kernel": "kernel", "bias": "bias"})


@_reference("EinsumDense")
def _einsum_dense(config, spec, name):
    own = {"equation": None, "output_shape": None, "bias_axes": ""}
    options = _options(config, own | _DENSE, **_HINTS, **_FACTORIES)
    layer = kseq.EinsumDense(**{key: options[key] for key in own}, **_common(options, spec))
    return layer, Plan({"kernel": "kernel", "bias": "bias"})


def _common(options, spec):
    # An initialiser of zeros is the cheapest: the weights are replaced.
    return {
        "activation": _function(options["activation"]),
        "kernel_initializer": "zeros",
        "dtype": _policy(options, spec),
    }


@_reference("Embedding")
def _embedding(config, spec, name):
    supported = {"dimension": None, "num_embeddings": None, "embedding_param_name": "embedding"}
    options = _options(config, supported | _TYPES)
    layer = kseq.Embedding(
        options["num_embeddings"],
        options["dimension"],
        embeddings_initializer="zeros",
        dtype=_policy(options, spec),
    )
    return layer, Plan({"embeddings": options["embedding_param_name"]})
