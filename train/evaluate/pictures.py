"""Pictures of some questions as small data URIs, within a number of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass

from stages.images.rules import BadImage, open_scaled
from train.evaluate.benchmark import Benchmark

_SIDE, _QUALITY = 256, 60
_OF_A_QUESTION = 4


@dataclass(frozen=True)
class Picture:
    """`uri` is None where there is no room, or where the bytes are no picture; `why` says which."""

    name: str
    uri: str | None
    why: str = ""


def of(benchmark: Benchmark, wanted: Collection[str], most_bytes: int) -> dict[str, list[Picture]]:
    """The first pictures of each wanted question, by its id."""
    left, found = set(wanted), dict[str, list[Picture]]()
    for question in benchmark.questions() if left else ():
        if question.sample_id not in left:
            continue
        pictures = []
        for name, data in list(zip(question.names, question.images, strict=True))[:_OF_A_QUESTION]:
            picture = _small(name, data, most_bytes)
            most_bytes -= len(picture.uri or "")
            pictures.append(picture)
        if more := len(question.images) - _OF_A_QUESTION:
            pictures += [Picture("", None, f"and {more} more")] if more > 0 else []
        found[question.sample_id] = pictures
        left.remove(question.sample_id)
        if not left:
            break
    return found


def _small(name: str, data: bytes, room: int) -> Picture:
    try:
        image = open_scaled(data, _SIDE).convert("RGB")
    except BadImage as error:
        return Picture(name, None, str(error))
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY)
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(name, uri) if len(uri) <= room else Picture(name, None, "left out: the page has no more room")
