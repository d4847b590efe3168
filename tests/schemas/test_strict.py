"""Mappings into dataclasses: what passes, what is refused, and how the refusal reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict import RecipeError, build, unknown


@dataclass(frozen=True)
class Tiles:
    tile: int = 448
    overlap: float = 0.0
    thumbnail: bool = True


@dataclass(frozen=True)
class Job:
    name: str
    workers: int = 1
    scheme: Literal["internvl", "jina"] = "internvl"
    side: Literal[1, 2] = 1
    limit: float | None = None
    tags: tuple[str, ...] = ()
    tiles: Tiles = field(default_factory=Tiles)
    sources: dict[str, Tiles] = field(default_factory=dict)
    extra: Any = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


def refusal(mapping: Any, cls: type = Job) -> str:
    with pytest.raises(RecipeError) as caught:
        build(cls, mapping)
    return str(caught.value)


def test_nested_values_become_dataclasses() -> None:
    job = build(
        Job,
        {
            "name": "a",
            "limit": 3,
            "tags": ["x", "y"],
            "tiles": {"tile": 512},
            "sources": {"one": {"overlap": 1}, "two": {}},
            "extra": {"anything": [1]},
        },
    )
    assert job.tags == ("x", "y")
    assert job.tiles == Tiles(512)
    assert job.sources == {"one": Tiles(overlap=1.0), "two": Tiles()}
    assert job.extra == {"anything": [1]}
    assert isinstance(job.limit, float) and isinstance(job.sources["one"].overlap, float)


def test_none_is_only_for_optional_fields() -> None:
    assert build(Job, {"name": "a", "limit": None}).limit is None
    assert "workers: got None (NoneType), wanted a whole number" in refusal({"name": "a", "workers": None})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"name": "a", "wrokers": 2}, "wrokers: unknown key; did you mean 'workers'?"),
        ({"name": "a", "tiles": {"tumbnail": True}}, "tiles.tumbnail: unknown key; did you mean 'thumbnail'?"),
        ({"name": "a", "sources": {"s": {"tyle": 1}}}, "sources.s.tyle: unknown key; did you mean 'tile'?"),
        ({"name": "a", "tiles": {"zzz": 1}}, "tiles.zzz: unknown key; known keys: overlap, thumbnail, tile"),
        (
            {"name": "a", "scheme": "internvI"},
            "scheme: got 'internvI' (str), wanted one of internvl, jina; did you mean",
        ),
        ({"name": "a", "workers": "3"}, "workers: got '3' (str), wanted a whole number"),
        ({"name": "a", "workers": True}, "workers: got True (bool), wanted a whole number"),
        ({"name": "a", "workers": 2.0}, "workers: got 2.0 (float), wanted a whole number"),
        ({"name": "a", "limit": True}, "limit: got True (bool), wanted a number"),
        ({"name": "a", "side": True}, "side: got True (bool), wanted one of 1, 2"),
        ({"name": "a", "tiles": {"thumbnail": 1}}, "tiles.thumbnail: got 1 (int), wanted true or false"),
        ({"name": "a", "tags": "x"}, "tags: got 'x' (str), wanted a list; write [\"x\"]"),
        ({"name": "a", "tags": ["x", 1]}, "tags[1]: got 1 (int), wanted text"),
        ({"name": "a", "tiles": [1]}, "tiles: got [1] (list), wanted a mapping"),
        ({"name": "a", "sources": {1: {}}}, "sources: got the key 1 (int), wanted text; put it in quotes"),
        ({"name": 5}, "name: got 5 (int), wanted text"),
        ({}, "name: missing, and it has no default"),
        ({"name": "a", "workers": 0}, "recipe: workers must be at least 1, got 0"),
        ([], "recipe: got [] (list), wanted a mapping"),
        (None, "recipe: got None (NoneType), wanted a mapping"),
    ],
)
def test_a_refusal_names_place_value_and_wish(mapping: Any, message: str) -> None:
    assert refusal(mapping).startswith(message)


def test_where_prefixes_the_path() -> None:
    with pytest.raises(RecipeError, match=r"^data\.pretokenise\.tile: got 'x'"):
        build(Tiles, {"tile": "x"}, "data.pretokenise")


@dataclass(frozen=True)
class Outer:
    job: Job


def test_a_check_of_the_dataclass_keeps_its_path() -> None:
    with pytest.raises(RecipeError, match=r"^job: workers must be at least 1"):
        build(Outer, {"job": {"name": "a", "workers": 0}})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["name", "workers", "tags", "tiles", "sources", "a\nb"]) | st.text(), _VALUES))
def test_any_mapping_is_built_or_refused_in_one_short_line(mapping: dict[str, Any]) -> None:
    try:
        job = build(Job, mapping)
    except RecipeError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 400
    else:
        assert type(job.workers) is int and all(type(tag) is str for tag in job.tags)


def test_unknown_without_a_near_key_lists_all() -> None:
    assert unknown("columns", "質問", ["b", "a"]) == "columns.質問: unknown key; known keys: a, b"
