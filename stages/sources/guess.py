"""Which shape do records of unknown data have, and which column is which? For `probe`, whose answer a person reads.

Values decide before names do: a list of {from, value} is a conversation whatever its column is called, and bytes that
begin like a picture are an image. Names decide only between columns of plain text. Where several columns would do, or
none, there is no answer: a guess that is wrong costs more than a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.sources.catalogue import FORMATS

_QUESTIONS = ("question", "query", "inputs", "input", "instruction", "prompt", "problem", "質問", "問題", "問い")
_ANSWERS = ("answer", "targets", "target", "output", "response", "completion", "回答", "答え", "解答")
_CAPTIONS = ("caption", "captions", "text", "txt", "alt", "alt_text", "description", "キャプション", "説明")
_DOCUMENTS = ("text", "content", "body", "document", "raw_content", "本文", "テキスト")
_LANGUAGES = ("language", "lang", "language_code", "言語")
_LICENCES = ("licence", "license", "ライセンス")
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Shape:
    """A format and its columns, as far as they differ from the usual names."""

    format: str
    columns: dict[str, str] = field(default_factory=dict)


def shape(records: Sequence[Any]) -> Shape | None:
    """The shape of these records; None if it can't be told."""
    columns = _columns(records)
    found = _talk(columns) or _plain(columns)
    if found is None:
        return None
    format, fields = found
    for name, known in (("language", _LANGUAGES), ("licence", _LICENCES)):
        if name in FORMATS[format].columns and (column := _named(_texts(columns), known)):
            fields[name] = column
    usual = FORMATS[format].columns
    return Shape(format, {name: column for name, column in fields.items() if usual[name] != column})


def described(records: Sequence[Any]) -> str:
    """The columns and what is in them, for a person."""
    columns = _columns(records)
    return ", ".join(f"{name} ({_kind(values)})" for name, values in sorted(columns.items())) or "no columns"


def image_names(records: Sequence[Any], found: Shape) -> list[str]:
    """The names of images that these records refer to."""
    fields = {**FORMATS[found.format].columns, **found.columns}
    key = fields.get("images", fields.get("image"))
    values = [record.get(key) for record in records if isinstance(record, Mapping)] if key else []
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    paths = [item.get("path") if isinstance(item, Mapping) and not item.get("bytes") else item for item in flat]
    return [path for path in paths if isinstance(path, str) and path.lower().endswith(_EXTENSIONS)]


def _columns(records: Sequence[Any]) -> dict[str, list[Any]]:
    """Column -> its values that are something."""
    columns: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items() if isinstance(record, Mapping) else ():
            columns.setdefault(name, [])
            if value is not None and value != [] and value != "":
                columns[name].append(value)
    return columns


def _talk(columns: Mapping[str, list[Any]]) -> tuple[str, dict[str, str]] | None:
    """A column of turns: texts, conversations or messages."""
    kinds = {name: _turns(values) for name, values in columns.items()}
    found = [(name, kind) for name, kind in kinds.items() if kind is not None]
    if len(found) != 1:
        return None
    name, (format, fields) = found[0]
    image = _image_column(columns, name)
    images = {"conversations": "image"}.get(format, "images")
    return format, {**fields, format: name, **({images: image} if image else {})}


def _turns(values: list[Any]) -> tuple[str, dict[str, str]] | None:
    turns = [turn for value in values if isinstance(value, list) for turn in value]
    if not turns or not all(isinstance(turn, Mapping) for turn in turns):
        return None
    keys = set.intersection(*(set(turn) for turn in turns))
    if {"user", "assistant"} <= keys:
        return "texts", {}
    if {"from", "value"} <= keys:
        return "conversations", {}
    return ("messages", {}) if {"role", "content"} <= keys else None


def _plain(columns: Mapping[str, list[Any]]) -> tuple[str, dict[str, str]] | None:
    """Columns of text: a question with its answer, a caption, or a document."""
    image = _image_column(columns, "")
    texts = _texts(columns)
    question, answer = _named(texts, _QUESTIONS), _named(texts, _ANSWERS)
    if question and answer:
        return "question_answer", {"question": question, "answer": answer, **({"image": image} if image else {})}
    if question or answer:
        return None
    if image:
        caption = _named([name for name in texts if name != image], _CAPTIONS)
        return ("caption", {"image": image, "caption": caption}) if caption else None
    document = _named(texts, _DOCUMENTS)
    return ("text", {"text": document}) if document else None


def _image_column(columns: Mapping[str, list[Any]], other: str) -> str | None:
    """The column that holds images; None where there is none, or more than one."""
    found = [name for name, values in columns.items() if name != other and values and all(map(_is_image, values))]
    return found[0] if len(found) == 1 else None


def _is_image(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_image, value))
    if isinstance(value, Mapping):
        return set(value) <= {"bytes", "path"} and "bytes" in value
    if isinstance(value, bytes):
        return value.startswith(_MAGIC)
    text = value.lower() if isinstance(value, str) else ""
    remote = text.startswith(("http://", "https://")) and text.partition("?")[0].endswith(_EXTENSIONS)
    return (
        remote or text.startswith("data:image/") or (len(text) < 500 and text.endswith(_EXTENSIONS) and " " not in text)
    )


def _texts(columns: Mapping[str, list[Any]]) -> list[str]:
    return [name for name, values in columns.items() if values and all(isinstance(value, str) for value in values)]


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of the known names that is there, whatever its case."""
    lower = {name.lower(): name for name in names}
    return next((lower[name] for name in known if name in lower), None)


def _kind(values: list[Any]) -> str:
    if not values:
        return "always empty"
    return "images" if all(map(_is_image, values)) else " or ".join(sorted({type(value).__name__ for value in values}))
