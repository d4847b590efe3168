"""One question and one answer per row, with its images or none, in columns of any name.

The shape of most visual question answering tables, and of data whose published schema is not known yet: say in the
recipe which column is which (`columns: {question: 質問, answer: 回答, image: 画像}`). Benchmarks have more of it:
- Several images: a list in `image`, and beside it columns `image_1`, `image_2` and on, of which some may be null.
- Several accepted answers: of a list the first.
- Options: where a recipe names a column of `choices` (a list, or one written as text), the answer is one of them, told
  by its number from 0, by its letter ("B", "(B)"), or by itself; without any choice the answer is what it says. The
  question stands as it is: how options are put to a model is not said here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    ImageRef,
    Reading,
    image_refs,
    listing,
    put_images_first,
    put_system_first,
    turn,
    what_is,
)

COLUMNS = {
    "image": "image",
    "question": "question",
    "answer": "answer",
    "choices": "",  # of no name: an answer is not looked up unless the source says where
    "system": "system",
    "language": "language",
    "licence": "licence",
}
_NUMBERED = re.compile(r"image_\d{1,3}")
_LETTER = re.compile(r"\(?([A-Za-z])\)?")
_NUMBER = re.compile(r"\d{1,3}")


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One row -> Draft with one turn each; the images come before the question."""
    question, answer = reading.get(record, "question"), _answer(record, reading)
    if question is None and answer is None:
        raise BadRow("no_conversation", "neither question nor answer")
    messages = [turn("user", question, False), turn("assistant", answer, False)]
    images = _images(record, reading)
    put_images_first(messages, len(images))
    put_system_first(messages, reading.get(record, "system"))
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    return Draft(messages, images, licence=licence, declared_language=language)


def is_image(name: str) -> bool:
    """Whether a column of this name is one of several that hold an image each."""
    return _NUMBERED.fullmatch(name) is not None


def _images(record: Mapping[str, Any], reading: Reading) -> list[ImageRef]:
    named = reading.columns["image"]
    more = [name for name in record if isinstance(name, str) and is_image(name) and name != named]
    numbered = sorted(more, key=lambda name: int(name[len("image_") :]))
    return [ref for name in (named, *numbered) for ref in image_refs(record.get(name))]


def _answer(record: Mapping[str, Any], reading: Reading) -> Any:
    answer = reading.get(record, "answer")
    choices = _choices(reading.get(record, "choices")) if reading.columns["choices"] else []
    if choices:
        return choices[_chosen(answer, choices)]
    return answer[0] if isinstance(answer, list) and answer else answer


def _choices(value: Any) -> list[Any]:
    """The options of a row: a list, or a list as Python writes it."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip() or "[]")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise BadRow("malformed_record", "choices are a text that is no list") from None
    return listing(value or None, "choices")


def _chosen(answer: Any, choices: list[Any]) -> int:
    """Which of the options is the answer."""
    if isinstance(answer, str):
        said = answer.strip()
        if letter := _LETTER.fullmatch(said):
            place = ord(letter[1].upper()) - ord("A")
        elif _NUMBER.fullmatch(said):
            place = int(said)
        else:
            place = choices.index(answer) if answer in choices else -1
    elif isinstance(answer, int) and not isinstance(answer, bool):
        place = answer
    else:
        raise BadRow("malformed_record", f"the answer is {what_is(answer)}, wanted one of the choices")
    if not 0 <= place < len(choices):
        raise BadRow("malformed_record", f"the answer {str(answer)[:60]!r} is none of {len(choices)} choices")
    return place
