"""`answers.jsonl` of a benchmark: every answer as it comes, so that a killed run goes on where it was.

    sample_id, rotation       what was asked; rotation is 0 unless options are rotated
    category, images          of the question; the pictures by their names
    prompt                    the text that the model was asked
    choices, references       in this rotation's order
    answer, finish, error     what came, why it ended, and why there is no answer
    tokens                    of the answer
    score                     0 to 1; null without an answer, and until a judge has said

`asked.json` beside it says of which model, benchmark and scoring the answers are; those of others are refused.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas import json_file
from schemas.strict import RecipeError
from train import log
from train.evaluate import metrics
from train.evaluate.asking import Asked
from train.inference.conversation import Answer

ANSWERS, ASKED, LOCK = "answers.jsonl", "asked.json", ".lock"
Row = dict[str, Any]
Key = tuple[str, int]


def row_of(asked: Asked, answer: Answer, metric: metrics.Metric) -> Row:
    """A line of the file."""
    failed = answer.error is not None or answer.finish == "error"
    error = (answer.error or "no answer, and no reason given") if failed else None
    return {
        "sample_id": asked.question.sample_id,
        "rotation": asked.rotation,
        "category": asked.question.category,
        "images": list(asked.question.names),
        "prompt": asked.prompt,
        "choices": list(asked.choices),
        "references": list(asked.references),
        "answer": "" if failed else answer.text,
        "finish": "error" if failed else answer.finish,
        "error": error,
        "tokens": answer.tokens,
        "score": None if failed else metrics.score(metric, answer.text, asked.references, asked.choices),
    }


def key_of(row: Row) -> Key:
    return row["sample_id"], row["rotation"]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else answers into the folder meanwhile. Raises RecipeError if somebody does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecipeError(f"{folder}: another evaluation writes there; wait for it or give another --out") from None
        yield


class AnswersFile:
    """The answers of one benchmark, those from before first."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Raises RecipeError where the folder has the answers of another model or to other questions."""
        self.path = folder / ANSWERS
        _claim(folder / ASKED, identity)
        self.rows = {key_of(row): row for row in read(self.path)}
        log.replace(self.path, "".join(map(_line, self.rows.values())))

    def add(self, row: Row) -> None:
        self.rows[key_of(row)] = row
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(row))

    def finish(self, rows: Sequence[Row]) -> None:
        """The same lines whatever order the answers came in: `rows` first, then those that were not asked for now."""
        new = {key_of(row): row for row in rows}
        self.rows = new | {key: row for key, row in self.rows.items() if key not in new}
        log.replace(self.path, "".join(map(_line, self.rows.values())))


def read(path: Path) -> list[Row]:
    """The whole lines of a file of answers; none where there is no file."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [row for line in text.split("\n") if (row := _row(line)) is not None]


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("sample_id"), str) and "score" in row else None


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _claim(path: Path, identity: dict[str, Any]) -> None:
    """Say whose the answers are, or refuse."""
    if not path.exists():
        if (path.parent / ANSWERS).exists():
            raise RecipeError(f"{path.parent}: has answers and no {ASKED}; move them away or give another --out")
        log.replace(path, json.dumps(identity, indent=2, ensure_ascii=False) + "\n")
        return
    try:
        theirs = json_file.read(path)
    except ValueError:
        theirs = None
    if not isinstance(theirs, dict):
        raise RecipeError(f"{path}: damaged; delete {path.parent} or give another --out")
    differs = next((key for key in identity if theirs.get(key) != identity[key]), None)
    if differs:
        raise RecipeError(
            f"{path.parent}: has answers of another {differs} ({_brief(theirs.get(differs))}, now "
            f"{_brief(identity[differs])}); give another --out, or delete it"
        )


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:99]}…"
