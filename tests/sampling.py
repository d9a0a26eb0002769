"""The day's sample of tests that take long: every day another, all of them behind the marker `slow`.

Compilation dominates on jax and tensorflow; torch runs everything. `KSEQ_TEST_SEED=20260131` repeats a day's choice.
"""

import datetime
import os
import random

import kseq  # noqa: F401, isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import pytest

SEED = int(os.environ.get("KSEQ_TEST_SEED") or datetime.date.today().strftime("%Y%m%d"))

# Of the shares that modules ask for this part is run, so that all tests of jax, by default, take less than ten minutes.
_PART = {"jax": 0.25}


def todays(params, *, of="", **shares):
    """The parameters of a test, those that are not in today's sample marked `slow`.

    Args:
        params: `pytest.param`s.
        of: what they are, so that two lists are not sampled alike.
        shares: by backend what part of them is run; all where it says nothing.
    """
    share = _part_of(shares)
    count = min(max(1, round(share * len(params))), len(params))
    chosen = set(random.Random(f"{SEED} {of}").sample(range(len(params)), count))
    return [
        param if i in chosen else pytest.param(*param.values, id=param.id, marks=[*param.marks, pytest.mark.slow])
        for i, param in enumerate(params)
    ]


def examples(most):
    """How many examples hypothesis makes of a test that compiles for each of them: all on torch, else a few."""
    return most if keras.backend.backend() == "torch" else max(2, most // 6)


def mark_those_of_other_days(items):
    """Mark `slow` what is not in today's sample of modules that say how much of them is: `TODAYS = {"jax": 0.5}`."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise ValueError(f"a test's name must be the same in every process; give it `ids`: {item.nodeid}")
        share = _part_of(getattr(item.module, "TODAYS", {}))
        if random.Random(f"{SEED} {item.nodeid}").random() >= share:
            item.add_marker(pytest.mark.slow)


def _part_of(shares):
    backend = keras.backend.backend()
    share = shares.get(backend, 1)
    return share * _PART.get(backend, 1) if share < 1 else share
