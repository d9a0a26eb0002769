"""Properties of layer mode: specs, masks, the Keras call, configuration, edges."""

import json
from typing import Any

import keras
import numpy as np
from keras import ops

from ..layers.leaves import leaves
from ..sequence import Sequence
from . import transforms
from .errors import attempt, expect_same, fail, numpy
from .subject import Subject, to_numpy


def check_specs(s: Subject) -> None:
    """Property 1: what the layer declares is what comes out."""
    y = s.expected()
    length = s.layer.output_length(s.time)
    for time in range(1, s.time + 1):
        found, wanted = s.layer.output_length(time), s.timing.output_length(time)
        if found != wanted:
            fail("1", f"output_length({time}): {found} (received) against {wanted} (what the timing says)")
    with transforms.no_gradients():
        raw = s.layer_mode(s.values, s.mask)[0]
    s.check_values(raw, (s.batch, length, *s.output_spec.shape), "layer mode")
    if raw.mask is None:
        fail("M", f"a masked input of shape {s.input_shape} gave an output without mask (received), wanted one")
    if s.output_is_float:
        expect_same("1", np.isfinite(y.values), np.ones(y.values.shape, bool), "layer mode: finite values")
    wanted = (s.batch, length, *s.output_spec.shape), s.output_spec.dtype
    for batch, time in ((s.batch, s.time), (None, None)):
        given = (batch, time, *s.channels)
        shape = wanted[0] if time else (None, None, *s.output_spec.shape)
        with attempt("K", "compute_output_shape"):
            found = tuple(s.layer.compute_output_shape(given))
        if found != shape:
            fail("K", f"compute_output_shape({given}): {found} (received) against {shape} (wanted)")
        with attempt("K", "compute_output_spec"):
            spec = s.layer.compute_output_spec(keras.KerasTensor(given, s.dtype))
        found = tuple(spec.shape), keras.backend.standardize_dtype(spec.dtype)
        if found != (shape, wanted[1]):
            fail("K", f"compute_output_spec of {given}: {found} (received) against {(shape, wanted[1])} (wanted)")


def check_masks(s: Subject) -> None:
    """Properties M and K: the mask rule, and the door for tensors."""
    y = s.expected()
    for mask, what in ((s.mask, "of the masked input"), (np.ones_like(s.mask), "of an input that is all valid")):
        with attempt("M", "output_mask"):
            whole, *_, found = s.layer_mode(s.full, mask)
        wanted, found = to_numpy(whole).mask, numpy(found)
        if mask.all() and not s.layer.creates_mask and not wanted.all():
            first = np.argwhere(~wanted)[0].tolist()
            fail(
                "M",
                f"output at [batch, time] = {first} of an input that is all valid is invalid (received), but "
                "creates_mask is False (declared)",
            )
        expect_same("M", found, wanted, f"output_mask {what}", names=("output_mask", "layer mode"))
    _, values, mask, _ = s.layer_mode(s.values, s.mask)
    if mask is None:
        fail("K", "compute_mask of a masked tensor gave None (received), wanted a mask")
    expect_same("K", numpy(mask), y.mask, "mask of a call on a tensor", names=("tensor", "Sequence"))
    close = {"rtol": s.rtol, "atol": s.atol, "names": ("tensor", "Sequence"), "where": y.mask}
    expect_same("K", numpy(values), y.values, "values of a call on a tensor", **close)


def check_rows(s: Subject) -> None:
    """Property 7: what another row holds changes nothing."""
    values, mask, y = s.values.copy(), s.mask.copy(), s.expected()
    others = np.arange(s.batch) % 3 != 1
    values[~others], mask[~others] = garbage(s, values[~others].shape), True
    found = to_numpy(s.layer_mode(values, mask)[0])
    expect_same("7", found.mask[others], y.mask[others], "mask of the other rows", names=("with garbage", "without"))
    expect_same(
        "7",
        found.values[others],
        y.values[others],
        "values of the other rows",
        rtol=s.rtol,
        atol=s.atol,
        where=y.mask[others],
        names=("with garbage", "without"),
    )


def garbage(s: Subject, shape: Any) -> Any:
    """Valid but absurd values."""
    if s.is_float:
        return np.full(shape, np.nan, s.dtype)
    return s.draw(shape)


def check_config(s: Subject) -> None:
    """Property S17, less the numbers: those of the copy are compared where it is run."""
    with attempt("S17", "get_config"):
        text = json.dumps(s.layer.get_config(), sort_keys=True)
        config = json.loads(text)
        twin = type(s.layer).from_config(json.loads(text))
        again = json.dumps(twin.get_config(), sort_keys=True)
    if again != text:
        fail("S17", f"the configuration of the copy: {again} (received) against {text} (wanted)")
    try:
        type(s.layer).from_config({**config, "no_such_argument": 1})
    except (TypeError, ValueError):
        pass
    else:
        fail("S17", "from_config took the unknown argument no_such_argument=1 (received), wanted an error")
    twin = s.twin()
    shapes = [[tuple(w.shape) for w in layer.weights] for layer in (twin, s.layer)]
    if shapes[0] != shapes[1]:
        fail("S17", f"the copy has weights of shapes {shapes[0]} (received) against {shapes[1]} (wanted)")
    if s.steps:
        return  # that of a step is run in `streaming.check_resume`, that of layer mode in `check_edges`
    # Eagerly, since two compiled functions need not sum in the same order.
    with attempt("S17", "the copy"), transforms.no_gradients():
        wanted, found = (to_numpy(s.call(Sequence(s.values, s.mask), layer)) for layer in (s.layer, twin))
    names = ("copy", "layer")
    expect_same("S17", found.mask, wanted.mask, "mask of layer mode", names=names)
    expect_same("S17", found.values, wanted.values, "values of layer mode", where=wanted.mask, names=names)


def check_obstacle(s: Subject) -> None:
    """Property N: the error of `step` gives the reason."""
    reason, values = s.layer.step_obstacle, s.full[:, : s.block]
    try:
        s.layer.step(Sequence(values), ())
    except ValueError as error:
        if str(reason) not in str(error):
            fail("N", f"the error is {str(error)!r} (received), wanted one with the reason {reason!r}")
    else:
        fail("N", f"step returned (received), wanted a ValueError with the reason {reason!r}")


def check_edges(s: Subject) -> None:
    """Property S20: shapes at the edge, of the layer's copy, in one compiled function because each is small."""
    one, none = Sequence(s.full[:, :1], s.mask[:, :1]), Sequence(s.values[:0], s.mask[:0])
    short = max(1, s.time - 1)
    inputs = {
        "layer mode of one step": one,
        "layer mode of no row": none,
        f"layer mode of {short} steps": Sequence(s.values[:, :short], s.mask[:, :short]),
    }

    def run(given):
        found = {}
        for name, x in given.items():
            y = s.call(x, s.twin(), slice(None, x.values.shape[0]))
            found[name] = y, s.output_mask(Sequence(x.values, ops.convert_to_tensor(x.mask)))
        return found

    with attempt("S20", ", ".join(inputs)):
        found = s.compile(run, "edges")(inputs)
    for name, (y, mask) in found.items():
        x = inputs[name]
        length = s.layer.output_length(x.values.shape[1])
        s.check_values(y, (x.values.shape[0], length, *s.output_spec.shape), name)
        expect_same("S20", to_numpy(y).mask, numpy(mask), f"mask of {name}", names=("layer mode", "output_mask"))
    if not s.steps:
        return
    for name in (n for n, x in inputs.items() if len(x.values)):
        _same_as_streamed(s, name, inputs[name], to_numpy(found[name][0]))
    _step_edges(s)
    if s.block > 1:
        try:
            s.layer.step(Sequence(s.full[:, :1]), s.initial_state())
        except ValueError:
            return
        fail("S20", f"a step over 1 of the {s.block} steps of a block returned (received), wanted a ValueError")


def _same_as_streamed(s, name, x, y):
    """Layer mode of few steps equals a stream of them."""
    blocks = s.blocks_for(x.values.shape[1])
    found, _ = s.stream(s.padded(x, blocks), s.partition(blocks))
    first = s.timing.output_latency
    found = found.slice_time(first, first + y.values.shape[1])
    names = ("step", "layer")
    expect_same("S20", found.mask, y.mask, f"mask of {name}", names=names)
    expect_same("S20", found.values, y.values, f"values of {name}", where=y.mask, names=names, rtol=s.rtol, atol=s.atol)


def _step_edges(s):
    """A step over no steps leaves the state as it is; a step over no rows has the right shapes."""
    state = s.stream(Sequence(s.values[:, : s.block], s.mask[:, : s.block]), [1])[1] if s.time >= s.block else None
    state = s.initial_state() if state is None else state
    nothing = Sequence(s.values[:, :0], s.mask[:, :0])
    no_rows = Sequence(np.zeros((0, s.block, *s.channels), s.dtype), np.zeros((0, s.block), bool))
    with attempt("S20", "the state of no rows"):
        empty = s.initial_state(0)

    def run(x, state, no_rows, empty):
        return s.layer.step(x, state), s.layer.step(no_rows, empty)

    with attempt("S20", "a step over no steps, or over no rows"):
        (y, after), (z, empty_after) = s.compile(run, "step edges")(nothing, state, no_rows, empty)
    s.check_values(y, (s.batch, 0, *s.output_spec.shape), "a step over no steps")
    for i, (a, b) in enumerate(zip(leaves(after), leaves(state), strict=True)):
        expect_same("S20", numpy(a), numpy(b), f"state leaf {i} after a step over no steps", names=("after", "before"))
    s.check_values(z, (0, s.output_steps(s.block), *s.output_spec.shape), "a step over no rows")
    for a, b in zip(leaves(empty_after), leaves(empty), strict=True):
        if tuple(a.shape) != tuple(b.shape):
            fail("S20", f"state of no rows: shape {tuple(a.shape)} (received) against {tuple(b.shape)} (wanted)")
