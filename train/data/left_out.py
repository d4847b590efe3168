"""`data.leave_out`: samples that a run is made without, by a decision that is written down.

A text file with the id of a sample on each line, as errors name it; empty lines and lines that begin with `# ` say
why. What is left out is part of a run's identity, by the ids and not by the file's place. An id that no shard has is
refused: it would be a decision about nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schemas import strict
from schemas.identity import fingerprint
from schemas.strict import RecipeError

# What an error of a sample says: the ids are part of a run's identity, and so is the plan that they change
CURE = (
    "name it in data.leave_out, which is another run: with another run.out, where model.from with this one's folder "
    "goes on from its weights"
)


def read(path: str) -> frozenset[str]:
    """The ids of a file. Raises RecipeError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RecipeError(f"data.leave_out: {path} can't be read ({why}); mend the path or take the key out") from None
    found = [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
    return frozenset(found)


def identity(path: str | None) -> str | None:
    """What a file of ids comes to, in whatever order they stand there."""
    return fingerprint(sorted(read(path))) if path else None


def refuse_unknown(path: str, unknown: Iterable[str]) -> None:
    """Raise RecipeError if there are any."""
    for name in sorted(unknown)[:1]:
        raise RecipeError(
            f"data.leave_out: {path} names {strict.brief(name)}, and no shard has a sample of that id; mend it or take "
            "it out"
        )
