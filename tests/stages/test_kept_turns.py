"""A sample cut to the rounds that stay: its text, its images, and what pretokenise and census make of it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.shard import COUNTS
from schemas.verdict import KEPT_TURNS
from stages.census import Model, count
from stages.chat import ChatFormat, ImageTokens
from stages.images.hashes import sha256
from stages.kept_turns import cut, kept_turns
from stages.pretokenise import pretokenise
from stages.rounds import grouped
from stages.shard_rows import PretokeniseParams
from stages.tiles.internvl import InternVL
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import IMAGE, joined, sample, table, talk, text

PARAMS = PretokeniseParams(InternVL(tile=56, patch=14, merge=2, max_tiles=6), ImageTokens(), max_tokens=400)


def user(said: str, images: int = 0) -> dict[str, Any]:
    return {"role": "user", "content": [*[IMAGE] * images, text(said)]}


def answer(said: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [text(said)]}


def rounds(*images: int, system: bool = False) -> dict[str, Any]:
    """Rounds that show so many images each; image n is n + 40 wide."""
    turns = [turn for n, shown in enumerate(images) for turn in (user(f"q{n}", shown), answer(f"a{n}"))]
    made = sample("s#1", messages=[*(talk(("system", "sys")) if system else []), *turns])
    made["images"] = [{"bytes": bytes([n]), "path": None} for n in range(sum(images))]
    made["image_info"] = [
        {"sha256": sha256(bytes([n])), "size": 1, "width": 40 + n, "height": 40} for n in range(sum(images))
    ]
    return made


def told(row: Any) -> str:
    """`[image 0]q0 a0`: what a sample says and shows, image by image in the order of its places."""
    left = iter(row["images"])
    blocks = [block for message in row["messages"] for block in message["content"]]
    said = [f"[{next(left)['bytes'][0]}]" if b["type"] == "image" else b["text"] + " " for b in blocks]
    assert next(left, None) is None and len(row["images"]) == len(row["image_info"])
    assert [info["sha256"] for info in row["image_info"]] == [sha256(image["bytes"]) for image in row["images"]]
    return "".join(said).strip()


@pytest.mark.parametrize(
    ("images", "kept", "expected"),
    [
        ((1, 0, 0), None, "[0]q0 a0 q1 a1 q2 a2"),
        ((1, 0, 0), [0, 2], "[0]q0 a0 q2 a2"),
        ((1, 0, 0), [1, 2], "[0]q1 a1 q2 a2"),
        ((2, 0, 0), [2], "[0][1]q2 a2"),
        ((1, 1, 0), [2], "[0][1]q2 a2"),
        ((1, 0, 1, 0), [0, 3], "[0]q0 a0 [1]q3 a3"),
        ((1, 1, 0), [1, 2], "[1]q1 a1 q2 a2"),
        ((1, 0, 1), [0, 1], "[0]q0 a0 q1 a1"),
        ((0, 1, 0), [0, 2], "q0 a0 [0]q2 a2"),
        ((0, 0), [1], "q1 a1"),
    ],
)
def test_images_stay_where_a_question_is_about_them(images: tuple[int, ...], kept: Any, expected: str) -> None:
    row = rounds(*images)
    assert told(cut(row, kept)) == expected
    assert told(cut(rounds(*images, system=True), kept)) == f"sys {expected}"
    assert cut(row, kept)["sample_id"] == "s#1"


@pytest.mark.parametrize("kept", [[], [2], [-1, 0], [1, 0], [0, 0]])
def test_what_no_filter_could_have_said_is_refused(kept: list[int]) -> None:
    with pytest.raises(ValueError, match=r"s#1: the verdict keeps rounds .* of 2; run its filter again"):
        cut(rounds(1, 0), kept)


TALK = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.integers(0, 2)), min_size=1, max_size=9)


@given(talk=TALK, data=st.data())
def test_of_any_conversation_the_kept_rounds_stay_and_no_image_is_shown_twice(talk: Any, data: Any) -> None:
    messages = [{"role": role, "content": [*[IMAGE] * shown, text(str(n))]} for n, (role, shown) in enumerate(talk)]
    total = sum(shown for _, shown in talk)
    row = sample("a", messages=messages)
    row["images"] = [{"bytes": bytes([n]), "path": None} for n in range(total)]
    row["image_info"] = [{"sha256": sha256(bytes([n]))} for n in range(total)]
    head, found = grouped(messages)
    assert [*head, *(message for one in found for message in one)] == messages
    if not found:
        return
    kept = sorted(data.draw(st.sets(st.integers(0, len(found) - 1), min_size=1)))
    left = cut(row, kept)
    words = [b["text"] for m in left["messages"] for b in m["content"] if b["type"] == "text"]
    wanted = list(head) + [message for number in kept for message in found[number]]
    assert words == [m["content"][-1]["text"] for m in wanted]
    told(left)
    numbers = [image["bytes"][0] for image in left["images"]]
    assert numbers == sorted(set(numbers))
    shown = [number for number in kept if _shows(found[number])]
    assert len(numbers) >= sum(b["type"] == "image" for n in shown for m in found[n] for b in m["content"])
    if any(message["role"] != "system" for message in found[kept[0]]):  # else it is all head
        assert cut(left, list(range(len(kept)))) == left
    assert cut(row, list(range(len(found)))) == dict(row)


def _shows(one: list[dict[str, Any]]) -> bool:
    return any(block["type"] == "image" for message in one for block in message["content"])


def verdict(samples: pa.Table, *kept: Any) -> pa.Table:
    columns = {"sample_id": samples["sample_id"], "reason": pa.nulls(samples.num_rows, pa.string())}
    return pa.table({**columns, KEPT_TURNS: pa.array(kept, pa.list_(pa.int32()))})


def test_images_go_before_a_question_and_not_into_a_system_turn() -> None:
    row = rounds(1, 0)
    row["messages"].insert(2, talk(("system", "now"))[0])
    assert told(cut(row, [1])) == "now [0]q1 a1"


def test_what_every_filter_keeps_is_kept() -> None:
    samples = table(*(sample(name) for name in "abcd"))
    one, other = verdict(samples, None, [0, 1], [0], None), verdict(samples, None, [1, 2], None, [2])
    plain = one.drop_columns([KEPT_TURNS])
    assert kept_turns(4, {"one": one, "plain": plain, "other": other}) == [None, [1], [0], [2]]
    assert kept_turns(4, {"plain": plain}) == [None] * 4


def test_a_removed_round_is_in_no_ids_and_its_image_stays_with_the_next() -> None:
    chat = ChatFormat(byte_tokenizer(), PARAMS.tokens)
    samples = table(sample("before"), rounds(1, 1, 0, system=True), rounds(1, 0), sample("after"))
    found = {"judge": verdict(samples, None, [0, 2], [1], None)}
    done: Any = joined(pretokenise([samples], found, chat, PARAMS))
    rows = done.rows.to_pylist()
    said = [chat.decode(row["input_ids"], False).replace("<image>" * 4, "[image]") for row in rows]
    assert said[1] == (
        "<s>system:sys</s><s>user:[image]q0</s><s>assistant:a0</s><s>user:[image]q2</s><s>assistant:a2</s>"
    )
    assert said[2] == "<s>user:[image]q1</s><s>assistant:a1</s>"
    assert [row["image_numbers"] for row in rows] == [[], [0, 1], [0], []]
    assert [row["sample_id"] for row in rows[1:3]] == ["s#1", "s#1"]
    assert [[tile["width"] for tile in row["tiles"]] for row in rows[1:3]] == [[40, 41], [40]]
    (tally,), _ = count([samples], [Model(chat, PARAMS, found)])
    assert {name: tally.kept[name] for name in COUNTS} == {name: sum(row[name] for row in rows) for name in COUNTS}
