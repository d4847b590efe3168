"""What is written beside the token ids: tiles, verdicts, batches of bounded bytes, the ledger."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import pytest

from schemas.manifest import Counts
from stages import stage
from stages.chat import ChatFormat, ImageTokens
from stages.pretokenise import pretokenise, totals
from stages.shard_rows import PretokeniseParams
from stages.stage import UndeclaredReason
from stages.tiles.internvl import InternVL
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import sample, table, talk

PARAMS = PretokeniseParams(InternVL(tile=56, patch=14, merge=2, max_tiles=6), ImageTokens(), max_tokens=37)


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    """One token per byte: `<s>user:ab</s>` is 9."""
    return ChatFormat(byte_tokenizer(), PARAMS.tokens)


def row(name: str, size: tuple[int, int] | None = None, image: bytes = b"", **fields: Any) -> dict[str, Any]:
    """20 tokens of text, `<s>user:</s><s>assistant:</s>` being 17 and 4 of them the answer `abc`; 4 for each tile."""
    found = sample(name, question="", answer="abc", **fields)
    if size is not None:
        found["images"] = [{"bytes": image, "path": f"{name}.png"}]
        known = {"sha256": hashlib.sha256(image).hexdigest(), "size": len(image), "width": size[0], "height": size[1]}
        found["image_info"] = [known]
        found["messages"][0]["content"][:0] = [{"type": "image", "text": None}]
    return found


def quality(samples: pa.Table, *reasons: str | None) -> dict[str, pa.Table]:
    return {"quality": pa.table({"sample_id": samples["sample_id"], "reason": pa.array(reasons, pa.string())})}


TEXT = len("user:") + len("assistant:abc") + 4


def test_a_tile_plan_holds_the_scheme_and_the_size_it_was_made_for(chat: ChatFormat) -> None:
    (done,) = pretokenise([table(row("a", (112, 56)))], {}, chat, PARAMS)
    assert done.rows["tiles"].to_pylist() == [
        [
            {
                **{"scheme": "internvl", "rows": 1, "cols": 2, "thumbnail": True, "width": 112, "height": 56},
                **{"start": 1 + len("user:"), "num_tokens": 12},
            }
        ]
    ]


def test_a_verdict_says_how_long_a_sample_is_whether_kept_or_not(chat: ChatFormat) -> None:
    untaught = row("untaught", messages=talk(("user", "abc")))
    samples = table(row("kept", (112, 56)), row("long", (900, 300)), untaught, row("other"), row("text"))
    (done,) = pretokenise([samples], quality(samples, None, None, None, "low_rating", None), chat, PARAMS)
    found, unknown = [tuple(v.values()) for v in done.verdict.to_pylist()], [None] * 4
    assert found == [
        ("kept", None, None, 1, TEXT + 12, TEXT, 12, 4, 3, None),
        ("long", "too_long", "pretokenise", None, TEXT + 16, *unknown, f"{TEXT + 16} tokens, at most 37"),
        ("untaught", "no_target", "pretokenise", None, len("user:abc") + 2, *unknown, None),
        ("other", "low_rating", "quality", None, None, *unknown, None),
        ("text", None, None, 1, TEXT, TEXT, 0, 4, 0, None),
    ]


def test_the_ledger_names_the_stage_of_each_reason(chat: ChatFormat) -> None:
    samples = table(*(row(name) for name in "abc"))
    (done,) = pretokenise([samples], quality(samples, "low_rating", None, "low_rating"), chat, PARAMS)
    assert done.counts == Counts(3, 1, {"quality.low_rating": 2})


def test_a_batch_holds_at_most_so_many_bytes_of_ids_and_images(
    chat: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of an image takes 4 bytes for each id and the bytes of the image; two of them fill a batch exactly."""
    size = 4 * (TEXT + 4) + 100
    samples = table(*(row(str(n), (56, 56), b"x" * 100) for n in range(5)))
    for limit, wanted in ((2 * size, [2, 2, 1]), (2 * size - 1, [1] * 5), (3 * size - 1, [2, 2, 1])):
        monkeypatch.setattr(stage, "GROUP_BYTES", limit)
        pieces = list(pretokenise([samples], {}, chat, PARAMS))
        assert [piece.rows.num_rows for piece in pieces] == wanted


def test_what_is_dropped_takes_no_room_in_a_batch(chat: ChatFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "GROUP_BYTES", 4 * TEXT)
    samples = table(*(row(str(n)) for n in range(6)))
    reasons = ["low_rating", None, "low_rating", None, "low_rating", "low_rating"]
    pieces = list(pretokenise([samples], quality(samples, *reasons), chat, PARAMS))
    assert [(p.verdict.num_rows, p.rows.num_rows, p.counts.rows_in) for p in pieces] == [(3, 1, 3), (3, 1, 3)]
    assert [p.rows["sample"].to_pylist() for p in pieces] == [[1], [3]]


def test_the_counts_of_samples_add_up(chat: ChatFormat) -> None:
    samples = table(row("a", (112, 56), declared_language="en"), row("b"))
    (done,) = pretokenise([samples], {}, chat, PARAMS)
    assert (
        totals(done.rows)
        == totals(done.verdict)
        == {
            "num_tokens": 2 * TEXT + 12,
            "num_text_tokens": 2 * TEXT,
            "num_image_tokens": 12,
            "num_target_tokens": 8,
            "num_tiles": 3,
        }
    )


def test_verdicts_are_read_in_step_with_the_pieces(chat: ChatFormat) -> None:
    """A verdict that is right in number and wrong in one name is refused, in whichever piece it stands."""
    samples = table(*(row(str(n)) for n in range(6)))
    for wrong in range(6):
        ids = pa.chunked_array([[f"x{n}" if n == wrong else str(n) for n in range(6)]])
        verdicts = {"quality": pa.table({"sample_id": ids, "reason": pa.array([None] * 6, pa.string())})}
        with pytest.raises(ValueError, match="the verdicts of quality don't speak of these samples"):
            list(pretokenise([samples.slice(0, 4), samples.slice(4)], verdicts, chat, PARAMS))


def test_a_verdict_too_many_at_the_end_is_refused(chat: ChatFormat) -> None:
    more = table(*(row(str(n)) for n in range(3)))
    with pytest.raises(ValueError, match="the verdicts of quality don't speak of these samples"):
        list(pretokenise([more.slice(0, 2)], quality(more, None, None, None), chat, PARAMS))


def test_a_template_that_gives_a_reason_of_its_own_would_be_a_bug(chat: ChatFormat) -> None:
    """Verdicts under this stage's own name can't come from outside."""
    samples = table(row("a"))
    forged = {"pretokenise": quality(samples, "because")["quality"]}
    with pytest.raises(UndeclaredReason, match="because"):
        list(pretokenise([samples], forged, chat, PARAMS))


@pytest.mark.parametrize("most", [0, -1])
def test_no_sample_has_less_than_one_token(most: int) -> None:
    with pytest.raises(ValueError, match="wanted at least 1"):
        PretokeniseParams(max_tokens=most)
    assert PretokeniseParams(max_tokens=1).max_tokens == 1
