"""Adapters: what becomes of each shape of record, and what is refused with which reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.images.rules import REASONS as IMAGE_REASONS
from stages.ingest import REASONS, IngestParams, ingest
from stages.sources.archives.image_files import ImageFiles
from stages.sources.declaration import Source
from stages.sources.shapes.draft import BadRow, Draft, ImageRef, check
from stages.sources.table import FORMATS
from tests.stages.pictures import encoded, images_in, joined, photo

IMAGE = "image"


def adapt(format: str, record: dict[str, Any], **columns: str) -> Draft:
    draft = FORMATS[format].adapt(record, Source(format, ("*",), columns=columns).reading)
    check(draft)
    return draft


def refusal(format: str, record: dict[str, Any]) -> BadRow:
    with pytest.raises(BadRow) as caught:
        adapt(format, record)
    assert caught.value.reason in REASONS
    return caught.value


def layout(draft: Draft) -> list[tuple[str, list[str]]]:
    """(role, blocks) per message; an image block is shown as IMAGE, a text block as its text in angle quotes."""
    return [
        (m["role"], [IMAGE if b["type"] == "image" else f"«{b['text']}»" for b in m["content"]]) for m in draft.messages
    ]


# ---- texts (FineVision)


def test_texts_put_images_before_the_first_user_turn() -> None:
    record = {
        "texts": [{"assistant": "A cat.", "user": "What?"}, {"user": "Sure?", "assistant": "Yes."}],
        "images": [{"bytes": b"1", "path": None}, {"path": "b.png", "bytes": None}],
        "relevance_min": 4,
        "formatting_min": 3.5,
        "relevance_ratings": [4, None],
        "short_ratings": [4],
        "wordy_ratings": [4, "good"],
        "flag_ratings": [True, False],
        "nan_ratings": [float("nan"), 2.5],
        "no_ratings": None,
        "empty_min": None,
        "flag_min": True,
    }
    draft = adapt("texts", record)
    assert layout(draft) == [
        ("user", [IMAGE, IMAGE, "«What?»"]),
        ("assistant", ["«A cat.»"]),
        ("user", ["«Sure?»"]),
        ("assistant", ["«Yes.»"]),
    ]
    assert draft.images == [ImageRef(b"1", None), ImageRef(None, "b.png")]
    assert draft.scores == {"relevance_min": 4.0, "formatting_min": 3.5}
    assert draft.turn_scores == {"relevance_ratings": [4.0, None], "nan_ratings": [None, 2.5]}


@pytest.mark.parametrize("images", [{}, {"images": None}, {"images": []}, {"images": "none"}])
def test_texts_without_images_are_text_only(images: dict[str, Any]) -> None:
    draft = adapt("texts", {"texts": [{"user": "a", "assistant": "b"}], **images})
    assert draft.images == [] and layout(draft)[0] == ("user", ["«a»"])


def test_a_single_image_need_not_be_in_a_list() -> None:
    record = {"texts": [{"user": "a", "assistant": "b"}], "images": {"bytes": b"1", "path": None}}
    assert adapt("texts", record).images == [ImageRef(b"1", None)]


def test_a_literal_mark_in_texts_stays_text() -> None:
    draft = adapt(
        "texts", {"texts": [{"user": "<image>\nWhat does <image> do?", "assistant": "<image>"}], "images": b"1"}
    )
    assert layout(draft) == [("user", [IMAGE, "«<image>\nWhat does <image> do?»"]), ("assistant", ["«<image>»"])]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "no_conversation"),
        ({"texts": []}, "no_conversation"),
        ({"texts": None}, "no_conversation"),
        ({"texts": "What?"}, "malformed_record"),
        ({"texts": ["What?"]}, "malformed_record"),
        ({"texts": [{"user": "a"}]}, "malformed_record"),
        ({"texts": [{"user": None, "assistant": "b"}]}, "malformed_record"),
        ({"texts": [{"user": "a", "assistant": "b"}], "images": [3]}, "malformed_record"),
        ({"texts": [{"user": "a", "assistant": "b"}], "images": [None]}, "malformed_record"),
        ({"texts": [{"user": "a", "assistant": "b"}], "x_min": 10**400}, "malformed_record"),
        ({"texts": [{"user": "a", "assistant": "b"}], "x_ratings": [10**400]}, "malformed_record"),
    ],
)
def test_texts_that_are_not_as_declared(record: dict[str, Any], reason: str) -> None:
    assert refusal("texts", record).reason == reason


# ---- conversations (LLaVA)


def conversation(*values: str, **fields: Any) -> dict[str, Any]:
    roles = ("human", "gpt")
    return {"conversations": [{"from": roles[i % 2], "value": v} for i, v in enumerate(values)], **fields}


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("<image>\nWhat?", [IMAGE, "«\nWhat?»"]),
        ("What? <image>", ["«What? »", IMAGE]),
        ("Before <image> after", ["«Before »", IMAGE, "« after»"]),
        ("<image>", [IMAGE]),
        ("<image><image>", [IMAGE, IMAGE]),
        ("a<image>b<image>c", ["«a»", IMAGE, "«b»", IMAGE, "«c»"]),
        ("<Image> <image > <img>", ["«<Image> <image > <img>»"]),
        ("", ["«»"]),
    ],
)
def test_marks_become_images_where_they_stand(text: str, blocks: list[str]) -> None:
    images = [f"{n}.jpg" for n in range(blocks.count(IMAGE))]
    draft = adapt("conversations", conversation(text, "ok", image=images))
    assert layout(draft)[0] == ("user", blocks)
    assert draft.images == [ImageRef(path=name) for name in images]


def test_a_mark_may_stand_in_any_turn() -> None:
    draft = adapt("conversations", conversation("a", "b", "and <image>?", "c", image="x.jpg"))
    assert [len(m["content"]) for m in draft.messages] == [1, 1, 3, 1]


@pytest.mark.parametrize("image", [None, "", "none", "None", "nan", []])
def test_the_words_for_no_image(image: Any) -> None:
    assert adapt("conversations", conversation("a", "b", image=image)).images == []
    assert adapt("conversations", conversation("a", "b")).images == []


def test_ids_and_extra_keys_do_not_matter() -> None:
    record = conversation("a", "b", id=7, model="", extra={"x": [1]}, language=5)
    record["conversations"][0]["markdown"] = 3
    assert layout(adapt("conversations", record)) == [("user", ["«a»"]), ("assistant", ["«b»"])]
    assert adapt("conversations", {**record, "id": "000"}) == adapt("conversations", record)


@pytest.mark.parametrize(
    ("role", "canonical"), [("System", "system"), ("USER", "user"), ("gpt", "assistant"), ("bard", "assistant")]
)
def test_roles_have_many_names(role: str, canonical: str) -> None:
    record = conversation("a", "b")
    record["conversations"].append({"from": role, "value": "c"})
    assert adapt("conversations", record).messages[-1]["role"] == canonical


def test_a_mismatch_states_both_numbers() -> None:
    for text, images, detail in (
        ("<image><image>", ["a.jpg"], "2 placeholders, 1 images"),
        ("no mark", "a.jpg", "0 placeholders, 1 images"),
        ("<image>", None, "1 placeholders, 0 images"),
    ):
        error = refusal("conversations", conversation(text, "b", image=images))
        assert (error.reason, error.detail) == ("placeholder_mismatch", detail)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"conversations": [{"from": "tool", "value": "x"}]}, "tool_use"),
        ({"conversations": [{"value": "x"}]}, "unknown_role"),
        ({"conversations": [{"from": 1, "value": "x"}]}, "unknown_role"),
        ({"conversations": [{"from": "human", "value": None}]}, "malformed_record"),
        ({"conversations": [{"from": "human", "value": 3}]}, "malformed_record"),
        ({"conversations": [["human", "x"]]}, "malformed_record"),
        ({"conversations": {"from": "human", "value": "x"}}, "malformed_record"),
        ({"conversations": []}, "no_conversation"),
        ({}, "no_conversation"),
        (conversation("only a question"), "no_conversation"),
        ({"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]}, "no_conversation"),
        (conversation("<image>", "b", image={"bytes": "text"}), "malformed_record"),
        (conversation("<image>", "b", image={"path": 5}), "malformed_record"),
        (conversation("a", "b", licence=5), "malformed_record"),
        (conversation("\ud800", "b"), "malformed_record"),
    ],
)
def test_conversations_that_are_not_as_declared(record: dict[str, Any], reason: str) -> None:
    assert refusal("conversations", record).reason == reason


# ---- question_answer


def test_columns_of_any_name() -> None:
    record = {"質問": "何匹?", "答え": "三匹", "写真": {"bytes": b"1", "path": None}, "言語": "ja", "licence": "cc-by"}
    draft = adapt("question_answer", record, question="質問", answer="答え", image="写真", language="言語")
    assert layout(draft) == [("user", [IMAGE, "«何匹?»"]), ("assistant", ["«三匹»"])]
    assert (draft.declared_language, draft.licence) == ("ja", "cc-by")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "no_conversation"),
        ({"question": "q"}, "malformed_record"),
        ({"question": "q", "answer": []}, "malformed_record"),
        ({"question": "q", "answer": [3]}, "malformed_record"),
        ({"question": "q", "answer": "a", "language": 3}, "malformed_record"),
    ],
)
def test_questions_that_are_not_as_declared(record: dict[str, Any], reason: str) -> None:
    assert refusal("question_answer", record).reason == reason


# ---- messages (OpenAI, TRL, ms-swift)


def said(*contents: Any, **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)], **fields}


def block(text: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "image", **fields} if text is None else {"type": "text", "text": text, **fields}


def test_text_contents_with_marks_have_images_at_the_marks() -> None:
    draft = adapt("messages", said("<image>Compare with <image>", "ok", images=["a.jpg", {"bytes": b"2"}]))
    assert layout(draft) == [("user", [IMAGE, "«Compare with »", IMAGE]), ("assistant", ["«ok»"])]
    assert draft.images == [ImageRef(path="a.jpg"), ImageRef(data=b"2")]


def test_text_contents_without_marks_have_images_first() -> None:
    record = said("What?", "ok", images=["a.jpg", "b.jpg"])
    record["messages"].insert(0, {"role": "developer", "content": "Be brief."})
    draft = adapt("messages", record)
    assert layout(draft)[:2] == [("system", ["«Be brief.»"]), ("user", [IMAGE, IMAGE, "«What?»"])]


def test_blocks_take_images_from_the_column_in_order() -> None:
    record = said([block("a"), block(), block("b")], [block("c")], [block(), block("<image>")], "d", images=["1", "2"])
    draft = adapt("messages", record)
    assert layout(draft)[0] == ("user", ["«a»", IMAGE, "«b»"])
    assert layout(draft)[2] == ("user", [IMAGE, "«<image>»"])
    assert draft.images == [ImageRef(path="1"), ImageRef(path="2")]


_URI = "data:image/png;base64,aGVs\nbG8="


@pytest.mark.parametrize(
    ("image", "ref"),
    [
        ({"type": "image", "image": "a/b.jpg", "metadata": {"width": 3}}, ImageRef(path="a/b.jpg")),
        ({"type": "image", "path": "a.jpg"}, ImageRef(path="a.jpg")),
        ({"type": "image", "image": b"12"}, ImageRef(data=b"12")),
        ({"type": "image", "bytes": b"12"}, ImageRef(data=b"12")),
        ({"type": "image", "image": {"bytes": b"12", "path": "x.png"}}, ImageRef(b"12", "x.png")),
        ({"type": "image_url", "image_url": {"url": _URI, "detail": "low"}}, ImageRef(data=b"hello")),
        ({"type": "image_url", "image_url": _URI.replace("data", "DATA")}, ImageRef(data=b"hello")),
        ({"type": "input_image", "image_url": _URI}, ImageRef(data=b"hello")),
        ({"type": "image", "source": {"type": "base64", "data": "aGVsbG8="}}, ImageRef(data=b"hello")),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.jpg"}}, ImageRef(path="https://x/y.jpg")),
    ],
)
def test_blocks_may_carry_their_image(image: dict[str, Any], ref: ImageRef) -> None:
    assert adapt("messages", said([image, block("What?")], "ok")).images == [ref]


def test_carried_images_and_the_columns_mix_in_order() -> None:
    record = said(
        [block(), block(image="own.jpg"), block(image={"bytes": None, "path": None})], "ok", images=["1", "2"]
    )
    assert [ref.path for ref in adapt("messages", record).images] == ["1", "own.jpg", "2"]


def test_the_other_spelling_of_a_turn_is_read_alike() -> None:
    record = {
        "messages": [{"from": "human", "value": "a"}, {"role": None, "from": "gpt", "content": None, "value": "b"}]
    }
    assert layout(adapt("messages", record)) == [("user", ["«a»"]), ("assistant", ["«b»"])]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (said("<image>", "b"), "placeholder_mismatch"),
        (said("<image><image>", "b", images=["1"]), "placeholder_mismatch"),
        (said([block("no place")], "b", images=["1"]), "placeholder_mismatch"),
        (said([block(image="own.jpg")], "b", images=["1"]), "placeholder_mismatch"),
        (said([{"type": "audio", "audio": "x.wav"}], "b"), "other_modality"),
        (said([{"text": "untyped"}], "b"), "unknown_block"),
        (said([block("a"), "b"], "c"), "malformed_record"),
        (said([{"type": "text"}], "c"), "malformed_record"),
        (said(None, "c"), "malformed_record"),
        (said([block(image=7)], "c"), "malformed_record"),
        (said([block(image="data:image/png,raw")], "c"), "malformed_record"),
        (said([block(image="data:image/png;base64,@@@@")], "c"), "malformed_record"),
        (said([block(image="data:image/png;base64,é")], "c"), "malformed_record"),
        (said([{"type": "image", "source": {"type": "base64", "data": 5}}], "c"), "malformed_record"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_use"),
        ({"messages": [{"role": "tool", "content": []}]}, "tool_use"),
        (said("only a question"), "no_conversation"),
        (said(), "no_conversation"),
        ({}, "no_conversation"),
    ],
)
def test_messages_that_are_not_as_declared(record: dict[str, Any], reason: str) -> None:
    assert refusal("messages", record).reason == reason


# ---- caption, text


def test_a_caption_answers_the_recipes_prompt() -> None:
    source = Source("caption", ("*",), columns={"image": "jpg"}, prompt="Say what you see.")
    draft = FORMATS["caption"].adapt({"jpg": b"1", "caption": "A <image> of a cat."}, source.reading)
    check(draft)
    assert layout(draft) == [("user", [IMAGE, "«Say what you see.»"]), ("assistant", ["«A <image> of a cat.»"])]
    assert layout(adapt("caption", {"image": "a.jpg", "caption": "x"}))[0][1] == [IMAGE, "«Describe the image.»"]


@pytest.mark.parametrize(
    "record", [{}, {"caption": "x"}, {"image": b"1"}, {"image": b"1", "caption": ["x"]}, {"image": [], "caption": "x"}]
)
def test_captions_that_are_not_as_declared(record: dict[str, Any]) -> None:
    assert refusal("caption", record).reason == "malformed_record"


def test_a_document_is_one_assistant_turn() -> None:
    draft = adapt("text", {"body": "Once <image> upon", "lang": "en"}, text="body", language="lang")
    assert layout(draft) == [("assistant", ["«Once <image> upon»"])] and draft.declared_language == "en"


@pytest.mark.parametrize("record", [{}, {"text": None}, {"text": 5}, {"text": "\ud800"}, {"text": "x", "language": 5}])
def test_documents_that_are_not_as_declared(record: dict[str, Any]) -> None:
    assert refusal("text", record).reason == "malformed_record"


# ---- a source's declaration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"qestion": "x"}}, "columns.qestion: unknown key; did you mean 'question'"),
        ({"files": ("/etc/*.json",)}, "leaves the source's folder"),
        ({"files": ("a/../../b.json",)}, "leaves the source's folder"),
        ({"images": "../images"}, "leaves the source's folder"),
        ({"prompt": "What?"}, "prompt: question_answer has questions of its own"),
    ],
)
def test_declarations_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Source(**{"format": "question_answer", "files": ("*.json",), **options})


# ---- ingest

PNG = encoded(photo(1, 20, 10))


def run(format: str, *records: Any, **options: Any) -> Any:
    source = Source(format, ("*",), licence="unknown")
    return joined(ingest(enumerate(records, 5), "src", "sub/f.json", source, ImageFiles(None), IngestParams(**options)))


def test_every_record_becomes_a_sample_or_a_reject_with_its_reason() -> None:
    talk = [{"user": "a", "assistant": "b"}]
    done = run(
        "texts",
        {"texts": talk, "images": [PNG], "licence": "cc0", "x_min": 2, "x_ratings": [2], "a_ratings": [None]},
        {"texts": talk, "images": [PNG[:-30]]},
        {"texts": talk, "images": [b"<html>"]},
        {"texts": talk, "images": ["a.png"]},
        {"texts": talk, "images": [{"bytes": None, "path": None}]},
        {"texts": talk, "images": [encoded(photo(1, 30, 30))]},
        BadRow("malformed_record", "not JSON"),
        "a text",
        None,
        {"texts": talk},
        max_pixels=300,
    )
    assert done.samples["sample_id"].to_pylist() == ["src/sub/f.json#5", "src/sub/f.json#14"]
    first = done.samples.to_pylist()[0]
    assert first["images"] == [{"bytes": PNG, "path": None}]
    assert (first["subset"], first["licence"], first["scores"]) == ("sub", "cc0", [{"name": "x_min", "value": 2.0}])
    assert first["turn_scores"] == [{"name": "a_ratings", "values": [None]}, {"name": "x_ratings", "values": [2.0]}]
    assert (first["image_info"][0]["width"], first["image_info"][0]["height"]) == (20, 10)
    assert [(r["row"], r["reason"]) for r in done.rejects.to_pylist()] == [
        (6, "image_truncated"),
        (7, "image_unreadable"),
        (8, "image_missing"),
        (9, "image_missing"),
        (10, "image_too_large"),
        (11, "malformed_record"),
        (12, "malformed_record"),
        (13, "malformed_record"),
    ]
    assert (done.counts.rows_in, done.counts.kept) == (10, 2)


def test_a_part_comes_in_pieces_of_few_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.stage.GROUP_BYTES", 600_000)
    talk, image = [{"user": "a", "assistant": "b"}], PNG + bytes(190_000)
    rows = [{"texts": talk, "images": [image]}] * 7 + [None] * 3 + [{"texts": talk, "images": [image] * 4}] * 2
    rows += [{"texts": talk}] * 300
    source = Source("texts", ("*",))
    pieces = list(ingest(enumerate(rows), "src", "f.json", source, ImageFiles(None), IngestParams()))
    assert [piece.samples.num_rows for piece in pieces] == [3, 3, 1, 1, 1, 128, 128, 44]
    assert [piece.counts.rejected.get("malformed_record", 0) for piece in pieces] == [0, 0, 3, 0, 0, 0, 0, 0]
    assert sum(piece.counts.rows_in for piece in pieces) == len(rows)
    assert [piece.counts.rows_in for piece in ingest([], "src", "f", source, ImageFiles(None), IngestParams())] == [0]


def test_rows_images_and_texts_above_their_caps_are_rejects(tmp_path: Path) -> None:
    talk, big = [{"user": "a", "assistant": "b"}], PNG + bytes(3000)
    (tmp_path / "big.png").write_bytes(big)
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(20 * 10**9)
    caps = IngestParams(max_image_bytes=len(PNG) + 2000, max_text_bytes=1000, max_row_bytes=20_000)
    rows: list[dict[str, Any]] = [
        {"texts": talk, "images": [PNG]},
        {"texts": talk, "images": [big]},
        {"texts": talk, "images": ["big.png"]},
        {"texts": talk, "images": ["huge.png"]},
        {"texts": talk, "images": [PNG] * 40},
        {"texts": [{"user": "é" * 500, "assistant": "b"}]},
        {"texts": [{"user": "é" * 499, "assistant": "b"}]},
    ]
    places = images_in(tmp_path, max_bytes=caps.max_image_bytes)
    done = joined(ingest(enumerate(rows), "src", "f.json", Source("texts", ("*",)), places, caps))
    assert [(reject["row"], reject["reason"]) for reject in done.rejects.to_pylist()] == [
        (1, "image_too_large"),
        (2, "image_too_large"),
        (3, "image_too_large"),
        (4, "row_too_large"),
        (5, "row_too_large"),
    ]
    assert "20,000,000,000 bytes, at most" in done.rejects["detail"][2].as_py()


def test_turns_without_number_are_a_row_too_large() -> None:
    """Each takes a kilobyte in memory, however little it says."""
    many = [{"from": "human", "value": ""}, {"from": "gpt", "value": "b"}] * 40_000
    done = run(
        "conversations", {"conversations": many}, {"conversations": [{"from": "human", "value": "<image>" * 10**5}]}
    )
    assert done.counts.rejected == {"row_too_large": 2}


def test_nan_is_no_image_and_no_rating() -> None:
    """pandas writes NaN where a value is missing."""
    row = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "image": float("nan")}
    source = Source("conversations", ("*",), scores=("clip",))
    done = joined(ingest([(0, {**row, "clip": row["image"]})], "s", "f", source, ImageFiles(None), IngestParams()))
    assert done.samples["images"].to_pylist() == done.samples["scores"].to_pylist() == [[]]


def test_declared_scores_are_kept_and_must_be_numbers() -> None:
    source = Source("question_answer", ("*",), scores=("clip", "votes"))
    rows = [{"question": "q", "answer": "a", **scores} for scores in ({"clip": 0.5, "votes": 3}, {"clip": None}, {})]
    bad = [{"question": "q", "answer": "a", "clip": value} for value in ("0.5", True, [1], 10**400)]
    done = joined(ingest(enumerate([*rows, *bad]), "src", "f.json", source, ImageFiles(None), IngestParams()))
    assert [{s["name"]: s["value"] for s in row} for row in done.samples["scores"].to_pylist()] == [
        {"clip": 0.5, "votes": 3.0},
        {},
        {},
    ]
    assert done.counts.rejected == {"malformed_record": 4}


def test_a_url_is_missing_and_says_why() -> None:
    done = run("messages", said([block(image="https://example.org/a.jpg")], "b"))
    (reject,) = done.rejects.to_pylist()
    assert reject["reason"] == "image_missing" and "URLs need downloading" in reject["detail"]


@pytest.mark.parametrize("options", [{"rows_per_part": 0}, {"max_pixels": 0}, {"max_row_bytes": 0}])
def test_params_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        IngestParams(**options)


_TEXT = st.text() | st.sampled_from(["", "<image>", "\ud800", "human", "gpt", "none"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.just(PNG) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "value", "user", "assistant", "bytes", "path", "type", "content"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
_KEYS = [
    "texts",
    "images",
    "image",
    "conversations",
    "question",
    "answer",
    "messages",
    "caption",
    "text",
    "licence",
    "language",
    "a_min",
    "\ud800_min",
    "a_ratings",
    "\ud800_ratings",
]
_GOOD = st.sampled_from(
    [
        {},
        {"texts": [{"user": "a", "assistant": "b"}]},
        conversation("<image>", "b", image=PNG),
        {"question": "a", "answer": "b"},
        said([block(), block("a")], "b", images=[PNG]),
        {"image": PNG, "caption": "a"},
        {"text": "a"},
    ]
)


@given(st.sampled_from(sorted(FORMATS)), _GOOD, st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4))
def test_no_record_of_whatever_shape_stops_the_part(format: str, good: dict[str, Any], rest: dict[str, Any]) -> None:
    done = run(format, {**good, **rest}, {"texts": [{"user": "a", "assistant": "b"}]})
    assert done.counts.rows_in == 2 == done.samples.num_rows + done.rejects.num_rows
    assert set(done.counts.rejected) <= set(REASONS) and set(IMAGE_REASONS) <= set(REASONS)


def test_a_row_that_says_so_is_a_document() -> None:
    turn = {"role": "assistant", "content": [{"type": "text", "text": "A page."}]}
    assert adapt("messages", {"messages": [turn], "is_document": True}).document
    for value in (False, None, 1, "true", "a text about it"):
        with pytest.raises(BadRow, match="no_conversation"):
            adapt("messages", {"messages": [turn], "is_document": value})
