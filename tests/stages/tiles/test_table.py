"""What holds for every tile scheme of the table, the next one included."""

from __future__ import annotations

import typing
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import ManifestError
from stages.tiles.scheme import Grid, NoGrid, Scheme, count
from stages.tiles.table import TileScheme, recorded
from tests.stages.pictures import photo
from tests.stages.tiles.sizes import some

SCHEMES: tuple[Any, ...] = typing.get_args(TileScheme)
SIDES = st.integers(1, 3000)


def grid_or_none(scheme: Scheme, width: int, height: int) -> Grid | None:
    try:
        return scheme.grid(width, height)
    except NoGrid:
        return None


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_scheme_comes_back_from_what_shards_record(kind: type[Scheme]) -> None:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    scheme = kind(**{name: value for name, value in {"tile": 112, "patch": 7, "merge": 2}.items() if name in names})
    facts = asdict(scheme)  # type: ignore[call-overload]
    assert recorded(facts) == scheme and type(recorded(facts)) is kind
    assert facts["scheme"] == scheme.scheme and len({other().scheme for other in SCHEMES}) == len(SCHEMES)


@pytest.mark.parametrize("kind", SCHEMES)
def test_arrays_of_sizes_get_the_grids_and_tokens_of_each(kind: type[Scheme]) -> None:
    scheme, sizes = kind(), some(3000)
    found = scheme.grids(*np.array(sizes).T)
    for number, size in enumerate(sizes):
        grid = grid_or_none(scheme, *size)
        row = tuple(array[number] for array in found)
        if grid is None:
            assert row == (0, 0, 0, 0, 0), size
            continue
        runs = scheme.runs(grid, *size)
        assert row == (*grid, count(runs, "patch"), count(runs, "row")), size
        assert grid.num_tiles == found.num_tiles[number] and grid in scheme.possible(*size)
        assert count(runs, "start") == count(runs, "end") == scheme.num_frames
        assert all(number > 0 for _, number in runs)


@pytest.mark.parametrize("kind", SCHEMES)
def test_no_sizes_have_no_grids(kind: type[Scheme]) -> None:
    assert all(len(array) == 0 for array in kind().grids(np.empty(0, np.int64), np.empty(0, np.int64)))


@pytest.mark.parametrize("kind", SCHEMES)
@given(SIDES, SIDES)
def test_a_scheme_cuts_what_it_counts(kind: type[Scheme], width: int, height: int) -> None:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    scheme = kind(**{name: value for name, value in {"tile": 28, "patch": 2, "merge": 1}.items() if name in names})
    width, height = max(1, width // 30), max(1, height // 30)
    if (grid := grid_or_none(scheme, width, height)) is not None:
        tiles = scheme.cut(photo(1, width, height), grid)
        assert tiles.shape == (grid.num_tiles, scheme.side, scheme.side, 3)
        assert tiles.dtype == np.uint8 and tiles.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("facts", [{"scheme": "unheard"}, {"scheme": "internvl", "tiel": 1}, {"tile": 5}, None, "x"])
def test_facts_of_no_scheme_are_refused_in_one_line(facts: Any) -> None:
    with pytest.raises(ManifestError, match=r"^facts\.tiles.*write them again$") as caught:
        recorded(facts)
    assert "\n" not in str(caught.value)
