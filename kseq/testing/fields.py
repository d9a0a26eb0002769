"""The receptive field, by moving one input step at a time."""

import math

import numpy as np

from ..sequence import Sequence
from .errors import attempt, expect_same, fail, numpy, wide
from .subject import Subject, finite_extent, to_numpy

_UNCHANGED = 5e-6  # of the largest output: rows of one batch may be summed in different orders


def check_receptive_field(s: Subject) -> None:
    """Property S15, phase by phase, and for every pair of an input and an output of a stretch that is long enough.

    And K: a tensor without a mask gives what one with a mask that is all True gives.
    """
    phases = s.timing.receptive_field_per_step
    steps = _stretch(s, phases)
    # What does not stream may read other inputs by how many there are: the field is that of all lengths.
    lengths = [steps] if s.steps else range(steps, steps + s.block)
    with attempt("S15", f"layer mode of {steps} steps, all valid"):
        found = [_dependence(s, length) for length in lengths]
    if s.time not in lengths:
        with attempt("K", "a call on a tensor without a mask"):
            _check_unmasked(s, numpy(s.compile(s.call, "unmasked, as long as the input")(s.full)))
    for phase, field in enumerate(phases):
        ends = [end for depends in found for end in _ends_reached(s, depends, phase, field)]
        if field is None:
            continue
        if s.field_is_bound:
            continue
        if not ends:
            fail("S15", f"no output of phase {phase} has its field {field} within {steps} steps")
        for reached, end in zip(map(any, zip(*ends, strict=True)), field, strict=True):
            if not reached:
                fail("S15", f"no output of phase {phase} depends on the input at {end} (received), declared is {field}")


def _ends_reached(s, depends, phase, field):
    """Of every output of a phase whose field lies within the inputs whether it depends on the first and on the last.

    Outputs that depend on an input outside are refused.
    """
    outputs, steps = depends.shape
    for u in range(phase, outputs, len(s.timing.receptive_field_per_step)):
        start = math.floor(u / s.ratio)
        first, last = (steps, -1) if field is None else (start + field[0], start + field[1])
        allowed = (np.arange(steps) >= first) & (np.arange(steps) <= last)
        wrong = np.flatnonzero(depends[u] & ~allowed)
        if wrong.size:
            fail(
                "S15",
                f"output step {u} (phase {phase}) depends on input step {wrong[0]}, which is {wrong[0] - start} "
                f"from its own (received), outside the declared {field}",
            )
        if field is None:
            continue
        # An end that is infinite counts as reached near the end of the stretch, from as far as possible: a layer
        # before this one may have dropped the very first steps.
        far, near = outputs / 2, max(steps // 4, _dropped(s))
        if (math.isinf(first) or first >= 0) and (math.isinf(last) or last < steps):
            early = depends[u, : near + 1].any() and u >= far if math.isinf(first) else depends[u, int(first)]
            late = depends[u, -near - 1 :].any() and u <= far if math.isinf(last) else depends[u, int(last)]
            yield early, late


def _call(s, values, steps):
    """Layer mode of rows that differ in their input alone, after those of the test's input where it is as long."""
    same = np.zeros(values.shape[0] - (s.batch if steps == s.time else 0), int)
    return s.call(values, rows=np.concatenate([np.arange(s.batch), same]) if steps == s.time else same)


def _dropped(s):
    """A bound on the inputs at the start that no output depends on."""
    return math.ceil(s.timing.output_latency / s.ratio)


def _stretch(s, phases):
    """Steps enough for every phase to have its whole field inside."""
    ends = [0, *(end for field in phases for end in finite_extent(field))]
    period = math.ceil(len(phases) / s.ratio)
    steps = max(ends) - min(ends) + 2 * period + 2 * s.block + abs(s.layer.output_length(64) - math.ceil(64 * s.ratio))
    if any(math.isinf(end) for field in phases for end in field or ()):
        steps = max(steps, 8) + 2 * _dropped(s)
    room = s.layer.room(s.initial_state(1)) if s.steps else None
    return max(int(steps if room is None else min(steps, *numpy(room))), s.time)


def _dependence(s, steps):
    """Whether each output depends on each of `steps` inputs, bool [U, T]."""
    base, found = s.draw((1, steps, *s.channels)), False
    function = s.compile(lambda values: _call(s, values, steps), "unmasked")
    for scale in (1, 10, -10):
        rows = np.repeat(base, steps + 1, axis=0)
        for step in range(steps):
            rows[step + 1, step] = _moved(s, base[0, step], scale)
        if steps == s.time:  # the same function serves another property
            values = numpy(function(np.concatenate([s.full, rows])))
            _check_unmasked(s, values[: s.batch])
            values = values[s.batch :]
        else:
            values = numpy(function(rows))
        scale = np.abs(values).max() if values.size else 0
        if values.dtype.kind not in "iub":
            values = wide(values)
            changed = np.abs(values[1:] - values[:1]) > _UNCHANGED * max(1.0, scale)
        else:
            changed = values[1:] != values[:1]
        found = found | changed.reshape(*changed.shape[:2], -1).any(-1)
    return (found | _dependence_on_validity(s, base) if s.layer.counts_steps else found).T


def _dependence_on_validity(s, base):
    """Whether each output depends on whether each of the inputs is there, bool [T, U]."""
    steps = base.shape[1]
    rows = np.repeat(base, steps + 1, axis=0)
    there = np.concatenate([np.ones((1, steps), bool), ~np.eye(steps, dtype=bool)])

    def call(values, mask):
        return s.call(Sequence(values, mask), rows=np.zeros(steps + 1, int))

    y = to_numpy(s.compile(call, "some steps invalid")(rows, there))
    values = wide(y.values).reshape(*y.values.shape[:2], -1)
    changed = (np.abs(values[1:] - values[:1]) > _UNCHANGED * max(1.0, np.abs(values[:1]).max())).any(-1)
    return changed & y.mask[1:]


def _moved(s, value, scale):
    """Another value for one step; far away in both directions, for maxima and thresholds."""
    if s.dtype == "bool":
        return ~value
    if not s.is_float:
        return (value + s.rng.integers(1, s.integers, value.shape)) % s.integers
    noise = s.draw(value.shape)
    return noise if scale == 1 else (scale * (0.5 + np.abs(noise))).astype(s.dtype)


def _check_unmasked(s, found):
    wanted = s.layer_mode(s.full, np.ones((s.batch, s.time), bool))[0]
    wanted = to_numpy(wanted)
    close = {
        "rtol": s.rtol,
        "atol": s.atol,
        "where": wanted.mask,
        "names": ("without a mask", "with one that is all True"),
    }
    expect_same("K", found, wanted.values, "values of a call on a tensor", **close)
