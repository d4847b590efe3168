"""Yes or no: what an answer says, and the figures that POPE reports of many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NO = {"no", "not", "いいえ", "いない"}
_SENTENCE = re.compile(r"[.。\n]")


def yes_no(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if the answer says what the reference says."""
    del options
    return float(any(says_yes(answer) == says_yes(text) for text in references))


def says_yes(text: str) -> bool:
    """POPE's rule (Li et al. 2023, its `evaluate.py`): an answer is no if its first sentence has the word "no" or
    "not", and else yes. Here in any case, and いいえ is a no.

    (lmms-eval compares the whole answer with the label, so "Yes, there is." is wrong there.)
    """
    words = _SENTENCE.split(text.strip().lower(), maxsplit=1)[0].replace(",", "").replace("、", " ").split()
    return not any(word.strip("!?\"'*()") in _NO or word.startswith("いいえ") for word in words)


def figures(pairs: Iterable[tuple[bool, bool]]) -> dict[str, float]:
    """Accuracy, precision, recall, F1 and share of yes from (what is said, what is so); yes is positive.

    A share of nothing is 0, as in lmms-eval (POPE's own script divides by zero).
    """
    found = list(pairs)
    hits = sum(said and so for said, so in found)
    said_yes, are_yes = sum(said for said, _ in found), sum(so for _, so in found)
    precision, recall = _share(hits, said_yes), _share(hits, are_yes)
    return {
        "accuracy": _share(sum(said == so for said, so in found), len(found)),
        "precision": precision,
        "recall": recall,
        "f1": _share(2 * precision * recall, precision + recall),
        "yes_ratio": _share(said_yes, len(found)),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
