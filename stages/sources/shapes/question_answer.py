"""One question, one answer, at most one image per row, in columns of any name.

The shape of most visual question answering tables, and of data whose published schema is not known yet: say in the
recipe which column is which (`columns: {question: 質問, answer: 回答, image: 画像}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    Reading,
    image_refs,
    put_images_first,
    put_system_first,
    turn,
)

COLUMNS = {
    "image": "image",
    "question": "question",
    "answer": "answer",
    "system": "system",
    "language": "language",
    "licence": "licence",
}


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One row -> Draft with one turn each; the image comes before the question."""
    question, answer = reading.get(record, "question"), reading.get(record, "answer")
    if question is None and answer is None:
        raise BadRow("no_conversation", "neither question nor answer")
    messages = [turn("user", question, False), turn("assistant", answer, False)]
    images = image_refs(reading.get(record, "image"))
    put_images_first(messages, len(images))
    put_system_first(messages, reading.get(record, "system"))
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    return Draft(messages, images, licence=licence, declared_language=language)
