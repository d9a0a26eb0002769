"""Imports kseq before any test imports Keras: it chooses a backend where there is no choice."""

import kseq  # noqa: F401
