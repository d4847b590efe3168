"""Plain documents: one `text` per record, learned as it is.

A document becomes a single assistant turn, so that all of its text is target and none of it is invented. Templates that
insist on a user turn first refuse such a sample at pretokenise, by verdict. A document longer than `max_tokens` is
dropped there too: nothing here cuts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import Draft, Reading, turn

COLUMNS = {"text": "text", "language": "language", "licence": "licence"}


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One record -> Draft. A literal `<image>` in the text stays text."""
    messages = [turn("assistant", reading.get(record, "text"), False)]
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    return Draft(messages, [], licence=licence, declared_language=language, document=True)
