"""Several captioned pictures in one sample of a tar, as LLaVA-OneVision-1.5 packs them: parallel lists in the json.

`captions` answer `prompts` (`prompt` in some tars) one by one, and `images` names the pictures of each: a name, or a
list of names or none. An entry may be a list itself: turns about the same pictures. A prompt that is
missing or empty is the recipe's. The sample becomes one conversation, each entry's pictures before its first question,
in the order of the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    Reading,
    image_refs,
    listing,
    put_images_first,
    put_system_first,
    turn,
)


def adapt(fields: Mapping[str, Any], pictures: list[Any], reading: Reading) -> Draft:
    """The json of one sample, and its pictures -> Draft."""
    captions = listing(reading.get(fields, "captions"), "captions")
    asked = reading.get(fields, "prompts")
    prompts = listing(fields.get("prompt") if asked is None else asked, "prompts") or [None] * len(captions)
    names = listing(fields.get("images"), "images") or [""] * len(captions)
    if not len(captions) == len(prompts) == len(names):
        raise BadRow("malformed_record", f"{len(captions)} captions, {len(prompts)} prompts, {len(names)} images")
    messages = [
        message
        for caption, prompt, name in zip(captions, prompts, names, strict=True)
        for message in _entry(_several(caption), _several(prompt), len(_several(name)), reading)
    ]
    put_system_first(messages, reading.get(fields, "system"))
    licence, language = reading.get(fields, "licence"), reading.get(fields, "language")
    language = language if isinstance(language, str) else None
    return Draft(messages, image_refs(pictures), licence=licence, declared_language=language)


def _entry(answers: list[Any], questions: list[Any], images: int, reading: Reading) -> list[dict[str, Any]]:
    if len(questions) != len(answers):
        raise BadRow("malformed_record", f"{len(answers)} captions and {len(questions)} prompts in one entry")
    turns = []
    for question, answer in zip(questions, answers, strict=True):
        turns += [turn("user", question or reading.prompt, False), turn("assistant", answer, False)]
    put_images_first(turns, images)
    return turns


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
