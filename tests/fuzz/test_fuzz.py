"""A minute of the fuzzer, always the same one; `make fuzz` looks further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from schemas.manifest import read
from tests.fuzz import case
from tests.fuzz.command import Failed, warm
from tests.fuzz.corpus import Made

pytestmark = pytest.mark.slow
SOUND = 2  # a seed whose run is done, with sources that are whole and have pictures


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_nothing_falls_over(seed: int, tmp_path: Path) -> None:
    case.run(seed, tmp_path)


@pytest.mark.parametrize(
    ("forget", "said"),
    [
        (lambda made: made.rows.update({name: count + 1 for name, count in made.rows.items()}), "records written"),
        (lambda made: made.texts.clear(), "nobody wrote"),
        (lambda made: made.pictures.clear(), "nobody made this picture"),
    ],
)
def test_what_was_not_put_in_is_noticed(
    forget: Callable[[Made], object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracles can fail: what came out is compared with another memory of what was put in."""
    make = case.make

    def made(folder: Path, draw: Random) -> Made:
        found = make(folder, draw)
        forget(found)
        return found

    monkeypatch.setattr(case, "make", made)
    with pytest.raises(Failed, match=said):
        case.run(SOUND, tmp_path)


def test_a_verify_that_finds_nothing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.verify.check", lambda folder: read(folder))
    with pytest.raises(Failed, match="is damaged, and verify says sound"):
        case.run(SOUND, tmp_path)
