"""A minute of the fuzzer, always the same one; `make fuzz` looks further."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import case
from tests.fuzz.command import warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_nothing_falls_over(seed: int, tmp_path: Path) -> None:
    case.run(seed, tmp_path)
