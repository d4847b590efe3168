"""A picture and a sentence about it: `image`, `caption`. The recipe's `prompt` becomes the question.

The one place where text is added that the data does not have: a caption answers no question, and a chat needs one. The
prompt is part of the recipe and so of the result's identity. The images come before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import BadRow, Draft, Reading, image_refs, put_images_first, turn

COLUMNS = {"image": "image", "caption": "caption", "language": "language", "licence": "licence"}
PROMPT = "Describe the image."


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One record -> Draft. A caption without an image describes nothing: a reject, not a text."""
    images = image_refs(reading.get(record, "image"))
    if not images:
        raise BadRow("malformed_record", "a caption without an image")
    messages = [turn("user", reading.prompt, False), turn("assistant", reading.get(record, "caption"), False)]
    put_images_first(messages, len(images))
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    return Draft(messages, images, licence=licence, declared_language=language)
