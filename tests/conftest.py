"""Chooses the backend, how it compiles, and the random numbers of every test."""

import os

# Tests run a compiled function a few times: time that jax spends on making it faster is lost. It reads this on import.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import kseq  # noqa: F401, isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import pytest
import sampling


@pytest.fixture(autouse=True)
def seed():
    """The same weights and dropout in every run."""
    keras.utils.set_random_seed(0)


def pytest_report_header():
    """Which sample of the long tests this is."""
    return f"backend: {keras.backend.backend()}; KSEQ_TEST_SEED={sampling.SEED}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Before pytest looks at marks."""
    sampling.mark_those_of_other_days([item for item in items if getattr(item, "module", None)])
