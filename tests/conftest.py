"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# No time limit per example (machines differ), and the same examples on every run.
settings.register_profile("tessera", deadline=None, derandomize=True)
settings.load_profile("tessera")
