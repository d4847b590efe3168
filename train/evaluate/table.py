"""Scores for people: on the terminal with some of the answers, and as a Markdown table over all benchmarks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from train import log
from train.evaluate.runner import Result
from train.evaluate.summary import Scored

Summary = dict[str, Any]
_MARKDOWN = re.compile(r"([\\`*_\[\]|<>&~$])")


def show(results: Sequence[Result], most: int = 12) -> None:
    """Of each benchmark some rows, misses first and of all categories in turn, and its score by category."""
    for result in results:
        console = log.console()
        columns = (Column(name, overflow="fold") for name in ("image", "question", "answer", "model", ""))
        table = Table(*columns, title=Text(result.benchmark.name))
        for question in _telling(result.questions, most):
            table.add_row(*(Text(printable(text)) for text in _cells(question)))
        console.print(table)
        for line in _told(result.summary):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def mark(question: Scored) -> str:
    """What became of it, in a word."""
    if question.failed:
        return "failed"
    if question.score is None:
        return "unjudged"
    return {1.0: "right", 0.0: "wrong"}.get(question.score, f"{question.score:.2f}")


def shown(question: Scored) -> Any:
    """The row that tells most: of several rotations one that is wrong."""
    return min(question.rows, key=lambda row: -1.0 if row["error"] else 2.0 if row["score"] is None else row["score"])


def _cells(question: Scored) -> tuple[str, ...]:
    row = shown(question)
    said = row["error"] or row["answer"]
    return ", ".join(row["images"]), row["prompt"], " / ".join(dict.fromkeys(row["references"])), said, mark(question)


def _telling(questions: Sequence[Scored], most: int) -> list[Scored]:
    """At most half of them misses, if there are enough others."""
    misses, hits = (mixed([q for q in questions if (q.score == 1) is right]) for right in (False, True))
    return [*misses[: max(most // 2, most - len(hits))], *hits][:most]


def mixed(questions: Sequence[Scored]) -> list[Scored]:
    """All of them, taking categories in turn."""
    by_category: dict[str, list[Scored]] = {}
    for question in questions:
        by_category.setdefault(question.category, []).append(question)
    return [one for turn in zip_longest(*by_category.values()) for one in turn if one is not None]


def _told(summary: Summary) -> list[str]:
    categories = "  ".join(f"{printable(name)} {share(each)}" for name, each in summary["by_category"].items())
    lines = [f"{summary['metric']} {share(summary)} of {summary['n']:,} questions{_within(summary)}: {categories}"]
    if "figures" in summary:
        lines.append("  ".join(f"{name} {value:.1%}" for name, value in summary["figures"].items()))
    if summary["failed"]:
        first, times = next(iter(summary["errors"].items()))
        lines.append(f"{summary['failed']:,} failed and count as wrong; {times:,} x {printable(first)}")
    if summary["unjudged"]:
        lines.append(f"{summary['unjudged']:,} wait for a judge's verdict; until all are there, there is no score")
    return lines


def share(of: Summary) -> str:
    return "–" if of["score"] is None else f"{of['score']:.1%}"


def _within(of: Summary) -> str:
    if not (interval := of["interval"]):
        return ""
    return f" ({interval['low']:.1%} to {interval['high']:.1%}, {interval['method']})"


def printable(text: str) -> str:
    """Text of a dataset on a terminal: no character of it moves or colours anything."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def markdown(results: dict[str, Any]) -> str:
    """All benchmarks, then each by category."""
    lines = [f"# Scores of {_escaped(results['model']['name'])}", "", *_head()]
    for each in results["benchmarks"]:
        cells = (each["benchmark"], each["metric"], f"{each['n']:,}", share(each), _interval(each))
        counts = (str(each["failed"] or "–"), str(each["unjudged"] or "–"))
        lines.append(f"| {' | '.join(map(_escaped, (*cells, *counts)))} |")
    if (mean := results["mean"]) is not None and len(results["benchmarks"]) > 1:
        told = _escaped(f"{mean:.1%}")
        lines.append(f"| mean | | | {told} | | | |")
    for each in results["benchmarks"]:
        if len(each["by_category"]) > 1:
            title = _escaped(each["benchmark"])
            lines += ["", f"## {title}", "", "| category | questions | score | 95 % |"]
            lines += ["|---|--:|--:|--:|", *(_category(name, one) for name, one in each["by_category"].items())]
    return "\n".join(lines) + "\n"


def _head() -> tuple[str, str]:
    names = ("benchmark", "metric", "questions", "score", "95 %", "failed", "unjudged")
    return f"| {' | '.join(names)} |", "|---|---|--:|--:|--:|--:|--:|"


def _category(name: str, of: Summary) -> str:
    cells = (name, f"{of['n']:,}", share(of), _interval(of))
    return f"| {' | '.join(map(_escaped, cells))} |"


def _interval(of: Summary) -> str:
    return f"{of['interval']['low']:.1%} to {of['interval']['high']:.1%}" if of["interval"] else "–"


def _escaped(text: str) -> str:
    """Text of a dataset in a cell of Markdown."""
    return _MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))
