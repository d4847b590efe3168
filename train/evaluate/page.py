"""One self-contained page: the scores, and of each benchmark some questions with pictures, answers and references.

Misses first, chosen by a hash of their ids, so the same answers make the same page. It loads nothing from anywhere, all
text of a dataset is escaped, and what would run or load in spite of that is forbidden by its policy; the one script of
it, known by its hash, hides what a reader does not want to see.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from train.evaluate import pictures, table
from train.evaluate.metrics import choice
from train.evaluate.runner import Result
from train.evaluate.summary import Scored

_PAGE = Path(__file__).with_name("page.html.j2")
_SCRIPT = Path(__file__).with_name("page.js.html.j2")
_QUESTIONS, _LEAST = 600, 12  # on the whole page, and of each benchmark where there are many
_MISSES = 2 / 3  # of what is shown, where there are so many
_PICTURE_BYTES = 6 << 20
_MOST_TEXT = 2000


def rendered(results: dict[str, Any], of: Sequence[Result]) -> str:
    """The page of what results.json holds."""
    environment = Environment(loader=FileSystemLoader(_PAGE.parent), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": "{:,}".format, "percent": "{:.1%}".format, "short": _short}
    script = _SCRIPT.read_text(encoding="utf-8").strip()
    each = max(_LEAST, _QUESTIONS // max(1, len(of)))
    room = _PICTURE_BYTES // max(1, len(of))
    sections = [_section(number, result, each, room) for number, result in enumerate(of)]
    page = environment.get_template(_PAGE.name)
    return page.render(results=results, sections=sections, script=script, script_hash=_hash(script)) + "\n"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _section(number: int, result: Result, most: int, room: int) -> dict[str, Any]:
    """A benchmark's part of the page."""
    chosen = shown(result.questions, most)
    seen = pictures.of(result.benchmark, {each.first["sample_id"] for each in chosen}, room)
    categories = [*result.summary["by_category"]]
    cards = [_card(each, categories.index(each.category), seen) for each in chosen]
    return {"number": number, "summary": result.summary, "categories": categories, "cards": cards}


def _card(question: Scored, category: int, seen: dict[str, list[pictures.Picture]]) -> dict[str, Any]:
    row = table.shown(question)
    return {
        "mark": table.mark(question),
        "miss": question.score != 1,
        "category": category,
        "row": row,
        "references": [*dict.fromkeys(_named(text, row["choices"]) for text in row["references"])],
        "pictures": seen.get(question.first["sample_id"], []),
    }


def _named(reference: str, options: Sequence[str]) -> str:
    """The letter of an option with its text."""
    known = dict(zip(choice.LETTERS, options, strict=False))
    return f"{reference}. {known[reference]}" if reference in known else reference


def shown(questions: Sequence[Scored], most: int) -> list[Scored]:
    """At most so many, two thirds of them misses if there are so many; those first, else in the benchmark's order."""
    drawn = sorted(questions, key=lambda each: hashlib.blake2b(each.first["sample_id"].encode()).digest())
    misses, hits = [q for q in drawn if q.score != 1], [q for q in drawn if q.score == 1]
    few = max(round(most * _MISSES), most - len(hits))
    chosen = {id(each) for each in misses[:few] + hits[: most - min(few, len(misses))]}
    return sorted((each for each in questions if id(each) in chosen), key=lambda each: each.score == 1)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
