"""How a benchmark's answers are asked for and scored: what its declaration says, ingest records, evaluation reads.

The questions are SAMPLE rows (schemas/sample.py) with `references`, `choices` and `category`. A folder of them has
`facts["benchmark"]` in its manifest: {"name": ..., "scoring": the fields of Scoring, ...}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal[
    "exact_match",
    "anls",
    "relaxed_accuracy",
    "vqa_accuracy",
    "multiple_choice",
    "first_letter",
    "yes_no",
    "contains",
    "number",
    "judge",
]


@dataclass(frozen=True)
class Scoring:
    """
    metric          the rule, by its name (train/evaluate/metrics)
    prompt          what the model is asked: `{question}` stands for the question, `{choices}` for the options, one
                    "A. text" on each line; other braces are text
    max_new_tokens  of an answer
    """

    metric: Metric
    prompt: str = "{question}"
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        if "{question}" not in self.prompt:
            raise ValueError(f"prompt: got {self.prompt!r}, which has no {{question}}; put it where the question goes")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: got {self.max_new_tokens}, wanted at least 1")
