"""The rules by which an answer is scored, one function each: (answer, references, options) -> 0 to 1.

Each follows a published rule, which its docstring names, and says where it departs from it. An answer is right if it
is right by any of the references. `judge` is no rule of ours: a question of it has no score until a verdict is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from schemas.benchmark import Metric
from train.evaluate.metrics import choice, numeric, texts, vqa, yes_no

Rule = Callable[[str, Sequence[str], Sequence[str]], float]

RULES: Final[dict[Metric, Rule | None]] = {
    "exact_match": texts.exact_match,
    "anls": texts.anls,
    "contains": texts.contains,
    "relaxed_accuracy": numeric.relaxed_accuracy,
    "number": numeric.number,
    "vqa_accuracy": vqa.vqa_accuracy,
    "multiple_choice": choice.multiple_choice,
    "first_letter": choice.first_letter,
    "yes_no": yes_no.yes_no,
    "judge": None,
}
GRADED: Final[frozenset[Metric]] = frozenset({"anls", "vqa_accuracy", "judge"})
"""Rules whose scores lie between 0 and 1 too; of all others a score is 0 or 1."""

VERSION: Final = 2
"""Of the rules: raised when one of them scores an answer otherwise."""


def score(metric: Metric, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float | None:
    """None where a judge has to say."""
    rule = RULES[metric]
    return None if rule is None else rule(answer, references, options)
