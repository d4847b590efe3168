"""Every field of a sample and of a reject, and the caps on a row at their last byte."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.benchmark import Scoring
from schemas.sample import REJECT, SAMPLE
from stages import stage
from stages.ingest import IngestParams, ingest
from stages.sources.archives.image_files import ImageFiles
from stages.sources.declaration import Source
from stages.sources.shapes.draft import BadRow
from tests.stages.pictures import encoded, images_in, joined, photo

PNG = encoded(photo(1, 30, 20))
INFO, BLOCK = 2048, 1024  # bytes that a row counts beside an image's and a text's own


def source(**fields: Any) -> Source:
    return Source("question_answer", ("*",), licence="of the source", scores=("clip", "aest"), **fields)


def record(**fields: Any) -> dict[str, Any]:
    return {"question": "What?", "answer": "日本", **fields}


def run(*records: Any, file: str = "en/a.json", first: int = 0, images: Path | None = None, **params: int) -> Any:
    files = images_in(images) if images else ImageFiles(None)
    found = ingest(enumerate(records, first), "src", file, source(), files, IngestParams(**params))
    return joined(found)


SCORED = ("references", "choices", "category")  # columns of questions whose answers are scored


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_every_field_of_a_sample(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(PNG)
    images = [{"bytes": PNG, "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    rated = record(image=images, licence="of the row", language="ja", clip=0.5, aest=3)
    done = run(rated, file="en/deep/a.json", first=7, images=tmp_path)
    assert done.samples.schema.equals(SAMPLE) and done.rejects.num_rows == 0
    (found,) = done.samples.to_pylist()
    infos = found.pop("image_info")
    assert found == {
        "sample_id": "src/en/deep/a.json#7",
        "source": "src",
        "subset": "en",
        "licence": "of the row",
        "messages": [
            {"role": "user", "content": [*[{"type": "image", "text": None}] * 2, text("What?")], "loss": None},
            {"role": "assistant", "content": [text("日本")], "loss": None},
        ],
        "images": [{"bytes": PNG, "path": "a.png"}, {"bytes": PNG, "path": "b.png"}],
        "scores": [{"name": "aest", "value": 3.0}, {"name": "clip", "value": 0.5}],
        "turn_scores": [],
        "declared_language": "ja",
        **dict.fromkeys(SCORED),
    }
    assert [(i["sha256"], i["width"], i["height"]) for i in infos] == [(hashlib.sha256(PNG).hexdigest(), 30, 20)] * 2


def test_what_a_row_does_not_say_comes_from_its_source() -> None:
    (found,) = run(record(), file="a.json").samples.to_pylist()
    assert (found["subset"], found["licence"]) == ("src", "of the source")
    assert (found["declared_language"], found["scores"], found["images"]) == (None, [], [])


def test_a_scored_question_has_what_answers_are_compared_with_beside_the_same_conversation() -> None:
    columns: dict[str, Any] = {"answer": "answers", "choices": "options", "category": "kind"}
    rows = [
        record(answers=["two", "2", "two"], kind="count"),
        record(answers="(B)", options=["one", "two"]),
        record(answers=["b", "A"], options="['two', 'one']", kind=None),
    ]
    scored = Source("question_answer", ("*",), columns=columns, scoring=Scoring("exact_match"))
    plain = replace(scored, scoring=None)
    found, without = (
        joined(ingest(enumerate(rows), "s", "a", one, ImageFiles(None), IngestParams())).samples
        for one in (scored, plain)
    )
    assert [tuple(row.values()) for row in found.select(SCORED).to_pylist()] == [
        (["two", "2", "two"], None, "count"),
        (["B"], ["one", "two"], None),
        (["B", "A"], ["two", "one"], None),
    ]
    assert without.drop_columns(list(SCORED)) == found.drop_columns(list(SCORED))
    assert {without[name].null_count for name in SCORED} == {3}


def test_every_field_of_a_reject() -> None:
    done = run(record(), record(answer=None), record(image="gone.png"), first=3)
    assert done.rejects.schema.equals(REJECT)
    details = [reject.pop("detail") for reject in done.rejects.to_pylist()]
    assert all(details) and "gone.png" in details[1]
    assert [dict(reject) for reject in done.rejects.drop_columns("detail").to_pylist()] == [
        {"sample_id": f"src/en/a.json#{row}", "source": "src", "file": "en/a.json", "row": row, "reason": reason}
        for row, reason in ((4, "malformed_record"), (5, "image_missing"))
    ]
    assert (done.counts.rows_in, done.counts.kept) == (3, 1)
    assert done.counts.rejected == {"malformed_record": 1, "image_missing": 1}


def test_a_row_that_could_not_be_read_is_a_reject_with_what_was_seen() -> None:
    (found,) = run(BadRow("row_too_large", "a\ud800b" + "x" * 600)).rejects.to_pylist()
    assert (found["reason"], found["detail"]) == ("row_too_large", "a\\ud800b" + "x" * 497)


@pytest.mark.parametrize("image", [{"bytes": None, "path": None}, {"path": None}, {}])
def test_an_image_that_is_neither_here_nor_named_is_missing(image: dict[str, Any]) -> None:
    (found,) = run(record(image=[image])).rejects.to_pylist()
    assert (found["reason"], found["detail"]) == ("image_missing", "neither bytes nor a path")


# ---- caps


def reasons(*records: Any, **params: int) -> list[str | None]:
    done = run(*records, **params)
    rejected = {reject["row"]: reject["reason"] for reject in done.rejects.to_pylist()}
    return [rejected.get(row) for row in range(len(records))]


def test_the_most_bytes_of_text_are_allowed_and_one_more_is_not() -> None:
    size = len("What?日本".encode())
    assert reasons(record(), record(answer="日本x"), max_text_bytes=size) == [None, "row_too_large"]


def test_the_most_bytes_of_an_image_are_allowed_and_one_more_is_not() -> None:
    rows = [record(image=PNG), record(image=PNG + b"\0")]
    assert reasons(*rows, max_image_bytes=len(PNG)) == [None, "image_too_large"]


def test_the_most_pixels_of_an_image_are_allowed_and_one_more_is_not() -> None:
    rows = [record(image=PNG), record(image=encoded(photo(1, 601, 1)))]
    assert reasons(*rows, max_pixels=600) == [None, "image_too_large"]


def test_the_most_bytes_of_a_row_are_allowed_and_one_more_is_not() -> None:
    """Its text, a kilobyte for each turn and each block, and its images with two kilobytes for each."""
    bare = len("What?日本".encode()) + 4 * BLOCK
    assert reasons(record(), record(answer="日本x"), max_row_bytes=bare) == [None, "row_too_large"]
    for count in (1, 2, 3):
        whole = bare + count * (BLOCK + INFO + len(PNG))
        row = record(image=[PNG] * count)
        assert reasons(row, max_row_bytes=whole) == [None]
        assert reasons(row, max_row_bytes=whole - 1) == ["row_too_large"]


def test_what_is_too_much_is_said() -> None:
    whole = len("What?日本".encode()) + 6 * BLOCK + 2 * (INFO + len(PNG))
    (found,) = run(record(image=[PNG] * 2), max_row_bytes=whole - 1).rejects.to_pylist()
    assert found["detail"] == f"{whole:,} bytes with 2 of 2 images, at most {whole - 1:,}"
    (found,) = run(record(), max_row_bytes=100).rejects.to_pylist()
    assert found["detail"] == f"{4 * BLOCK + 11:,} bytes with 2 turns, at most 100"
    (found,) = run(record(), max_text_bytes=10).rejects.to_pylist()
    assert found["detail"] == "11 bytes of text, at most 10"


def test_a_piece_of_a_part_holds_at_most_so_many_bytes_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejects take no room. Two of these rows fill a piece exactly."""
    size = len("What?日本".encode()) + 5 * BLOCK + INFO + len(PNG)
    rows = [record(image=PNG), record(answer=None), record(image=PNG), record(image=PNG), record(answer=None)]
    for limit, wanted in ((2 * size, [(2, 1), (1, 1)]), (2 * size - 1, [(1, 1), (1, 0), (1, 1)])):
        monkeypatch.setattr(stage, "GROUP_BYTES", limit)
        pieces = list(ingest(enumerate(rows), "src", "a.json", source(), ImageFiles(None), IngestParams()))
        assert [(piece.samples.num_rows, piece.rejects.num_rows) for piece in pieces] == wanted
        assert [piece.counts.rows_in for piece in pieces] == [sum(piece) for piece in wanted]


def test_a_part_without_records_is_one_empty_piece() -> None:
    (piece,) = ingest([], "src", "a.json", source(), ImageFiles(None), IngestParams())
    assert piece.samples.num_rows == piece.rejects.num_rows == piece.counts.rows_in == 0
    assert isinstance(piece.samples, pa.Table) and piece.samples.schema.equals(SAMPLE)


def test_limits_are_the_params_and_may_be_one() -> None:
    params = IngestParams(max_image_bytes=1, max_text_bytes=2, max_row_bytes=3)
    assert (params.limits.image, params.limits.text, params.limits.row) == (1, 2, 3)
