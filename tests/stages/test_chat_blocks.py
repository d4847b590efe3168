"""Templates that want a turn's content as a list of blocks are laid out as transformers does, token by token."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from stages.chat import ChatError, ChatFormat, ImageTokens, TemplateRefuses
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import IMAGE, text

INLINE = (
    "{% for m in messages %}<s>{{ m.role }}:{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text | trim }}|{% endif %}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
# As those of llava-hf: a turn's images first, each on a line of its own
FIRST = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
ALONE = ImageTokens("<image>")


def talks() -> list[list[dict[str, Any]]]:
    """Every order of up to three blocks in a user's turn, in two turns."""
    kinds = [IMAGE, text(" a b "), text("何")]
    turns = [[*some] for length in (1, 2, 3) for some in itertools.product(kinds, repeat=length)]
    asked = [{"role": "user", "content": [IMAGE, text("x")]}, {"role": "assistant", "content": [text(" y ")]}]
    last = [{"role": "user", "content": turn} for turn in turns]
    return [[turn] for turn in last] + [[*asked, turn] for turn in last]


@pytest.mark.parametrize("template", [INLINE, FIRST])
def test_ids_are_those_of_apply_chat_template(template: str) -> None:
    chat = ChatFormat(byte_tokenizer(template), ALONE)
    tokenizer: PreTrainedTokenizerFast = chat.tokenizer
    for messages in talks():
        images = sum(block["type"] == "image" for message in messages for block in message["content"])
        theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        ours = chat.encode_prompt(messages, [1] * images)
        assert ours.input_ids == theirs
        assert [ours.input_ids[start] for start, _ in ours.image_spans] == [chat.image_token_id] * images


def test_another_token_may_stand_for_an_image_in_what_is_printed() -> None:
    tokenizer = byte_tokenizer(INLINE.replace("<image>", "<|image|>"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|image|>", "<start>", "<patch>"]})
    chat = ChatFormat(tokenizer, ImageTokens("<patch>", "<start>"))
    ids = chat.encode_prompt([{"role": "user", "content": [text("a"), IMAGE, text("<|image|>")]}], [2]).input_ids
    said = chat.decode(ids, False)
    assert said == "<s>user:a|<start><patch><patch><|image|>|</s><s>assistant:"
    assert tokenizer.convert_tokens_to_ids("<|image|>") not in ids


def test_an_answers_target_is_its_text_and_its_end() -> None:
    chat = ChatFormat(byte_tokenizer(FIRST), ALONE)
    messages = [{"role": "user", "content": [text("a"), IMAGE]}, {"role": "assistant", "content": [text("b")]}]
    found = chat.encode(messages, [3])
    assert chat.decode(found.input_ids, False) == "USER: <image><image><image>\na ASSISTANT: b </s>"
    assert [chat.decode(found.input_ids[slice(*span)], False) for span in found.target_spans] == [" b", "</s>"]


def test_a_template_without_images_refuses_them() -> None:
    chat = ChatFormat(byte_tokenizer(INLINE.replace("<image>", "")), ALONE)
    assert chat.encode_prompt([{"role": "user", "content": [text("a")]}], []).input_ids
    with pytest.raises(TemplateRefuses, match="prints 0 images of 1"):
        chat.encode_prompt([{"role": "user", "content": [IMAGE, text("a")]}], [1])


def test_who_only_answers_needs_no_token_that_ends_a_turn() -> None:
    without = FIRST.replace("</s>", "")
    with pytest.raises(ChatError, match="without a special token"):
        ChatFormat(byte_tokenizer(without), ALONE)
    assert (
        ChatFormat(byte_tokenizer(without), ALONE, trains=False)
        .encode_prompt([{"role": "user", "content": [text("a")]}], [])
        .input_ids
    )
