"""Text that is not ours, on its way to a terminal: names of files and columns, what rows hold, what others' errors say.

Characters that a terminal would obey, or that would turn the line around, are shown as what they are (`\\x1b`), and so
are halves of characters, which have no UTF-8. Letters, spaces and emoji stay as they are.
"""

from __future__ import annotations

import re

_BREAKS = "\t\n"
_ODD = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def shown(text: str) -> str:
    """One line."""
    return _ODD.sub(_escape, text)


def shown_lines(text: str) -> str:
    """Tabs and line ends stay."""
    return _ODD.sub(lambda found: found[0] if found[0] in _BREAKS else _escape(found), text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
