"""The files of configs/ that come with the program: `configs/...` means the same from any folder.

In a checkout `pipeline/configs` is a link to configs/; in an installed package the files lie there. What the current
folder holds goes first, so a copy of one's own is never passed over.
"""

from __future__ import annotations

from pathlib import Path

_HOME = Path(__file__).parent.parent


def find(path: Path | str) -> Path:
    """The path itself, or the program's own file of that name where the current folder has none."""
    path = Path(path)
    own = _HOME / path
    return own if path.parts[:1] == ("configs",) and not path.exists() and own.is_file() else path
