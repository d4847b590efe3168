"""Which of several matching pictures a verdict names, told with hand-made hashes whose distances are known."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.sample import SAMPLE
from stages.duplicates.params import DedupeParams
from stages.filters.decontaminate import DecontaminateParams
from stages.filters.image_match import Match
from tests.stages.decontaminated import decontaminated, indexed
from tests.stages.deduped import deduped


def waves(number: int) -> bytes:
    """A luminance of 32 x 32 with waves of a direction and length of its own."""
    y, x = np.mgrid[:32, :32] * 2 * np.pi / 32
    values = 128 + 100 * np.sin((1 + number % 3) * x + (1 + number // 3) * y)
    return values.astype(np.uint8).tobytes()


GREY = waves(0)


def picture(bits: int = 0, sha: str = "", grey: bytes = GREY, side: int = 100) -> dict[str, Any]:
    """A picture whose hash differs from that of bits 0 in `bits` places."""
    phash = (1 << bits) - 1
    sha = sha or f"{bits}-{side}-{zlib.crc32(grey)}"
    pixels = {"phash": phash, "grey": grey, "detail": bytes(2 * 22 * 22), "plain": 0}
    return {"sha256": sha, "width": side, "height": side, **pixels}


def samples(**pictures: list[dict[str, Any]]) -> pa.Table:
    def row(name: str, infos: list[dict[str, Any]]) -> dict[str, Any]:
        blank = {"role": "user", "content": [{"type": "image", "text": None}] * len(infos)}
        return {"sample_id": name, "messages": [blank], "image_info": infos}

    return pa.Table.from_pylist([row(name, infos) for name, infos in pictures.items()], SAMPLE)


def leak(benchmarks: pa.Table, *infos: dict[str, Any], match: Match | None = None) -> tuple[Any, Any]:
    """(benchmark, distance) that a sample with these pictures gets."""
    params = DecontaminateParams(match or Match())
    (row,) = decontaminated(samples(s=list(infos)), params, indexed(params, benchmarks)).to_pylist()
    return row["benchmark_id"], row["distance"]


# ---- decontaminate


def test_the_nearest_benchmark_is_named_and_of_equals_the_first() -> None:
    benchmarks = samples(far=[picture(5)], near=[picture(2)], same=[picture(2, "other")], last=[picture(4)])
    assert leak(benchmarks, picture()) == ("near", 2)


def test_the_nearest_of_a_samples_pictures_is_named_and_of_equals_the_first() -> None:
    """Each picture matches one benchmark: at 5, 2, 2 and 4 bits."""
    greys = [waves(n) for n in range(4)]
    benchmarks = samples(**{f"b{n}": [picture(0, grey=grey)] for n, grey in enumerate(greys)})
    mine = [picture(bits, grey=grey) for bits, grey in zip((5, 2, 2, 4), greys, strict=True)]
    assert leak(benchmarks, *mine) == ("b1", 2)
    assert leak(benchmarks, *mine[::-1]) == ("b2", 2)


def test_the_benchmark_with_the_same_bytes_is_named_before_one_that_looks_alike() -> None:
    benchmarks = samples(alike=[picture(0, "re-encoded")], same=[picture(0, "bytes")], again=[picture(0, "bytes")])
    assert leak(benchmarks, picture(0, "bytes")) == ("same", 0)
    assert leak(benchmarks, picture(0, "third")) == ("alike", 0)


def test_every_picture_of_a_benchmark_sample_counts() -> None:
    benchmarks = samples(text=[], both=[picture(30), picture(3)], other=[picture(2, grey=waves(5))])
    assert leak(benchmarks, picture()) == ("both", 3)


@pytest.mark.parametrize(("radius", "found"), [(4, True), (3, False)])
def test_the_recipe_says_how_near_is_a_match(radius: int, found: bool) -> None:
    benchmarks = samples(b=[picture(4)])
    assert leak(benchmarks, picture(), match=Match(radius)) == (("b", 4) if found else (None, None))


@pytest.mark.parametrize(("bits", "found"), [(10, True), (11, False)])
def test_by_default_ten_bits_are_near(bits: int, found: bool) -> None:
    assert leak(samples(b=[picture(bits)]), picture()) == (("b", bits) if found else (None, None))


def test_another_picture_with_the_same_hash_is_no_match() -> None:
    assert leak(samples(b=[picture(0, grey=waves(4))]), picture()) == (None, None)


def test_without_pictures_on_either_side_nothing_matches() -> None:
    assert leak(samples(text=[]), picture()) == leak(samples(b=[picture()])) == (None, None)


# ---- dedupe


def kept(**pictures: list[dict[str, Any]]) -> dict[str, tuple[Any, Any, Any]]:
    """sample -> (reason, kept sample, distance), of photographs that their signatures tell: here are no files."""
    verdict = deduped(samples(**pictures), params=DedupeParams(match=Match(mark=0.03)))
    return {row["sample_id"]: (row["reason"], row["kept_id"], row["distance"]) for row in verdict.to_pylist()}


def test_the_distance_to_the_kept_one_is_the_largest_over_all_places() -> None:
    """The larger of two pairs stays; places differ by 1 and 6 bits, or by 6 and 1."""
    for bits in ((1, 6), (6, 1)):
        pair = [picture(bits[0]), picture(bits[1])]
        found = kept(big=[picture(0, side=200), picture(0, side=200)], small=pair)
        assert found == {"big": (None, None, None), "small": ("near_duplicate", "big", 6)}


def test_a_pair_that_differs_in_any_place_is_no_duplicate() -> None:
    first = [picture(0), picture(0), picture(0)]
    for place in range(3):
        second = [picture(40 if n == place else 1) for n in range(3)]
        assert set(kept(a=first, b=second).values()) == {(None, None, None)}


def test_a_cluster_keeps_the_most_pixels() -> None:
    """Sizes in any order: what stays has the most pixels, over all of a sample's pictures."""
    sizes = {"a": 100, "b": 400, "c": 200, "d": 300}
    found = kept(**{name: [picture(n, side=side)] for n, (name, side) in enumerate(sizes.items())})
    assert {name: row[:2] for name, row in found.items()} == {
        "a": ("near_duplicate", "b"),
        "b": (None, None),
        "c": ("near_duplicate", "b"),
        "d": ("near_duplicate", "b"),
    }
    assert [found[name][2] for name in "acd"] == [1, 1, 2]


def test_a_copy_of_a_near_duplicate_names_the_one_that_stays() -> None:
    found = kept(big=[picture(0, side=200)], near=[picture(4, "n")], near_copy=[picture(4, "n")], zebra=[picture(50)])
    assert found == {
        "big": (None, None, None),
        "near": ("near_duplicate", "big", 4),
        "near_copy": ("near_duplicate", "big", 4),
        "zebra": (None, None, None),
    }


def test_copies_of_one_that_stays_name_it_beside_a_cluster_that_does_not_concern_them() -> None:
    found = kept(a=[picture(50, "x")], b=[picture(50, "x")], c=[picture(0, side=200)], d=[picture(1)])
    assert found == {
        "a": (None, None, None),
        "b": ("duplicate", "a", 0),
        "c": (None, None, None),
        "d": ("near_duplicate", "c", 1),
    }
