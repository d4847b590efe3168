"""Which tokens bear loss, and as what: equal to the masks of the systems whose rules these are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from stages.chat import ChatError, ChatFormat, ImageTokens
from stages.chat_rules import ChatRules, LabelRule
from stages.pretokenise import pretokenise
from stages.shard_rows import PretokeniseParams
from stages.tiles.internvl import InternVL
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import IMAGE, sample, table, talk, text
from tests.stages.test_token_binding import HARMONY, VL, llmjp

LLMJP = ChatRules(labels=LabelRule("<|channel|>final<|message|>", "", {"<|end|>": "<|return|>"}))
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen3's does: the last turn, if it answers the last question, opens with an empty block of thought
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TURNS = [("system", "s"), ("user", "q"), ("assistant", "one"), ("user", "r"), ("assistant", "two")]


def qwen(template: str) -> PreTrainedTokenizerFast:
    made = byte_tokenizer(template)
    made.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})
    made.add_tokens(["<think>", "</think>"])
    return made


def told(chat: ChatFormat, messages: list[dict[str, Any]], lengths: list[int] | None = None) -> list[str]:
    """The texts of the labels, span by span: what changed is what it is labelled."""
    found = chat.encode(messages, lengths or [])
    labels = list(found.input_ids)
    for place, label in found.label_changes:
        labels[place] = label
    return [chat.decode(labels[start:end], False) for start, end in found.target_spans]


@pytest.fixture(scope="module")
def vl() -> ChatFormat:
    return ChatFormat(llmjp(), VL, LLMJP)


def test_llm_jp_trains_the_channel_and_labels_an_inner_end_as_the_return(vl: ChatFormat) -> None:
    header = "<|channel|>final<|message|>"
    assert told(vl, talk(*TURNS)) == [f"{header}one<|return|>", f"{header}two<|return|>"]
    found = vl.encode(talk(*TURNS), [])
    end, returns = (vl.tokenizer.convert_tokens_to_ids(name) for name in ("<|end|>", "<|return|>"))
    ((place, label),) = found.label_changes
    assert (found.input_ids[place], label) == (end, returns) and found.input_ids[-1] == returns
    # by position, as the system's own loader masks: all but `<|start|>assistant` of an assistant's turn
    starts = [i for i, token in enumerate(found.input_ids) if vl.tokenizer.convert_ids_to_tokens(token) == "<|start|>"]
    assistant = len(vl.tokenizer("assistant", add_special_tokens=False)["input_ids"])
    wanted = [(starts[2] + 1 + assistant, starts[3]), (starts[4] + 1 + assistant, len(found.input_ids))]
    assert found.target_spans == wanted


def test_a_turn_that_bears_no_loss_changes_no_label(vl: ChatFormat) -> None:
    messages = talk(*TURNS)
    messages[2]["loss"] = False
    assert told(vl, messages) == ["<|channel|>final<|message|>two<|return|>"]
    assert vl.encode(messages, []).label_changes == []
    assert vl.encode(messages, []).input_ids == vl.encode(talk(*TURNS), []).input_ids


def test_what_the_prompt_leaves_to_the_model_bears_loss_without_a_word_in_the_recipe() -> None:
    """LLM-jp-4's own template stops at `<|start|>assistant`."""
    made = llmjp()
    made.chat_template = HARMONY.replace("<|start|>assistant<|channel|>final<|message|>", "<|start|>assistant")
    chat = ChatFormat(made, ImageTokens())
    header = "<|channel|>final<|message|>"
    assert told(chat, talk(*TURNS)) == [f"{header}one<|end|>", f"{header}two<|return|>"]
    prompt = chat.encode_prompt(talk(*TURNS[:-1]), []).input_ids
    whole = chat.encode(talk(*TURNS), [])
    assert whole.target_spans[-1][0] == len(prompt)
    assert chat.answer(whole.input_ids[len(prompt) : -1]) == "two"
    # and with the whole header in the prompt, the answer alone
    assert told(ChatFormat(llmjp(), VL), talk(*TURNS)) == ["one<|end|>", "two<|return|>"]


@pytest.mark.parametrize("content", [[IMAGE], [IMAGE, text("a"), IMAGE], [text("a"), IMAGE]])
def test_a_header_before_an_image_is_one_too(vl: ChatFormat, content: list[dict[str, Any]]) -> None:
    messages = [*talk(("user", "q")), {"role": "assistant", "content": content}]
    found = "".join(told(vl, messages, [1] * content.count(IMAGE)))
    assert found.startswith("<|channel|>final<|message|>")


def test_the_empty_thought_of_qwen3_bears_loss_where_the_prompt_does_not_print_it() -> None:
    chat = ChatFormat(qwen(QWEN3), ImageTokens())
    assert told(chat, talk(*TURNS)) == ["one<|im_end|>", "<think>\n\n</think>\n\ntwo<|im_end|>"]
    prompt = chat.encode_prompt(talk(*TURNS[:-1]), []).input_ids
    whole = chat.encode(talk(*TURNS), [])
    assert whole.target_spans[-1][0] == len(prompt)
    assert chat.answer(whole.input_ids[len(prompt) : -2]) == "two"
    plain = [{"role": role, "content": said} for role, said in TURNS]
    assert whole.input_ids == list(chat.tokenizer.apply_chat_template(plain, tokenize=True)["input_ids"])


def test_vqwen_trains_the_line_break_after_a_turn_too() -> None:
    chat = ChatFormat(qwen(CHATML), ImageTokens(), ChatRules(labels=LabelRule(after_end="\n")))
    assert told(chat, talk(*TURNS)) == ["one<|im_end|>\n", "two<|im_end|>\n"]
    assert chat.stop_ids == [chat.tokenizer.eos_token_id]
    assert told(ChatFormat(qwen(CHATML), ImageTokens()), talk(*TURNS)) == ["one<|im_end|>", "two<|im_end|>"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (LabelRule(header="<|channel|>"), "labels.header: the template prints .* before an answer, not"),
        (LabelRule(after_end="  "), "labels.after_end: the template prints .* after an answer, not"),
        (LabelRule(ends={"<|end|>": "<|im_end|>"}), r"labels.ends: '<\|end\|>' is no control token"),
        (LabelRule(ends={"<|im_end|>": "<|return|>"}), r"labels.ends: '<\|return\|>' is no control token"),
    ],
)
def test_a_rule_of_another_template_is_refused(rule: LabelRule, message: str) -> None:
    with pytest.raises(ChatError, match=message):
        ChatFormat(qwen(CHATML), ImageTokens(), ChatRules(labels=rule))


def test_changes_of_labels_come_into_the_shard(vl: ChatFormat) -> None:
    params = PretokeniseParams(InternVL(tile=56, patch=14, merge=2), VL, LLMJP)
    samples = table(sample("inner", messages=talk(*TURNS)), sample("none"))
    (done,) = pretokenise([samples], {}, vl, params)
    inner, none = done.rows.to_pylist()
    place, label = vl.encode(talk(*TURNS), []).label_changes[0]
    assert inner["label_changes"] == [{"position": place, "id": label}] and none["label_changes"] == []
    assert replace(params, chat=ChatRules()) != params
