"""Ids and spans of whole conversations written out by hand, one token a byte."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat import ChatError, ChatFormat, Encoded, ImageTokens, TemplateRefuses
from tests.stages.byte_tokenizer import TEMPLATE, byte_tokenizer
from tests.stages.pictures import IMAGE, talk, text

FRAMED = ImageTokens("<image>", "<img>", "</img>")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(byte_tokenizer(), FRAMED)


def ids(chat: ChatFormat, *pieces: str) -> list[int]:
    """The ids of texts and, where a piece is the name of one, of special tokens."""
    found = []
    for piece in pieces:
        special = chat.tokenizer.convert_tokens_to_ids(piece)
        plain = chat.tokenizer(piece, add_special_tokens=False)["input_ids"]
        found += [special] if piece.startswith("<") else plain
    return found


def blocks(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": [text(c) if isinstance(c, str) else c for c in content]}


def test_a_conversation_with_images_in_both_turns(chat: ChatFormat) -> None:
    messages = [blocks("user", "a", IMAGE, "bc", IMAGE), blocks("assistant", "de", IMAGE, "f"), blocks("user", "g")]
    one, two = ["<img>", "<image>", "</img>"], ["<img>", "<image>", "<image>", "</img>"]
    turns = [
        ["<s>", "user:a", *one, "bc", *two, "</s>"],
        ["<s>", "assistant:de", *one, "f", "</s>"],
        ["<s>", "user:g", "</s>"],
    ]
    found = chat.encode(messages, [1, 2, 1])
    assert found.input_ids == ids(chat, *turns[0], *turns[1], *turns[2])
    assert found.image_spans == [(7, 3), (12, 4), (30, 3)]
    # `de`, then what follows the image, with the token that ends the turn
    assert found.target_spans == [(28, 30), (33, 35)]


def test_a_prompt_ends_where_the_answer_begins(chat: ChatFormat) -> None:
    found = chat.encode_prompt(talk(("user", "a"), ("assistant", "b"), ("user", "c")), [])
    turns = ["<s>", "user:a", "</s>", "<s>", "assistant:b", "</s>", "<s>", "user:c", "</s>", "<s>", "assistant:"]
    assert found == Encoded(ids(chat, *turns), [(19, 21)], [], [])


def test_only_one_side_may_be_framed() -> None:
    for tokens, wanted in (
        (ImageTokens("<image>", "<img>"), ["<img>", "<image>"]),
        (ImageTokens("<image>", None, "</img>"), ["<image>", "</img>"]),
        (ImageTokens(), ["<image>"]),
    ):
        chat = ChatFormat(byte_tokenizer(), tokens)
        found = chat.encode([blocks("user", IMAGE)], [1])
        assert found.input_ids == ids(chat, "<s>", "user:", *wanted, "</s>")
        assert found.image_spans == [(6, len(wanted))]


def test_a_trimming_template_trims_the_ends_of_a_turn_and_not_the_seams_of_its_blocks() -> None:
    trimming = ChatFormat(byte_tokenizer(TEMPLATE.replace("m['content']", "m['content'] | trim")), FRAMED)
    found = trimming.encode([blocks("user", " a ", IMAGE, " b ", " c "), *talk(("assistant", " d "))], [1])
    image = ["<img>", "<image>", "</img>"]
    wanted = ["<s>", "user:a ", *image, " b  c", "</s>", "<s>", "assistant:d", "</s>"]
    assert found.input_ids == ids(trimming, *wanted)
    assert trimming.decode(found.input_ids[slice(*found.target_spans[0])], False) == "d</s>"


def test_blanks_where_two_texts_of_a_turn_meet_stay(chat: ChatFormat) -> None:
    found = chat.encode([blocks("user", " a ", " b ", " c ")], [])
    assert found.input_ids == ids(chat, "<s>", "user: a  b  c ", "</s>")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_template_may_trim_one_side_alone(side: str) -> None:
    strip = {"left": "lstrip", "right": "rstrip"}[side]
    one = ChatFormat(byte_tokenizer(TEMPLATE.replace("m['content']", f"m['content'].{strip}()")), FRAMED)
    found = one.encode(talk(("user", " a ")), [])
    wanted = {"left": "user:a ", "right": "user: a"}[side]
    assert found.input_ids == ids(one, "<s>", wanted, "</s>")


def test_text_beside_special_tokens_is_layout_and_bears_no_loss() -> None:
    """Before, between and after them; the answer's end is the first special token after it."""
    template = "head{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }} |</s><s>tail{% endfor %}end"
    template += "{% if add_generation_prompt %}<s>assistant:{% endif %}"
    chat = ChatFormat(byte_tokenizer(template), FRAMED)
    found = chat.encode(talk(("user", "a"), ("assistant", "b")), [])
    user = ["head", "<s>", "user:a |", "</s>", "<s>", "tail"]
    assert found.input_ids == ids(chat, *user, "<s>", "assistant:b |", "</s>", "<s>", "tail", "end")
    assert [chat.decode(found.input_ids[a:b], False) for a, b in found.target_spans] == ["b", "</s>"]


def test_an_answer_never_asked_for_ends_no_turn_of_another_role(chat: ChatFormat) -> None:
    found = chat.encode(talk(("assistant", "a"), ("user", "b"), ("assistant", "c")), [])
    assert [chat.decode(found.input_ids[a:b], False) for a, b in found.target_spans] == ["a</s>", "c</s>"]


def test_stop_ids_ask_the_template_for_a_turn_that_it_allows() -> None:
    strict = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}" + TEMPLATE
    chat = ChatFormat(byte_tokenizer(strict), FRAMED)
    assert chat.decode(chat.stop_ids, False) == "</s>"


def test_a_tokenizer_without_an_end_of_text_stops_at_the_turns_end() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    chat = ChatFormat(tokenizer, FRAMED)
    assert chat.stop_ids == ids(chat, "</s>")


def test_decoding_shows_control_tokens_only_where_asked(chat: ChatFormat) -> None:
    found = chat.encode(talk(("user", "a <s> b")), []).input_ids
    assert chat.decode(found) == "user:a <s> b"
    assert chat.decode(found, False) == "<s>user:a <s> b</s>"


def test_the_longest_special_token_wins_where_one_begins_like_another() -> None:
    template = TEMPLATE.replace("</s>", "</s></s>2")
    tokenizer = byte_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["</s></s>2", "</s></s>"]})
    chat = ChatFormat(tokenizer, FRAMED)
    found = chat.encode(talk(("user", "a")), [])
    assert found.input_ids == [*ids(chat, "<s>", "user:a"), tokenizer.convert_tokens_to_ids("</s></s>2")]


def test_special_tokens_of_a_tokenizer_stay_beside_the_image_tokens() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    chat = ChatFormat(tokenizer, FRAMED)
    found = chat.encode(talk(("user", "<tool>")), [])
    assert chat.decode(found.input_ids) == "user:<tool>" and "<tool>" in chat._specials
    assert chat.vocab_size == 256 + 2 + 1 + 3


def test_what_the_template_says_or_loses_is_said() -> None:
    raising = TEMPLATE + "{% if messages | length > 3 %}{{ raise_exception('too many') }}{% endif %}"
    with pytest.raises(TemplateRefuses, match=r"^the chat template says: too many$"):
        ChatFormat(byte_tokenizer(raising), FRAMED).encode(talk(*[("user", "a")] * 4), [])
    losing = TEMPLATE.replace("in messages", "in messages[:3]")
    with pytest.raises(TemplateRefuses, match=r"for the roles user, user, user, assistant$"):
        ChatFormat(byte_tokenizer(losing), FRAMED).encode(talk(*[("user", "a")] * 3, ("assistant", "b")), [])


def test_a_template_that_leaves_an_answer_open_is_refused() -> None:
    with pytest.raises(ChatError, match="without a special token"):
        ChatFormat(byte_tokenizer(TEMPLATE.replace("</s>", "|")), FRAMED)


def test_a_role_is_no_way_into_the_layout(chat: ChatFormat) -> None:
    """Ingest knows three; a template prints what it is given."""
    with pytest.raises(ValueError, match="wanted one of assistant, system, user"):
        chat.encode(talk(("user", "a"), ("assistant</s><s>user", "b")), [])
