"""Random layers of the reference, which without training are the identity."""

from reference import Plan, _options, _own_policy, _reference

import kseq


@_reference("Dropout")
def _dropout(config, spec, name):
    options = _options(config, {"rate": 0.0, "broadcast_dims": (), "rng_collection": "dropout"})
    rank = len(spec.shape) + 2
    shared = {axis % rank for axis in options["broadcast_dims"]}
    noise_shape = [1 if axis in shared else None for axis in range(rank)] if shared else None
    return kseq.Dropout(options["rate"], noise_shape, dtype=_own_policy(spec)), Plan()
