"""Names of files as a server lists them: whether they can lie below a folder, each alone and all together."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath
from unicodedata import category

from pipeline.net.wanted_file import PARTIAL


def nameable(path: str) -> bool:
    """Whether a listed name can be a file's below a folder, beside partial files, and be shown to people.

    A lone surrogate, which JSON can hold, has no bytes; a line end (Unicode has more of them) or an escape would forge
    what people read.
    """
    parts = path.split("/")
    own = any(part.endswith((PARTIAL, f"{PARTIAL}.json")) for part in parts)
    return not ({"", ".", ".."} & set(parts) or own or any(category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path))


def clash(names: Iterable[str]) -> str:
    """Why the files of a listing can't lie beside each other; "" if they can."""
    ordered = sorted(names)
    if twice := [one for one, other in pairwise(ordered) if one == other]:
        return f"{twice[0]!r} is listed twice"
    folders = {str(parent) for name in ordered for parent in PurePosixPath(name).parents}
    both = [name for name in ordered if name in folders]
    return f"{both[0]!r} is listed as a file and as a folder" if both else ""
