"""Properties of states that are limited, rolled back, and given another context."""

import numpy as np
from keras import ops

from ..layers.leaves import leaves
from ..sequence import Sequence
from .errors import attempt, expect_same, fail, numpy
from .streaming import as_bytes
from .subject import Subject, check_state
from .whole import garbage


def check_room(s: Subject) -> None:
    """Property S9: a step takes no more of a state's room than it has steps."""
    start = s.initial_state()
    room = s.layer.room(start)
    if room is None:
        return
    _, after = s.step(s.values[:, : s.block], s.mask[:, : s.block], start)
    left, least = numpy(s.layer.room(after)), numpy(room) - s.block
    if (left < least).any():
        after = f"after a block of {s.block} steps there is room for"
        fail("S9", f"{after} {left.tolist()} (received), wanted at least {least.tolist()}")


def check_rollback(s: Subject) -> None:
    """Property S12: rows go back by a block of garbage, others stay; then all go on as if nothing had been."""
    start, block = s.initial_state(), s.block
    if not leaves(start) or s.layer.rollback_obstacles(start):
        return
    x = s.padded(Sequence(s.values, s.mask))
    following = x.values[:, block : 2 * block], x.mask[:, block : 2 * block]
    _, before = s.step(x.values[:, :block], x.mask[:, :block], start)
    wanted, _ = s.step(*following, before)
    _, ahead = s.step(garbage(s, following[0].shape), s.rng.random(following[1].shape) < 0.5, before)
    known = s.layer.history(ahead)
    rows = np.arange(s.batch) % 3 > 0
    rows &= True if known is None else numpy(known) >= block
    with attempt("S12", "rollback"):
        back = s.layer.rollback(ahead, ops.convert_to_tensor(np.where(rows, block, 0), "int32"))
    check_state(back, ahead, s.batch, "after a rollback")
    for leaf, (new, old) in enumerate(zip(leaves(back), leaves(ahead), strict=True)):
        names, what = ("after", "before"), f"bytes of state leaf {leaf} of rows that are not rolled back"
        expect_same("S12", as_bytes(numpy(new))[~rows], as_bytes(numpy(old))[~rows], what, names=names)
    found, _ = s.step(*following, back)
    names = ("rolled back", "never fed")
    expect_same("S12", found.mask[rows], wanted.mask[rows], "mask", names=names)
    expect_same("S12", found.values[rows], wanted.values[rows], "values", where=wanted.mask[rows], names=names)
    if (room := s.layer.room(back)) is not None:
        names = ("rolled back", "never fed")
        expect_same("S12", numpy(room)[rows], numpy(s.layer.room(before))[rows], "room", names=names)


def check_context_change(s: Subject) -> None:
    """Property S16: rows get the context of others, the rest stays; a stream that has not begun begins with it."""
    if not s.context() or not s.layer.context_state:
        return
    start, others = s.initial_state(), np.roll(np.arange(s.batch), 1)
    context, rows = s.context(others)["context"], np.arange(s.batch) % 3 > 0
    _, before = s.step(s.values[:, : s.block], s.mask[:, : s.block], start)
    with attempt("S16", "replace_context"):
        after = s.layer.replace_context(before, s.spec, context, rows)
        begun = s.layer.replace_context(start, s.spec, context)
        wanted = s.layer.initial_state(s.batch, s.spec, context=context)
    check_state(after, before, s.batch, "after a change of context")
    for leaf, (new, old) in enumerate(zip(leaves(after), leaves(before), strict=True)):
        what = f"bytes of state leaf {leaf} of rows without another context"
        expect_same("S16", as_bytes(numpy(new))[~rows], as_bytes(numpy(old))[~rows], what, names=("after", "before"))
    for leaf, (new, fresh) in enumerate(zip(leaves(begun), leaves(wanted), strict=True)):
        names = "context changed", "begun with it"
        expect_same("S16", as_bytes(numpy(new)), as_bytes(numpy(fresh)), f"bytes of state leaf {leaf}", names=names)
