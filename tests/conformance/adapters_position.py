"""Positions of the reference.

Where it counts all steps it counts from the start of a row. kseq, for which leading invalid steps are as if absent,
counts from the first valid one, which is the same where there are none; alone, a layer is given the positions.
"""

import numpy as np
from keras import ops
from reference import _TYPES, Implementation, Plan, _options, _own_policy, _policy, _readable, _reference, _Unsupported

import kseq


class GivenPositions(Implementation):
    """A layer whose second input is the number of the step, or the positions among the reference's constants."""

    def _more(self, constants, steps):
        name = self._node["config"].get("positions_name")
        positions = np.arange(steps)[None] if name is None else constants[name]
        positions = positions[0] if isinstance(positions, tuple) else positions
        return positions.astype("int32")

    def _run(self, values, mask, more):
        x = self._given(values, mask)
        positions = ops.broadcast_to(ops.convert_to_tensor(more), ops.shape(x.mask))
        return self._layer((x, kseq.Sequence(positions, x.mask)))

    def initial_state(self, batch, channel_shape, dtype, constants):
        return 0

    def step(self, values, mask, state, constants):
        """The state is the number of steps so far: the positions of a chunk are as many of all."""
        after = state + values.shape[1]
        y, y_mask = self._chunk(values, mask, self._more(constants, after)[:, state:after])
        return ops.convert_to_numpy(y), ops.convert_to_numpy(y_mask), after

    def _step(self, values, mask, more):
        x = self._given(values, mask)
        positions = ops.broadcast_to(ops.convert_to_tensor(more), ops.shape(x.mask))
        y, _ = self._layer.step((x, kseq.Sequence(positions, x.mask)), ())
        return _readable(y)


def _positions(options, is_alone):
    if options["only_advance_position_for_valid_timesteps"]:
        return "valid"
    if is_alone:
        return "given"
    if options.get("positions_name") is not None:
        raise _Unsupported("positions_name within another layer")
    return "all"


def _add_timing_signal(config, spec, is_alone):
    own = {
        "min_timescale": 1.0,
        "max_timescale": 10000.0,
        "trainable_scale": False,
        "axes": None,
        "only_advance_position_for_valid_timesteps": True,
    }
    options = _options(config, own | {"param_dtype": _TYPES["param_dtype"]})
    positions = _positions(options, is_alone)
    layer = kseq.AddTimingSignal(
        **{name: options[name] for name in ("min_timescale", "max_timescale", "trainable_scale", "axes")},
        positions=positions,
        dtype=_policy(options, spec, preserves_type=True),
    )
    return layer, _plan(positions, {"scale": "scale"})


def _rotary(config, spec, is_alone):
    own = {"max_wavelength": None, "axis": -1, "positions_in_at_least_fp32": True, "positions_name": None}
    options = _options(config, own | {"only_advance_position_for_valid_timesteps": True})
    positions = _positions(options, is_alone)
    layer = kseq.RotaryEmbedding(
        **{name: options[name] for name in ("max_wavelength", "axis", "positions_in_at_least_fp32")},
        positions=positions,
        dtype=_own_policy(spec),
    )
    return layer, _plan(positions, {})


def _plan(positions, names):
    return Plan(names, implementation=GivenPositions if positions == "given" else Implementation)


for reference, maker in {"AddTimingSignal": _add_timing_signal, "ApplyRotaryPositionalEncoding": _rotary}.items():
    for alone in (True, False):
        _reference(reference, alone=alone)(
            lambda config, spec, name, maker=maker, alone=alone: maker(config, spec, alone)
        )
