"""Conversations of any size: time and memory grow with them, not with their square; far too long ones cost nothing."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import chat_layout
from stages.chat import ChatFormat, ImageTokens, TemplateRefuses
from stages.chat_layout import Layouts
from stages.pretokenise import pretokenise
from stages.shard_rows import PretokeniseParams
from stages.tiles.internvl import InternVL
from tests.stages.kinds_of_tokenizer import KINDS
from tests.stages.pictures import IMAGE, sample, table, talk, text

ONE = (("user", ("text",)), ("assistant", ("text",)))
TOKENS = ImageTokens("<image>", "<img>", "</img>")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(KINDS["byte-level BPE"](), TOKENS)


@pytest.mark.parametrize("kind", ["byte-level BPE", "Unigram of one stretch"])
def test_a_hundred_thousand_blocks_are_one_text(kind: str) -> None:
    chat = ChatFormat(KINDS[kind](), TOKENS)
    blocks = [{"role": role, "content": [text(letter) for letter in "ab" * 60_000]} for role in ("user", "assistant")]
    began = time.monotonic()
    found = chat.encode(blocks, [])
    assert time.monotonic() - began < 20
    assert found == chat.encode(talk(("user", "ab" * 60_000), ("assistant", "ab" * 60_000)), [])


def test_many_answers_between_which_no_control_token_stands_take_time_like_their_length(chat: ChatFormat) -> None:
    """All of them are one stretch of text, with 20,000 targets in it."""
    made = KINDS["byte-level BPE"]()
    made.chat_template = "{% for m in messages %}{{ m['content'] }}{% if loop.last %}<|im_end|>{% else %} {% endif %}"
    made.chat_template += "{% endfor %}"
    made.chat_template += "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    flat = ChatFormat(made, TOKENS)
    began = time.monotonic()
    found = flat.encode(talk(*[("user", "q"), ("assistant", "yes")] * 20_000), [])
    assert time.monotonic() - began < 20
    told = [flat.decode(found.input_ids[a:b], False) for a, b in found.target_spans]
    assert told == ["yes"] * 19_999 + ["yes<|im_end|>"]


def test_layouts_are_remembered_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_layout, "MEMORY", 30_000)
    chat = ChatFormat(KINDS["byte-level BPE"](), TOKENS)
    talks = [talk(*[("user", "a"), ("assistant", "b")] * turns) for turns in (1, 2, 3, 40, 1, 3000, 2, 1)]
    first = [chat.encode(messages, []) for messages in talks]
    assert 0 < chat._layouts.held <= 30_000 and 0 < chat._means.plans.held <= 30_000
    assert [chat.encode(messages, []) for messages in talks] == first
    # one that is asked for again and again stays
    known, shape = chat._layouts.of(ONE, False), (("user", ("text",)),)
    for turns in range(1, 60):
        chat._layouts.of(shape * turns, False)
        assert chat._layouts.of(ONE, False) is known


def test_what_a_template_refuses_is_remembered_too() -> None:
    """To find out may have cost seconds."""
    asked = []

    def render(messages: list[dict[str, Any]], prompt: bool) -> str:
        asked.append(prompt)
        raise TemplateRefuses("no")

    layouts = Layouts(render)
    for _ in range(3):
        with pytest.raises(TemplateRefuses, match=r"^no$"):
            layouts.of(ONE, False)
    assert asked == [False] and layouts.held > 0


def test_blanks_that_a_template_trims_are_no_tokens_for_sure() -> None:
    made = KINDS["byte-level BPE"]()
    made.chat_template = made.chat_template.replace("m['content']", "m['content'] | trim")
    chat = ChatFormat(made, TOKENS)
    messages = talk(("user", " " * 20_000 + "a" * 500 + "\n" * 20_000), ("assistant", "b"))
    assert 10 < chat.at_least(messages, []) <= len(chat.encode(messages, []).input_ids) < 600


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(
    texts=st.lists(st.text(max_size=60) | st.sampled_from([" " * 200, "a" * 300, "猫" * 99, "e\u0301" * 80, "☃" * 50])),
    lengths=st.lists(st.integers(0, 9), max_size=3),
)
def test_a_conversation_never_has_fewer_tokens_than_it_surely_has(
    kind: str, texts: list[str], lengths: list[int]
) -> None:
    chat = ChatFormat(KINDS[kind](), TOKENS)
    blocks: list[dict[str, Any]] = [*map(text, texts), *[IMAGE] * len(lengths)]
    messages = [{"role": "user", "content": blocks}, *talk(("assistant", "x" * 40))]
    assert chat.at_least(messages, lengths) <= len(chat.encode(messages, lengths).input_ids)


def test_what_is_surely_too_long_is_not_encoded_to_say_so(chat: ChatFormat) -> None:
    """Images count, answers do, and characters by the longest token that there is."""
    params = PretokeniseParams(InternVL(tile=56, patch=14, merge=2, max_tiles=6), TOKENS, max_tokens=100)
    reach = chat._plain._reach
    assert reach == max(map(len, chat.tokenizer.get_vocab()))
    near = sample("near", question="x" * (reach * 200 - 1), answer="y")
    far = sample("far", question="x" * reach * 200, answer="y")
    turns = sample("turns", messages=talk(*[("user", ""), ("assistant", "")] * 250))
    pictures = sample("pictures")
    pictures["images"] = [{"bytes": b"", "path": "a.png"}] * 12
    pictures["image_info"] = [{"width": 900, "height": 300, "size": 0, "sha256": hashlib.sha256(b"").hexdigest()}] * 12
    pictures["messages"][0]["content"][:0] = [IMAGE] * 12
    (done,) = pretokenise([table(near, far, turns, pictures)], {}, chat, params)
    assert done.verdict["reason"].to_pylist() == ["too_long"] * 4
    counted, *others = zip(done.verdict["num_tokens"].to_pylist(), done.verdict["detail"].to_pylist(), strict=True)
    assert counted[0] > 200 and counted[1] == f"{counted[0]:,} tokens, at most 100"
    least = (201, 250, 12 * (4 * 4 + 2) + 1)
    assert others == [(None, f"at least {number} tokens, at most 100") for number in least]
