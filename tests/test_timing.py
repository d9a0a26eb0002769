"""The timing algebra against a walk through explicit dependency sets."""

import dataclasses
import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from kseq.timing import Timing, delay, merged_stages, parallel, parallel_delays, serial, serial_delays

INF = math.inf
FAR = 10**6
fields = st.tuples(st.integers(-3, 3), st.integers(0, 3)).map(lambda f: (f[0], f[0] + f[1]))
endless = st.one_of(fields, st.sampled_from([(-INF, 2), (-1, INF), (-INF, INF)]))
changes = st.lists(st.integers(-4, 4), max_size=2)


@st.composite
def timings(draw, fields=fields):
    """Single layers: plain, strided, and upsampling ones whose phases may depend on nothing."""
    kind = draw(st.sampled_from(["plain", "strided", "upsampled"]))
    n = draw(st.integers(1, 3))
    ratio = {"plain": Fraction(1), "strided": Fraction(1, n), "upsampled": Fraction(n)}[kind]
    latency = draw(st.integers(0, 3))
    phases = [draw(fields)]
    if kind == "upsampled":
        phases = [draw(st.one_of(st.none(), fields)) for _ in range(n)]
    stages = [(ratio, 0), *((1, change) for change in draw(changes))]
    return Timing(ratio.denominator, ratio, latency, int(latency * ratio), phases, draw(st.permutations(stages)))


def inputs(chain, step):
    """Every input of the chain that an output step depends on."""
    steps = {step}
    for timing in reversed(chain):
        found = set()
        for t in steps:
            field = timing.receptive_field_per_step[t % len(timing.receptive_field_per_step)]
            if field is not None:
                start = math.floor(t / timing.ratio)
                found |= set(range(start + field[0], start + field[1] + 1))
        steps = found
    return steps


@settings(deadline=None)
@given(st.lists(timings(), max_size=4), st.integers(0, 40))
def test_receptive_field_of_a_chain(chain, step):
    total, expected = serial(chain), inputs(chain, step)
    field = total.receptive_field_per_step[step % len(total.receptive_field_per_step)]
    start = math.floor(step / total.ratio)
    if not expected:
        assert field is None
    else:
        assert field is not None and (field[0] + start, field[1] + start) == (min(expected), max(expected))


@settings(deadline=None)
@given(st.lists(timings(endless), max_size=4))
def test_an_infinite_field_is_one_that_ends_far_away(chain):
    def change(timing, infinite, far):
        ends = {infinite: far, -infinite: -far}
        phases = [f and tuple(ends.get(end, end) for end in f) for f in timing.receptive_field_per_step]
        return dataclasses.replace(timing, receptive_field_per_step=phases)

    finite = serial([change(timing, INF, FAR) for timing in chain]).receptive_field_per_step
    finite = [f and tuple(math.copysign(INF, e) if abs(e) > FAR / 100 else e for e in f) for f in finite]
    assert finite == list(serial(chain).receptive_field_per_step)


def test_fields_in_series_skip_the_phases_that_are_skipped():
    # The second layer reads no odd step of the first, which alone looks far.
    far = Timing(ratio=2, receptive_field_per_step=((0, 0), (-9, 9)))
    even = Timing(2, Fraction(1, 2))
    assert serial([far, even]).receptive_field == (0, 0)
    assert serial([far, even, Timing(receptive_field_per_step=((-2, 1),))]).receptive_field == (-2, 1)
    nothing = Timing(receptive_field_per_step=(None,))
    assert serial([nothing, Timing(receptive_field_per_step=((-INF, 0),))]).receptive_field is None


def length_by_layers(chain, length):
    for timing in chain:
        for ratio, change in timing.length_stages:
            length = max(math.ceil(length * ratio) + change, 0)
    return length


@settings(deadline=None)
@given(st.lists(timings(), max_size=5), st.integers(0, 5))
def test_the_length_of_a_chain_is_that_of_its_layers(chain, cut):
    total, lengths = serial(chain), range(30)
    expected = [length_by_layers(chain, n) for n in lengths]
    assert [total.output_length(n) for n in lengths] == expected
    assert serial([serial(chain[:cut]), serial(chain[cut:])]).output_length(17) == expected[17]
    assert total.output_length(np.arange(30)).tolist() == expected
    found = total.output_length(ops.arange(30, dtype="int32")[:, None])
    assert ops.convert_to_numpy(found)[:, 0].tolist() == expected
    assert keras.backend.standardize_dtype(found.dtype) == "int32"


@settings(deadline=None)
@given(st.lists(st.tuples(st.fractions(Fraction(1, 4), 4, max_denominator=4), st.integers(-4, 4)), max_size=4))
def test_stages_are_merged_only_where_they_stay_the_same(stages):
    def apply(stages, n):
        for ratio, change in stages:
            n = max(math.ceil(n * ratio) + change, 0)
        return n

    merged = merged_stages(stages)
    assert len(merged) <= len(stages)
    assert [apply(merged, n) for n in range(60)] == [apply(stages, n) for n in range(60)]


def test_plain_layers_have_one_stage():
    chain = [
        Timing(),
        delay(2),
        Timing(2, Fraction(1, 2)),
        Timing(3, Fraction(1, 3)),
        Timing(receptive_field_per_step=((-1, 1),)),
    ]
    assert serial(chain).length_stages == ((Fraction(1, 6), 0),)
    assert len({serial(chain), serial([serial(chain[:2]), serial(chain[2:])])}) == 1
    assert serial([Timing(ratio=2), Timing(3, Fraction(1, 3))]).length_stages == ((Fraction(2, 3), 0),)
    assert len(serial([Timing(2, Fraction(1, 2)), Timing(ratio=2)]).length_stages) == 2


@given(timings(), st.integers(0, 30))
def test_inputs_that_let_the_outputs_out(timing, outputs):
    steps = timing.input_steps(outputs)
    assert steps % timing.block_size == 0
    if outputs:
        assert steps * timing.ratio >= outputs + timing.output_latency
        assert (steps - timing.block_size) * timing.ratio < outputs + timing.output_latency
    else:
        assert steps == 0
    assert timing.input_steps(np.array([outputs, 0])).tolist() == [steps, 0]


@settings(deadline=None)
@given(st.lists(timings(), max_size=4))
def test_a_chain_is_aligned_and_its_blocks_are_whole(chain):
    total, latency = serial(chain), 0
    for timing, wait in zip(chain, serial_delays(chain), strict=True):
        assert (latency + wait) % timing.block_size == 0
        latency = int((latency + wait) * timing.ratio) + timing.output_latency
    assert total.output_latency == latency
    steps = total.block_size
    for timing in chain:
        assert steps % timing.block_size == 0
        steps = int(steps * timing.ratio)
    assert total.ratio == math.prod((t.ratio for t in chain), start=Fraction(1))


def test_branches_wait_for_the_slowest():
    fast, slow = Timing(receptive_field_per_step=((-2, 0),)), Timing(1, 1, 3, 3, ((0, 3), (0, 1)))
    assert parallel_delays([fast, slow]) == [3, 0]
    assert parallel([fast, slow]) == Timing(1, 1, 3, 3, ((-2, 3), (-2, 1)))
    assert parallel([]) == Timing()
    shown = Timing(length_stages=((1, 2),))
    assert parallel([shown, slow]).output_length(3) == 5


def test_unequal_ratios_name_both_branches():
    with pytest.raises(ValueError, match="received 1 for branch 'a' and 1/2 for branch 'b'"):
        parallel([Timing(), Timing(2, Fraction(1, 2))], ["a", "b"])


def test_infinite_fields_compose():
    past, up = Timing(receptive_field_per_step=((-INF, 0),)), Timing(ratio=2, receptive_field_per_step=((0, 0), (0, 1)))
    assert serial([past, up]).receptive_field_per_step == ((-INF, 0), (-INF, 1))
    assert serial([up, past]).receptive_field == (-INF, 1)
    assert serial([delay(2)]).receptive_field == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"block_size": 0}, "received block_size=0 and ratio=1"),
        ({"block_size": 3, "ratio": Fraction(1, 2)}, "received block_size=3 and ratio=1/2"),
        ({"input_latency": -1}, "received input_latency=-1"),
        ({"receptive_field_per_step": ()}, "at least one phase"),
        ({"length_stages": ((2, 0),)}, "product 1, the ratio; received 2"),
        ({"length_stages": ((-1, 0), (-1, 0))}, "must be positive"),
    ],
)
def test_impossible_timings_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Timing(**arguments)
