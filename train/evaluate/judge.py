"""Questions that a judge scores: what it is asked, as JSONL, and its verdicts, read back from a file.

A request has a `custom_id` and a `body` in the shape of a chat completion, so that any program that fills in the name
of a model can send it; beside them `id`, `question`, `references` and `answer`. The id ends in a hash of the answer, so
a verdict on another answer is no verdict.

A verdict is a line {"id" or "custom_id": a request's custom_id, "score": 0 to 1}, or "verdict": "correct" or
"incorrect" in place of the score, or the line of a batch's output, whose reply is read as one of the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.strict import RecipeError

_TOLD = """You compare an answer with the reference of a question. Another wording, language or format is right if it \
says the same; an answer that lacks what is asked for, or adds what contradicts the reference, is wrong. Reply with \
one number alone: 1 for a right answer, 0 for a wrong one.

Question:
{question}

Reference:
{reference}

Answer:
{answer}"""
_WORDS = {"correct": 1.0, "right": 1.0, "yes": 1.0, "incorrect": 0.0, "wrong": 0.0, "no": 0.0}

Verdicts = Mapping[str, float]
"""Score by the id of a request."""


def request_id(benchmark: str, sample_id: str, answer: str) -> str:
    digest = hashlib.sha256(answer.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{benchmark}/{sample_id}@{digest}"


def request(benchmark: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a line of answers.jsonl."""
    told = _filled(question=row["prompt"], reference="\n".join(row["references"]), answer=row["answer"])
    return {
        "custom_id": request_id(benchmark, row["sample_id"], row["answer"]),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": told}], "temperature": 0},
        "id": row["sample_id"],
        "question": row["prompt"],
        "references": row["references"],
        "answer": row["answer"],
    }


def _filled(**fields: str) -> str:
    """Every field once, in order, so that braces of a question are text."""
    head, *rest = _TOLD.split("{")
    return head + "".join(fields[name] + text for name, _, text in (part.partition("}") for part in rest))


def scored(benchmark: str, rows: Sequence[dict[str, Any]], verdicts: Verdicts) -> list[dict[str, Any]]:
    """The rows with the scores of their verdicts. Raises RecipeError where a verdict is on another answer, or does not
    say on which."""
    ids = {request_id(benchmark, row["sample_id"], row["answer"]): row for row in rows if row["error"] is None}
    given = {row["sample_id"]: name for name, row in ids.items()}
    for name in verdicts:
        if name in given:
            raise RecipeError(
                f"{name}: a verdict by the id of a question; give the custom_id of its request, {given[name]}, which "
                "tells the answer too"
            )
        asked, at, _ = name.rpartition("@")
        sample_id = asked.removeprefix(f"{benchmark}/")
        if at and asked != sample_id and name not in ids and sample_id in given:
            raise RecipeError(
                f"{name}: a verdict on another answer of this question, whose request is {given[sample_id]} now; "
                "let the judge see the new requests"
            )
    found = {row["sample_id"]: verdicts[name] for name, row in ids.items() if name in verdicts}
    return [row | {"score": found[row["sample_id"]]} if row["sample_id"] in found else row for row in rows]


def read(path: Path) -> Verdicts:
    """The verdicts of a file. Raises RecipeError with file and line."""
    found: dict[str, float] = {}
    for where, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise RecipeError(f"{where}: not JSON; each line is an object with id and score") from None
        name = row.get("custom_id", row.get("id")) if isinstance(row, dict) else None
        if not isinstance(name, str):
            raise RecipeError(f"{where}: got {line[:60]}, wanted an object with the id of a request")
        score = _score(row)
        if score is None:
            raise RecipeError(
                f"{where}: {name} has no score from 0 to 1 and no verdict correct or incorrect; ask again"
            )
        if found.setdefault(name, score) != score:
            raise RecipeError(f"{where}: {name} has two verdicts, {found[name]:g} and {score:g}; leave one")
    return found


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: can't be read ({error}); give the judge's verdicts as JSONL") from None
    return ((f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _score(row: Mapping[str, Any]) -> float | None:
    """A verdict's score; of a batch's output the reply's."""
    given = row.get("score", row.get("verdict", _reply(row)))
    if isinstance(given, str):
        word = given.strip().strip(".*`").lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            given = float(word)
        except ValueError:
            return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return float(given) if is_number and 0 <= given <= 1 else None


def _reply(row: Mapping[str, Any]) -> Any:
    try:
        return row["response"]["body"]["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
