"""Drop samples that teach nothing: empty turns, no answer at the end, low ratings, images too small or too long.

Reads messages, image_info and scores. Evidence: the numbers the rules look at. Every rule is off unless it can only
hit broken rows (empty questions and answers, a conversation that ends without an answer) or the recipe sets its number.
So the stage runs with its defaults unless the recipe says `quality: off`.

A conversation that ends in another turn than the assistant's is dropped whole: to cut the turn off would make another
sample of the row, and nothing here repairs. With `quality: off` that turn stays, as context without loss. A question
that is an image alone is not empty. Ratings are the source's own (FineVision's `*_min`, 1 to 5); its authors found that
thresholding on them never beat the unfiltered set, so there is no default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from stages.filters.text_key import texts
from stages.stage import Filter


@dataclass(frozen=True)
class QualityParams:
    """Numbers below or above which a sample is dropped; none means no limit."""

    min_scores: dict[str, float] = field(default_factory=dict)
    min_image_side: int = 1
    max_aspect: float | None = None
    max_characters: int | None = None


REASONS = {
    "empty_question": "a user turn says and shows nothing",
    "empty_answer": "an assistant turn says nothing",
    "no_last_answer": "the conversation does not end in an assistant turn",
    "low_rating": "the source rates it below a minimum of the recipe",
    "small_image": "an image's shorter side is below min_image_side",
    "extreme_aspect": "an image is longer than max_aspect times its width, or wider than that",
    "long_text": "more than max_characters of text",
}

EVIDENCE = pa.schema(
    [
        ("characters", pa.int32()),
        ("shortest_question", pa.int32()),
        ("shortest_answer", pa.int32()),
        ("last_role", pa.string()),
        ("smallest_side", pa.int32()),
        ("largest_aspect", pa.float32()),
    ]
)


def judge(table: pa.Table, params: QualityParams, loaded: None) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has messages, image_info, scores."""
    rows = table.select(["messages", "image_info", "scores"]).to_pylist()
    measured = [_measure(row["messages"], row["image_info"]) for row in rows]
    scores = [{score["name"]: score["value"] for score in row["scores"] or []} for row in rows]
    reasons = [_reason(m, rated, params) for m, rated in zip(measured, scores, strict=True)]
    return reasons, pa.Table.from_pylist(measured, schema=EVIDENCE)


def _measure(messages: list[dict[str, Any]], infos: list[dict[str, Any]]) -> dict[str, Any]:
    answers = [len(" ".join(texts([m])).strip()) for m in messages if m["role"] == "assistant"]
    questions = [len(" ".join(texts([m])).strip()) for m in messages if m["role"] == "user" and not _shows(m)]
    sides = [(info["width"], info["height"]) for info in infos]
    return {
        "characters": sum(map(len, texts(messages))),
        "shortest_question": min(questions, default=None),
        "shortest_answer": min(answers, default=0),
        "last_role": messages[-1]["role"] if messages else None,
        "smallest_side": min((min(side) for side in sides), default=None),
        "largest_aspect": max((max(side) / min(side) for side in sides), default=None),
    }


def _shows(message: dict[str, Any]) -> bool:
    return any(block["type"] == "image" for block in message["content"])


def _reason(measured: dict[str, Any], scores: dict[str, float], params: QualityParams) -> str | None:
    side, aspect = measured["smallest_side"], measured["largest_aspect"]
    checks = {
        "empty_question": measured["shortest_question"] == 0,
        "empty_answer": measured["shortest_answer"] == 0,
        "no_last_answer": measured["last_role"] != "assistant",
        "low_rating": any(scores[name] < least for name, least in params.min_scores.items() if name in scores),
        "small_image": side is not None and side < params.min_image_side,
        "extreme_aspect": None not in (aspect, params.max_aspect) and aspect > params.max_aspect,
        "long_text": params.max_characters is not None and measured["characters"] > params.max_characters,
    }
    return next((reason for reason, fails in checks.items() if fails), None)


QUALITY = Filter(
    name="quality",
    version=2,
    params=QualityParams,
    reasons=REASONS,
    columns=("messages", "image_info", "scores"),
    evidence=EVIDENCE,
    judge=judge,
    scores=lambda params: {"min_scores": params.min_scores},
)
