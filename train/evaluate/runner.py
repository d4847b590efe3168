"""A model's answers to a benchmark, as they come, and their score.

    <out>/<benchmark>/answers.jsonl  asked.json  summary.json

Rows are read while answers are made, a few pictures in memory at a time. Started again it asks what is not answered
yet; with all answers there the model is not even opened, as when a judge's verdicts come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from schemas.strict import RecipeError
from train import log
from train.evaluate import answers_file, asking, judge, metrics
from train.evaluate.answers_file import AnswersFile, Key, Row, row_of
from train.evaluate.asking import Asked
from train.evaluate.benchmark import Benchmark
from train.evaluate.judge import Verdicts
from train.evaluate.summary import EvaluationError, Scored, fold, summarise
from train.inference.conversation import Answers, Conversation, Sampling

SUMMARY = "summary.json"
Told = Callable[[Row], None]


@dataclass(frozen=True)
class How:
    """`limit`: only the first so many questions. `rotations`: options in every rotation. `verdicts`: a judge's."""

    limit: int | None = None
    rotations: bool = False
    verdicts: Verdicts = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    benchmark: Benchmark
    questions: list[Scored]
    summary: dict[str, Any]


def evaluate(
    opened: Callable[[], Answers],
    model: dict[str, Any],
    benchmark: Benchmark,
    out: Path,
    how: How | None = None,
    told: Told = lambda row: None,
) -> Result:
    """`opened` makes the one who answers, if there is anything to answer; `model` is its identity; `told` hears of
    every new row. Raises RecipeError where `out` has answers of others."""
    with answers_file.held(out / benchmark.name):
        return _evaluated(opened, model, benchmark, out / benchmark.name, how or How(), told)


def _evaluated(
    opened: Callable[[], Answers], model: dict[str, Any], benchmark: Benchmark, folder: Path, how: How, told: Told
) -> Result:
    identity = _identity(model, benchmark, how)
    file = AnswersFile(folder, identity)
    keys: list[Key] = []
    left = _left(benchmark, how, file, keys)
    if (first := next(left, None)) is not None:
        _answer(opened(), chain([first], left), benchmark, file, told)
    if more := len(file.rows.keys() - {*keys}):
        raise RecipeError(
            f"{folder}: has answers to {more:,} questions more than --limit {how.limit} asks; give another --out"
        )
    if lost := [key for key in keys if key not in file.rows]:
        raise EvaluationError(f"{benchmark.name}: {len(lost):,} questions got no answer, the first is {lost[0][0]}")
    rows = judge.scored(benchmark.name, [file.rows[key] for key in keys], how.verdicts)
    file.finish(rows)
    wanted = benchmark.rows if how.limit is None else min(how.limit, benchmark.rows)
    told_of = identity | {"model": model}
    summary = summarise(benchmark.name, benchmark.scoring, questions := fold(rows), wanted, told_of)
    log.replace(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return Result(benchmark, questions, summary)


def _identity(model: dict[str, Any], benchmark: Benchmark, how: How) -> dict[str, Any]:
    """What makes answers others; a model may be renamed."""
    scoring = asdict(benchmark.scoring) | {"rules": metrics.VERSION}
    rotated = how.rotations and benchmark.scoring.metric == "multiple_choice"
    return {"model": model["content"], "data": benchmark.identity, "scoring": scoring, "rotations": rotated}


def _left(benchmark: Benchmark, how: How, file: AnswersFile, keys: list[Key]) -> Iterator[Asked]:
    """What has no answer yet; the keys of all that is asked are added to `keys`."""
    for asked in asking.asks(benchmark.questions(how.limit), benchmark.scoring, how.rotations):
        keys.append(asked.key)
        if asked.key not in file.rows:
            yield asked


def _answer(answers: Answers, left: Iterable[Asked], benchmark: Benchmark, file: AnswersFile, told: Told) -> None:
    waiting: dict[int, Asked] = {}

    def conversations() -> Iterator[Conversation]:
        for number, asked in enumerate(left):
            waiting[number] = asking.without_images(asked)
            yield asked.conversation

    sampling = Sampling(max_new_tokens=benchmark.scoring.max_new_tokens)
    for number, answer in answers.answers(conversations(), sampling):
        row = row_of(waiting.pop(number), answer, benchmark.scoring.metric)
        file.add(row)
        told(row)


def answered(out: Path) -> list[Path]:
    """The folders of benchmarks with a score, in order; what else lies there is none of them, such as a run."""
    return sorted(path.parent for path in out.glob(f"*/{SUMMARY}") if (path.parent / answers_file.ASKED).is_file())


def requests(results: Iterable[Result]) -> list[dict[str, Any]]:
    """What a judge still has to say."""
    return [
        judge.request(result.benchmark.name, row)
        for result in results
        for question in result.questions
        for row in question.rows
        if row["error"] is None and row["score"] is None
    ]
