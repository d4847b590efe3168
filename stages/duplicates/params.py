"""What counts as a duplicate, and which of several stays: the section `data.dedupe` of a recipe.

unit    sample: the same pictures in the same order and the same conversation. The same picture with another question is
        another sample. Samples without pictures are duplicates if their texts are equal or near
        image: the same pictures in the same order, whatever is said of them; for sets of captions. Without pictures,
        equal texts
        text: equal or near texts, for sets of text; samples with pictures take no part and are never duplicates
text    when texts are near, see TextMatch
prefer  who stays of samples that are duplicates, the first key that tells deciding: `source`, the recipe's order of
        sources; `resolution`, the most pixels; `rating`, the highest mean of what the source rates; last of all,
        always, a hash of the content, so that neither names nor their order decide
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stages.filters.image_match import Match

Unit = Literal["sample", "image", "text"]
Key = Literal["source", "resolution", "rating"]


@dataclass(frozen=True)
class TextMatch:
    """When two texts are near: turn by turn the same roles, the same numbers, and enough n-grams in common.

    bands, rows  what brings two texts together: one of so many bands of so many MinHashes that is equal. The default
                 finds 90 % of texts with a similarity of 0.8, 99 % with 0.85
    jaccard      least similarity of the n-grams, in every turn; 1: only equal texts are duplicates
    ngram        tokens of an n-gram: words, or characters of a script without spaces. Turns with fewer must be equal
    """

    bands: int = 20
    rows: int = 10
    jaccard: float = 0.8
    ngram: int = 5

    def __post_init__(self) -> None:
        for name, most in (("bands", 256), ("rows", 64), ("ngram", 64)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted 1 to {most}")
        if not 0 < self.jaccard <= 1:
            raise ValueError(f"jaccard: got {self.jaccard}, wanted more than 0 and at most 1")


@dataclass(frozen=True)
class DedupeParams:
    """See above."""

    unit: Unit = "sample"
    match: Match = field(default_factory=Match)
    text: TextMatch = field(default_factory=TextMatch)
    prefer: tuple[Key, ...] = ("source", "resolution", "rating")

    def __post_init__(self) -> None:
        if len(set(self.prefer)) < len(self.prefer):
            raise ValueError(f"prefer: got {', '.join(self.prefer)}, wanted each key once at the most")

    @property
    def near_texts(self) -> bool:
        """Whether texts that are not equal may be duplicates."""
        return self.unit != "image" and self.text.jaccard < 1
