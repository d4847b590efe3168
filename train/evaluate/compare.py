"""Two runs on the same questions: what changed, and whether it may be chance.

Each is a folder that an evaluation wrote. Benchmarks of both are compared question by question; runs on other
questions, of another scoring or with questions unjudged are refused: no difference of theirs would mean anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from schemas import json_file
from schemas.strict import RecipeError
from train import log
from train.evaluate import answers_file, chance, table
from train.evaluate.runner import SUMMARY, answered
from train.evaluate.summary import Scored, fold, is_graded

_SAME = ("metric", "data", "scoring", "rotations")


def compared(first: Path, second: Path) -> dict[str, Any]:
    """What a comparison says of every benchmark that both have. Raises RecipeError."""
    theirs, ours = _summaries(first), _summaries(second)
    names = [name for name in theirs if name in ours]
    if not names:
        raise RecipeError(f"{first} and {second}: no benchmark is in both; evaluate both models on one")
    return {
        "first": theirs[names[0]]["model"] | {"run": str(first)},
        "second": ours[names[0]]["model"] | {"run": str(second)},
        "benchmarks": [_benchmark(name, (first, theirs[name]), (second, ours[name])) for name in names],
        "in_one_alone": sorted(theirs.keys() ^ ours.keys()),
    }


def _summaries(run: Path) -> dict[str, Any]:
    """The summaries in a run's folder, by benchmark."""
    if not run.is_dir():
        raise RecipeError(f"{run}: no such folder; give the --out of `python -m train evaluate`")
    found = {}
    for folder in answered(run):
        try:
            found[folder.name] = json_file.read(folder / SUMMARY)
        except ValueError:
            raise RecipeError(f"{folder / SUMMARY}: damaged; evaluate again") from None
    if not found:
        raise RecipeError(f"{run}: no evaluation in it; give the --out of `python -m train evaluate`")
    return found


def _benchmark(name: str, first: tuple[Path, Any], second: tuple[Path, Any]) -> dict[str, Any]:
    before, after = _scored(name, *first), _scored(name, *second)
    for key in _SAME:
        if first[1].get(key) != second[1].get(key):
            raise RecipeError(f"{name}: the two runs have another {key}; evaluate both in the same way")
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise RecipeError(f"{name}: {len(odd):,} questions are in one run alone ({odd[0]}); evaluate both on the same")
    pairs = [(before[key], after[key]) for key in before]
    scores = [one.score or 0.0 for one, _ in pairs], [other.score or 0.0 for _, other in pairs]
    metric = first[1]["metric"]
    found = chance.paired(*scores, is_graded(metric, [*scores[0], *scores[1]]))
    means = (sum(each) / len(pairs) for each in scores)
    changed = [_changed(*pair) for pair in pairs if pair[0].score != pair[1].score]
    told = {"benchmark": name, "metric": metric, "n": len(pairs)}
    return told | dict(zip(("first", "second"), means, strict=True)) | asdict(found) | {"changed": changed}


def _scored(name: str, run: Path, summary: Any) -> dict[str, Scored]:
    """The questions that the summary counts: the file may have more, of a higher limit."""
    questions = fold(answers_file.read(run / name / answers_file.ANSWERS))[: summary["n"]]
    if len(questions) != summary["n"]:
        raise RecipeError(f"{run / name}: has {len(questions):,} answers of {summary['n']:,}; evaluate again")
    if unjudged := sum(each.score is None for each in questions):
        raise RecipeError(f"{run / name}: {unjudged:,} questions wait for a judge; give --judge-verdicts first")
    return {each.first["sample_id"]: each for each in questions}


def _changed(before: Scored, after: Scored) -> dict[str, Any]:
    first, second = table.shown(before), table.shown(after)
    said = {name: {"answer": row["error"] or row["answer"]} for name, row in (("first", first), ("second", second))}
    said["first"]["score"], said["second"]["score"] = before.score, after.score
    asked = {key: first[key] for key in ("sample_id", "category", "prompt", "references")}
    return asked | said


def show(found: dict[str, Any], most: int = 6) -> None:
    """The table, and of each benchmark some of the questions that changed."""
    console = log.console()
    runs = [Column(Text(f"{found[run]['name']}\n{found[run]['run']}")) for run in ("first", "second")]
    scores = Table("benchmark", "questions", *runs, "difference", "95 %")
    for name in ("better", "worse", "p", "test"):
        scores.add_column(name)
    for each in found["benchmarks"]:
        scores.add_row(*map(Text, _cells(each)))
    console.print(scores)
    for each in found["benchmarks"]:
        for change in _some(each["changed"], most):
            first, second = (f"{change[run]['answer']} ({change[run]['score']:g})" for run in ("first", "second"))
            line = f"{each['benchmark']}: {change['prompt']}  [{' / '.join(change['references'])}]  {first} -> {second}"
            console.print(table.printable(" ".join(line.split())), markup=False, highlight=False, soft_wrap=True)
    if found["in_one_alone"]:
        console.print(f"in one run alone: {', '.join(found['in_one_alone'])}", markup=False, highlight=False)


def _cells(of: dict[str, Any]) -> tuple[str, ...]:
    # Where no question changed there is nothing to draw again, which is no proof that the two are equal
    within = f"{of['low']:+.1%} to {of['high']:+.1%}" if of["changed"] else "–"
    scores = (f"{of['first']:.1%}", f"{of['second']:.1%}", f"{of['difference']:+.1%}", within)
    return of["benchmark"], f"{of['n']:,}", *scores, str(of["better"]), str(of["worse"]), f"{of['p']:.4f}", of["test"]


def _some(changed: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Those that went wrong first."""
    return sorted(changed, key=lambda one: one["second"]["score"] - one["first"]["score"])[:most]
