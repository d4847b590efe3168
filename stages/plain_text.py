"""Text -> token ids among which no control id can be, whatever the tokenizer.

Two ways lead from text to a control id. Added tokens are searched for in the text: all control tokens are marked as
special here, and special ones are not searched for. And the model's own vocabulary may hold a control token as a word
like any other (in every Unigram tokenizer made by SentencePiece, in WordLevel and WordPiece ones, in a BPE whose merges
make it): so the last thing that happens to the text before the model sees it is a cut after the first character of
every stretch that spells such a token. That is after normalisation, so it doesn't matter what the text looked like
before, and the model joins nothing across a cut. Text in which no control token is spelt gets the ids that it had.

What is left is looked at: a control id that comes by another way (the unknown token, a token of one character) is an
error, never an id.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class ControlText(ValueError):
    """A text that becomes a control token in this tokenizer whatever is done about it: the text can't be used."""


class PlainText:
    """The tokenizer's own encoding of text that is only text.

    `control`: text -> id of the tokens that no text may become; of `avoided` the ids may come by another way, as the
    unknown token's does for unknown characters.
    """

    def __init__(self, backend: Any, control: Mapping[str, int], avoided: Mapping[str, int]) -> None:
        self._names = {number: text for text, number in control.items()}
        state = json.loads(backend.to_str())
        for token in state["added_tokens"]:
            token["special"] = token["special"] or token["content"] in control
        # the post-processor adds no tokens here, but may trim white space off the offsets; truncation and padding are
        # left in tokenizer.json by whoever trained with it last
        state.update(truncation=None, padding=None, post_processor=None)
        numbers = {*control.values(), *avoided.values()}
        words = [word for word, number in backend.get_vocab(with_added_tokens=False).items() if number in numbers]
        self._reach = _reach(state)
        _append_cut(state, words)
        self._first = _built(backend, state)
        # between two control tokens no text begins: a blank that is put before the first word is not put there
        self._later = _built(backend, state) if _never_first(state.get("pre_tokenizer")) else self._first
        self._prove(control)

    def encode(self, text: str, first: bool) -> Any:
        """The Encoding of a text; `first`: nothing stands before it. Raises ControlText."""
        # one by one: for a few short texts the threads of `encode_batch` cost more than the encoding
        encoding = (self._first if first else self._later).encode(text, add_special_tokens=False)
        found = self._names.keys() & encoding.ids
        if found:
            raise ControlText(f"text becomes {self._names[min(found)]!r}, a control token")
        return encoding

    def at_least(self, text: str) -> int:
        """A number of tokens that a text surely has, blanks at its ends apart; far cheaper to know than the tokens."""
        if self._reach is None or len(text) <= self._reach:
            return 0
        normalizer, text = self._first.normalizer, text.strip()
        normal: str = normalizer.normalize_str(text) if normalizer else text
        return len(normal) // self._reach

    def _prove(self, control: Iterable[str]) -> None:
        for text in control:
            for first in (True, False):
                self.encode(text, first)


# Of all that splits text before the model reads it, what leaves every character in it.
_KEEPING = {"Sequence", "ByteLevel", "Metaspace", "Digits", "keeping Split"}


def _reach(state: Mapping[str, Any]) -> int | None:
    """The most characters of normalised text that one token stands for; None if one may stand for any number.

    That is so where characters can be left out, or be unknown: a run of those is one token.
    """
    model, kinds = state["model"], list(_kinds(state["pre_tokenizer"]))
    words = [entry[0] for entry in model["vocab"]] if model["type"] == "Unigram" else list(model["vocab"])
    spelt = set(words)
    from_bytes = model.get("byte_fallback") and {f"<0x{byte:02X}>" for byte in range(256)} <= spelt
    in_bytes = model["type"] == "BPE" and "ByteLevel" in kinds and _byte_alphabet() <= spelt
    greedy = any(token["lstrip"] or token["rstrip"] for token in state["added_tokens"])
    if not (from_bytes or in_bytes) or greedy or not set(kinds) <= _KEEPING:
        return None
    return max(map(len, [*words, *(token["content"] for token in state["added_tokens"])]))


def _byte_alphabet() -> set[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return set(ByteLevel.alphabet())


def _kinds(node: Mapping[str, Any] | None) -> Iterator[str]:
    """The types of a tokenizer's splitting; a Split that leaves what it splits at is a kind of its own."""
    if node:
        yield "keeping Split" if node["type"] == "Split" and node["behavior"] != "Removed" else node["type"]
        for inner in node.get("pretokenizers") or []:
            yield from _kinds(inner)


def _built(backend: Any, state: Mapping[str, Any]) -> Any:
    built = type(backend).from_str(json.dumps(state))
    built.encode_special_tokens = True
    return built


def _append_cut(state: dict[str, Any], words: Iterable[str]) -> None:
    """Add the cut to the tokenizer's own splitting, at its end: what it reads is spelt like the vocabulary."""
    model = state["model"]
    prefix, suffix = (model.get(key) or "" for key in ("continuing_subword_prefix", "end_of_word_suffix"))
    # written inside or at the end of a word, where the model adds or takes away these marks
    spelt = {word.removeprefix(p).removesuffix(s) for word in words for p in ("", prefix) for s in ("", suffix)}
    spelt = {word for word in spelt if len(word) > 1}
    if spelt:
        before = [state["pre_tokenizer"]] if state["pre_tokenizer"] else []
        cut = {"type": "Split", "pattern": {"Regex": _firsts(spelt)}, "behavior": "Isolated", "invert": False}
        state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*before, cut]}


def _firsts(words: Iterable[str]) -> str:
    """A pattern for the first character of each of these words, wherever one stands: matches never overlap."""
    groups = itertools.groupby(sorted(words), key=lambda word: word[0])
    return "|".join(f"{_literal(first)}(?={'|'.join(_literal(word[1:]) for word in found)})" for first, found in groups)


def _literal(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):x}}}" for letter in text)


def _never_first(node: Any) -> bool:
    """Switch off, in place, that something is put before the first word alone; whether there was such a thing."""
    if not isinstance(node, dict):
        return False
    if node.get("type") == "Metaspace" and node.get("prepend_scheme") == "first":
        node["prepend_scheme"] = "never"
        return True
    found = [
        _never_first(inner) for inner in node.get("pretokenizers") or []
    ]  # all of them, so no `any` of a generator
    return True in found
