"""Attention where numbers are extreme: steps that are not finite, and positions late in a stream."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.rotary import rotate
from kseq.testing import transforms

RNG = np.random.default_rng(0)
PAST, FUTURE = 5, 2
LATE = [10**8, 2**31 - 10]  # in the second, int32 positions wrap around on the way


def attention(**options):
    layer = kseq.LocalSelfAttention(2, 4, PAST, FUTURE, **options)
    layer.build((None, None, 4))
    layer.set_weights([RNG.normal(size=w.shape) * 0.4 for w in layer.get_weights()])
    return layer


def stepped(layer, x, chunk, state=None):
    """Outputs of a stream in chunks, its latency dropped."""
    x = kseq.Sequence(*x).with_mask()
    padded = x.pad_time(0, FUTURE + -(x.values.shape[1] + FUTURE) % chunk)
    state = layer.initial_state(len(x.values), kseq.SequenceSpec((4,))) if state is None else state
    parts = []
    with transforms.no_gradients():
        for start in range(0, padded.values.shape[1], chunk):
            y, state = layer.step(padded.slice_time(start, start + chunk), state)
            parts.append(y)
    whole = kseq.Sequence.concatenate(parts).slice_time(FUTURE, FUTURE + x.values.shape[1])
    return ops.convert_to_numpy(whole.mask_invalid().values)


def in_layer_mode(layer, values, mask=None):
    return ops.convert_to_numpy(layer(kseq.Sequence(values, mask)).mask_invalid().values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("time", [20, 75], ids=["at once", "in blocks"])
def test_what_is_not_finite_reaches_those_who_see_it(bad, time):
    layer = attention()
    x = RNG.normal(size=(2, time, 4)).astype("float32")
    mask = np.ones((2, time), bool)
    mask[1, [0, 1, 9]] = False
    spoilt = x.copy()
    spoilt[0, 11], spoilt[1, 12, 1], spoilt[1, 9] = bad, bad, bad  # the last of them at an invalid step
    sees = np.zeros((2, time), bool)
    sees[0, 11 - FUTURE : 11 + PAST + 1] = sees[1, 12 - FUTURE : 12 + PAST + 1] = True
    wanted = in_layer_mode(layer, x, mask)
    found = [in_layer_mode(layer, spoilt, mask)]
    found += [stepped(layer, (spoilt, mask), chunk) for chunk in (1, 4, time + FUTURE)]
    for y in found:
        assert (np.isfinite(y).all(-1) == ~(sees & mask)).all()
        np.testing.assert_allclose(y[~sees], wanted[~sees], atol=1e-5)


def at(layer, positions):
    """The state of a stream whose rows have gone through so many valid steps, none of which are in the window."""
    state = layer.initial_state(len(positions), kseq.SequenceSpec((4,)))
    clock = np.stack([np.zeros(len(positions)), positions], axis=1).astype("int32")
    return state | {"clock": ops.convert_to_tensor(clock)}


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_rotary_positions_late_in_a_stream(chunk):
    """Rows of different progress, one with leading invalid steps and a hole, give what they give at the start."""
    layer = attention(rope_wavelength=10000.0)
    x = RNG.normal(size=(1, 32, 4)).astype("float32").repeat(4, axis=0)
    mask = np.ones((4, 32), bool)
    mask[1:3, [0, 1, 2, 9]] = False
    positions = [*LATE, 0, 12345]
    found, wanted = stepped(layer, (x, mask), chunk, at(layer, positions)), in_layer_mode(layer, x, mask)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[0], found[3], rtol=0, atol=1e-5)


def test_positions_of_held_rows_stand_still():
    layer = attention(rope_wavelength=100.0)
    x = RNG.normal(size=(2, 12, 4)).astype("float32")
    state, outputs = at(layer, LATE), [[], []]
    taken = [0, 0]
    with transforms.no_gradients():
        for t in range(24):
            active = np.array([t % 2 == 0, t % 3 == 0]) & (np.array(taken) < 12)
            frame = np.stack([x[row, min(taken[row], 11)] for row in (0, 1)])[:, None]
            y, state = layer.step(kseq.Sequence(frame), state, active=ops.convert_to_tensor(active))
            for row in np.flatnonzero(active):
                outputs[row].append(ops.convert_to_numpy(y.values)[row, 0])
                taken[row] += 1
    assert taken == [12, 8]
    for row in (0, 1):
        wanted = in_layer_mode(layer, x[row : row + 1, : taken[row]])[0]
        # Without a flush the last outputs have not seen their future.
        np.testing.assert_allclose(outputs[row][FUTURE:], wanted[:-FUTURE], rtol=0, atol=1e-5)


@pytest.mark.parametrize("wavelength", [10000.0, 0.5, 1e9])
def test_rotations_are_those_of_the_formula(wavelength):
    """Two rotations differ by the angle of the difference of their positions, in float64."""
    origins, distance = np.array([0, 7, *LATE, -(2**31)]), 4096
    x = RNG.normal(size=(5, 2, 8)).astype("float32")
    positions = ((origins[:, None] + [0, distance]) + 2**31) % 2**32 - 2**31
    turned = ops.convert_to_numpy(
        rotate(ops.convert_to_tensor(x), ops.convert_to_tensor(positions.astype("int32")), wavelength)
    )
    pairs, plain = turned[..., :4] + 1j * turned[..., 4:], x[..., :4].astype("float64") + 1j * x[..., 4:]
    frequencies = wavelength ** (-np.arange(4) / 4)
    wanted = plain[:, 1] * plain[:, 0].conj() * np.exp(1j * frequencies * distance)
    np.testing.assert_allclose(pairs[:, 1] * pairs[:, 0].conj(), wanted, rtol=0, atol=5e-5)
    assert keras.backend.standardize_dtype(turned.dtype) == "float32"
