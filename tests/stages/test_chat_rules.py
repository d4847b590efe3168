"""Templates that read dates, tools and texts, and layouts that no tokenizer's folder holds: ids and targets of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from stages.chat import ChatError, ChatFormat, ImageTokens, TemplateRefuses
from stages.chat_rules import ChatRules, LabelRule
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import IMAGE, talk, text
from tests.stages.test_labels import CHATML, TURNS, qwen, told
from tests.stages.test_token_binding import VL, llmjp

# What Qwen3's does: tools, thoughts split off and given back, line breaks trimmed around them
THINKING = """{%- if tools %}<|im_start|>system
# Tools{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}{%- for m in messages %}{%- set said = m.content %}
{%- if m.role == 'assistant' %}{%- set thought = '' %}
{%- if '</think>' in said %}{%- set thought = said.split('</think>')[0].split('<think>')[-1] %}
{%- set said = said.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{%- if loop.last %}{{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
{{- said.lstrip('\\n') }}
{%- else %}{{- '<|im_start|>assistant\\n' + said }}{%- endif %}
{%- else %}{{- '<|im_start|>' + m.role + '\\n' + said }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""
# Llama 3's way: a system turn of its own with the date in it, whether the conversation has one or not; all trimmed
DATED = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = 'Be helpful.' %}{% endif %}"
    "<s>system\n\n{% if tools is not none %}Environment: ipython\n{% endif %}"
    "Today Date: {{ strftime_now('%d %b %Y') }}\n\n{{ system }}</s>"
    "{% for m in messages %}<s>{{ m.role }}\n\n{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n\n{% endif %}"
)
DATE = "2026-01-31"
BLANKS = st.sampled_from(["", "\n", "\n\n", " ", " \n", "\t\n", "\n \n"])
WORDS = st.text("ab <>\n猫", max_size=6)
SAID = st.tuples(BLANKS, WORDS, BLANKS).map("".join)
TALKS = st.lists(SAID, min_size=2, max_size=7)


def conversation(said: list[str]) -> list[tuple[str, str]]:
    return [(("user", "assistant")[n % 2], one) for n, one in enumerate(said)]


def theirs(chat: ChatFormat, turns: list[tuple[str, str]], prompt: bool, **more: Any) -> list[int]:
    plain = [{"role": role, "content": said} for role, said in turns]
    made = chat.tokenizer.apply_chat_template(plain, add_generation_prompt=prompt, tokenize=True, **more)
    return list(made["input_ids"])


def ours(chat: ChatFormat, turns: list[tuple[str, str]], prompt: bool) -> list[int]:
    return (chat.encode_prompt if prompt else chat.encode)(talk(*turns), []).input_ids


@pytest.fixture(scope="module")
def thinking() -> ChatFormat:
    return ChatFormat(qwen(THINKING), ImageTokens())


@pytest.fixture(scope="module")
def dated() -> ChatFormat:
    return ChatFormat(byte_tokenizer(DATED), ImageTokens(), ChatRules(date=DATE))


@settings(max_examples=80)
@given(said=TALKS, prompt=st.booleans())
def test_line_breaks_that_alone_are_trimmed(thinking: ChatFormat, said: list[str], prompt: bool) -> None:
    turns = conversation(said)
    assert ours(thinking, turns, prompt) == theirs(thinking, turns, prompt)


@pytest.mark.parametrize("answer", ["<think>hm</think>yes", "</think>", "a</think>\n\nb"])
@pytest.mark.parametrize("last", [True, False])
def test_an_answer_that_the_template_takes_apart_is_refused_by_name(
    thinking: ChatFormat, answer: str, last: bool
) -> None:
    turns = [("user", "q"), ("assistant", answer), *([] if last else [("user", "r"), ("assistant", "b")])]
    with pytest.raises(TemplateRefuses, match="reads a turn's text and changes it"):
        ours(thinking, turns, False)
    # where the template does nothing with it, it is text like any other
    said = ours(thinking, [("user", answer), ("assistant", "b")], False)
    assert thinking.decode(said, False).startswith(f"<|im_start|>user\n{answer}<|im_end|>")


def test_variables_of_a_template_decide_what_the_prompt_holds_and_so_what_bears_loss(thinking: ChatFormat) -> None:
    block = "<think>\n\n</think>\n\n"
    assert told(thinking, talk(*TURNS))[-1] == f"{block}two<|im_end|>"
    chat = ChatFormat(qwen(THINKING), ImageTokens(), ChatRules(variables={"enable_thinking": False}))
    assert told(chat, talk(*TURNS)) == ["one<|im_end|>", "two<|im_end|>"]
    for prompt in (True, False):
        assert ours(chat, TURNS, prompt) == theirs(chat, TURNS, prompt, enable_thinking=False)
    assert chat.decode(ours(chat, TURNS[:-1], True), False).endswith(block)


@settings(max_examples=60)
@given(said=TALKS, system=st.none() | SAID, prompt=st.booleans())
def test_a_date_is_the_recipes(dated: ChatFormat, said: list[str], system: str | None, prompt: bool) -> None:
    turns = ([] if system is None else [("system", system)]) + conversation(said)
    fixed = DATED.replace("{{ strftime_now('%d %b %Y') }}", "31 Jan 2026")
    assert ours(dated, turns, prompt) == theirs(dated, turns, prompt, chat_template=fixed)
    assert "Today Date: 31 Jan 2026\n" in dated.decode(ours(dated, turns, prompt))


def test_a_date_is_asked_for_where_it_is_printed_and_nowhere_else() -> None:
    with pytest.raises(ChatError, match=r"prints today's date.*say one as `chat\.date`"):
        ChatFormat(byte_tokenizer(DATED), ImageTokens())
    with pytest.raises(ChatError, match=r"asks for no date; leave out `chat\.date`"):
        ChatFormat(byte_tokenizer(), ImageTokens(), ChatRules(date=DATE))
    for wrong in ("today", "2026-13-01", "31 Jan 2026"):
        with pytest.raises(ValueError, match='wanted one like "2026-01-31"'):
            ChatRules(date=wrong)
    with pytest.raises(ValueError, match="'messages' is not the recipe's to say"):
        ChatRules(variables={"messages": "x"})


def test_templates_that_take_no_system_turn_or_move_it_refuse_it_by_name() -> None:
    raising = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    late = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    late += "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    late += "{{ m.content }}<|im_end|>\n{% endfor %}"
    for template, said in ((raising, "no system role"), (late, "loses or repeats content")):
        chat = ChatFormat(qwen(template), ImageTokens())
        with pytest.raises(TemplateRefuses, match=said):
            ours(chat, TURNS, False)
        assert ours(chat, TURNS[1:], False) == theirs(chat, TURNS[1:], False)


# ---- layouts of ours


def with_bos(layout: Any, **more: Any) -> ChatFormat:
    return ChatFormat(byte_tokenizer(), ImageTokens(), ChatRules(layout=layout, **more))


@pytest.mark.parametrize(("layout", "end"), [("plain", "</s>"), ("plain-line", "\n")])
def test_plain_text_is_image_and_caption_without_roles(layout: Any, end: str) -> None:
    chat = with_bos(layout)
    messages = [{"role": "user", "content": [text("Describe it.\n"), IMAGE]}, *talk(("assistant", "a cat"))]
    found = chat.encode(messages, [3])
    assert chat.decode(found.input_ids, False) == "<s><image><image><image>a cat" + end
    assert found.image_spans == [(1, 3)] and told(chat, messages, [3]) == ["a cat" + end]
    assert chat.encode_prompt(messages[:1], [3]).input_ids == found.input_ids[:4]
    assert chat.at_least(messages, [3]) <= len(found.input_ids)
    with pytest.raises(TemplateRefuses, match=f"the layout {layout} has one answer, here are 2"):
        chat.encode(talk(*TURNS), [])


def test_vicuna_as_llava_prompts_it() -> None:
    chat = with_bos("vicuna-v1")
    system = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    system += "detailed, and polite answers to the user's questions."
    turns = "USER: q ASSISTANT: one</s>USER: r ASSISTANT: two</s>"
    assert chat.decode(ours(chat, TURNS[1:], False), False) == f"<s>{system} {turns}"
    assert chat.decode(ours(chat, TURNS, False), False) == f"<s>s {turns}"
    assert chat.decode(ours(chat, TURNS[1:-1], True), False).endswith("</s>USER: r ASSISTANT:")
    # the blank after the colon is the beginning of the answer's first word, and is trained with it
    assert told(chat, talk(*TURNS)) == [" one</s>", " two</s>"]


def test_llavas_order_of_a_users_turn() -> None:
    chat = with_bos("vicuna-v1", image_first=True)
    messages = [{"role": "user", "content": [text(" What is\n"), IMAGE, text(" \n")]}, *talk(("assistant", "x"))]
    said = chat.decode(chat.encode(messages, [2]).input_ids, False)
    assert said.endswith("USER: <image><image>\nWhat is ASSISTANT: x</s>")


def test_chatml_has_no_system_turn_of_its_own_and_no_thoughts() -> None:
    chat = ChatFormat(qwen(THINKING), ImageTokens(), ChatRules("chatml", labels=LabelRule(after_end="\n")))
    assert chat.decode(ours(chat, TURNS[3:], False), False) == (
        "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
    )
    assert told(chat, talk(*TURNS)) == ["one<|im_end|>\n", "two<|im_end|>\n"]


def test_llm_jp_4_vl_is_laid_out_and_labelled_as_its_system_does(tmp_path: Path) -> None:
    rules = ChatRules("llm-jp-4-vl", labels=LabelRule("<|channel|>final<|message|>", ends={"<|end|>": "<|return|>"}))
    made: PreTrainedTokenizerFast = llmjp()
    made.chat_template = None
    chat = ChatFormat(made, VL, rules)
    final = "<|start|>assistant<|channel|>final<|message|>"
    found = chat.encode(talk(*TURNS[1:], images=1), [256])
    said = chat.decode(found.input_ids, False).replace("<|image_pad|>" * 256, "PADS")
    assert said.replace(" ", "") == (
        "<|start|>system<|message|>YouareLLM-jp-VL,aMultimodalLLMtrainedbyLLM-jp.<|end|>"
        f"<|start|>user<|message|><|image_start|>PADS<|image_end|>q<|end|>{final}one<|end|>"
        f"<|start|>user<|message|>r<|end|>{final}two<|return|>"
    )
    assert told(chat, talk(*TURNS)) == [
        f"{final[len('<|start|>assistant') :]}{said}<|return|>" for said in ("one", "two")
    ]
    prompt = chat.encode_prompt(talk(*TURNS[1:2], images=1), [256]).input_ids
    assert chat.decode(prompt, False).endswith(final) and prompt.count(14) == 256
    chat.save(tmp_path)
    assert ChatFormat.load(tmp_path, VL, rules).encode(talk(*TURNS), []) == chat.encode(talk(*TURNS), [])
