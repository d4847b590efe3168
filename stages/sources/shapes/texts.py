"""FineVision's shape (the Cauldron's too): `images: [image]`, `texts: [{user, assistant}]`, one rating list each.

There are no placeholders: the images come before the first user turn. `images` may be missing, null or a single image.
Column and struct order differ from config to config, so everything is read by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import Draft, Reading, image_refs, listing, mapping, put_images_first, ratings, turn

COLUMNS = {"images": "images", "texts": "texts", "licence": "licence"}


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One row -> Draft. A literal `<image>` in the text stays text: this shape has no placeholders."""
    pairs = [mapping(pair, "an entry of texts") for pair in listing(reading.get(record, "texts"), "texts")]
    messages = [turn(role, pair.get(role), False) for pair in pairs for role in ("user", "assistant")]
    images = image_refs(reading.get(record, "images"))
    put_images_first(messages, len(images))
    return Draft(messages, images, licence=reading.get(record, "licence"), scores=_scores(record))


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    return ratings(record, [name for name, value in record.items() if is_rating(name) and _number(value)])


def is_rating(name: str) -> bool:
    """Whether a column of this name rates the row, where it holds a number."""
    return name.endswith("_min")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
