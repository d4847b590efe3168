"""Questions about images from a JSONL file, their score, and the table that is shown.

Reads rows {"image": path, list of paths or null, "question", "answer"?, "kind"?, ...}; paths are relative to the
file's folder; other keys are carried along. Writes each row with "prediction" (and "correct", where there is an
answer) to a JSONL file, and a summary {"exact_match", "by_kind", ...} beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from train import log
from train.inference import asked
from train.inference.conversation import Conversation

Row = dict[str, Any]


class QuestionError(ValueError):
    """A questions file that can't be used: one line with file and line number."""


def read(path: Path, limit: int | None = None) -> list[Row]:
    """The rows of a file, at most `limit` of them. Raises QuestionError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionError(f"{path}: can't be read ({error}); give a JSONL file of questions") from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise QuestionError(f"{path}: no questions; each line is a JSON object with image and question")
    return [_row(f"{path}:{number}", line) for number, line in numbered[:limit]]


def check_place(path: Path) -> None:
    """Make the folder of the answers, before any is computed. Raises QuestionError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuestionError(f"{path}: can't be written there ({error.strerror}); give another --out") from None


def prompt(row: Row, folder: Path) -> Conversation:
    """What a row asks; image paths are relative to `folder`."""
    try:
        found = tuple((folder / name).read_bytes() for name in images(row))
        return Conversation((asked.user(row["question"], len(found)),), found)
    except OSError as error:
        raise QuestionError(
            f"{folder / str(error.filename)}: can't be read ({error.strerror}); mend the path"
        ) from None


def images(row: Row) -> list[str]:
    value = row.get("image")
    return [] if value is None else [value] if isinstance(value, str) else value


def score(rows: Sequence[Row], answers: Sequence[str]) -> list[Row]:
    """The rows with "prediction", and with "correct" where an answer is known: equal after stripping white space."""
    return [
        {**row, "prediction": answer, **({"correct": answer == row["answer"].strip()} if "answer" in row else {})}
        for row, answer in zip(rows, answers, strict=True)
    ]


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Exact match over all rows with an answer (null if there are none), and by kind."""
    by_kind: dict[str, list[bool]] = {}
    for row in rows:
        if "correct" in row:
            by_kind.setdefault(row.get("kind", "other"), []).append(row["correct"])
    return {
        "questions": len(rows),
        "exact_match": _share(list(chain.from_iterable(by_kind.values()))),
        "by_kind": {kind: _share(correct) for kind, correct in sorted(by_kind.items())},
    }


def write(path: Path, rows: Sequence[Row], summary: dict[str, Any]) -> Path:
    """Predictions to `path`, the summary beside it; returns the summary's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    beside = path.with_suffix(".summary.json")
    beside.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return beside


def show(rows: Sequence[Row], summary: dict[str, Any], most: int = 12) -> None:
    """A table of some rows, of all kinds in turn, and the scores; without known answers the model's alone."""
    console = log.console()
    if summary["exact_match"] is None:
        for row in rows[:most]:
            console.print(f"{row['question']}  ->  {row['prediction']}", markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(*(Column(name, overflow="fold") for name in ("image", "question", "answer", "model", "")))
    for row in _mixed(rows)[:most]:
        mark = {True: "right", False: "wrong", None: ""}[row.get("correct")]
        texts = (", ".join(images(row)), row["question"], row.get("answer", ""), row["prediction"], mark)
        table.add_row(*map(Text, texts))  # as they are: brackets are no markup
    console.print(table)
    kinds = "  ".join(f"{kind} {share:.1%}" for kind, share in summary["by_kind"].items())
    told = f"exact match {summary['exact_match']:.1%} of {summary['questions']:,} questions: {kinds}"
    console.print(told, markup=False, highlight=False, soft_wrap=True)


def _mixed(rows: Sequence[Row]) -> list[Row]:
    """All rows, taking kinds in turn."""
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.get("kind", "other"), []).append(row)
    return [row for turn in zip_longest(*by_kind.values()) for row in turn if row is not None]


def _share(correct: Sequence[bool]) -> float | None:
    return sum(correct) / len(correct) if correct else None


def _row(where: str, line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise QuestionError(f"{where}: not JSON ({error}); each line is an object with image and question") from None
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise QuestionError(f'{where}: got {line[:60]}, wanted an object with a text "question"')
    if not isinstance(row.get("answer", ""), str):
        raise QuestionError(f"{where}: answer is {row['answer']!r}, wanted text; put it in quotes")
    value = row.get("image")
    if not (value is None or isinstance(value, str) or _texts(value)):
        raise QuestionError(f"{where}: image is {value!r}, wanted a path, a list of paths or null")
    return row


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
