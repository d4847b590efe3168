"""A sample that shows a benchmark's picture is dropped, whatever it asks, and says whose picture it is."""

from __future__ import annotations

from typing import Any

from PIL import Image

from stages.filters.decontaminate import DecontaminateParams
from tests.stages.decontaminated import decontaminated, indexed
from tests.stages.pictures import bar_chart, cropped, encoded, page, photo, sample, table

BENCHMARK = [photo(seed, 320, 240) for seed in range(50, 60)]
BENCH = table(
    *(sample(f"bench#{n}", [encoded(image)], question="Count!") for n, image in enumerate(BENCHMARK)),
    sample("bench#chart", [encoded(bar_chart([10, 40, 70, 20]))]),
    sample("bench#text"),
)


def judged(*samples: dict[str, Any], benchmarks: Any = BENCH) -> list[tuple[Any, Any, Any]]:
    params = DecontaminateParams()
    verdict = decontaminated(table(*samples), params, indexed(params, benchmarks))
    return [(row["reason"], row["benchmark_id"], row["distance"]) for row in verdict.to_pylist()]


KEPT = (None, None, None)


def test_a_benchmark_picture_is_found_by_its_bytes_whatever_the_question() -> None:
    assert judged(sample("a", [encoded(BENCHMARK[3])], question="Other?"), sample("b", [encoded(photo(1))])) == [
        ("benchmark_image", "bench#3", 0),
        KEPT,
    ]


def test_a_benchmark_picture_is_found_by_sight() -> None:
    versions = [
        encoded(BENCHMARK[4], "JPEG", quality=80),
        encoded(BENCHMARK[4].resize((256, 192), Image.Resampling.LANCZOS)),
        encoded(BENCHMARK[4], "WEBP"),
    ]
    for reason, benchmark, distance in judged(*(sample(str(n), [data]) for n, data in enumerate(versions))):
        assert (reason, benchmark) == ("benchmark_image", "bench#4") and distance <= 10


def test_one_picture_among_several_is_enough() -> None:
    clean, leak = encoded(photo(1)), encoded(BENCHMARK[0])
    found = judged(sample("a", [clean, leak]), sample("b", [leak, clean, clean]), sample("c", [clean, clean]))
    assert [row[:2] for row in found] == [("benchmark_image", "bench#0")] * 2 + [(None, None)]


def test_a_chart_of_the_same_template_is_not_the_benchmarks() -> None:
    assert judged(sample("a", [encoded(bar_chart([70, 20, 10, 40]))])) == [KEPT]
    assert judged(sample("a", [encoded(bar_chart([10, 40, 70, 20]))]))[0][0] == "benchmark_image"


def test_pages_are_compared_by_their_files_or_without_them_by_their_signatures() -> None:
    bench = table(sample("bench#page", [encoded(page())]))
    mine = [cropped(page(), 0.02), page().resize((450, 450)), page("5,120.7"), page()]
    samples = [sample(str(n), [encoded(image, "JPEG", quality=90)]) for n, image in enumerate(mine)]
    leaks = [row[1] for row in judged(*samples, benchmarks=bench)]
    assert leaks == ["bench#page", "bench#page", None, "bench#page"]
    unseen = [row[1] for row in judged(*samples, benchmarks=bench.drop_columns(["images"]))]
    assert unseen[0] is None and unseen[1] == unseen[3] == "bench#page"


def test_text_only_samples_and_missing_benchmarks_keep_everything() -> None:
    assert judged(sample("a"), sample("b", [encoded(photo(1))]), sample("c")) == [KEPT] * 3
    leak = sample("a", [encoded(BENCHMARK[0])])
    assert judged(leak, benchmarks=None) == [KEPT]
    assert judged(leak, benchmarks=BENCH.slice(0, 0)) == [KEPT]
    assert judged(leak, benchmarks=BENCH.slice(BENCH.num_rows - 1)) == [KEPT]
    assert judged() == []
