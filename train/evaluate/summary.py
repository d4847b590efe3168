"""The answers to a benchmark -> its score: how many, how sure, by category, and what failed.

A question is scored, failed (no answer: it counts as wrong) or unjudged; together they are all that were asked, which
is checked. Asked once for each rotation of its options it is right only if all are, as in MMBench's CircularEval. While
one is unjudged there is no score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from schemas.benchmark import Metric, Scoring
from train.evaluate import chance, metrics
from train.evaluate.answers_file import Row
from train.evaluate.metrics import yes_no

NO_CATEGORY = "other"
_TOLD = 5  # errors, by how often


class EvaluationError(RuntimeError):
    """An evaluation that can't be trusted or gone on with: one line."""


@dataclass(frozen=True)
class Scored:
    """A question with the rows of all its rotations. `score` is None while it is unjudged."""

    rows: tuple[Row, ...]
    score: float | None

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def failed(self) -> bool:
        return any(row["error"] is not None for row in self.rows)

    @property
    def category(self) -> str:
        return self.first["category"] or NO_CATEGORY


def fold(rows: Sequence[Row]) -> list[Scored]:
    """Rows of answers -> questions, in the order of their first rows."""
    by_id: dict[str, list[Row]] = {}
    for row in rows:
        by_id.setdefault(row["sample_id"], []).append(row)
    return [Scored(tuple(each), _score(each)) for each in by_id.values()]


def _score(rows: Sequence[Row]) -> float | None:
    if any(row["error"] is not None for row in rows):
        return 0.0
    scores = [row["score"] for row in rows]
    return None if None in scores else min(scores)


def summarise(
    name: str, scoring: Scoring, questions: Sequence[Scored], wanted: int, identity: dict[str, Any]
) -> dict[str, Any]:
    """What summary.json holds. `wanted`: how many rows of the benchmark were asked for."""
    failed = sum(each.failed for each in questions)
    unjudged = sum(each.score is None for each in questions)
    scored = sum(each.score is not None and not each.failed for each in questions)
    if not scored + failed + unjudged == len(questions) == wanted:
        raise EvaluationError(
            f"{name}: questions are lost: {wanted} in, {scored} scored + {failed} failed + {unjudged} unjudged; "
            "two of them have one sample_id, or its ingest is damaged: run it again"
        )
    categories = sorted({each.category for each in questions})
    by = {name: _figures([one for one in questions if one.category == name], scoring.metric) for name in categories}
    rows = [row for each in questions for row in each.rows]
    errors = Counter(row["error"] for row in rows if row["error"] is not None)
    return {
        "benchmark": name,
        "metric": scoring.metric,
        **_figures(questions, scoring.metric),
        "scored": scored,
        "failed": failed,
        "unjudged": unjudged,
        "cut_short": sum(row["finish"] == "length" for row in rows),
        "errors": dict(errors.most_common(_TOLD)),
        "by_category": by,
        **identity,
    }


def _figures(questions: Sequence[Scored], metric: Metric) -> dict[str, Any]:
    """Number, score, interval, and what else the metric reports."""
    scores = [each.score for each in questions if each.score is not None]
    whole = bool(scores) and len(scores) == len(questions)
    found: dict[str, Any] = {"n": len(questions), "score": sum(scores) / len(scores) if whole else None}
    interval = chance.interval(scores, is_graded(metric, scores)) if whole else None
    found["interval"] = asdict(interval) if interval else None
    if metric == "yes_no":
        found["figures"] = yes_no.figures(_pair(each) for each in questions)
    return found


def is_graded(metric: Metric, scores: Sequence[float]) -> bool:
    return metric in metrics.GRADED and any(score not in (0, 1) for score in scores)


def _pair(question: Scored) -> tuple[bool, bool]:
    """What is said and what is so; who says nothing is wrong."""
    row = question.first
    so = yes_no.says_yes(row["references"][0]) if row["references"] else True
    return (not so if question.failed else yes_no.says_yes(row["answer"])), so
