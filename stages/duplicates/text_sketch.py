"""A conversation without pictures -> what makes it near another one: its frame, and its n-grams turn by turn.

The frame must be equal: the roles, the numbers of every turn in their order, and the whole of every turn that is too
short for n-grams. So texts that differ in a digit, a kanji
numeral or an English number word are never near, nor is a question whose answer is "yes" and not "no".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.duplicates import minhash
from stages.duplicates.params import TextMatch
from stages.filters.text_key import conversation_key, normalise

BANDS = pa.schema(
    [
        ("key", pa.uint64()),
        ("part", pa.int32()),
        ("row", pa.int32()),
        ("frame", pa.uint32()),
        ("content", pa.uint32()),
        ("size", pa.int32()),
    ]
)
"""A band of a text: 28 bytes, for there are twenty of each. `frame`, `content`: first bits of the hashes of its frame
and of the whole; `size`: how many n-grams it has."""

_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|"
    "nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|billion"
)
_NUMBER = re.compile(rf"\d+|[¹²³⁰-⁹₀-₉]+|[〇零一二三四五六七八九十百千万億兆壱弐参萬亿两]+|\b(?:{_WORDS})\b")


class Text(NamedTuple):
    """`grams`: of every turn, none where it is short; `shape` and `numbers` together are the frame."""

    said: bytes
    shape: bytes
    numbers: bytes
    grams: list[np.ndarray]

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]], ngram: int) -> Text:
        shape, numbers, grams = hashlib.sha256(), hashlib.sha256(), []
        for message in messages:
            text = normalise("\n".join(block["text"] for block in message["content"] if block["type"] == "text"))
            found = np.zeros(0, np.uint64)
            if len(text) <= minhash.MOST:
                found = minhash.ngrams(minhash.tokens(text), ngram)
            short = "" if len(found) else text
            for digest, told in ((shape, f"{message['role']}\0{len(short)}\0{short}"), (numbers, _numbers(text))):
                digest.update(f"{told}\0".encode("utf-8", "surrogatepass"))
            grams.append(found)
        return cls(conversation_key(messages), shape.digest(), numbers.digest(), grams)

    @property
    def size(self) -> int:
        return sum(map(len, self.grams))

    @property
    def frame(self) -> bytes:
        return hashlib.sha256(self.shape + self.numbers).digest()

    def all_grams(self) -> np.ndarray:
        """Those of all turns, in which an n-gram of one turn is another than that of the next."""
        turns = minhash.mixed(np.arange(1, len(self.grams) + 1, dtype=np.uint64))
        return np.concatenate([minhash.mixed(grams ^ turn) for grams, turn in zip(self.grams, turns, strict=True)])


def text_bands(samples: pa.Table, part: int, first: int, match: TextMatch) -> pa.Table:
    """BANDS rows of those samples that have no pictures, and n-grams."""
    signatures, found = [], []
    for number, sample in enumerate(samples.select(["messages", "image_info"]).to_pylist(), first):
        if sample["image_info"]:
            continue
        text = Text.of(sample["messages"], match.ngram)
        if text.size:
            signatures.append(minhash.signature(text.all_grams(), match.bands * match.rows))
            found.append((part, number, first_bits(text.frame), first_bits(content_hash(text.said)), text.size))
    if not found:
        return BANDS.empty_table()
    keys = minhash.bands(np.stack(signatures), match.bands).ravel()
    columns = [keys, *(np.repeat(column, match.bands) for column in np.array(found).T)]
    return pa.table([pa.array(a, kind) for a, kind in zip(columns, BANDS.types, strict=True)], schema=BANDS)


def content_hash(said: bytes, pictures: Iterable[str] = ()) -> bytes:
    """16 bytes of what a sample holds: the key of its conversation, and the sha256 of its pictures."""
    return hashlib.sha256(said + "".join(pictures).encode()).digest()[:16]


def first_bits(digest: bytes) -> int:
    """The first 32."""
    return int.from_bytes(digest[:4], "big")


def _numbers(text: str) -> str:
    return f"{_NUMBER.findall(text)}"
