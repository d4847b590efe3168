"""Names of files as text, whatever bytes they are: what is listed, recorded and shown, and the way back to the disk.

A file system keeps bytes. Where they are UTF-8 the name is what they say; a byte that is none stands as `\\xe9`. So
that every listed name leads back to one name only, a backslash that could be taken for the beginning of such an escape
stands as `\\x5c`.
"""

from __future__ import annotations

import re

_ODD = re.compile(r"[\ud800-\udfff]|\\(?=x(5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(r"\\x(5c|[89a-f][0-9a-f])")


def listed(name: str) -> str:
    """A name as Python gives it (bytes that are no UTF-8 as surrogates), as valid text."""
    return name if name.isascii() and "\\" not in name else _ODD.sub(lambda found: _escape(found[0]), name)


def on_disk(name: str) -> str:
    """A listed name as Python wants it to open the file."""
    return _ESCAPE.sub(lambda found: _plain(found[1]), name) if "\\" in name else name


def _escape(character: str) -> str:
    return rf"\x{ord(character) & 0xFF:02x}"


def _plain(digits: str) -> str:
    code = int(digits, 16)
    return chr(code) if code < 0x80 else chr(0xDC00 + code)
