"""Settings shared by all tests.

Properties are tried on the same examples on every run. `HYPOTHESIS_PROFILE=random pytest ...` tries others, and ten
times as many; the line at its end says how to have the same once more.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings

# No time limit per example: machines differ.
settings.register_profile("tessera", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=1000, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "tessera")
settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before Hypothesis reads it."""
    if PROFILE == "random" and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = random.randrange(2**32)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if PROFILE == "random":
        terminalreporter.write_line(f"HYPOTHESIS_PROFILE=random, --hypothesis-seed={config.option.hypothesis_seed}")
