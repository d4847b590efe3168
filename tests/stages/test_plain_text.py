"""No text becomes a control id in any kind of tokenizer; ordinary text keeps its ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from stages.chat import ChatError, ChatFormat, ImageTokens, TemplateRefuses
from stages.plain_text import ControlText
from stages.pretokenise import pretokenise
from stages.shard_rows import PretokeniseParams
from tests.stages.kinds_of_tokenizer import (
    END,
    EXACT,
    KINDS,
    PAD,
    SHORT,
    START,
    fast,
    inner_words,
    merged,
    unigram,
    words,
)
from tests.stages.pictures import IMAGE, sample, table, talk, text

TOKENS = ImageTokens("<image>", "<img>", "</img>")
CONTROL = (START, END, PAD, "<image>", "<img>", "</img>", SHORT, "<unk>")


@cache
def chat_of(kind: str) -> ChatFormat:
    return ChatFormat(KINDS[kind](), TOKENS)


def wide(value: str) -> str:
    """The same in full-width letters, which NFKC makes narrow."""
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in value)


# Control strings, whole and in pieces, in forms that a normaliser brings back to them
FORMS: list[Callable[[str], str]] = [str, str.upper, wide, "\u200b".join, "\u0301".join]
WHOLE = st.tuples(st.sampled_from(CONTROL), st.sampled_from(FORMS)).map(lambda pair: pair[1](pair[0]))
PIECE = st.tuples(WHOLE, st.integers(0, 14), st.integers(0, 14)).map(lambda cut: cut[0][cut[1] : cut[2]])
FILLER = st.sampled_from(["", " ", "\n", "cats", "猫", "##", "▁", "Ġ", "<", "|", "\ue0000\ue001"]) | st.text(max_size=2)
TEXT = st.lists(st.one_of(WHOLE, PIECE, FILLER), max_size=6).map("".join)


@st.composite
def conversations(draw: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Texts in one or several blocks, and a control string cut over neighbouring blocks and turns."""
    messages = []
    for _ in range(draw(st.integers(1, 2))):
        for role in ("user", "assistant"):
            blocks = [text(value) for value in draw(st.lists(TEXT, min_size=1, max_size=3))]
            messages.append({"role": role, "content": blocks})
    whole, at = draw(WHOLE), draw(st.integers(0, 14))
    place = draw(st.integers(0, len(messages) - 1))
    messages[place]["content"] += [text(whole[:at]), *[IMAGE] * draw(st.integers(0, 1))]
    messages[(place + draw(st.integers(0, 1))) % len(messages)]["content"].append(text(whole[at:]))
    return messages


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(messages=conversations())
def test_no_text_becomes_control(kind: str, messages: list[dict[str, Any]]) -> None:
    chat = chat_of(kind)
    images = sum(block is IMAGE for message in messages for block in message["content"])
    ids, targets, spans, _ = chat.encode(messages, [2] * images)
    control = {chat.tokenizer.convert_tokens_to_ids(name) for name in (*CONTROL[:-2], "##" + END)}
    control |= {number for number, token in chat.tokenizer.added_tokens_decoder.items() if token.special}
    control -= {chat.tokenizer.unk_token_id}
    outside = [token for i, token in enumerate(ids) if not any(a <= i < a + n for a, n in spans)]
    start, end = (chat.tokenizer.convert_tokens_to_ids(name) for name in (START, END))
    assert [token for token in outside if token in control] == [start, end] * len(messages)
    assert ids.count(chat.image_token_id) == 2 * images
    # of a target only the last token is control: the turn's end
    assert all(control.isdisjoint(ids[a : b - 1]) for a, b in targets)


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=60)
@given(messages=conversations())
def test_hostile_text_can_be_read_again(kind: str, messages: list[dict[str, Any]]) -> None:
    chat = chat_of(kind)
    images = sum(block is IMAGE for message in messages for block in message["content"])
    ids = chat.encode(messages, [1] * images).input_ids
    told = ["".join("<img><image></img>" if b is IMAGE else b["text"] for b in m["content"]) for m in messages]
    wanted = "".join(f"{START}{m['role']}\n{said}{END}\n" for m, said in zip(messages, told, strict=True))
    blank = "\u2581" if kind.startswith("Unigram") else " "  # a literal one is a blank to SentencePiece
    assert chat.decode(ids, skip_special_tokens=False).replace(blank, " ") == wanted.replace(blank, " ")


ORDINARY = st.lists(
    st.sampled_from(
        ["cats", " ", "  ", "猫は", "三匹います。", "\n", "x|y", "<b>", "a < b", "Three", "é", "ｱ", "im_end"]
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(question=ORDINARY, answer=ORDINARY, prompt=st.booleans())
def test_ordinary_text_keeps_the_ids_of_the_chat_template(kind: str, question: str, answer: str, prompt: bool) -> None:
    chat = chat_of(kind)
    plain = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    theirs = chat.tokenizer.apply_chat_template(plain, add_generation_prompt=prompt, tokenize=True)["input_ids"]
    messages = talk(("user", question), ("assistant", answer))
    assert (chat.encode_prompt if prompt else chat.encode)(messages, []).input_ids == list(theirs)


def by_first_character(kind: str, told: str, ranges: list[tuple[int, int]]) -> list[list[int]]:
    """The places of the tokens whose first character lies in each range, as the tokenizer's own offsets say."""
    offsets = chat_of(kind)._plain._later.encode(told, add_special_tokens=False).offsets
    return [[n for n, (first, _) in enumerate(offsets) if begin <= first < end] for begin, end in ranges]


LETTERS = st.sampled_from(["\u0301", "\u0338", "か", "\u3099", "ﬁ", "\ufdfa", "Å", "ｱ", "😀", "\n", " ", "\u200b"])
ANYTHING = st.lists(TEXT | ORDINARY | LETTERS, max_size=4).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(parts=st.lists(ANYTHING, min_size=2, max_size=6))
def test_a_token_belongs_to_the_part_that_its_first_character_lies_in(kind: str, parts: list[str]) -> None:
    ends = [len("".join(parts[: n + 1])) for n in range(len(parts))]
    ranges = list(itertools.pairwise(ends))[::2]
    ids, found = chat_of(kind)._plain.divided("".join(parts), False, ranges)
    assert ids == chat_of(kind)._plain.ids("".join(parts), False)
    wanted = [places for places in by_first_character(kind, "".join(parts), ranges) if places]
    assert [list(range(start, stop)) for start, stop in found] == wanted


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(head=st.sampled_from(["assistant\n", "x:", "<b> ", "cat", "a ="]), after=ANYTHING)
def test_what_follows_a_head_is_told_from_it_by_its_ids_alone(kind: str, head: str, after: str) -> None:
    plain = chat_of(kind)._plain
    known, ids = plain.head(head), plain.ids(head + after, False)
    if known is not None and ids[: len(known)] == known:
        (places,) = by_first_character(kind, head + after, [(len(head), len(head + after))])
        assert places == list(range(len(known), len(ids)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(answer=ANYTHING | ANYTHING.map("\n".__add__))
def test_the_targets_of_an_answer_are_the_tokens_that_begin_in_it(kind: str, answer: str) -> None:
    """Not one that begins in the line break before it."""
    chat = chat_of(kind)
    ids, targets, *_ = chat.encode(talk(("user", "x"), ("assistant", answer)), [])
    start, end = (chat.tokenizer.convert_tokens_to_ids(name) for name in (START, END))
    first, last = (len(ids) - 1 - ids[::-1].index(number) for number in (start, end))
    (places,) = by_first_character(kind, f"assistant\n{answer}", [(len("assistant\n"), len(f"assistant\n{answer}"))])
    assert targets == [(first + 1 + min(places) if places else last, last + 1)]


def test_a_token_that_begins_in_the_header_is_no_target_though_it_ends_in_the_answer() -> None:
    """The header alone would be two tokens more."""
    made = KINDS["byte-level BPE"]()
    made.chat_template = made.chat_template.replace("}\n{{ m", "}\nca{{ m").replace("assistant\n", "assistant\nca")
    chat = ChatFormat(made, TOKENS)
    ids, ((start, end),), *_ = chat.encode(talk(("user", "x"), ("assistant", "ts")), [])
    assert [chat.decode([token], False) for token in ids[start - 2 : end]] == ["\n", "cat", "s", END]
    assert end - start == 2 and len(chat._plain.head("\nca") or []) == 3


@pytest.mark.parametrize("kind", ["byte-level BPE", "Unigram of one stretch"])
def test_an_answer_is_told_from_its_header_without_following_its_characters(kind: str) -> None:
    """As the tokenizers of Qwen, Llama 3 and LLM-jp are: that it may be done is no matter of luck."""
    plain = chat_of(kind)._plain
    assert plain.head("assistant\n") == plain.ids("assistant\n", False)
    assert plain.head("助手\n") is None


def test_a_text_is_cut_only_where_it_spells_a_control_token() -> None:
    chat = chat_of("BPE that merges them")
    ids = chat.encode(talk(("user", f"{END[:-1]}x{END}")), []).input_ids
    spelt = [chat.tokenizer.convert_ids_to_tokens(token) for token in ids]
    # what merges made of its beginning stays one token; after the cut nothing merges with what was before
    assert spelt[spelt.index("Ċ") + 1 :][:3] == [END[:-1], "x", "<"]


def test_a_token_that_the_template_prints_is_control_though_it_is_only_an_added_word() -> None:
    chat = chat_of("byte-level BPE, an added token that is not special")
    start = chat.tokenizer.convert_tokens_to_ids(START)
    assert not chat.tokenizer.added_tokens_decoder[start].special
    assert chat.encode(talk(("user", START), ("assistant", START)), []).input_ids.count(start) == 2


def test_a_word_of_the_vocabulary_that_nobody_declared_is_control_where_the_template_prints_it() -> None:
    chat = chat_of("Unigram, one not declared")
    start = chat.tokenizer.convert_tokens_to_ids(START)
    assert start not in chat.tokenizer.added_tokens_decoder
    assert chat.encode(talk(("user", START), ("assistant", START)), []).input_ids.count(start) == 2


def test_an_added_word_of_any_look_is_control_where_the_template_prints_it() -> None:
    made = merged(False)
    made.add_tokens(["USER:"])
    made.chat_template = made.chat_template.replace("{{ m['role'] }}", "USER:")
    chat = ChatFormat(made, TOKENS)
    word = made.convert_tokens_to_ids("USER:")
    assert chat.encode(talk(("user", "USER: a"), ("assistant", "USER:")), []).input_ids.count(word) == 2


def test_the_unknown_token_spelt_out_is_not_the_unknown_token() -> None:
    chat = ChatFormat(unigram("never"), TOKENS)
    ids = chat.encode(talk(("user", "a <unk> b")), []).input_ids
    assert chat.tokenizer.unk_token_id not in ids
    assert "a <unk> b" in chat.decode(ids)


def test_a_control_token_that_stands_only_inside_words_is_cut_there() -> None:
    chat = ChatFormat(inner_words("<stop>"), TOKENS)
    stop, start = (chat.tokenizer.convert_tokens_to_ids(word) for word in ("##<stop>", "<"))
    assert stop in chat.tokenizer("a<stop>", add_special_tokens=False)["input_ids"]
    ids = chat.encode(talk(("user", "a<stop> ##<stop>")), []).input_ids
    assert stop not in ids and start in ids


def test_a_wordpiece_is_refused_by_name() -> None:
    vocab = {word: n for n, word in enumerate(["[UNK]", END, START, PAD, "user", "assistant", "a", "##b"])}
    with pytest.raises(ChatError, match=r"^the tokenizer is a WordPiece, which loses characters; take that of"):
        ChatFormat(words(models.WordPiece(vocab, unk_token="[UNK]")), TOKENS)


def one_letter_control() -> Any:
    made = merged(False)
    made.add_special_tokens({"additional_special_tokens": ["Q"]})
    return made


def unknown_is_the_end() -> Any:
    vocab = {word: n for n, word in enumerate([END, START, PAD, "user", "assistant", "How", "x"])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast(tokenizer, END)


@pytest.mark.parametrize("make", [one_letter_control, unknown_is_the_end])
def test_where_text_and_control_cannot_be_kept_apart_the_tokenizer_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ChatError, match=r"^with this tokenizer no text can be kept apart from control") as caught:
        ChatFormat(make(), TOKENS)
    assert "\n" not in str(caught.value)


def test_a_control_id_that_comes_another_way_is_an_error_and_never_an_id() -> None:
    """Unknown words become the padding, which the template prints: texts of known words are fine, others are not."""
    known = "How many? 何個ですか? Three. 3つ x user assistant < |im_start|> |im_end|> |endoftext|> image> img> /img>"
    vocab = {word: n for n, word in enumerate([*CONTROL[:-2], *known.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = fast(tokenizer, PAD)
    made.chat_template = made.chat_template.replace("<|im_end|>", "<|im_end|><|endoftext|>")
    chat = ChatFormat(made, TOKENS)
    assert chat.encode(talk(("user", f"x {PAD} x"), ("assistant", "Three.")), []).input_ids.count(2) == 2
    with pytest.raises(ControlText, match=r"^text becomes '<\|endoftext\|>', a control token$"):
        chat.encode(talk(("user", "x"), ("assistant", "dogs")), [])
    (done,) = pretokenise([table(sample("a", question="x", answer="dogs"))], {}, chat, PretokeniseParams())
    assert done.counts.dropped == {"pretokenise.control_text": 1}


def test_a_tokenizer_that_leaves_out_merges_at_random_is_refused() -> None:
    made = merged(False)
    made.backend_tokenizer.model.dropout = 0.1
    with pytest.raises(ChatError, match=r"model\.dropout"):
        ChatFormat(made, TOKENS)


def test_a_template_that_prints_the_image_token_itself_is_refused() -> None:
    made = merged(False)
    made.chat_template = "<image>" + made.chat_template
    with pytest.raises(ChatError, match="prints '<image>' here, which it may not"):
        ChatFormat(made, TOKENS)


def test_layout_text_before_any_control_token_is_the_first(kind: str = "Unigram, first blank") -> None:
    """And gets the blank that such a tokenizer puts before a first word."""
    made = KINDS[kind]()
    made.chat_template = "user\n{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    made.chat_template += "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    chat = ChatFormat(made, TOKENS)
    ids, _, ((start, _),), _ = chat.encode(talk(("user", ""), ("assistant", "cats"), images=1), [1])
    assert ids[:start] == chat.tokenizer("user\n", add_special_tokens=False)["input_ids"]


def test_an_added_word_that_the_template_prints_only_now_and_then_is_never_taken_for_text() -> None:
    """Built of pieces, in long conversations alone: no one could know that it is control."""
    made = merged(False)
    made.add_tokens(["<late>"])
    made.chat_template += "{% if messages | length > 5 %}{{ '<' + 'late' + '>' }}{% endif %}"
    chat = ChatFormat(made, TOKENS)
    word = made.convert_tokens_to_ids("<late>")
    assert word in chat.encode(talk(("user", "<late>"), ("assistant", "a")), []).input_ids
    with pytest.raises(TemplateRefuses, match="prints '<late>' here"):
        chat.encode(talk(*[("user", "<late>"), ("assistant", "a")] * 3), [])
