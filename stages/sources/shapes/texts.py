"""FineVision's shape (the Cauldron's too): `images: [image]`, `texts: [{user, assistant}]`, and ratings of these.

`<name>_min` is a number for the row, `<name>_ratings` a list with one for each entry of `texts`; a list of another
length, or with something else in it, rates nothing, for nobody could say which entry is meant.
There are no placeholders: the images come before the first user turn. `images` may be missing, null or a single image.
Column and struct order differ from config to config, so everything is read by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.beyond import bears_loss
from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    Reading,
    image_refs,
    listing,
    mapping,
    put_images_first,
    put_system_first,
    ratings,
    turn,
)

COLUMNS = {"images": "images", "texts": "texts", "system": "system", "licence": "licence"}


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One row -> Draft. A literal `<image>` in the text stays text: this shape has no placeholders."""
    pairs = [mapping(pair, "an entry of texts") for pair in listing(reading.get(record, "texts"), "texts")]
    messages = [
        turn(role, pair.get(role), False, bears_loss(pair, reading, "texts"))
        for pair in pairs
        for role in ("user", "assistant")
    ]
    put_system_first(messages, reading.get(record, "system"))
    images = image_refs(reading.get(record, "images"))
    put_images_first(messages, len(images))
    rated = _turn_scores(record, len(pairs))
    return Draft(messages, images, licence=reading.get(record, "licence"), scores=_scores(record), turn_scores=rated)


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    return ratings(record, [name for name, value in record.items() if is_rating(name) and _number(value)])


def _turn_scores(record: Mapping[str, Any], turns: int) -> dict[str, list[float | None]]:
    lists = {name: value for name, value in record.items() if rates_turns(name) and isinstance(value, list)}
    fitting = {name: value for name, value in lists.items() if len(value) == turns and all(map(_rates, value))}
    try:
        return {name: [None if _is_no(v) else float(v) for v in value] for name, value in fitting.items()}
    except OverflowError:  # JSON has integers of any size
        raise BadRow("malformed_record", "a rating is too large to be a number") from None


def is_rating(name: str) -> bool:
    """Whether a column of this name rates the row, where it holds a number."""
    return name.endswith("_min")


def rates_turns(name: str) -> bool:
    """Whether a column of this name rates each turn, where it holds a list of numbers."""
    return name.endswith("_ratings")


def rates(name: str) -> bool:
    """Whether a column of this name is read for ratings."""
    return is_rating(name) or rates_turns(name)


def _rates(value: Any) -> bool:
    return value is None or _number(value)


def _is_no(value: Any) -> bool:
    return value is None or value != value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
