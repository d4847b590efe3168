"""Harmony's channels: told apart by ids, `final` is what a person sees, and `<|end|>` ends an answer in it alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_train_answerer import asking
from tiny_shards import write_tokenizer

from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from stages.layout_table import TEMPLATES
from train.inference import Answerer, Sampling, engine
from train.inference.channels import Listener, marks
from train.models import build

MARKS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"]
HEADLESS = TEMPLATES["llm-jp-4-vl"].replace(
    "<|start|>assistant<|channel|>final<|message|>{% endif %}", "<|start|>assistant{% endif %}"
)


def harmony(folder, template):
    tokenizer = write_tokenizer(folder, ["analysis commentary final assistant 富士山"]).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS, "eos_token": "<|return|>"})
    tokenizer.chat_template = template
    return ChatFormat(tokenizer, ImageTokens("<image>", "<img>", "</img>"), ChatRules())


def ids_of(chat, text):
    return chat.tokenizer(text, add_special_tokens=False).input_ids


def heard(chat, prompt, said):
    listener = Listener(chat, marks(chat), ids_of(chat, prompt))
    open_ends = [listener.hear(token) for token in ids_of(chat, said)]
    return [(name, chat.decode(ids)) for name, ids in listener.said()], open_ends


PROMPT = "<|start|>user<|message|>a <|channel|> b<|end|><|start|>assistant"
CASES = [
    (PROMPT, "<|channel|>final<|message|>富士山<|return|>", [("final", "富士山")]),
    (PROMPT + "<|channel|>final<|message|>", "final<|end|>", [("final", "final")]),
    (
        PROMPT,
        "<|channel|>analysis<|message|>3776<|end|><|start|>assistant<|channel|>final<|message|>富士山<|return|>",
        [("analysis", "3776"), ("final", "富士山")],
    ),
    (PROMPT, "<|channel|>commentary to=functions.x<|message|>{}<|call|>", [("commentary", "{}")]),
    (PROMPT, "<|channel|>analysis<|message|>never ends", [("analysis", "never ends")]),
    (PROMPT + "<|message|>", "no channel<|return|>", [("final", "no channel")]),
    ("no header at all", "text", [("final", "text")]),
    (PROMPT, "", []),
]


@pytest.mark.parametrize(("prompt", "said", "wanted"), CASES)
def test_messages_are_told_apart_by_ids(tmp_path, prompt, said, wanted):
    assert heard(harmony(tmp_path, HEADLESS), prompt, said)[0] == wanted


def test_an_end_leaves_an_answer_open_unless_it_is_of_the_final_message(tmp_path):
    chat = harmony(tmp_path, HEADLESS)
    _, ends = heard(chat, PROMPT, "<|channel|>analysis<|message|>a<|end|>")
    assert ends == [False] * (len(ends) - 1) + [True]
    assert not any(heard(chat, PROMPT, "<|channel|>final<|message|>a<|end|>")[1])
    assert not any(heard(chat, PROMPT, "<|channel|>analysis<|message|>a<|return|>")[1])


def test_a_literal_mark_in_a_text_is_a_text(tmp_path):
    chat = harmony(tmp_path, HEADLESS)
    prompt = chat.encode_prompt([{"role": "user", "content": [{"type": "text", "text": "<|start|>x<|channel|>"}]}], [])
    listener = Listener(chat, marks(chat), prompt.input_ids)
    for token in ids_of(chat, "<|channel|>final<|message|>a"):
        listener.hear(token)
    assert [(name, chat.decode(ids)) for name, ids in listener.said()] == [("final", "a")]


def test_a_tokenizer_without_them_has_no_channels(tmp_path):
    assert marks(write_tokenizer(tmp_path, ["a"])) == {}


@pytest.mark.parametrize("template", [TEMPLATES["llm-jp-4-vl"], HEADLESS], ids=["opened", "headless"])
def test_an_answer_shows_its_final_channel(learnt, tmp_path, monkeypatch, template):
    """What a model would say is given; the rest is as it is."""
    chat, of = harmony(tmp_path, template), Answerer.open(learnt).of
    stops = frozenset({*chat.stop_ids, chat.tokenizer.convert_tokens_to_ids("<|end|>")})
    facts = replace(of.facts, vocab_size=chat.vocab_size, image_token_id=chat.image_token_id, tokens=chat.image_tokens)
    answerer = Answerer(replace(of, chat=chat, stops=stops, facts=facts, model=build.build(of.config, facts).eval()), 1)
    header = "" if template != HEADLESS else "<|channel|>final<|message|>"
    thought = "<|channel|>analysis<|message|>It is high.<|end|><|start|>assistant<|channel|>final<|message|>"
    cases = [(header + "final 富士山。<|return|>", "final 富士山。", ()), (header + "富士山<|end|>", "富士山", ())]
    if template == HEADLESS:
        cases.append((thought + "富士山<|return|>", "富士山", (("analysis", "It is high."),)))
    for said, text, channels in cases:
        ids = ids_of(chat, said)
        monkeypatch.setattr(engine, "choose", lambda logits, samplings, lengths, ids=ids: [ids[n] for n in lengths])
        [(_, answer)] = answerer.answers([asking("Which?")], Sampling(len(ids) + 5))
        assert (answer.text, answer.channels, answer.finish, answer.tokens) == (text, channels, "stop", len(ids))
        assert "".join(answerer.stream(asking("Which?"), Sampling(len(ids)))) == text
