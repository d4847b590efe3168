"""JSON files of our own, which may be damaged or another program's: what is in them, or one kind of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """What a file holds. Raises OSError where it can't be read, ValueError where it is no JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
