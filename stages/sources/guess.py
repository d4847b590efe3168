"""Which shape do records of unknown data have, and which column is which? For `probe`, whose answer a person reads.

Values decide before names do: a list of {from, value} is a conversation whatever its column is called, and bytes that
begin like a picture are an image. Names decide only between columns of plain text. Where several columns would do, or
none, there is no answer: a guess that is wrong costs more than a question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.images.rules import sniff
from stages.sources.shapes.draft import BadRow, ImageRef, Reading
from stages.sources.table import FORMATS

_QUESTIONS = ("question", "query", "inputs", "input", "instruction", "prompt", "problem", "質問", "問題", "問い")
_ANSWERS = ("answer", "targets", "target", "output", "response", "completion", "回答", "答え", "解答")
_INSTRUCTIONS = ("instruction", "指示")
_INPUTS = ("input", "inputs", "context", "入力")
_OUTPUTS = ("output", "outputs", "response", "answer", "completion", "出力", "回答")
_SYSTEMS = ("system", "system_prompt", "system_message")
_CAPTIONS = ("caption", "captions", "text", "txt", "alt", "alt_text", "description", "キャプション", "説明")
_DOCUMENTS = ("text", "content", "body", "document", "raw_content", "本文", "テキスト")
_LANGUAGES = ("language", "lang", "language_code", "言語")
_CAPTION = 1000  # characters that no caption of an image list reaches in all of its rows
_PICTURES = ("image", "img", "picture", "photo", "画像", "写真")
_RATINGS = ("score", "rating", "similarity", "confidence", "quality", "aesthetic")
_LICENCES = ("licence", "license", "ライセンス")
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k")


@dataclass(frozen=True)
class Shape:
    """A format and its columns, as far as they differ from the usual names."""

    format: str
    columns: dict[str, str] = field(default_factory=dict)


def shape(records: Sequence[Any]) -> Shape | None:
    """The shape of these records; None if it can't be told."""
    columns = _columns(records)
    found = _talk(columns) or _instructed(columns) or _plain(columns)
    if found is None:
        return None
    format, fields = found
    for name, known in (("language", _LANGUAGES), ("licence", _LICENCES), ("system", _SYSTEMS)):
        if name in FORMATS[format].columns and (column := _named(_texts(columns), known)):
            fields[name] = column
    usual = FORMATS[format].columns
    return Shape(format, {name: column for name, column in fields.items() if usual[name] != column})


def described(records: Sequence[Any]) -> str:
    """The columns and what is in them, for a person."""
    columns = _columns(records)
    return ", ".join(f"{name} ({_kind(values)})" for name, values in sorted(columns.items())) or "no columns"


def image_names(records: Sequence[Any], found: Shape) -> list[str]:
    """The names (or addresses) of images that these records refer to, as the shape's adapter finds them."""
    reading = Reading({**FORMATS[found.format].columns, **found.columns})
    refs = [ref for record in records if isinstance(record, Mapping) for ref in _refs(found.format, record, reading)]
    return [ref.path for ref in refs if ref.data is None and isinstance(ref.path, str) and ref.path]


def address_columns(records: Sequence[Any], found: Shape) -> dict[str, str]:
    """`urls` of a source whose images are named by address: the column, and that of their sha256 if there is one."""
    fields = {**FORMATS[found.format].columns, **found.columns}
    columns = _columns(records)
    column = fields.get("images", fields.get("image")) or ""
    if not _mostly(is_address, columns.get(column, [])):
        return {}
    hashes = [name for name, values in columns.items() if values and all(map(_is_sha256, values))]
    return {"column": column, **({"sha256": hashes[0]} if len(hashes) == 1 else {})}


def scores(records: Sequence[Any], found: Shape) -> list[str]:
    """Columns of numbers that by their names rate the row. (`texts` takes its `*_min` by itself.)"""
    columns = _columns(records)
    numbers = [name for name, values in columns.items() if values and all(map(_is_number, values))]
    return [n for n in numbers if found.format != "texts" and any(word in n.lower() for word in _RATINGS)]


def is_address(value: Any) -> bool:
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refs(format: str, record: Mapping[str, Any], reading: Reading) -> list[ImageRef]:
    try:
        return FORMATS[format].adapt(record, reading).images
    except BadRow:
        return []  # the records are tried as a whole later on, and this one is counted there


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


def _instructed(columns: Mapping[str, list[Any]]) -> tuple[str, dict[str, str]] | None:
    """An instruction, what it is about, and what came of it. The input may be empty in all rows that were read."""
    instruction, output = _named(_texts(columns), _INSTRUCTIONS), _named(_texts(columns), _OUTPUTS)
    if not instruction or not output:
        return None
    texts = [name for name, values in columns.items() if all(isinstance(value, str) for value in values)]
    given, image = _named(texts, _INPUTS), _image_column(columns, "")
    fields = {"instruction": instruction, "output": output, **({"input": given} if given else {})}
    return "alpaca", {**fields, **({"images": image} if image else {})}


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
    if document and _named(texts, ("url",)) and all(len(text) < _CAPTION for text in columns[document]):
        return None  # an address and a line of text: a page's, or a picture's with its caption (LAION)
    return ("text", {"text": document}) if document else None


def _image_column(columns: Mapping[str, list[Any]], other: str) -> str | None:
    """The column that holds images; None where there is none, or more than one.

    Addresses rarely end like a picture's name: a column of them is one of images if it is called so.
    """
    found = [name for name, values in columns.items() if name != other and _mostly(_is_image, values)]
    if not found:
        addresses = [name for name, values in columns.items() if _mostly(is_address, values)]
        found = [name for name in addresses if any(word in name.lower() for word in _PICTURES)]
    return found[0] if len(found) == 1 else None


def _mostly(test: Callable[[Any], bool], values: Sequence[Any]) -> bool:
    """Nine in ten: some rows of every set are broken, and say nothing of the others."""
    return bool(values) and sum(map(test, values)) >= 0.9 * len(values)


def _is_image(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_image, value))
    if isinstance(value, Mapping):
        return set(value) <= {"bytes", "path"} and "bytes" in value
    if isinstance(value, bytes):
        return sniff(value)
    text = value.lower() if isinstance(value, str) else ""
    remote = is_address(text) and text.partition("?")[0].endswith(_EXTENSIONS)
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
