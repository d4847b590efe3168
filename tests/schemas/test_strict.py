"""Mappings into dataclasses: what passes, what is refused, and how the refusal reads."""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, make_dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.strict import RecipeError, build, convert, unknown


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
        ({"name": 5}, "name: got 5 (int), wanted text; put it in quotes"),
        ({"name": True}, "name: got True (bool), wanted text; put it in quotes"),
        ({"name": 1.0}, "name: got 1.0 (float), wanted text; put it in quotes"),
        ({}, "name: missing, and it has no default"),
        ({"name": "a", "workers": 0}, "workers must be at least 1, got 0"),
        ([], "got [] (list), wanted a mapping"),
        (None, "got None (NoneType), wanted a mapping"),
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


@dataclass(frozen=True)
class Dynamic:
    most: int = 12
    scheme: Literal["dynamic"] = "dynamic"
    detail: Literal["low"] = "low"  # also one text, but the same in both
    mood: Literal["calm", "wild"] = "calm"

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError("most is too small")


@dataclass(frozen=True)
class Pinpoints:
    grids: tuple[tuple[int, int], ...]
    scheme: Literal["pinpoints"]
    detail: Literal["low"] = "low"
    most: int = 5


@dataclass(frozen=True)
class Tower:
    tiles: Dynamic | Pinpoints = field(default_factory=Dynamic)
    lone: Dynamic | None = None
    others: dict[str, Pinpoints | Dynamic | None] = field(default_factory=dict)
    filter: Dynamic | Literal["off", "auto"] = "off"
    images: str | tuple[str, ...] | None = None
    limit: int | Literal["none"] | dict[str, int] = 1
    share: float | str | bool = 0.5
    either: Dynamic | Pinpoints | str | None = None
    name: str | None = None
    tags: tuple[str, ...] | None = None


def test_the_tag_chooses_among_dataclasses() -> None:
    tower = build(
        Tower,
        {
            "tiles": {"scheme": "pinpoints", "grids": [[1, 2], [2, 1]]},
            "others": {"a": {"scheme": "dynamic", "most": 3}, "b": {"scheme": "pinpoints", "grids": []}, "c": None},
            "either": {"scheme": "dynamic"},
        },
    )
    assert tower.tiles == Pinpoints(((1, 2), (2, 1)), "pinpoints")
    assert tower.others == {"a": Dynamic(3), "b": Pinpoints((), "pinpoints"), "c": None}
    assert tower.either == Dynamic()


def test_the_order_of_a_union_does_not_choose() -> None:
    for hint in (Dynamic | Pinpoints, Pinpoints | Dynamic):
        holder = make_dataclass("holder", [("tiles", hint)])
        for tiles in (Dynamic(7), Pinpoints(((3, 4),), "pinpoints")):
            assert build(holder, {"tiles": asdict(tiles)}).tiles == tiles  # type: ignore[attr-defined]


def test_a_union_needs_no_dataclass_around_it() -> None:
    assert convert(Dynamic | Pinpoints, {"scheme": "dynamic", "most": 2}) == Dynamic(2)
    with pytest.raises(RecipeError, match=r"^facts\.tiles\.scheme: missing; wanted one of dynamic, pinpoints$"):
        convert(Dynamic | Pinpoints, {}, "facts.tiles")
    with pytest.raises(RecipeError, match=r"^got 5 \(int\), wanted a mapping of keys to values$"):
        convert(Dynamic | Pinpoints, 5)


def test_a_lone_dataclass_needs_no_tag() -> None:
    assert build(Tower, {}).tiles == Dynamic()
    assert build(Tower, {"lone": {}}).lone == Dynamic()
    assert build(Tower, {"filter": {"most": 2}}).filter == Dynamic(2)


@pytest.mark.parametrize(
    ("key", "value", "built"),
    [
        ("filter", "off", "off"),
        ("images", "a.zip", "a.zip"),
        ("images", ["a.zip", "b"], ("a.zip", "b")),
        ("images", [], ()),
        ("images", None, None),
        ("limit", 4, 4),
        ("limit", "none", "none"),
        ("limit", {"x": 1}, {"x": 1}),
        ("share", 1, 1.0),
        ("share", True, True),
        ("share", "1", "1"),
        ("either", "plain", "plain"),
    ],
)
def test_a_union_takes_the_member_of_the_values_shape(key: str, value: Any, built: Any) -> None:
    found = getattr(build(Tower, {key: value}), key)
    assert found == built and type(found) is type(built)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"tiles": {}}, "tiles.scheme: missing; wanted one of dynamic, pinpoints"),
        ({"tiles": {"most": 3}}, "tiles.scheme: missing; wanted one of dynamic, pinpoints"),
        ({"tiles": {"sceme": "dynamic"}}, "tiles.sceme: unknown key; did you mean 'scheme'?"),
        (
            {"tiles": {"scheme": "pinpoint"}},
            "tiles.scheme: got 'pinpoint' (str), wanted one of dynamic, pinpoints; did you mean 'pinpoints'?",
        ),
        ({"tiles": {"scheme": "x"}}, "tiles.scheme: got 'x' (str), wanted one of dynamic, pinpoints"),
        ({"tiles": {"scheme": None}}, "tiles.scheme: got None (NoneType), wanted one of dynamic, pinpoints"),
        ({"tiles": {"scheme": []}}, "tiles.scheme: got [] (list), wanted one of dynamic, pinpoints"),
        (
            {"tiles": {"scheme": "dynamic", "grids": []}},
            "tiles.grids: unknown key; known keys: detail, mood, most, scheme",
        ),
        ({"tiles": {"scheme": "pinpoints"}}, "tiles.grids: missing, and it has no default"),
        ({"tiles": {"scheme": "dynamic", "most": 0}}, "tiles: most is too small"),
        ({"tiles": 5}, "tiles: got 5 (int), wanted a mapping of keys to values"),
        ({"tiles": None}, "tiles: got None (NoneType), wanted a mapping of keys to values"),
        ({"others": {"a": {}}}, "others.a.scheme: missing; wanted one of pinpoints, dynamic"),
        ({"lone": 5}, "lone: got 5 (int), wanted a mapping of keys to values"),
        (
            {"filter": "of"},
            "filter: got 'of' (str), wanted a mapping of keys to values or one of off, auto; did you mean 'off'?",
        ),
        ({"filter": False}, "filter: got False (bool), wanted a mapping of keys to values or one of off, auto"),
        ({"filter": {"mosst": 2}}, "filter.mosst: unknown key; did you mean 'most'?"),
        ({"images": 3}, "images: got 3 (int), wanted text or a list"),
        ({"images": ["a", 3]}, "images[1]: got 3 (int), wanted text; put it in quotes"),
        ({"images": {}}, "images: got {} (dict), wanted text or a list"),
        (
            {"limit": True},
            "limit: got True (bool), wanted a whole number or one of none or a mapping of keys to values",
        ),
        ({"limit": 1.5}, "limit: got 1.5 (float), wanted a whole number or one of none or a mapping"),
        ({"limit": {"x": "1"}}, "limit.x: got '1' (str), wanted a whole number"),
        ({"share": None}, "share: got None (NoneType), wanted a number or text or true or false"),
        ({"share": math.inf}, "share: got inf (float), wanted a finite number"),
        ({"name": 1}, "name: got 1 (int), wanted text; put it in quotes"),
        ({"tags": "a"}, "tags: got 'a' (str), wanted a list; write [\"a\"]"),
        ({"either": 1}, "either: got 1 (int), wanted a mapping of keys to values or text"),
    ],
)
def test_a_refusal_of_a_union_says_what_it_would_take(mapping: Any, message: str) -> None:
    assert refusal(mapping, Tower).startswith(message)
    if "did you mean" not in message:
        assert "did you mean" not in refusal(mapping, Tower)


def test_a_list_of_fixed_length_has_that_length() -> None:
    grids = {"tiles": {"scheme": "pinpoints", "grids": [[1, 2], [1, 2, 3]]}}
    assert refusal(grids, Tower) == "tiles.grids[1]: got [1, 2, 3] (list), wanted a list of 2"


@dataclass(frozen=True)
class Bare:
    most: int = 1


@dataclass(frozen=True)
class Numbered:
    most: Literal[1] = 1


@dataclass(frozen=True)
class Twin:
    scheme: Literal["dynamic"] = "dynamic"


@pytest.mark.parametrize(
    "hint", [Dynamic | Bare, Bare | Dynamic, Numbered | Bare, Dynamic | Twin, Dynamic | Bare | Twin]
)
def test_a_union_without_a_tag_is_an_error_in_the_program(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"^\w+, .*\w: dataclasses of one union need a field that each declares"):
        build(make_dataclass("holder", [("x", hint)]), {"x": {"scheme": "dynamic"}})


def test_hints_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the values: a manifest of 20,000 files was three quarters type hints."""
    holder = make_dataclass("holder", [("jobs", tuple[Outer, ...]), ("tiles", Dynamic | Pinpoints)])
    mapping = {"jobs": [{"job": {"name": "a"}}] * 5, "tiles": {"scheme": "dynamic"}}
    built = build(holder, mapping)
    monkeypatch.setattr(typing, "get_type_hints", None)
    assert build(holder, mapping) == built


@dataclass(frozen=True)
class Made:
    given: int
    drawn: int = field(init=False, default=3)
    data: bytes | None = None
    table: dict[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def test_fields_that_are_not_given_cannot_be_given() -> None:
    made = build(Made, {"given": 1, "table": {"a": [1]}, "names": {"a": "b"}})
    assert (made.drawn, made.table, made.names) == (3, {"a": [1]}, {"a": "b"})
    assert refusal({"given": 1, "drawn": 4}, Made).startswith("drawn: unknown key")
    assert refusal({"given": 1, "data": "x"}, Made) == "data: got 'x' (str), wanted bytes"
    assert refusal({"given": 1, "table": []}, Made) == "table: got [] (list), wanted a mapping of keys to values"
    assert refusal({"given": 1, "names": {"a": 1}}, Made) == "names.a: got 1 (int), wanted text; put it in quotes"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_a_number_is_finite(value: float) -> None:
    assert refusal({"name": "a", "limit": value}).endswith("(float), wanted a finite number")


def test_whole_numbers_become_floats_to_the_last_that_fits() -> None:
    largest = int(sys.float_info.max)
    for value in (largest, -largest):
        assert build(Job, {"name": "a", "limit": value}).limit == value


def test_what_is_long_is_cut() -> None:
    assert refusal({"name": "a", "tags": "x" * 56}).endswith(f'wanted a list; write ["{"x" * 56}"]')
    long = refusal({"name": "a", "tags": "y" * 10_000})
    assert long == f"tags: got '{'y' * 56}... (str), wanted a list"
    assert refusal({"name": "a", "w" * 60: 1}).startswith(f"{'w' * 60}: unknown key; known keys: ")
    assert refusal({"name": "a", "w" * 61: 1}).startswith(f"{'w' * 57}...: unknown key; known keys: ")


def test_only_what_can_be_written_otherwise_is_shown_otherwise() -> None:
    assert refusal({"name": "a", "tags": {}}) == "tags: got {} (dict), wanted a list"
    assert refusal({"name": "a", "tags": "日本"}).endswith('write ["日本"]')
    assert refusal({"name": None}) == "name: got None (NoneType), wanted text"
    assert refusal({"name": "a", "workers": 1.5}) == "workers: got 1.5 (float), wanted a whole number"


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


@dataclass(frozen=True)
class Kept:
    from_: str
    number: int = 0


def test_a_field_may_stand_for_a_word_that_python_keeps_for_itself() -> None:
    assert build(Kept, {"from": "here"}) == Kept("here")
    assert build(Kept, {"from": "here", "number": 2}) == Kept("here", 2)
    for wrong in ({"from_": "here"}, {"from_": "here", "number": 2}):
        with pytest.raises(RecipeError, match="from_: unknown key; did you mean 'from'"):
            build(Kept, wrong, "a")
