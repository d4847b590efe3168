"""A conversation that is too long is cut between rounds: nothing is lost or said twice, and every piece fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.chat import ChatFormat, ImageTokens
from stages.images.hashes import sha256
from stages.pretokenise import pretokenise
from stages.shard_rows import PretokeniseParams
from stages.split import is_of, piece_id
from stages.tiles.internvl import InternVL
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import IMAGE, joined, sample, table, talk, text

PARAMS = PretokeniseParams(InternVL(tile=56, patch=14, merge=2, max_tiles=6), ImageTokens(), max_tokens=120)
SPLIT = replace(PARAMS, too_long="split")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    """One token a byte: `<s>user:` and `</s>` are 7 tokens, `<s>assistant:` and `</s>` 12."""
    return ChatFormat(byte_tokenizer(), PARAMS.tokens)


def long(name: str, *messages: dict[str, Any]) -> dict[str, Any]:
    """A sample of these messages with an image of its own for each mark."""
    made = sample(name, messages=list(messages))
    number = sum(block["type"] == "image" for message in messages for block in message["content"])
    made["images"] = [{"bytes": f"{name}{n}".encode(), "path": None} for n in range(number)]
    made["image_info"] = [
        {"sha256": sha256(image["bytes"]), "size": len(image["bytes"]), "width": 40 + n % 8, "height": 40}
        for n, image in enumerate(made["images"])
    ]
    return made


def user(said: str, images: int = 0) -> dict[str, Any]:
    return {"role": "user", "content": [*[IMAGE] * images, text(said)]}


def answer(said: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [text(said)]}


def done(chat: ChatFormat, *samples: dict[str, Any], params: PretokeniseParams = SPLIT) -> Any:
    return joined(pretokenise([table(*samples)], {}, chat, params))


def said(chat: ChatFormat, row: dict[str, Any]) -> str:
    return chat.decode(row["input_ids"], False).replace("<image>" * 4, "[image]")


def test_pieces_are_cut_between_rounds_and_say_which_they_are(chat: ChatFormat) -> None:
    turns = [turn for n in range(5) for turn in (user(f"q{n}" + "x" * 20), answer(f"a{n}"))]
    found = done(chat, sample("before"), long("s#7", *talk(("system", "sys")), *turns), sample("after"))
    rows = found.rows.to_pylist()
    assert [row["sample_id"] for row in rows] == ["before", "s#7~1of3", "s#7~2of3", "s#7~3of3", "after"]
    system = "<s>system:sys</s>"
    one = [f"<s>user:q{n}{'x' * 20}</s><s>assistant:a{n}</s>" for n in range(5)]
    assert [said(chat, row) for row in rows[1:4]] == [
        system + one[0] + one[1],
        system + one[2] + one[3],
        system + one[4],
    ]
    assert found.rows["sample_id"].to_pylist() == [row["sample_id"] for row in rows]
    verdict = found.verdict.to_pylist()
    assert [(v["sample_id"], v["reason"], v["rows"]) for v in verdict] == [
        ("before", None, 1),
        ("s#7", None, 3),
        ("after", None, 1),
    ]
    assert verdict[1]["num_tokens"] == sum(row["num_tokens"] for row in rows[1:4])
    assert (found.counts.rows_in, found.counts.kept, found.counts.dropped) == (3, 3, {})
    assert done(chat, long("s#7", *turns), params=PARAMS).counts.dropped == {"pretokenise.too_long": 1}


def test_a_piece_has_the_images_that_its_questions_are_about(chat: ChatFormat) -> None:
    """Those of its own rounds; where the first shows none, those shown last before."""
    pad = "x" * 45
    turns = [user("q0" + pad, 2), answer("a0"), user("q1" + pad), answer("a1"), user("q2" + pad, 1), answer("a2")]
    turns += [user("q3" + pad), answer("a3"), user("q4" + pad), answer("a4")]
    rows = done(chat, long("s", *turns)).rows.to_pylist()
    assert [said(chat, row).count("[image]") for row in rows] == [2, 2, 1, 1, 1]
    assert [row["image_numbers"] for row in rows] == [[0, 1]] * 2 + [[2]] * 3
    assert [[tile["width"] for tile in row["tiles"]] for row in rows] == [[40, 41]] * 2 + [[42]] * 3
    assert said(chat, rows[1]).startswith("<s>user:[image][image]q1")
    assert [row["image_sha256"] for row in rows[::2]] == [
        [sha256(b"s0"), sha256(b"s1")],
        [sha256(b"s2")],
        [sha256(b"s2")],
    ]


def test_a_round_that_alone_is_too_long_drops_its_sample_with_the_reason(chat: ChatFormat) -> None:
    turns = [user("q"), answer("a"), user("x" * 130), answer("a"), user("q"), answer("a")]
    found = done(chat, long("s", *turns), long("only", *talk(("system", "x" * 200))))
    assert found.verdict["reason"].to_pylist() == ["too_long", "too_long"] and not found.rows.num_rows
    assert found.verdict["detail"][0].as_py() == "192 tokens, at most 120; round 2 of 3 alone is too long"


def test_a_piece_without_a_target_is_left_out_and_one_sample_of_such_pieces_dropped(chat: ChatFormat) -> None:
    quiet = [{**answer("a" * 40), "loss": False}, {**answer("b" * 40), "loss": False}]
    turns = [user("q" * 40), quiet[0], user("r" * 40), answer("c")]
    rows = done(chat, long("s", *turns), long("quiet", user("q" * 40), quiet[0], user("r" * 40), quiet[1]))
    assert rows.rows["sample_id"].to_pylist() == ["s~2of2"]
    assert rows.verdict["rows"].to_pylist() == [1, None] and rows.verdict["reason"].to_pylist() == [None, "no_target"]
    assert rows.verdict["detail"].to_pylist()[0] == "1 of 2 pieces without a target left out"


ROUND = st.tuples(
    st.sampled_from([0, 0, 0, 9, 40, 60]), st.sampled_from([0, 0, 0, 5, 30]), st.sampled_from([0, 0, 0, 1, 2])
)


@settings(max_examples=60)
@given(rounds=st.lists(ROUND, min_size=1, max_size=12), system=st.booleans())
def test_nothing_is_lost_and_no_piece_could_be_longer(chat: ChatFormat, rounds: list[Any], system: bool) -> None:
    turns = [
        turn
        for n, (asked, told, images) in enumerate(rounds)
        for turn in (user(f"({n})" + "q" * asked, images), answer(f"[{n}]" + "a" * told))
    ]
    made = long("s#0", *(talk(("system", "y")) if system else []), *turns)
    found, dropped = (done(chat, made, params=params) for params in (SPLIT, PARAMS))
    (verdict,) = found.verdict.to_pylist()
    if dropped.counts.kept:
        assert found.rows.equals(dropped.rows) and verdict["rows"] == 1
        return
    if verdict["reason"] is not None:
        assert verdict["reason"] == "too_long"
        shown, longest = 0, 0
        for n, (asked, told, images) in enumerate(rounds):
            shown = images or shown  # what a piece that begins here shows
            longest = max(longest, 11 * system + 19 + len(f"({n})[{n}]") + asked + told + 4 * shown)
        assert longest > 120
        return
    rows = found.rows.to_pylist()
    texts = [said(chat, row).replace("<s>system:y</s>", "").replace("[image]", "") for row in rows]
    pairs = [(turns[i]["content"][-1]["text"], turns[i + 1]["content"][0]["text"]) for i in range(0, len(turns), 2)]
    whole = "".join(f"<s>user:{asked}</s><s>assistant:{told}</s>" for asked, told in pairs)
    assert "".join(texts) == whole and len(rows) == verdict["rows"] > 1
    assert all(row["num_tokens"] <= 120 for row in rows)
    assert [row["sample_id"] for row in rows] == [piece_id("s#0", n, len(rows)) for n in range(1, len(rows) + 1)]
    assert all(is_of(row["sample_id"], "s#0") for row in rows) and not is_of("s#01~1of2", "s#0")
    for piece, after in zip(rows, texts[1:], strict=False):
        # the next round, with its images, would not have fitted
        number = int(after[after.index("(") + 1 : after.index(")")])
        asked, told, images = rounds[number]
        more = 19 + len(f"({number})[{number}]") + asked + told + 4 * images
        assert piece["num_tokens"] + more > 120
