"""A sample of a WebDataset tar: pictures, and text in `json` or `txt`. Nothing else in it is decoded, and one with a
film or a sound is a reject.

`json` holds `conversations` (LLaVA's shape), `messages` (or is such a list itself), `captions` (a list, see packed.py),
or `caption`; a `txt` is a caption as well and comes before the `caption` of img2dataset's json. The pictures are those
of the sample, in the order of the first number in their extension (`img0.jpg`, `img1.jpg`), whatever names the json
gives them. Two jsons or two texts in one sample are two samples whose names had dots (`1.0.json`, `1.1.json`): a
reject, since nobody can part them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stages.sources.records.json_spans import parse
from stages.sources.records.tar_samples import KEY
from stages.sources.shapes import caption, conversations, messages, packed
from stages.sources.shapes.draft import BadRow, Draft, Reading, mapping

COLUMNS = {
    "conversations": "conversations",
    "messages": "messages",
    "caption": "caption",
    "captions": "captions",
    "prompts": "prompts",
    "system": "system",
    "language": "language",
    "licence": "licence",
}

# Of the json: what packed.py reads beside the columns; the pictures are the sample's own, whatever names it gives them
ALSO = ("prompt", "images", "image")

_PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif", "jp2", "j2k")
_MEDIA = ("mp4", "webm", "mkv", "avi", "mov", "mp3", "wav", "flac", "ogg", "opus", "m4a", "aac")
_NUMBER = re.compile(r"\d+")


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One sample -> Draft, by the adapter of the shape that its json has."""
    _refuse_media(record, reading)
    fields = json_fields(record, reading)
    pictures = _pictures(record)
    if reading.get(fields, "conversations") is not None:
        return conversations.adapt({**fields, "image": pictures}, _reading(conversations.COLUMNS, reading))
    if reading.get(fields, "messages") is not None:
        return messages.adapt({**fields, "images": pictures}, _reading(messages.COLUMNS, reading))
    if reading.get(fields, "captions") is not None:
        return packed.adapt(fields, pictures, reading)
    text = _only(record, "txt")
    said = reading.get(fields, "caption") if text is None else _decoded(text)
    if said is None:
        raise BadRow("no_conversation", f"members {', '.join(_extensions(record)) or 'none'}: no text in them")
    inner = _reading(caption.COLUMNS, reading)
    return caption.adapt({**fields, inner.columns["caption"]: said, "image": pictures}, inner)


def unread_members(record: Mapping[str, Any]) -> list[str]:
    """The kinds of its members that are neither text nor picture, such as ".npy"."""
    kinds = {extension.rpartition(".")[2] for extension in _extensions(record)}
    return sorted(f".{kind}" for kind in kinds - {"json", "txt", *_PICTURES})


def _refuse_media(record: Mapping[str, Any], reading: Reading) -> None:
    for kind in unread_members(record):
        if kind[1:] in _MEDIA and kind not in reading.ignored:
            raise BadRow("other_modality", f"a member {kind}, and a sample has images alone; `ignore: [{kind}]`")


def is_sample(record: Any) -> bool:
    """Has this member of a tar text beside its pictures?"""
    return isinstance(record, Mapping) and any(e.rpartition(".")[2] in ("json", "txt") for e in _extensions(record))


def json_fields(record: Mapping[str, Any], reading: Reading) -> Mapping[str, Any]:
    """What the sample's json says; a list in it is its messages."""
    data = _only(record, "json")
    found = {} if data is None else parse(data)
    if isinstance(found, BadRow):
        raise found
    return {reading.columns["messages"]: found} if isinstance(found, list) else mapping(found, "the json")


def _reading(columns: Mapping[str, str], reading: Reading) -> Reading:
    """The inner adapter's columns, where this source gives some of them names of its own."""
    return Reading(
        {**columns, **{k: v for k, v in reading.columns.items() if k in columns}}, reading.prompt, reading.ignored
    )


def _only(record: Mapping[str, Any], kind: str) -> Any:
    """The one member of a kind, or None."""
    found = [extension for extension in _extensions(record) if extension.rpartition(".")[2] == kind]
    if len(found) > 1:
        raise BadRow("malformed_record", f"{' and '.join(found[:3])} in one sample: several, whose names have dots")
    return record[found[0]] if found else None


def _pictures(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [extension for extension in _extensions(record) if extension.rpartition(".")[2] in _PICTURES]
    ordered = sorted(found, key=lambda extension: int((_NUMBER.search(extension) or ["0"])[0][:18]))
    return [{"bytes": record[extension], "path": f"{record.get(KEY)}.{extension}"} for extension in ordered]


def _extensions(record: Mapping[str, Any]) -> list[str]:
    return [extension for extension in record if isinstance(extension, str) and extension != KEY]


def _decoded(text: Any) -> str:
    try:
        return str(text, "utf-8").strip()
    except (UnicodeDecodeError, TypeError) as error:
        raise BadRow("malformed_record", f"the txt is not UTF-8: {error}") from None
