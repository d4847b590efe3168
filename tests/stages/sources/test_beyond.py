"""What a record has beyond its shape: films, sounds, tools, preferences, weights, and columns that nobody reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stages.ingest import IngestParams, ingest
from stages.sources.archives.image_files import ImageFiles
from stages.sources.declaration import Source
from stages.sources.one_record import unread, wanted
from stages.sources.shapes.beyond import something
from tests.stages.pictures import encoded, joined, photo

PNG = encoded(photo(1, 30, 20))
TALK = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "Red."}]
CHAT = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Red."}]
ROWS: dict[str, dict[str, Any]] = {
    "conversations": {"conversations": TALK},
    "messages": {"messages": CHAT},
    "texts": {"texts": [{"user": "What?", "assistant": "Red."}]},
    "question_answer": {"question": "What?", "answer": "Red."},
    "alpaca": {"instruction": "What?", "input": "", "output": "Red."},
    "caption": {"image": PNG, "caption": "Red."},
    "text": {"text": "Once upon a time."},
    "webdataset": {"__key__": "1", "json": json.dumps({"conversations": TALK}).encode()},
}


def outcome(record: dict[str, Any], format: str = "conversations", **source: Any) -> Any:
    """The messages that a record becomes, or the reason and detail of its reject."""
    made = Source(format, ("*",), **source)
    found = joined(ingest(enumerate([record]), "src", "a.json", made, ImageFiles(None), IngestParams()))
    if found.counts.kept:
        return found.samples["messages"][0].as_py()
    return found.rejects["reason"][0].as_py(), found.rejects["detail"][0].as_py()


def reason(record: dict[str, Any], format: str = "conversations", **source: Any) -> str | None:
    found = outcome(record, format, **source)
    return found[0] if isinstance(found, tuple) else None


def said(text: str, role: str = "human") -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text}, *([] if role == "gpt" else TALK[1:])]}


def with_column(format: str, **columns: Any) -> dict[str, Any]:
    if format != "webdataset":
        return {**ROWS[format], **columns}
    return {"__key__": "1", "json": json.dumps({"conversations": TALK, **columns}).encode()}


@pytest.mark.parametrize("format", ROWS)
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"videos": ["a.mp4"]}, "other_modality"),
        ({"audio": "a.wav"}, "other_modality"),
        ({"Video": "a.mp4"}, "other_modality"),
        ({"video_path": "a.mp4"}, "other_modality"),
        ({"audios": [{"path": "a.wav"}]}, "other_modality"),
        ({"tools": '[{"name": "search"}]'}, "tool_use"),
        ({"functions": [{"name": "search"}]}, "tool_use"),
        ({"chosen": "a", "rejected": "b"}, "preference"),
        ({"rejected_response": "b"}, "preference"),
        ({"label": False}, "preference"),
        ({"kto_tag": False}, "preference"),
    ],
)
def test_what_no_sample_can_hold_costs_the_row_in_every_shape(
    format: str, columns: dict[str, Any], expected: str
) -> None:
    assert reason(ROWS[format], format) is None
    row = with_column(format, **columns)
    assert reason(row, format) == expected
    assert reason(row, format, ignore=tuple(columns)) is None


@pytest.mark.parametrize("label", [True, 0, 1, "false", None])
def test_a_label_that_is_not_false_is_a_column_like_others(label: Any) -> None:
    row = {**ROWS["conversations"], "label": label}
    assert reason(row) is None
    assert ("label" in unread(row, Source("conversations", ("*",)))) == (label is not None)


@pytest.mark.parametrize(
    "nothing", [None, "", [], {}, "none", "[]", [None], {"array": None, "path": None}, float("nan")]
)
def test_columns_that_hold_nothing_cost_nothing(nothing: Any) -> None:
    assert not something(nothing)
    for name in ("videos", "audio", "tools", "rejected"):
        assert reason({**ROWS["conversations"], name: nothing}) is None


def test_a_column_that_the_recipe_maps_is_read_and_not_refused() -> None:
    pair = {"chosen": CHAT, "label": 1}
    assert reason(pair, "messages", columns={"messages": "chosen"}) is None
    assert reason({**pair, "rejected": CHAT}, "messages", columns={"messages": "chosen"}) == "preference"
    assert reason({**pair, "rejected": CHAT}, "messages", columns={"messages": "chosen"}, ignore=("rejected",)) is None


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (said("<video>\nWhat happens?"), "other_modality"),
        (said("What happens?\n<video>"), "other_modality"),
        (said("<audio>Who speaks?"), "other_modality"),
        ({**said("Look at <video> here"), "videos": []}, "other_modality"),
        ({**said("Look at <video> here"), "videos": None}, "other_modality"),
        (said("How do I use <video> in HTML?"), None),
        (said("<video src=x></video> does not play"), None),
        (said("<video>\n<source src=x>\n</video> does not play"), None),
        ({"conversations": [*TALK[:1], {"from": "gpt", "value": "<video>"}]}, None),
    ],
)
def test_a_mark_counts_where_it_belongs_to_a_film_and_not_in_html(record: dict[str, Any], expected: str | None) -> None:
    assert reason(record) == expected


def test_marks_in_the_other_shapes_with_marks() -> None:
    asked = {"messages": [{"role": "user", "content": "<video>What?"}, CHAT[1]]}
    assert reason(asked, "messages") == "other_modality"
    assert reason({**ROWS["alpaca"], "instruction": "<audio>What?"}, "alpaca") == "other_modality"
    for block in ("video", "input_audio", "audio", "video_url", "audio_url"):
        row = {"messages": [{"role": "user", "content": [{"type": block, block: "x"}]}, CHAT[1]]}
        assert reason(row, "messages") == "other_modality"
    assert reason({**ROWS["texts"], "texts": [{"user": "<video>What?", "assistant": "b"}]}, "texts") is None


@pytest.mark.parametrize("format", ["conversations", "messages"])
def test_calls_of_tools_cost_the_row(format: str) -> None:
    turns = ROWS[format][format]
    call = [{"id": "1", "function": {"name": "search", "arguments": "{}"}}]
    assert reason({format: [turns[0], {**turns[1], "tool_calls": call}]}, format) == "tool_use"
    assert reason({format: [turns[0], {**turns[1], "tool_calls": []}]}, format) is None
    ignored = (f"{format}[].tool_calls",)
    assert reason({format: [turns[0], {**turns[1], "tool_calls": call}]}, format, ignore=ignored) is None
    assert (
        reason(
            {"messages": [CHAT[0], {"role": "assistant", "content": None, "function_call": {"name": "x"}}]}, "messages"
        )
        == "tool_use"
    )
    assert reason({"messages": [*CHAT, {"role": "tool", "content": "x"}]}, "messages") == "tool_use"


def losses(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["loss"] for message in messages]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"loss": False}, {"train": False}, {"training": 0}])
def test_a_turn_that_is_no_target_says_so_in_the_sample(mark: dict[str, Any]) -> None:
    assert losses(outcome({"conversations": [TALK[0], {**TALK[1], **mark}]})) == [None, False]
    assert losses(outcome({"messages": [CHAT[0], {**CHAT[1], **mark}, *CHAT]}, "messages")) == [None, False, None, None]
    blocks = {**CHAT[1], "content": [{"type": "text", "text": "Red."}], **mark}
    assert losses(outcome({"messages": [CHAT[0], blocks]}, "messages")) == [None, False]
    assert losses(outcome({"texts": [{"user": "a", "assistant": "b", **mark}]}, "texts")) == [False, False]
    ignore = (f"conversations[].{next(iter(mark))}",)
    assert losses(outcome({"conversations": [TALK[0], {**TALK[1], **mark}]}, ignore=ignore)) == [None, None]


@pytest.mark.parametrize("mark", [{"weight": 1}, {"weight": 1.0}, {"loss": True}, {"weight": None}, {"loss": None}])
def test_a_turn_that_is_a_target_is_one(mark: dict[str, Any]) -> None:
    assert losses(outcome({"conversations": [TALK[0], {**TALK[1], **mark}]})) == [None, None]


@pytest.mark.parametrize("mark", [{"weight": 0.5}, {"weight": 3}, {"loss": "no"}, {"weight": -1}, {"loss": [0]}])
def test_a_weight_between_yes_and_no_costs_the_row(mark: dict[str, Any]) -> None:
    assert reason({"conversations": [TALK[0], {**TALK[1], **mark}]}) == "malformed_record"


@pytest.mark.parametrize("format", ["conversations", "messages", "texts", "question_answer", "alpaca", "webdataset"])
def test_a_system_column_is_the_first_turn(format: str) -> None:
    found = outcome(with_column(format, system="Be brief."), format)
    assert [message["role"] for message in found] == ["system", "user", "assistant"]
    assert found[0]["content"] == [{"type": "text", "text": "Be brief."}]
    for nothing in ("", None):
        assert [m["role"] for m in outcome(with_column(format, system=nothing), format)] == ["user", "assistant"]
    assert reason(with_column(format, system=["Be brief."]), format) == "malformed_record"


def test_a_system_turn_beside_a_system_column_must_say_the_same() -> None:
    turns = [{"from": "system", "value": "Be brief."}, *TALK]
    assert len(outcome({"conversations": turns, "system": "Be brief."})) == 3
    assert reason({"conversations": turns, "system": "Be long."}) == "malformed_record"


def test_every_other_column_is_named_where_it_says_something() -> None:
    row = {
        "id": "7",
        "model": "",
        "conversations": [{**TALK[0], "markdown": None}, {**TALK[1], "reasoning_content": "Hm."}],
        "image": None,
        "licence": "mit",
        "clip": 0.5,
        "extra": {"a": None},
    }
    made = Source("conversations", ("*",), scores=("clip",))
    assert unread(row, made) == {"id", "conversations[].reasoning_content"}
    assert unread({**ROWS["texts"], "relevance_min": 3, "ratings": [1]}, Source("texts", ("*",))) == {"ratings"}


def test_a_tar_names_the_keys_of_its_json_and_the_members_that_nobody_reads() -> None:
    record = {"__key__": "1", "jpg": b"x", "npy": b"x", "json": json.dumps({"caption": "a", "url": "b"}).encode()}
    assert unread(record, Source("webdataset", ("*.tar",))) == {"url", ".npy"}
    film = {**record, "mp4": b"x"}
    assert reason(film, "webdataset") == "other_modality"
    assert reason({**film, "jpg": PNG}, "webdataset", ignore=(".mp4",)) is None


def test_only_what_is_read_or_may_cost_the_row_is_wanted_from_a_file() -> None:
    made = Source("texts", ("*",), scores=("clip",), ignore=("audio",))
    names = ["texts", "images", "clip", "formatting_min", "videos", "tools", "ratings", "audio", "embedding"]
    assert [name for name in names if wanted(name, made)] == names[:6]


def test_a_column_that_is_read_cannot_be_ignored() -> None:
    with pytest.raises(ValueError, match="ignore: 'images' is a column that texts reads"):
        Source("texts", ("*",), ignore=("images",))
