"""Alpaca's shape: `instruction`, `input`, `output`, with `system` and `history` where they are given.

The question is the instruction, and below it the input if there is one. `history` is a list of [question, answer] pairs
that come before it; their answers are targets like the last. Where a row has `images`, each literal `<image>` in a
question is the place of one, as in LLaMA-Factory; without a mark they come first. Without the column a mark is text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    Reading,
    image_blocks,
    image_refs,
    listing,
    put_images_first,
    put_system_first,
    turn,
    what_is,
)

COLUMNS = {
    "instruction": "instruction",
    "input": "input",
    "output": "output",
    "system": "system",
    "history": "history",
    "images": "images",
    "language": "language",
    "licence": "licence",
}


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One record -> Draft."""
    images = image_refs(reading.get(record, "images"))
    marks = reading.columns["images"] in record
    pairs = [_pair(pair) for pair in listing(reading.get(record, "history"), "the history")]
    messages = []
    for question, answer in [*pairs, (_question(record, reading), reading.get(record, "output"))]:
        messages += [turn("user", question, marks), turn("assistant", answer, False)]
    if not image_blocks(messages):
        put_images_first(messages, len(images))
    put_system_first(messages, reading.get(record, "system"))
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    return Draft(messages, images, licence=licence, declared_language=language)


def _question(record: Mapping[str, Any], reading: Reading) -> str:
    parts = [reading.get(record, field) for field in ("instruction", "input")]
    for part in parts:
        if part is not None and not isinstance(part, str):
            raise BadRow("malformed_record", f"an instruction or its input is {what_is(part)}, wanted text")
    return "\n".join(filter(None, parts))


def _pair(value: Any) -> tuple[Any, Any]:
    pair = listing(value, "an entry of the history")
    if len(pair) != 2:
        raise BadRow("malformed_record", f"an entry of the history has {len(pair)} texts, wanted question and answer")
    return pair[0], pair[1]
