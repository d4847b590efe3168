"""What a record has beyond the text and the images of its shape, and must not be passed over.

A sample is a conversation about pictures. A row that is about a film or a sound, that offers or calls tools, or that
holds an answer to be avoided is none, though its text alone would read like one: it is a reject, unless the recipe's
`ignore` names the column. Of a turn `weight`, `loss`, `train` and `training` say whether it is learned: 0 and false
keep it as context that bears no loss.

`<video>` and `<audio>` are also words of HTML. They count where the row has such a column (be it empty), or where a
question begins with one or has it on a last line of its own, and the turn does not close it as HTML would.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from stages.sources.shapes.draft import ROLES, BadRow, Reading

WEIGHTS = ("weight", "loss", "train", "training")

_MEDIA = re.compile(r"(video|audio)s?([_-]?(path|file|url|byte)s?)?", re.IGNORECASE)
_TOOLS = ("tools", "functions", "tool_calls", "function_call")
_REJECTED = re.compile(r"rejected(_\w+)?", re.IGNORECASE)
_LIKED = ("label", "kto_tag", "kto_label")  # of KTO: false where the answer is to be avoided
_MARKS = ("<video>", "<audio>")
_SHORT = 64  # characters that no way to say nothing has
_NOTHING = ("", "none", "nan", "null", "[]", "{}")


def refused(name: str) -> str:
    """The reason that a column of this name is, where it holds something and nobody reads it; "" for none."""
    if _MEDIA.fullmatch(name):
        return "other_modality"
    if name.lower() in _TOOLS:
        return "tool_use"
    return "preference" if _REJECTED.fullmatch(name) else ""


def liked(name: str) -> bool:
    """Whether a column of this name may say that the answer is to be avoided, by false."""
    return name.lower() in _LIKED


def changes(ignored: str) -> bool:
    """Whether a row becomes another sample, or one at all, where the recipe ignores this name."""
    name = ignored.rpartition("[].")[2]
    return refused(name) != "" or liked(name) or name in WEIGHTS or ignored.startswith(".")


def something(value: Any) -> bool:
    """Whether a value says anything: no empty text or list, no `{bytes: null, path: null}`, no NaN."""
    if isinstance(value, str):
        return len(value) > _SHORT or value.strip().lower() not in _NOTHING
    if isinstance(value, Mapping):
        return any(map(something, value.values()))
    if isinstance(value, list):
        return any(map(something, value))
    return bool(value) and value == value


def refuse(fields: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
    """Raise BadRow for what a record, or one of its turns, has outside the names that are read or ignored."""
    for name, value in fields.items():
        if name in known or not isinstance(name, str):
            continue
        label = where + name
        if liked(name) and value is False:
            raise BadRow("preference", f"{label!r} is false; `ignore: [{label!r}]` learns such answers too")
        if (reason := refused(name)) and something(value):
            raise BadRow(reason, f"{label!r} is not empty; `ignore: [{label!r}]` reads such rows without it")


def refuse_marks(turns: Iterable[tuple[Any, Any]], named: bool) -> None:
    """Raise BadRow for a mark of a film or a sound in (role, text) turns; `named`: the record has a column of them."""
    for role, text in turns:
        for mark in _MARKS if isinstance(text, str) and "<" in text else ():
            asked = isinstance(role, str) and ROLES.get(role.lower()) == "user"
            if mark in text and f"</{mark[1:]}" not in text and (named or (asked and _placed(text, mark))):
                raise BadRow("other_modality", f"a turn has {mark}, and a sample has images alone")


def is_media(name: str) -> bool:
    """Whether a column of this name holds films or sounds."""
    return _MEDIA.fullmatch(name) is not None


def bears_loss(said: Mapping[str, Any], reading: Reading, turns: str) -> bool:
    """Whether a turn of the field `turns` is to be learned. Raises BadRow for a weight between yes and no."""
    for name in WEIGHTS:
        value = said.get(name)
        if value is None or value != value or f"{reading.columns[turns]}[].{name}" in reading.ignored:
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise BadRow("malformed_record", f"a turn's {name} is {str(value)[:40]!r}, wanted 0 or 1, true or false")
        if not value:
            return False
    return True


def _placed(text: str, mark: str) -> bool:
    stripped = text.strip()
    return stripped.startswith(mark) or stripped.rpartition("\n")[2].strip() == mark
