"""One question and one answer per row, with its images or none, in columns of any name.

The shape of most visual question answering tables, and of data whose published schema is not known yet: say in the
recipe which column is which (`columns: {question: 質問, answer: 回答, image: 画像}`). Benchmarks have more of it:
- Several images: a list in `image`, and beside it columns `image_1`, `image_2` and on, of which some may be null.
- Several accepted answers: of a list the first is the answer, and all are references.
- Options (shapes/options.py): where a recipe names their column or columns as `choices`, the answer is one of them,
  told by its number from 0, by its letter ("B", "(B)"), or by itself; without any option the answer is what it says.
  The question stands as it is: how options are put to a model is said by the prompt of `scoring`.
References, options and category become part of the sample where the source has a `scoring`, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    ImageRef,
    Reading,
    image_refs,
    put_images_first,
    put_system_first,
    turn,
)
from stages.sources.shapes.options import LETTERS, as_list, as_text, letter, options, place

COLUMNS = {
    "image": "image",
    "question": "question",
    "answer": "answer",
    "choices": "",  # of no name: an answer is not looked up unless the source says where
    "category": "",
    "system": "system",
    "language": "language",
    "licence": "licence",
}
SEVERAL = ("choices",)  # fields that may have a column for each item
_NUMBERED = re.compile(r"image_\d{1,3}")


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One row -> Draft with one turn each; the images come before the question."""
    question, given, choices = reading.get(record, "question"), reading.get(record, "answer"), options(record, reading)
    if question is None and given is None:
        raise BadRow("no_conversation", "neither question nor answer")
    if reading.scored and len(choices) > LETTERS:
        raise BadRow("malformed_record", f"{len(choices)} choices, and letters for {LETTERS}")
    answers = given if isinstance(given, list) and given else [given]
    right = [place(one, choices) for one in answers] if choices else []
    answer = choices[right[0]] if choices else answers[0]
    messages = [turn("user", question, False), turn("assistant", answer, False)]
    images = _images(record, reading)
    put_images_first(messages, len(images))
    put_system_first(messages, reading.get(record, "system"))
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    found = Draft(messages, images, licence=licence, declared_language=language)
    if reading.scored:
        found.references = [letter(number) for number in right] if choices else _accepted(given, reading)
        found.choices = choices or None
        found.category = _category(reading.get(record, "category") if reading.columns["category"] else None)
    return found


def is_image(name: str) -> bool:
    """Whether a column of this name is one of several that hold an image each."""
    return _NUMBERED.fullmatch(name) is not None


def _images(record: Mapping[str, Any], reading: Reading) -> list[ImageRef]:
    named = reading.columns["image"]
    more = [name for name in record if isinstance(name, str) and is_image(name) and name != named]
    numbered = sorted(more, key=lambda name: int(name[len("image_") :]))
    return [ref for name in (named, *numbered) for ref in image_refs(record.get(name))]


def _has_choices(reading: Reading) -> bool:
    return bool(reading.columns["choices"] or reading.of_several("choices"))


def _accepted(given: Any, reading: Reading) -> list[str]:
    """Every accepted answer of a question without options; one that is null is none. Beside questions with options a
    list of them may be written as text, as MMMU's are."""
    answers = given if isinstance(given, list) else as_list(given) if _has_choices(reading) else [given]
    return [as_text(answer, "an answer") for answer in answers if answer is not None]


def _category(value: Any) -> str | None:
    return None if value is None or value == "" else as_text(value, "the category")
