"""The template of an export lays out lists of blocks as our own code lays them out; and the tokenizer adds nothing."""

from __future__ import annotations

import json

import pytest
from tiny_exports import exported, questions, tiny, turn
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from stages.chat import ChatFormat
from stages.chat_rules import ChatRules
from train.export.failure import ExportError
from train.export.template import portable

PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
THINKS = PLAIN + "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not think %}<x></x>{% endif %}{% endif %}"
DATED = " \n{{ 'day ' + strftime_now('%d %B %Y') }}" + PLAIN + '{{ strftime_now("%Y") }}'
RULES = {
    "own": (ChatRules(), None),
    "chatml": (ChatRules(layout="chatml"), None),
    "vicuna": (ChatRules(layout="vicuna-v1"), None),
    "harmony": (ChatRules(layout="llm-jp-4-vl"), None),
    "images first": (ChatRules(layout="chatml", image_first=True), None),
    "plain": (ChatRules(layout="plain"), None),
    "plain line": (ChatRules(layout="plain-line"), None),
    "variables": (ChatRules(variables={"think": False, "name": "a\n'\"猫🐈"}), THINKS),
    "date": (ChatRules(date="2026-04-03"), DATED),
}
MANY = [
    *(messages for messages, _ in questions()),
    [
        turn("system", "Be brief."),
        turn("user", "  Which?", None, " \n this "),
        turn("assistant", "a"),
        turn("user", "b"),
    ],
]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("prompt", [True, False])
def test_blocks_are_laid_out_as_our_code_lays_them_out(name, prompt, tmp_path):
    rules, template = RULES[name]
    of = tiny("llava", tmp_path, rules, template)
    out = exported(tmp_path / "out", of)
    theirs = AutoTokenizer.from_pretrained(out)
    laid_out = 0
    for messages in MANY:
        roles = [message["role"] for message in messages]
        if name.startswith("plain") and roles.count("assistant") > 1:
            continue
        images = sum(block["type"] == "image" for message in messages for block in message["content"])
        ours = (of.chat.encode_prompt if prompt else of.chat.encode)(messages, [1] * images).input_ids
        asked = {"add_generation_prompt": prompt, "tokenize": True, "sanitize_control_tokens": True}
        found = theirs.apply_chat_template(messages, **asked)["input_ids"]
        assert found == ours, (of.chat.decode(ours, False), theirs.decode(found))
        laid_out += 1
    assert laid_out >= 4


@pytest.mark.parametrize("name", RULES)
def test_it_is_read_again_as_a_chat_format_and_gets_nothing_twice(name, tmp_path):
    rules, template = RULES[name]
    of = tiny("internvl_siglip", tmp_path, rules, template)
    out = exported(tmp_path / "out", of)
    facts = json.loads((out / "tessera.json").read_text())["facts"]
    again = ChatRules(**{**facts["chat"], "labels": rules.labels})
    read = ChatFormat.load(out, of.facts.tokens, again)
    for messages in MANY[:3]:
        images = [3] * sum(block["type"] == "image" for block in messages[0]["content"])
        assert read.encode_prompt(messages, images).input_ids == of.chat.encode_prompt(messages, images).input_ids
    text = (out / "chat_template.jinja").read_text()
    assert text.count("blocks become texts") == 1
    assert portable(text, rules, of.facts.tokens.image) == text


def test_a_date_that_is_no_literal_is_refused():
    with pytest.raises(ExportError, match="asks for the date in a way that can't be fixed"):
        portable("{% set f = '%Y' %}{{ strftime_now(f) }}", ChatRules(date="2026-04-03"), "<image>")


def test_a_tokenizer_that_puts_tokens_around_texts_does_not_do_so_in_an_export(tmp_path):
    of = tiny("llava", tmp_path)
    of.chat.tokenizer.backend_tokenizer.post_processor = _adding()
    assert len(of.chat.tokenizer("red")["input_ids"]) > len(
        of.chat.tokenizer("red", add_special_tokens=False)["input_ids"]
    )
    theirs = AutoTokenizer.from_pretrained(exported(tmp_path / "out", of))
    assert theirs("red")["input_ids"] == theirs("red", add_special_tokens=False)["input_ids"]


def _adding():
    return TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
