"""Image tokens come to the ids that a published system has them at, and are found there again; or one line says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages.chat import ChatError, ChatFormat, ImageTokens
from stages.tokenizer_check import refusal
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.kinds_of_tokenizer import BYTES
from tests.stages.pictures import talk

LLMJP = ["<|unk|>", "<|startoftext|>", "<|return|>", "<|reserved_000|>", "<|endoftext|>", "<|reserved_001|>", "<|eod|>"]
LLMJP += ["<|reserved_002|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"]
LLMJP += ["<|reserved_006|>", "<|reserved_007|>", "<|reserved_008|>", "<|reserved_009|>"]
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|channel|>final<|message|>{% endif %}"
)
VL = ImageTokens(
    "<|image_pad|>",
    "<|image_start|>",
    "<|image_end|>",
    ids={"<|image_pad|>": 14, "<|image_start|>": 15, "<|image_end|>": 16},
)


def llmjp() -> PreTrainedTokenizerFast:
    """Unigram with byte fallback; control tokens and reserved ones are words of the vocabulary, as in LLM-jp's."""
    words = [(word, 0.0) for word in LLMJP] + [(word, -80.0) for word in BYTES]
    words += [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz猫<|>_" if (letter, -5.0) not in words]
    words += [("▁cats", -2.0), ("unused1", -9.0)]
    tokenizer = Tokenizer(models.Unigram(words, 0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|return|>", unk_token="<|unk|>")
    made.add_special_tokens({"additional_special_tokens": LLMJP[3:]})
    made.chat_template = HARMONY
    return made


def test_reserved_tokens_are_renamed() -> None:
    before = llmjp()
    size, cats = len(before), before.convert_tokens_to_ids("▁cats")
    chat = ChatFormat(before, VL)
    assert [chat.tokenizer.convert_ids_to_tokens(n) for n in (13, 14, 15, 16, 17)] == [
        "<|call|>",
        "<|image_pad|>",
        "<|image_start|>",
        "<|image_end|>",
        "<|reserved_009|>",
    ]
    assert chat.vocab_size == size and chat.tokenizer.convert_tokens_to_ids("▁cats") == cats
    found = chat.encode(talk(("user", "<|image_pad|> cats"), ("assistant", "a")), [])
    assert 14 not in found.input_ids and cats in found.input_ids
    found = chat.encode(talk(("user", "cats"), ("assistant", "a"), images=1), [3])
    start, length = found.image_spans[0]
    assert found.input_ids[start : start + length] == [15, 14, 14, 14, 16]
    assert "<|reserved_006|>" not in chat.tokenizer.get_vocab()


def test_the_next_free_id_and_those_far_beyond_it() -> None:
    """Qwen3's vocabulary ends at 151,669, where vqwen3 has its image token; Jina has five from the padded end on."""
    free = len(byte_tokenizer())
    chat = ChatFormat(byte_tokenizer(), ImageTokens(ids={"<image>": free}))
    assert (chat.image_token_id, chat.vocab_size) == (free, free + 1)
    names = ["<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<|image|>"]
    jina = ImageTokens(
        "<im_patch>", "<im_start>", "<im_end>", ids={name: free + 267 + n for n, name in enumerate(names)}
    )
    chat = ChatFormat(byte_tokenizer(), jina)
    assert chat.image_token_id == free + 269 and chat.vocab_size == free + 272
    assert {name: chat.tokenizer.convert_tokens_to_ids(name) for name in names} == jina.ids
    assert set(chat.encode(talk(("user", "<im_col><|unused_300|>")), []).input_ids).isdisjoint(range(free, free + 272))


def test_without_wanted_ids_tokens_take_the_next_and_say_them() -> None:
    free = len(byte_tokenizer())
    chat = ChatFormat(byte_tokenizer(), ImageTokens("<image>", "<img>", None))
    assert chat.image_tokens == ImageTokens("<image>", "<img>", None, ids={"<image>": free, "<img>": free + 1})
    some = ChatFormat(byte_tokenizer(), ImageTokens("<image>", "<img>", None, ids={"<image>": free + 4}))
    assert some.image_tokens.ids == {"<image>": free + 4, "<img>": free + 5}


def test_a_word_of_the_vocabulary_at_its_id_becomes_the_token() -> None:
    chat = ChatFormat(llmjp(), ImageTokens("▁cats", ids={"▁cats": len(LLMJP) + 256 + 32}))
    assert chat.image_token_id == len(LLMJP) + 288 and chat.vocab_size == len(llmjp())
    assert chat.image_token_id not in chat.encode(talk(("user", " cats")), []).input_ids


@pytest.mark.parametrize("tokens", [VL, replace(VL, ids={**VL.ids, "<|image_col|>": 500})])
def test_what_is_bound_is_saved_and_loads_as_it_is(tokens: ImageTokens, tmp_path: Path) -> None:
    chat = ChatFormat(llmjp(), tokens)
    chat.save(tmp_path)
    messages = talk(("user", "cats 猫 <|image_pad|>"), ("assistant", "a"), images=2)
    for again in (ChatFormat.load(tmp_path, tokens), ChatFormat.load(tmp_path, chat.image_tokens)):
        assert again.encode(messages, [3, 1]) == chat.encode(messages, [3, 1])
        assert (again.image_tokens, again.vocab_size) == (chat.image_tokens, chat.vocab_size)
        again.save(tmp_path / "again")
        assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"<image>": 10}, r"'<image>' can't have the id 10: it belongs to '<\|start\|>'"),
        ({"<image>": 40}, r"'<image>' can't have the id 40: it belongs to '<0x16>'"),
        ({"<image>": 99_999}, r"'<image>' can't have the id 99999: the tokenizer's free ids begin at \d+"),
        ({"<|end|>": 14, "<image>": 310}, r"'<\|end\|>' has the id 11 in this tokenizer, wanted 14"),
    ],
)
def test_ids_that_cannot_be_bound_are_refused_in_a_line(ids: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ChatError, match=message) as caught:
        ChatFormat(llmjp(), ImageTokens(ids=ids))
    assert "\n" not in str(caught.value)
    llmjp().save_pretrained(tmp_path)
    given = {"tokens": {"image": "<image>", "ids": ids}, "chat": {}}
    assert str(caught.value) in refusal(str(tmp_path), "", json.dumps(given))


def test_a_word_that_only_sounds_reserved_is_nobodys_to_take() -> None:
    made = llmjp()
    with pytest.raises(ChatError, match="it belongs to 'unused1'"):
        ChatFormat(made, ImageTokens(ids={"<image>": made.convert_tokens_to_ids("unused1")}))


@pytest.mark.parametrize("ids", [{"a": 3, "b": 3}, {"a": -1}])
def test_a_token_has_an_id_of_its_own(ids: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="wanted a number of its own for each token"):
        ImageTokens(ids=ids)


def test_a_word_of_texts_is_no_image_token_unless_its_id_says_so() -> None:
    with pytest.raises(ChatError, match="'▁cats' is a word of texts to this tokenizer"):
        ChatFormat(llmjp(), ImageTokens("▁cats"))


def test_tokens_of_one_text_are_refused() -> None:
    with pytest.raises(ValueError, match="'<image>' is the text of two of image, start, end and row"):
        ImageTokens("<image>", "<image>", "</img>")
