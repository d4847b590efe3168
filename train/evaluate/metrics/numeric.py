"""Numbers: nearly equal ones of charts, and the last one of a calculation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

TOLERANCE = 0.05
_NUMBER = re.compile(r"[-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def relaxed_accuracy(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if both are numbers and the answer is at most 5 % of the reference away, or else if both texts are equal in
    lower case.

    Methani et al. 2020 and ChartQA (Masry et al. 2022, section 5.1), as its scorers in Qwen-VL and lmms-eval have it:
    "40%" is 0.4, so "40" is not right for it; a reference of 0 has to be met as text; years are numbers like others.
    White space around the texts is left out first.
    """
    del options
    return float(any(_near(answer.strip(), text.strip()) for text in references))


def _near(answer: str, reference: str) -> bool:
    given, wanted = _float(answer), _float(reference)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= TOLERANCE
    return answer.lower() == reference.lower()


def _float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def number(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if the last number of the answer is that of a reference.

    GSM8K (Cobbe et al. 2021) with the "flexible extract" of lm-evaluation-harness: a reference may be the worked
    solution that ends in "#### 18". Numbers are compared by value, so "18.00", "$18" and "1,000" are 18, 18 and 1000.
    """
    del options
    found = last_number(answer)
    return float(found is not None and any(found == last_number(text) for text in references))


def last_number(text: str) -> Decimal | None:
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None
