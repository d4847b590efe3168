"""Text -> token ids among which no control id can be, whatever the tokenizer.

Two ways lead from text to a control id. Added tokens are searched for in the text: all control tokens are marked as
special here, and special ones are not searched for. And the model's own vocabulary may hold a control token as a word
like any other (in every Unigram tokenizer made by SentencePiece, in WordLevel and WordPiece ones, in a BPE whose merges
make it): so the last thing that happens to the text before the model sees it is a cut after the first character of
every stretch that spells such a token. That is after normalisation, so it doesn't matter what the text looked like
before, and the model joins nothing across a cut. Text in which no control token is spelt gets the ids that it had.

What is left is looked at: a control id that comes by another way (the unknown token, a token of one character) is an
error, never an id.

To know which tokens a part of a text became, the tokenizer has to follow every character, which takes a third of its
time again. So only who asks for parts pays for that; and not for what follows a fixed head, as every answer does.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Span = tuple[int, int]


class ControlText(ValueError):
    """A text that becomes a control token in this tokenizer whatever is done about it: the text can't be used."""


class PlainText:
    """The tokenizer's own encoding of text that is only text.

    `control`: text -> id of the tokens that no text may become; of `avoided` the ids may come by another way, as the
    unknown token's does for unknown characters.
    """

    def __init__(self, backend: Any, control: Mapping[str, int], avoided: Mapping[str, int]) -> None:
        # a core each: threads cost more than the encoding of a few short texts, and a machine has a worker per core
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._names = {number: text for text, number in control.items()}
        self._control = frozenset(self._names)
        state = json.loads(backend.to_str())
        for token in state["added_tokens"]:
            token["special"] = token["special"] or token["content"] in control
        # the post-processor adds no tokens here, but may trim white space off the offsets; truncation and padding are
        # left in tokenizer.json by whoever trained with it last
        state.update(truncation=None, padding=None, post_processor=None)
        numbers = {*control.values(), *avoided.values()}
        words = [word for word, number in backend.get_vocab(with_added_tokens=False).items() if number in numbers]
        self._reach = _reach(state)
        self._bytes = {number for word, number in backend.get_vocab().items() if word in _BYTES}
        self._keeps_heads = self._reach is not None and _keeps_heads(state["normalizer"])
        _append_cut(state, words)
        self._first = _built(backend, state)
        # between two control tokens no text begins: a blank that is put before the first word is not put there
        self._later = _built(backend, state) if _never_first(state.get("pre_tokenizer")) else self._first
        self._prove(control)

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first`: nothing stands before it. Raises ControlText."""
        backend = self._first if first else self._later
        # of all that the tokenizer offers this alone leaves the characters unfollowed
        return self._checked(backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def divided(self, text: str, first: bool, ranges: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """The ids of a text, and of each range of its characters the tokens whose first character lies in it, if there
        are any; ranges come in order and don't overlap. Raises ControlText."""
        encoding = (self._first if first else self._later).encode(text, add_special_tokens=False)
        ids = self._checked(encoding.ids)
        places, found = range(len(ids)), []
        for begin, end in ranges:
            start = bisect.bisect_left(places, begin, key=lambda place: encoding.token_to_chars(place)[0])
            stop = bisect.bisect_left(places, end, start, key=lambda place: encoding.token_to_chars(place)[0])
            found += [(start, stop)] if start < stop else []
        return ids, found

    def head(self, text: str) -> list[int] | None:
        """The ids of a text that isn't the first. If a longer text begins with it and with them, the tokens after them
        are just those whose first character comes after it; None where that is not sure, or not to be expected."""
        if not (self._keeps_heads and text.isascii()):
            return None
        ids = self.ids(text, False)
        if not ids or ids[-1] in self._bytes:  # bytes of neighbouring unknown characters come with the place of all
            return None
        return ids if all(self.ids(text + more, False)[: len(ids)] == ids for more in "A猫") else None

    def _checked(self, ids: list[int]) -> list[int]:
        if not self._control.isdisjoint(ids):
            found = min(self._control.intersection(ids))
            raise ControlText(f"text becomes {self._names[found]!r}, a control token")
        return ids

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
                self.ids(text, first)


# What characters that the vocabulary lacks become, byte by byte
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}
# Of all that splits text before the model reads it, what leaves every character in it.
_KEEPING = {"Sequence", "ByteLevel", "Metaspace", "Digits", "keeping Split"}


def _reach(state: Mapping[str, Any]) -> int | None:
    """The most characters of normalised text that one token stands for; None if one may stand for any number.

    That is so where characters can be left out, or be unknown: a run of those is one token.
    """
    model, kinds = state["model"], list(_kinds(state["pre_tokenizer"]))
    words = [entry[0] for entry in model["vocab"]] if model["type"] == "Unigram" else list(model["vocab"])
    spelt = set(words)
    from_bytes = model.get("byte_fallback") and spelt >= _BYTES
    in_bytes = model["type"] == "BPE" and "ByteLevel" in kinds and _byte_alphabet() <= spelt
    greedy = any(token["lstrip"] or token["rstrip"] for token in state["added_tokens"])
    if not (from_bytes or in_bytes) or greedy or not set(kinds) <= _KEEPING:
        return None
    return max(map(len, [*words, *(token["content"] for token in state["added_tokens"])]))


def _keeps_heads(node: Mapping[str, Any] | None) -> bool:
    """Whether a normaliser does nothing at the end of ASCII text for what follows it that would leave the same text."""
    if node is None or node["type"] in ("NFC", "NFD", "NFKC", "NFKD", "Prepend"):
        return True
    if node["type"] == "Sequence":
        return all(map(_keeps_heads, node["normalizers"]))
    pattern = node.get("pattern") or {}
    regex = pattern.get("Regex", "")
    letter = pattern.get("String", regex if regex not in _NO_LETTERS else "")
    return node["type"] == "Replace" and (regex == _AT_START or len(letter) == 1)


# Where SentencePiece's mark is put before a text
_AT_START = "(?<!\\n)^"
_NO_LETTERS = set("\\^$.|?*+()[]{}")  # by themselves, to a regular expression


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
