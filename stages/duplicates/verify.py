"""Candidates are decided by what the samples themselves hold: one function for each kind.

A kind has the columns of SAMPLE that it reads, and a function of the two samples. It answers with an Outcome: near, or
why not (near_misses.WHY).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stages.duplicates import minhash
from stages.duplicates.params import DedupeParams
from stages.duplicates.text_sketch import Text

Sample = Mapping[str, Any]
Place = tuple[int, int]


class Outcome(NamedTuple):
    """`why`: "" if the two are duplicates; the distance of their pictures, or the similarity of their texts."""

    why: str
    distance: int | None = None
    jaccard: float | None = None


@dataclass
class Verifier:
    """Decides the candidates of a few samples. What is made of a sample is made once."""

    params: DedupeParams
    _texts: dict[Place, Text] = field(default_factory=dict)

    def texts(self, left: tuple[Place, Sample], right: tuple[Place, Sample]) -> Outcome:
        a, b = self._text(*left), self._text(*right)
        if a.shape != b.shape:
            return Outcome("turns")
        sides = zip(a.grams, b.grams, strict=True)
        similarity = min((minhash.jaccard(x, y) for x, y in sides), default=1.0)
        if a.numbers != b.numbers:
            return Outcome("numbers", jaccard=similarity)
        return Outcome("" if similarity >= self.params.text.jaccard else "jaccard", jaccard=similarity)

    def _text(self, place: Place, sample: Sample) -> Text:
        if place not in self._texts:
            self._texts[place] = Text.of(sample["messages"], self.params.text.ngram)
        return self._texts[place]


class Kind(NamedTuple):
    """`columns`: what it reads of SAMPLE beside sketch.COLUMNS, in parquet's names."""

    decide: Callable[[Verifier, tuple[Place, Sample], tuple[Place, Sample]], Outcome]
    columns: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {"text": Kind(Verifier.texts)}
