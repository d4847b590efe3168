"""Whether a text holds a benchmark's question or answer: n-grams found, of those that are this question's own.

The benchmark's text is laid out in n-grams that do not overlap (the last ends where the text ends), and each is looked
for anywhere in a message of the sample. So a question is found in whatever it is embedded, and one changed word costs
one n-gram: short texts must be there to the letter, of longer ones `coverage` will do. What has a number must be there
in any case, for with another number it is another question.

Many clean samples share a question with a benchmark ("What is the title of the book?"), and that is no leak:
- An n-gram that stands in more than eight samples of one benchmark is how that benchmark asks: it has to be there like
  the others, but makes no sample a candidate, and its words are not the text's own.
- A text counts from `min_words` words of its own on, and where the benchmark's sample has an image, without which its
  question is another one, from `min_words_with_image` on. A shorter question counts with its answer, if both are there
  and they are long enough together. An answer alone must always be as long as the question about an image.
- A text of less than one n-gram is no evidence at all, and nothing is kept of it.

The numbers are from published practice: n-grams of 8 (Llama 3 and Tulu 3, of tokens), 13 words as the least (the
13-grams of GPT-3 and lm-evaluation-harness). Tulu 3 and Cosmopedia call a text leaked if half of it is there; here it
is 0.8, since questions made from one template share halves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.filters.ngrams import Tokens, grams, has_digit, tokens
from stages.filters.text_key import texts
from stages.rounds import grouped

_COMMON = 8  # samples of one benchmark: an n-gram that more of them have is how it asks

_FLAGS = pa.list_(pa.bool_())  # of each n-gram: whether it has a number, whether too many samples have it
_LISTS = [("ngrams", pa.list_(pa.uint64())), ("numbered", _FLAGS), ("common", _FLAGS)]
PART = pa.struct([("words", pa.float32()), *_LISTS])
ROUNDS = pa.list_(pa.struct([("question", PART), ("answer", PART)]))


@dataclass(frozen=True)
class TextMatch:
    """When a text counts as a benchmark's: words of an n-gram, share of n-grams found, words that are evidence."""

    ngram: int = 8
    coverage: float = 0.8
    min_words: int = 13
    min_words_with_image: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage: got {self.coverage}, wanted a share above 0, at most 1")
        if self.ngram < 4:
            raise ValueError(f"ngram: got {self.ngram}, wanted at least 4 words; fewer are shared by chance")
        for key in ("min_words", "min_words_with_image"):
            if getattr(self, key) < self.ngram:
                raise ValueError(f"{key}: got {getattr(self, key)}, wanted at least ngram, {self.ngram}")


class Hit(NamedTuple):
    """The benchmark's sample whose text is found, how much of it, whether that is its answer alone, and its words."""

    sample_id: str
    overlap: float
    answer: bool
    words: float


# ---- what is kept of a benchmark


def sketched(conversations: Sequence[Sequence[Mapping[str, Any]]], n: int) -> list[list[dict[str, Any]]]:
    """What is kept of the texts of one benchmark's samples: their n-grams, round by round (ROUNDS)."""
    found = [[[tokens(text) for text in sides] for sides in _rounds(messages)] for messages in conversations]
    common = _common([[one for sides in rounds for one in sides] for rounds in found], n)
    names = ("question", "answer")
    return [
        [dict(zip(names, (_part(one, n, common) for one in sides), strict=True)) for sides in rounds]
        for rounds in found
    ]


def _rounds(messages: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Question and answer of every round."""
    for turns in grouped(messages)[1]:
        yield "\n".join(texts(turns, ("user",))), "\n".join(texts(turns, ("assistant",)))


def _common(samples: Sequence[Sequence[Tokens]], n: int) -> np.ndarray:
    """The n-grams that too many samples have, sorted."""
    each = [np.unique(np.concatenate([grams(one, n).hashes for one in some])) for some in samples if some]
    hashes, count = np.unique(np.concatenate([np.zeros(0, np.uint64), *each]), return_counts=True)
    return np.asarray(hashes[count > _COMMON])


def _part(found: Tokens, n: int, common: np.ndarray) -> dict[str, Any] | None:
    """A text's n-grams, laid out side by side, and the words of its own; None for a text that is no evidence."""
    every = grams(found, n)
    shared = np.isin(every.hashes, common)
    own = np.diff(found.weight)
    for start, end in zip(every.start[shared], every.end[shared], strict=True):
        own[start:end] = 0
    words = int(own.sum()) / 2
    chosen = _side_by_side(every.start, every.end)
    if words < n:
        return None
    spans = zip(every.start[chosen].tolist(), every.end[chosen].tolist(), strict=True)
    numbered = [any(map(has_digit, found.words[start:end])) for start, end in spans]
    hashes = every.hashes[chosen].tolist()
    return {"words": words, "ngrams": hashes, "numbered": numbered, "common": shared[chosen].tolist()}


def _side_by_side(start: np.ndarray, end: np.ndarray) -> list[int]:
    """Places of n-grams that follow each other, and of the last."""
    chosen, reached = list[int](), 0
    while (place := int(np.searchsorted(start, reached))) < len(start):
        chosen.append(place)
        reached = int(end[place])
    return chosen if not chosen or chosen[-1] == len(start) - 1 else [*chosen, len(start) - 1]


# ---- what a sample is compared with


class _Claim(NamedTuple):
    """Texts of a benchmark's sample that are a leak if all of them are there."""

    parts: tuple[int, ...]
    hit: Hit


class _Common(NamedTuple):
    """The common n-grams of a part, which are looked for only where others of it are found."""

    hashes: np.ndarray
    numbered: np.ndarray


class Texts(NamedTuple):
    """The texts of all benchmarks: sorted hashes, the part that each is of, whether it has a number; parts by claims.

    `total` and `numbers`: how many n-grams a part has, and how many of these have a number; `common`: of each part
    those that are not among the hashes.
    """

    hashes: np.ndarray
    part: np.ndarray
    numbered: np.ndarray
    total: np.ndarray
    numbers: np.ndarray
    common: list[_Common]
    claims: list[_Claim]
    of_part: list[list[int]]

    @classmethod
    def of(cls, samples: Iterable[tuple[str, bool, list[dict[str, Any]]]], match: TextMatch) -> Texts:
        """(sample_id, whether it has an image, ROUNDS) of every sample."""
        parts: list[dict[str, Any]] = []
        claims: list[_Claim] = []
        for sample_id, image, rounds in samples:
            least = match.min_words_with_image if image else match.min_words
            for sides in rounds:
                for answer, some in _claimed(sides, least, match):
                    places = tuple(range(len(parts), len(parts) + len(some)))
                    parts += some
                    claims.append(_Claim(places, Hit(sample_id, 1.0, answer, sum(one["words"] for one in some))))
        of_part: list[list[int]] = [[] for _ in parts]
        for number, claim in enumerate(claims):
            for part in claim.parts:
                of_part[part].append(number)
        hashes, numbered, common = (_flat(parts, name) for name in ("ngrams", "numbered", "common"))
        total = np.array([len(one["ngrams"]) for one in parts], np.int64)
        owner = np.repeat(np.arange(len(parts)), total)
        numbers = np.bincount(owner[numbered], minlength=len(parts))
        cut = np.cumsum(total)[:-1]
        each = [
            _Common(h[c], m[c]) for h, m, c in zip(*(np.split(x, cut) for x in (hashes, numbered, common)), strict=True)
        ]
        hashes, owner, numbered = hashes[~common], owner[~common], numbered[~common]
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], owner[order], numbered[order], total, numbers, each, claims, of_part)

    def found_in(self, conversations: Sequence[Sequence[Mapping[str, Any]]], n: int) -> list[Hit | None]:
        """Of each conversation the text that most of is there, the first of equals; None: of none there is any."""
        if not len(self.hashes):
            return [None] * len(conversations)
        own = [_own(messages, n) for messages in conversations]
        row = np.repeat(np.arange(len(own)), [len(hashes) for hashes in own])
        wanted = np.concatenate([np.zeros(0, np.uint64), *own])
        low, high = np.searchsorted(self.hashes, wanted), np.searchsorted(self.hashes, wanted, "right")
        times = high - low
        place = np.repeat(low - np.cumsum(times) + times, times) + np.arange(times.sum())
        shares = self._shares(np.repeat(row, times), place, own)
        return [self._best(shares.get(number, {})) for number in range(len(own))]

    def _shares(self, row: np.ndarray, place: np.ndarray, own: Sequence[np.ndarray]) -> dict[int, dict[int, float]]:
        """row -> part -> share of its n-grams that are there; 0 where one with a number is not."""
        pairs = row * len(self.total) + self.part[place]
        found, which, count = np.unique(pairs, return_inverse=True, return_counts=True)
        numbers = np.bincount(which[self.numbered[place]], minlength=len(found))
        shares: dict[int, dict[int, float]] = {}
        for pair, some, digits in zip(found.tolist(), count.tolist(), numbers.tolist(), strict=True):
            number, part = divmod(pair, len(self.total))
            also = np.isin(self.common[part].hashes, own[number])
            missed = self.numbers[part] - digits - int(self.common[part].numbered[also].sum())
            share = (some + int(also.sum())) / int(self.total[part])
            shares.setdefault(number, {})[part] = 0.0 if missed else share
        return shares

    def _best(self, shares: Mapping[int, float]) -> Hit | None:
        best: Hit | None = None
        for number in sorted({claim for part in shares for claim in self.of_part[part]}):
            claim = self.claims[number]
            overlap = min(shares.get(part, 0.0) for part in claim.parts)
            if overlap > (best.overlap if best else 0.0):
                best = claim.hit._replace(overlap=overlap)
        return best


def _flat(parts: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """A list of every part, one after the other."""
    kind = np.uint64 if name == "ngrams" else np.bool_
    return np.array([value for one in parts for value in one[name]], kind)


def _claimed(sides: Mapping[str, Any], least: int, match: TextMatch) -> Iterable[tuple[bool, list[dict[str, Any]]]]:
    """(whether it is the answer alone, its texts) of all that is evidence in a round."""
    question, answer = sides["question"], sides["answer"]
    if question and question["words"] >= least:
        yield False, [question]
    elif question and answer and question["words"] + answer["words"] >= least:
        yield False, [question, answer]
    if answer and answer["words"] >= match.min_words_with_image:
        yield True, [answer]


def _own(messages: Sequence[Mapping[str, Any]], n: int) -> np.ndarray:
    """The n-grams of a conversation, each once; none goes from one message into the next."""
    said = ("\n".join(texts([message])) for message in messages)
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *(grams(tokens(text), n).hashes for text in said)]))
