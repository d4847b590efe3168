"""FineVision's shape (the Cauldron's too): `images: [image]`, `texts: [{user, assistant}]`, one rating list each.

There are no placeholders: the images come before the first user turn. `images` may be missing, null or a single image.
Column and struct order differ from config to config, so everything is read by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.draft import BadRow, Draft, image_refs, listing, mapping, put_images_first, turn

COLUMNS = {"images": "images", "texts": "texts", "licence": "licence"}


def adapt(record: Mapping[str, Any], columns: Mapping[str, str]) -> Draft:
    """One row -> Draft. A literal `<image>` in the text stays text: this shape has no placeholders."""
    pairs = [mapping(pair, "an entry of texts") for pair in listing(record.get(columns["texts"]), "texts")]
    messages = [turn(role, pair.get(role), False) for pair in pairs for role in ("user", "assistant")]
    images = image_refs(record.get(columns["images"]))
    put_images_first(messages, len(images))
    return Draft(messages, images, licence=record.get(columns["licence"]), scores=_scores(record))


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in record.items() if name.endswith("_min") and _number(value)}
    except OverflowError:  # JSON has integers of any size
        raise BadRow("malformed_record", "a score is too large to be a number") from None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
