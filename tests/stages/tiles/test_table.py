"""What holds for every tile scheme of the table, the next one included."""

from __future__ import annotations

import typing
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import ManifestError
from stages.tiles.scheme import Scheme
from stages.tiles.table import TileScheme, recorded
from tests.stages.pictures import photo

SCHEMES: tuple[Any, ...] = typing.get_args(TileScheme) or (TileScheme,)


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_scheme_comes_back_from_what_shards_record(kind: type[Scheme]) -> None:
    scheme = kind(tile=96, patch=16, merge=3)
    facts = asdict(scheme)  # type: ignore[call-overload]
    assert recorded(facts) == scheme and type(recorded(facts)) is kind
    assert facts["scheme"] == scheme.scheme and len({other().scheme for other in SCHEMES}) == len(SCHEMES)


@pytest.mark.parametrize("kind", SCHEMES)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_scheme_cuts_what_it_counts(kind: type[Scheme], width: int, height: int) -> None:
    scheme = kind(tile=8, patch=2, merge=2)
    grid = scheme.grid(width, height)
    assert scheme.cut(photo(1, min(width, 40), min(height, 40)), grid).shape == (grid.num_tiles, 8, 8, 3)
    assert scheme.tokens_per_tile == 4


@pytest.mark.parametrize("facts", [{"scheme": "unheard"}, {"scheme": "internvl", "tiel": 1}, {"tile": 5}, None, "x"])
def test_facts_of_no_scheme_are_refused_in_one_line(facts: Any) -> None:
    with pytest.raises(ManifestError, match=r"^facts\.tiles.*write them again$") as caught:
        recorded(facts)
    assert "\n" not in str(caught.value)
