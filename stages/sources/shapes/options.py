"""The options of a question as texts, and which of them an answer means.

They stand in one column, as a list or as one written as text (JSON, or as Python writes it), or in a column each. Their
places are their letters, so an option that is null between others stays as an empty one; those at the end that are
empty are none. An option that is no text and no number (an image) can't be put to a model as one, and costs the row.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import BadRow, Reading, listing, what_is

LETTERS = 26
_LETTER = re.compile(r"\(?([A-Za-z])\)?")
_NUMBER = re.compile(r"\d{1,3}")
_BROKEN = (ValueError, SyntaxError, MemoryError, RecursionError)


def options(record: Mapping[str, Any], reading: Reading) -> list[str]:
    """The options of a row; none where its source names no column of them, or the question is an open one."""
    if names := reading.of_several("choices"):
        return _texts([record.get(name) for name in names])
    given = listing(_parsed(reading.get(record, "choices")) or None, "choices") if reading.columns["choices"] else []
    found = _texts(given)
    if given and not found:
        raise BadRow("malformed_record", f"all of {len(given)} choices are empty")
    return found


def place(answer: Any, choices: list[str]) -> int:
    """Which of the options is the answer."""
    if isinstance(answer, str):
        number = _told(answer, choices)
    elif isinstance(answer, int) and not isinstance(answer, bool):
        number = answer
    else:
        raise BadRow("malformed_record", f"the answer is {what_is(answer)}, wanted one of the choices")
    if not 0 <= number < len(choices) or not choices[number]:
        raise BadRow("malformed_record", f"the answer {str(answer)[:60]!r} is none of {len(choices)} choices")
    return number


def letter(number: int) -> str:
    """What an option is called by its place, of those that have a letter."""
    return chr(ord("A") + number)


def as_text(value: Any, what: str) -> str:
    """A text, or a number as one; anything else is BadRow."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow("malformed_record", f"{what} is {what_is(value)}, wanted text")
    return str(value)


def as_list(value: Any) -> list[Any]:
    """What a text that is a written list holds (MMMU's open questions have such answers); else the value alone."""
    if isinstance(value, str) and value.strip()[:1] == "[":
        try:
            found = _written(value)
        except _BROKEN:
            return [value]
        return found if isinstance(found, list) and found else [value]
    return [value]


def _told(answer: str, choices: list[str]) -> int:
    said = answer.strip()
    if found := _LETTER.fullmatch(said):
        return ord(found[1].upper()) - ord("A")
    if _NUMBER.fullmatch(said):
        return int(said)
    return choices.index(answer) if answer in choices else -1


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return _written(value.strip() or "[]")
    except _BROKEN:
        raise BadRow("malformed_record", "choices are a text that is no list") from None


def _written(text: str) -> Any:
    """The value that a text is in JSON or else in Python; JSON comes first, for it alone knows null and true."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return ast.literal_eval(text.strip())


def _texts(given: list[Any]) -> list[str]:
    found = ["" if one is None or one != one else as_text(one, "a choice") for one in given]
    while found and not found[-1]:
        found.pop()
    return found
