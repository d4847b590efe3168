"""What an adapter makes of one raw record: messages and references to images, before any image is opened.

An adapter is `adapt(record, reading) -> Draft`. It raises BadRow for what the record itself gets wrong; it never
guesses, reorders or repairs. Text keeps every character; image placeholders become blocks where the data has them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

REASONS = {
    "malformed_record": "the record is not shaped as its source says",
    "no_conversation": "there is no user turn with an assistant turn after it",
    "unknown_role": "a turn's role is none of system, user and assistant, by any of their names",
    "unknown_block": "a turn has a block that is neither text nor an image",
    "row_too_large": "more bytes than max_row_bytes, or more text than max_text_bytes",
    "placeholder_mismatch": "the number of image placeholders differs from the number of images",
    "other_modality": "the row is about a video or a sound, which a sample can't hold",
    "tool_use": "the row offers or calls tools, which a sample has no place for",
    "preference": "the row holds an answer that is to be avoided, and a sample only what is to be learned",
}

PLACEHOLDER = "<image>"
_MOST_IMAGES = 65_536

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
}
_TOOL_ROLES = ("tool", "function", "function_call", "tool_call", "observation", "ipython")


class BadRow(ValueError):
    """A row that can't become a sample. `reason` is declared in REASONS, `detail` says what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Reading:
    """How the records of one source are read: the column of every field, and the question that captions answer.

    `ignored`: names of columns, and of keys of turns (`messages[].weight`), that say nothing here. `scored`: whether
    answers will be compared with what the records hold.
    """

    columns: Mapping[str, str]
    prompt: str = ""
    ignored: frozenset[str] = frozenset()
    scored: bool = False

    def get(self, record: Mapping[str, Any], field: str) -> Any:
        return record.get(self.columns[field])

    def of_several(self, field: str) -> list[str]:
        """The columns of a field that has one for each item of a list; none where it is one column."""
        return [column for name, column in self.columns.items() if name.startswith(f"{field}[")]


@dataclass(frozen=True)
class ImageRef:
    """An image as a record has it: its bytes, or the name to look up, or both."""

    data: bytes | None = None
    path: str | None = None


@dataclass
class Draft:
    """One record on its way to SAMPLE. `document`: a text to learn as it is, one assistant turn without a question.

    `turn_scores`: each list has a value for every round. `references`, `choices`, `category`: of a question that is
    scored, as SAMPLE has them.
    """

    messages: list[dict[str, Any]]
    images: list[ImageRef]
    subset: str | None = None
    licence: str | None = None
    declared_language: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    turn_scores: dict[str, list[float | None]] = field(default_factory=dict)
    document: bool = False
    references: list[str] | None = None
    choices: list[str] | None = None
    category: str | None = None


def what_is(value: Any) -> str:
    """What a value is, in the words of JSON, for the detail of a reject."""
    if value is None:
        return "null"
    names = (
        (bool, "true or false"),
        (str, "a text"),
        (int | float, "a number"),
        (list, "a list"),
        (Mapping, "a mapping"),
    )
    return next((name for known, name in names if isinstance(value, known)), f"a {type(value).__name__}")


def turn(role: Any, text: Any, split_placeholders: bool, loss: bool = True) -> dict[str, Any]:
    """One message. `split_placeholders`: each literal `<image>` becomes an image block at its place.

    `loss`: False for a turn that is context alone, whoever speaks.
    """
    if isinstance(role, str) and role.lower() in _TOOL_ROLES:
        raise BadRow("tool_use", f"a turn of the role {role!r}")
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise BadRow("unknown_role", f"role {role!r}; known: {', '.join(ROLES)}")
    if not isinstance(text, str):
        raise BadRow("malformed_record", f"a turn's text is {what_is(text)}")
    pieces = text.split(PLACEHOLDER) if split_placeholders else [text]
    if len(pieces) > _MOST_IMAGES:
        raise BadRow("row_too_large", f"{len(pieces) - 1:,} placeholders in one turn")
    blocks: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces):
        if number:
            blocks.append({"type": "image", "text": None})
        if piece or len(pieces) == 1:
            blocks.append({"type": "text", "text": piece})
    return {"role": ROLES[role.lower()], "content": blocks, **({} if loss else {"loss": False})}


def image_blocks(messages: list[dict[str, Any]]) -> int:
    """How many image placeholders a conversation has."""
    return sum(block["type"] == "image" for message in messages for block in message["content"])


def put_images_first(messages: list[dict[str, Any]], count: int) -> None:
    """Insert `count` image blocks before the first user turn's text: the layout of sources without placeholders."""
    for message in messages:
        if message["role"] == "user":
            message["content"][:0] = [{"type": "image", "text": None} for _ in range(count)]
            return


def put_system_first(messages: list[dict[str, Any]], text: Any) -> None:
    """Insert the text of a system column as the first turn; a system turn that says the same already stays alone."""
    if text is None or text == "":
        return
    system = turn("system", text, False)
    if not messages or messages[0]["role"] != "system":
        messages.insert(0, system)
    elif messages[0]["content"] != system["content"]:
        raise BadRow("malformed_record", "a column and a turn for the system, and they differ")


def check(draft: Draft) -> int:
    """The bytes of its text, or BadRow: a user turn before an assistant turn, placeholders and images equal in number.

    A document is its one assistant turn. Every text must be storable: a licence, language or path that is no text, or a
    lone surrogate (legal in JSON, but without UTF-8), makes the row malformed.
    """
    _stored(draft.licence, "the licence")
    _stored(draft.declared_language, "the language")
    _stored(draft.category, "the category")
    for image in draft.images:
        _stored(image.path, "an image's path")
        if image.data is not None and not isinstance(image.data, bytes):
            raise BadRow("malformed_record", f"an image's bytes are {what_is(image.data)}")
    for name in (*draft.scores, *draft.turn_scores):
        _stored(name, "a score's name")
    blocks = [block for message in draft.messages for block in message["content"]]
    size = sum(_stored(block["text"], "a turn's text") for block in blocks)
    size += sum(_stored(text, "an answer or option") for text in (*(draft.references or ()), *(draft.choices or ())))
    roles = [message["role"] for message in draft.messages]
    whole = draft.document and roles == ["assistant"]
    if not whole and ("user" not in roles or "assistant" not in roles[roles.index("user") :]):
        raise BadRow("no_conversation", f"turns: {', '.join(roles) or 'none'}")
    placeholders = image_blocks(draft.messages)
    if placeholders != len(draft.images):
        raise BadRow("placeholder_mismatch", f"{placeholders} placeholders, {len(draft.images)} images")
    return size


def _stored(value: Any, what: str) -> int:
    """The bytes of a text that can be stored, or BadRow."""
    if value is not None and not isinstance(value, str):
        raise BadRow("malformed_record", f"{what} is {what_is(value)}, wanted text")
    try:
        return len((value or "").encode("utf-8"))
    except UnicodeEncodeError as error:
        raise BadRow("malformed_record", f"{what} has a lone surrogate at character {error.start}") from None


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """`value` if it is a mapping, else BadRow."""
    if not isinstance(value, Mapping):
        raise BadRow("malformed_record", f"{what} is {what_is(value)}, wanted a mapping")
    return value


def listing(value: Any, what: str) -> list[Any]:
    """`value` as a list: none is empty; a text or a mapping is BadRow."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow("malformed_record", f"{what} is {what_is(value)}, wanted a list")
    return value


def image_ref(value: Any) -> ImageRef:
    """An ImageRef from a path, a data: URI, bytes, or the `datasets` struct {bytes, path}."""
    if isinstance(value, str):
        return ImageRef(data=_data_uri(value)) if value[:5].lower() == "data:" else ImageRef(path=value)
    if isinstance(value, bytes):
        return ImageRef(data=value)
    fields = mapping(value, "an image")
    return ImageRef(fields.get("bytes"), fields.get("path"))


def image_refs(value: Any) -> list[ImageRef]:
    """Images from a list or from a single one; none, NaN, '' and 'none' mean no image (seen in Cambrian)."""
    if value is None or value != value or (isinstance(value, str) and value.lower() in ("", "none", "nan")):
        return []
    return [image_ref(item) for item in (value if isinstance(value, list) else [value])]


def from_base64(text: Any) -> bytes:
    """The bytes of base64 text, line breaks allowed; else BadRow."""
    if not isinstance(text, str):
        raise BadRow("malformed_record", f"base64 data is {what_is(text)}, wanted text")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRow("malformed_record", f"an image's base64 data can't be decoded: {error}") from None


def _data_uri(text: str) -> bytes:
    header, comma, body = text.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise BadRow("malformed_record", f"{header[:60]!r}: a data: URI that isn't base64")
    return from_base64(body)


def _named_ratings(column: str, entries: list[Any]) -> dict[str, Any]:
    """The ratings of a list of {name, value}. Raises BadRow."""
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise BadRow("malformed_record", f"the score {column} is a list of other things than {{name, value}}")
    return {entry["name"]: entry.get("value") for entry in entries}


def ratings(record: Mapping[str, Any], columns: Iterable[str]) -> dict[str, float]:
    """The numbers in these columns by name; a column that is missing, null or NaN rates nothing, text is BadRow.

    A column may hold a list of {name, value} too, as our own samples do: each rates under its name.
    """
    given: dict[str, Any] = {}
    for name in columns:
        value = record.get(name)
        given |= _named_ratings(name, value) if isinstance(value, list) else {name: value}
    found = {name: value for name, value in given.items() if value is not None and value == value}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRow("malformed_record", f"the score {name} is {what_is(value)}, wanted a number")
    try:
        return {name: float(value) for name, value in found.items()}
    except OverflowError:  # JSON has integers of any size
        raise BadRow("malformed_record", "a score is too large to be a number") from None
