"""What tests of exported files set up alike."""

import pytest
from exports import EagerStep

from kseq.deploy import traced


@pytest.fixture
def golden_without_a_compiler(monkeypatch):
    """Golden data is computed without a compiler, which its few calls are not worth."""
    monkeypatch.setattr(traced, "compile_step", EagerStep)
