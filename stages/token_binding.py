"""Tokens at the ids that a published system has them at.

A checkpoint's rows of embeddings are learnt under fixed ids, so its image tokens must come to exactly these: a reserved
token that the tokenizer holds there is renamed, a free id beyond its last is filled up to (as Molmo's and Jina's
tokenizers are). An id that an ordinary token has, a token that has another id, an id that can't be reached: refused.
Tokens without a wanted id take the next free one. What is bound is part of the tokenizer and is saved with it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.tokenizer_folder import ChatError, opened

# What makers of tokenizers call the ones they keep free
_RESERVED = re.compile(r"\W*(reserved|unused|extra|placeholder|dummy|special|control)\w*?_?\d+\W*", re.IGNORECASE)
_BRACKETS = re.compile(r"\W*[<\[].*[>\]]\W*")
_FILLED = 4096  # free ids that are filled to reach a wanted one; embeddings are padded by a few hundred
_CURE = (
    "take the tokenizer of the system that has these ids, or change `tokens.ids` in a copy of the recipe "
    "(without it the next free ones serve)"
)


def bound(tokenizer: Any, names: Iterable[str], ids: Mapping[str, int]) -> Any:
    """The tokenizer with these special tokens, those in `ids` at their ids. Raises ChatError."""
    names = list(names)
    if words := [name for name in names if name not in ids and _is_word(tokenizer, name)]:
        raise ChatError(
            f"the token {words[0]!r} is a word of texts to this tokenizer; name one that is none, such as <image>, or "
            "give its id in `tokens.ids` if it is to be this one"
        )
    renamed, new = _plan(tokenizer, ids)
    if renamed:
        tokenizer = _rename(tokenizer, renamed)
    _add(tokenizer, [name for name in ids if name not in new.values()])  # words of the vocabulary become special
    _add(tokenizer, _up_to(_free(tokenizer), new))
    _add(tokenizer, [name for name in names if name not in ids])
    for name, number in ids.items():
        if (found := tokenizer.convert_tokens_to_ids(name)) != number:
            raise ChatError(f"the token {name!r} comes to the id {found} in this tokenizer, wanted {number}; {_CURE}")
    return tokenizer


def _plan(tokenizer: Any, ids: Mapping[str, int]) -> tuple[dict[str, str], dict[int, str]]:
    """Reserved tokens by what they become, and new tokens by their ids. Raises ChatError."""
    vocabulary = tokenizer.get_vocab()
    holders, free = {number: name for name, number in vocabulary.items()}, _free(tokenizer)
    renamed, new = {}, {}
    for name, number in ids.items():
        if vocabulary.get(name, number) != number:
            raise ChatError(
                f"the token {name!r} has the id {vocabulary[name]} in this tokenizer, wanted {number}; {_CURE}"
            )
        holder = holders.get(number)
        if holder is None:
            if not 0 <= number - free < _FILLED:
                raise ChatError(
                    f"the token {name!r} can't have the id {number}: the tokenizer's free ids begin at {free}, and at "
                    f"most {_FILLED:,} of them are filled; {_CURE}"
                )
            new[number] = name
        elif holder != name:
            if not _reserved(tokenizer, holder):
                raise ChatError(f"the token {name!r} can't have the id {number}: it belongs to {holder!r}; {_CURE}")
            renamed[holder] = name
    return renamed, new


def _reserved(tokenizer: Any, holder: str) -> bool:
    """Whether a token is one that the tokenizer's makers keep free: by its name, and no word of a text."""
    no_word = holder in tokenizer.get_added_vocab() or _BRACKETS.fullmatch(holder)
    return bool(no_word and _RESERVED.fullmatch(holder))


def _is_word(tokenizer: Any, name: str) -> bool:
    """Whether a token stands for text, and for nothing else: as a control token it would be cut out of every text."""
    known = name in tokenizer.get_vocab() and name not in tokenizer.get_added_vocab()
    return known and not _BRACKETS.fullmatch(name)


def _free(tokenizer: Any) -> int:
    return int(max(tokenizer.get_vocab().values(), default=-1)) + 1


def _up_to(free: int, new: Mapping[int, str]) -> list[str]:
    """What to add, one id after the other, so that the new tokens come to theirs."""
    return [new.get(number, f"<|unused_{number}|>") for number in range(free, max(new, default=-1) + 1)]


def _add(tokenizer: Any, names: list[str]) -> None:
    if names:
        tokenizer.add_special_tokens({"additional_special_tokens": names}, replace_extra_special_tokens=False)


def _rename(tokenizer: Any, renamed: Mapping[str, str]) -> Any:
    """The tokenizer with other names for some tokens: written, renamed wherever its files say one, and read again."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).glob("*.json"):
            told = _replaced(json.loads(path.read_text(encoding="utf-8")), renamed)
            path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        with opened(folder) as again:
            return again


def _replaced(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {renamed.get(key, key): _replaced(inner, renamed) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, renamed) for inner in value]
    return renamed.get(value, value) if isinstance(value, str) else value
