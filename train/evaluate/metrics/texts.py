"""Texts against texts: equal, nearly equal by edits, or one within the other."""

from __future__ import annotations

from collections.abc import Sequence

ANLS_LEAST = 0.5


def exact_match(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if the answer is a reference, white space around both, case and full stops at the answer's end aside.

    lmms-eval's rule for RealWorldQA.
    """
    del options
    said = answer.strip().lower()
    return float(not {said, said.rstrip(".")}.isdisjoint(text.strip().lower() for text in references))


def anls(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """Average normalised Levenshtein similarity of one question: 1 - edits / length of the longer text, the best over
    the references, and 0 where that is below 0.5.

    Biten et al. 2019, "Scene Text Visual Question Answering", and the scorers of DocVQA and InfographicVQA: lower case,
    runs of white space are one space. The lengths are those of the normalised texts, as in the paper; lmms-eval divides
    by the texts' lengths before that, which differs only where they have white space too much.
    """
    del options
    best = max((_similarity(_plain(answer), _plain(text)) for text in references), default=0.0)
    return best if best >= ANLS_LEAST else 0.0


def contains(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if a reference stands in the answer, both in lower case, stripped, and with spaces for line breaks.

    OCRBench (Liu et al. 2023). Its formulas (HME100k) are compared without spaces and with their case. Its script knows
    them by their data set; here they are known by a backslash, which is LaTeX, or by characters that all stand alone.
    """
    del options
    return float(any(_within(text, answer) for text in references))


def _within(reference: str, answer: str) -> bool:
    if _is_formula(reference):
        return "".join(reference.split()) in "".join(answer.split())
    wanted = _one_line(reference)
    return bool(wanted) and wanted in _one_line(answer)


def _is_formula(text: str) -> bool:
    parts = text.split()
    return "\\" in text or (len(parts) > 2 and all(len(part) == 1 for part in parts))


def _one_line(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _similarity(one: str, other: str) -> float:
    longest = max(len(one), len(other))
    return 1 - edits(one, other) / longest if longest else 1.0


def edits(one: str, other: str) -> int:
    """The Levenshtein distance: inserted, deleted and replaced characters."""
    before = list(range(len(other) + 1))
    for row, left in enumerate(one, start=1):
        now = [row]
        for column, right in enumerate(other, start=1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (left != right)))
        before = now
    return before[-1]
