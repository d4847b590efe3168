"""Which files of a source are listed and fetched, and as what."""

from __future__ import annotations

import pytest

from stages import download
from stages.download import FILES, REASONS, STOPS, Found, listing, role, select
from stages.sources.declaration import HubDataset, Source


def source(
    files: tuple[str, ...] = ("*.parquet",), images: str | tuple[str, ...] | None = None, **hub: object
) -> Source:
    declared = HubDataset("acme/pictures", **hub) if hub else None  # type: ignore[arg-type]
    return Source("texts", files, images, hub=declared)


def found(*names: str) -> list[Found]:
    return [Found(name, len(name), f"hash of {name}") for name in names]


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("a.parquet", "records"),
        ("deep/er/a.parquet", "records"),
        ("images.parquet", "records"),
        ("images/1.jpg", "images"),
        ("images/deep/1.jpg", "images"),
        ("images", "images"),
        ("images2/1.jpg", None),
        ("more/images/1.jpg", None),
        ("zips/a.zip", "images"),
        ("zips/a.tar", None),
        ("README.md", None),
        ("A.PARQUET", None),
    ],
)
def test_a_file_is_records_or_images_or_not_the_sources(file: str, kind: str | None) -> None:
    assert role(file, source(("*.parquet",), ("images", "zips/*.zip"))) == kind


def test_a_point_is_the_whole_folder_and_records_come_first() -> None:
    named = source(("*.jsonl",), ".")
    assert [role(name, named) for name in ("a.jsonl", "a.jpg", "deep/a.jpg")] == ["records", "images", "images"]


def test_a_listing_is_sorted_typed_and_leaves_out_what_no_pattern_names() -> None:
    table = listing(found("b.parquet", "README.md", "images/1.jpg", "a.parquet", "x.txt"), source(images="images"))
    assert table.schema.equals(FILES)
    assert table.to_pylist() == [
        {"file": "a.parquet", "role": "records", "size": 9, "sha256": "hash of a.parquet"},
        {"file": "b.parquet", "role": "records", "size": 9, "sha256": "hash of b.parquet"},
        {"file": "images/1.jpg", "role": "images", "size": 12, "sha256": "hash of images/1.jpg"},
    ]
    empty = listing([], source())
    assert empty.schema.equals(FILES) and empty.num_rows == 0


REPOSITORY = found(
    *("en/2.parquet", "en/1.parquet", "en/3.parquet", "fr/1.parquet", "fr/2.parquet", "en-more/1.parquet"),
    *("images/1.jpg", "top.parquet", "README.md"),
)


def taken(**hub: object) -> list[str]:
    return [f.file for f in select(REPOSITORY, source(images="images", **hub))]


def test_without_a_hub_everything_is_taken() -> None:
    assert select(REPOSITORY, source(images="images")) == REPOSITORY


def test_without_configs_and_limit_all_files_are_taken_sorted() -> None:
    assert taken(revision="main") == sorted(f.file for f in REPOSITORY)


def test_configs_are_folders_by_their_whole_names_and_images_come_along() -> None:
    wanted = ["README.md", "en/1.parquet", "en/2.parquet", "en/3.parquet", "images/1.jpg"]
    assert taken(configs=("en",)) == wanted
    assert taken(configs=("en", "fr")) == sorted([*wanted, "fr/1.parquet", "fr/2.parquet"])


def test_a_limit_counts_for_each_config_the_first_by_name() -> None:
    wanted = ["README.md", "en/1.parquet", "en/2.parquet", "fr/1.parquet", "fr/2.parquet", "images/1.jpg"]
    assert taken(configs=("en", "fr"), limit=2) == wanted
    assert taken(configs=("fr",), limit=1) == ["README.md", "fr/1.parquet", "images/1.jpg"]


def test_a_limit_counts_for_each_pattern_where_there_are_no_configs() -> None:
    patterns = ("en/*.parquet", "[a-z]*.parquet")
    names = [f.file for f in select(REPOSITORY, source(patterns, "images", limit=2))]
    # of the files that the second pattern alone names, the first two
    assert names == ["README.md", "en-more/1.parquet", "en/1.parquet", "en/2.parquet", "fr/1.parquet", "images/1.jpg"]


def test_a_config_may_look_like_a_pattern() -> None:
    odd = found("a[1]/1.parquet", "a1/1.parquet")
    assert [f.file for f in select(odd, source(configs=("a[1]",)))] == ["a[1]/1.parquet"]


def test_what_stops_a_download_is_a_reason_of_the_download() -> None:
    assert STOPS.keys() < REASONS.keys()
    # a wrong file says nothing about the next one
    assert not {"not_found", "wrong_content", "too_large", "changed", "not_asked"} & STOPS.keys()
    assert download.STREAK > 1
