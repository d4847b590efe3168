"""A row reads the image that was fetched for it, and nothing that was fetched for another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages import fetch_images
from stages.fetch_images import HEALING, REASONS, REFUSED, STATUS, Damaged, Packs
from stages.images.rules import BadImage
from stages.sources.records.slices import Slice

URL = "https://example.org/{}.jpg"


def status(
    row: int, data: bytes = b"", file: str = "a.parquet", url: str | None = None, **fields: Any
) -> dict[str, Any]:
    known = {"file": file, "row": row, "url": url or URL.format(row), "status": "ok", "pack": "pack-00000.bin"}
    hashed = {"sha256": hashlib.sha256(data).hexdigest()} if data else {}
    return dict.fromkeys(STATUS.names) | known | hashed | fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows 0 to 5 of a.parquet in two parts, and row 2 of another file."""
    (tmp_path / "pack-00000.bin").write_bytes(b"zeroONEtwo")
    (tmp_path / "pack-00001.bin").write_bytes(b"-four")
    parts = [
        [
            status(0, b"zero", offset=0, size=4),
            status(1, b"ONE", offset=4, size=3),
            status(2, b"two", offset=7, size=3),
            status(2, b"zero", file="b.parquet", url=URL.format("b"), offset=0, size=4),
        ],
        [
            status(3, status="failed", reason="not_found", detail="404", pack=None),
            status(4, b"four", pack="pack-00001.bin", offset=1, size=4),
            status(5, b"four", url=URL.format(4), pack="pack-00001.bin", offset=1, size=4),
        ],
    ]
    for number, rows in enumerate(parts):
        pq.write_table(pa.Table.from_pylist(rows, STATUS), tmp_path / f"status-{number:05d}.parquet")
    return tmp_path


def read(packs: Packs, row: int, url: str | None = None) -> bytes:
    """What a row reads at an address, its own by default."""
    ((number, _),) = packs.follow([(row, "record")])
    assert number == row
    return packs.read(url or URL.format(row))


def test_each_row_reads_its_own_range_of_its_own_pack(folder: Path) -> None:
    packs = Packs(folder, Slice("a.parquet", 0, 6))
    assert [read(packs, row) for row in (0, 1, 2, 4)] == [b"zero", b"ONE", b"two", b"four"]
    assert read(packs, 5, URL.format(4)) == b"four"  # equal images are stored once
    assert read(Packs(folder, Slice("b.parquet", 0, 6)), 2, URL.format("b")) == b"zero"


def test_a_flipped_byte_of_a_pack_is_in_no_sample(folder: Path) -> None:
    (folder / "pack-00000.bin").write_bytes(b"zeroOMEtwo")
    packs = Packs(folder, Slice("a.parquet", 0, 6))
    assert read(packs, 0) == b"zero"
    with pytest.raises(
        Damaged, match=r"pack-00000\.bin: the image of a\.parquet row 1 has other bytes than its sha256"
    ):
        read(packs, 1)


def test_records_pass_as_they_are_and_reading_follows_them(folder: Path) -> None:
    packs = Packs(folder, Slice("a.parquet", 0, 6))
    seen = []
    for row, record in packs.follow([(0, "first"), (2, "second")]):
        seen.append((row, record, packs.read(URL.format(row))))
    assert seen == [(0, "first", b"zero"), (2, "second", b"two")]


def test_a_failure_is_said_with_its_reason_and_detail(folder: Path) -> None:
    with pytest.raises(BadImage) as caught:
        read(Packs(folder, Slice("a.parquet", 0, 6)), 3)
    assert (caught.value.reason, caught.value.detail) == ("image_not_fetched", "not_found: 404")


@pytest.mark.parametrize(
    ("part", "row", "url"),
    [
        (Slice("a.parquet", 0, 6), 0, URL.format(1)),  # the address of another row
        (Slice("a.parquet", 1, 2), 0, URL.format(0)),  # rows outside the slice
        (Slice("a.parquet", 1, 2), 3, URL.format(3)),
        (Slice("b.parquet", 0, 6), 0, URL.format(0)),  # another file
        (Slice("a.parquet", 0, 6), 9, URL.format(9)),
    ],
)
def test_what_was_not_asked_for_this_row_is_missing(folder: Path, part: Slice, row: int, url: str) -> None:
    with pytest.raises(BadImage, match="was never asked for") as caught:
        read(Packs(folder, part), row, url)
    assert caught.value.reason == "image_missing"


def test_before_any_row_nothing_is_found(folder: Path) -> None:
    packs = Packs(folder, Slice("a.parquet", 0, 6))
    for row in range(6):
        with pytest.raises(BadImage, match="was never asked for"):
            packs.read(URL.format(row))
    packs.close()


def test_the_bounds_of_a_slice_are_the_rows_it_names(folder: Path) -> None:
    packs = Packs(folder, Slice("a.parquet", 1, 2))
    assert [read(packs, row) for row in (1, 2)] == [b"ONE", b"two"]


def test_what_may_heal_and_what_was_refused_are_reasons_and_apart() -> None:
    assert REASONS.keys() > HEALING | REFUSED and not HEALING & REFUSED
    # these answers are final
    assert not {"not_found", "not_an_image", "changed", "no_url", "bad_url", "too_large", "forbidden"} & HEALING
    assert fetch_images.download.REASONS.keys() < REASONS.keys()
