"""LLaVA's shape: `conversations: [{from, value}]` with literal `<image>` marks, `image` a path or a list of paths.

Placeholders stay where the data has them (start, middle or end of a turn). Ids are not unique and of mixed type, so
they are not used. A row without `image` is text only. The text in `system` becomes the first turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.beyond import bears_loss
from stages.sources.shapes.draft import Draft, Reading, image_refs, listing, mapping, put_system_first, turn

COLUMNS = {
    "conversations": "conversations",
    "image": "image",
    "role": "from",
    "text": "value",
    "system": "system",
    "language": "language",
    "licence": "licence",
}


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One record -> Draft."""
    turns = [mapping(t, "a turn") for t in listing(reading.get(record, "conversations"), "conversations")]
    messages = [
        turn(reading.get(t, "role"), reading.get(t, "text"), True, bears_loss(t, reading, "conversations"))
        for t in turns
    ]
    put_system_first(messages, reading.get(record, "system"))
    language = reading.get(record, "language")
    return Draft(
        messages,
        image_refs(reading.get(record, "image")),
        licence=reading.get(record, "licence"),
        declared_language=language if isinstance(language, str) else None,
    )
