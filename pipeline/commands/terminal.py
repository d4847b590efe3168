"""The terminal as commands write to it: what they print is data, so no bracket is markup and no `:smile:` an emoji."""

from __future__ import annotations

import sys

from rich.console import Console


def plain(wide: bool = False) -> Console:
    """A console for text as it is; `wide`: enough for a table where the output is read by a program."""
    width = 200 if wide and not sys.stdout.isatty() else None
    return Console(width=width, markup=False, emoji=False, highlight=False)
