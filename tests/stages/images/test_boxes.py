"""AVIF and JPEG 2000: every tile and every box is there, or the file is refused, however its parts are arranged."""

from __future__ import annotations

import struct

import pytest

from stages.images.boxes import Damage, is_avif, is_jpeg2000, walk_avif, walk_jpeg2000
from stages.images.rules import BadImage, inspect, sniff
from tests.stages.pictures import encoded, photo

TILES = encoded(photo(1, 100, 70), "JPEG2000", tile_size=(40, 40), no_jp2=True)
BOXED = encoded(photo(1, 100, 70), "JPEG2000", tile_size=(40, 40))
AVIF = encoded(photo(1, 100, 70), "AVIF")
START = b"\xff\x90\x00\x0a"


def parts() -> tuple[bytes, list[bytes], bytes]:
    """The header of TILES, its six tile-parts, and its end mark."""
    first = TILES.index(START)
    at, found = first, []
    while TILES[at : at + 4] == START:
        (size,) = struct.unpack_from(">I", TILES, at + 6)
        found.append(TILES[at : at + size])
        at += size
    return TILES[:first], found, TILES[at:]


def test_the_size_is_that_of_the_header() -> None:
    assert walk_jpeg2000(TILES) == walk_jpeg2000(BOXED) == (100, 70)
    assert is_jpeg2000(TILES) and is_jpeg2000(BOXED) and not is_jpeg2000(AVIF)
    assert sniff(TILES) and sniff(BOXED) and sniff(AVIF)


@pytest.mark.parametrize("missing", range(6))
def test_a_missing_tile_is_damage_though_the_decoder_paints_over_it(missing: int) -> None:
    header, tiles, end = parts()
    assert len(tiles) == 6
    data = b"".join([header, *tiles[:missing], *tiles[missing + 1 :], end])
    with pytest.raises(Damage, match="5 whole tiles of 6"):
        walk_jpeg2000(data)
    with pytest.raises(BadImage) as caught:
        inspect(data, 10**9)
    assert caught.value.reason == "image_truncated"


def test_tiles_may_stand_in_any_order_and_without_the_end_mark() -> None:
    header, tiles, end = parts()
    assert walk_jpeg2000(b"".join([header, *reversed(tiles), end])) == (100, 70)
    assert walk_jpeg2000(b"".join([header, *tiles])) == (100, 70)


def test_a_tile_in_fewer_parts_than_it_says_is_damage() -> None:
    header, tiles, end = parts()
    of_two = tiles[2][:11] + b"\x02" + tiles[2][12:]
    with pytest.raises(Damage, match="5 whole tiles of 6"):
        walk_jpeg2000(b"".join([header, *tiles[:2], of_two, *tiles[3:], end]))


def test_the_last_part_may_end_with_the_picture() -> None:
    header, tiles, end = parts()
    endless = tiles[5][:6] + bytes(4) + tiles[5][10:]
    assert walk_jpeg2000(b"".join([header, *tiles[:5], endless, end])) == (100, 70)
    with pytest.raises(Damage, match="without its end mark"):
        walk_jpeg2000(b"".join([header, *tiles[:5], endless]))


def test_tiles_without_number_are_refused_by_the_header() -> None:
    """A picture of a hundred million tiles, in a file that has one."""
    at = TILES.index(b"\xff\x51") + 4 + 2 + 16
    forged = TILES[:at] + struct.pack(">II", 1, 1) + TILES[at + 8 :]
    with pytest.raises(Damage, match="whole tiles of 7,000"):
        walk_jpeg2000(forged)
    zero = TILES[:at] + bytes(8) + TILES[at + 8 :]
    with pytest.raises(Damage, match="without the sizes"):
        walk_jpeg2000(zero)


def test_the_pixel_cap_is_asked_of_the_header() -> None:
    for data in (TILES, BOXED, AVIF):
        assert (info := inspect(data, 7000)).width == 100 and info.height == 70
        with pytest.raises(BadImage) as caught:
            inspect(data, 6999)
        assert caught.value.reason == "image_too_large"


def test_a_picture_of_another_brand_may_be_avif() -> None:
    assert is_avif(AVIF)
    other = AVIF.replace(b"ftypavif", b"ftypmif1", 1)
    assert is_avif(other) and inspect(other, 10**9).format == "AVIF"
    assert not is_avif(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + AVIF[32:])


def test_boxes_behind_the_picture_need_not_be_whole() -> None:
    walk_avif(AVIF + b"\0\0\1\0free")
    with pytest.raises(Damage, match="cut in its box b'mdat'"):
        walk_avif(AVIF[:-1])
