"""Text as filters compare it: one normal form, and the words of a sample without its markup."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """Characters of full and half width as one (but no others that NFKC joins: x² is not x2), composed, case folded,
    runs of white space as one blank: the form in which texts are compared."""
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text.translate(_widths()))).strip().casefold()


@functools.cache
def _widths() -> dict[int, int]:
    """Of every character of full or half width the usual one."""
    told = ((code, unicodedata.decomposition(chr(code)).split()) for code in range(0x3000, 0x10000))
    return {code: int(parts[1], 16) for code, parts in told if parts[:1] in (["<wide>"], ["<narrow>"])}


def texts(messages: Sequence[Mapping[str, Any]], roles: Iterable[str] = ("system", "user", "assistant")) -> list[str]:
    """The text blocks of a conversation, in order, of the given roles."""
    wanted = set(roles)
    return [b["text"] for m in messages if m["role"] in wanted for b in m["content"] if b["type"] == "text"]


def conversation_key(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """16-byte key of a whole conversation: roles, normalised texts and the number of images per turn."""
    digest = hashlib.sha256()
    for message in messages:
        text = normalise("\n".join(b["text"] for b in message["content"] if b["type"] == "text"))
        num_images = sum(b["type"] == "image" for b in message["content"])
        # The length keeps a text with NULs in it from passing as several turns
        digest.update(f"{message['role']}\0{num_images}\0{len(text)}\0{text}\0".encode("utf-8", "surrogatepass"))
    return digest.digest()[:16]
