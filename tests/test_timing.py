"""The timing algebra against a walk through explicit dependency sets."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseq.timing import Timing, delay, parallel, parallel_delays, serial, serial_delays

INF = math.inf
fields = st.tuples(st.integers(-3, 3), st.integers(0, 3)).map(lambda f: (f[0], f[0] + f[1]))


@st.composite
def timings(draw):
    kind = draw(st.sampled_from(["plain", "strided", "upsampled"]))
    n = draw(st.integers(1, 3))
    latency = draw(st.integers(0, 3))
    if kind == "strided":
        return Timing(n, Fraction(1, n), latency, latency // n, (draw(fields),))
    if kind == "upsampled":
        phases = tuple(draw(st.one_of(st.none(), fields)) for _ in range(n))
        return Timing(1, Fraction(n), latency, latency * n, phases if any(phases) else ((0, 0),))
    return Timing(1, 1, latency, latency, (draw(fields),))


def inputs(chain, step):
    """Every input of the chain that an output step depends on, interval by interval."""
    steps = {step}
    for timing in reversed(chain):
        found = set()
        for t in steps:
            field = timing.receptive_field_per_step[t % len(timing.receptive_field_per_step)]
            if field is not None:
                start = math.floor(t / timing.ratio)
                found |= set(range(start + field[0], start + field[1] + 1))
        if not found:
            return None
        steps = set(range(min(found), max(found) + 1))
    return min(steps), max(steps)


@settings(deadline=None)
@given(st.lists(timings(), max_size=4), st.integers(0, 40))
def test_receptive_field_of_a_chain(chain, step):
    total = serial(chain)
    expected = inputs(chain, step)
    field = total.receptive_field_per_step[step % len(total.receptive_field_per_step)]
    start = math.floor(step / total.ratio)
    if expected is None:
        assert field is None
    else:
        assert field is not None and (field[0] + start, field[1] + start) == expected


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
    ],
)
def test_impossible_timings_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Timing(**arguments)
