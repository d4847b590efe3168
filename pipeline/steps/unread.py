"""The columns of a source that nobody reads: what becomes of them is no part of any sample, so a person should know.

`plan` looks at some records, a run counts them, the report says what was counted. What the source's `ignore` names is
counted all the same and not told, so that to silence a column changes no result. Of names that are data themselves (a
JSON with a key for every person) the most frequent are kept.
"""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout
from schemas.strict import brief
from stages.download import role
from stages.sources import one_record
from stages.sources.declaration import Source
from stages.sources.records import slices
from stages.sources.records.streams import DataError
from stages.sources.shapes.draft import BadRow

_FILES, _RECORDS = 8, 32  # that a plan looks at
_KEPT = 200  # names of one part, and of a source
_NAMED = 20  # in one line


def of_file(path: Path, rows: int, source: Source) -> Counter[str]:
    """Columns that the file's kind lets be passed over unseen, once for each of some rows."""
    names = slices.unread(path, functools.partial(one_record.wanted, source=source))
    return Counter(dict.fromkeys(names, rows))


def counted(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts of names as one, sorted; names as they can be written down."""
    total: Counter[str] = Counter()
    for counts in found:
        for name, count in counts.items():
            total[brief(name)] += count
    return dict(sorted(sorted(total.items(), key=lambda item: (-item[1], item[0]))[:_KEPT]))


def told(names: Mapping[str, int], source: Source) -> str:
    """One line about them, with the rows that have them where these were counted."""
    known = {brief(name) for name in source.ignore}
    left = [(name, count) for name, count in names.items() if name not in known]
    some = ", ".join(name + (f" ({count:,})" if count else "") for name, count in left[:_NAMED])
    more = f" and {len(left) - _NAMED:,} more" if len(left) > _NAMED else ""
    return f"nobody reads {some}{more}; {_remedy(known - names.keys(), left)}" if left else ""


def _remedy(unseen: Collection[str], left: Iterable[tuple[str, int]]) -> str:
    """What to do about them; where `ignore` has a near name that no row has, it was misspelt."""
    for name, _ in left:
        if near := difflib.get_close_matches(name, sorted(unseen), n=1):
            return f"`ignore` has {near[0]!r}, which no row has; did you mean {name!r}?"
    return "`ignore: [...]` in the source silences this"


def notice(step: Step, context: Context) -> str:
    """What there is to tell of a source: as ingest counted it, or by a look at some records that lie here."""
    source: Source = step.params[0]
    manifest = context.manifest(step)
    if manifest is not None:
        return told(manifest.facts["unread"], source)
    root = _root(step, context)
    if root is None:
        return ""
    files = [f.file for f in context.content.named(step.label) if role(f.file, source) == "records"]
    some = files[:: max(1, len(files) // _FILES)][:_FILES]
    return told(dict.fromkeys(sorted({brief(n) for file in some for n in _seen(root / file, source)}), 0), source)


def _root(step: Step, context: Context) -> Path | None:
    """Where the files lie; None while they are still to be fetched."""
    if not context.fetched(step.label):
        return context.place(step.label)
    listed = step.making("files")[0]
    return context.out / listed.folder / layout.FETCHED if context.manifest(listed) is not None else None


def _seen(path: Path, source: Source) -> set[str]:
    """What is not read of the first records of a file; as far as it can be read, the rest is for ingest to say."""
    wanted = functools.partial(one_record.wanted, source=source)
    names: set[str] = set()
    with suppress(DataError, OSError):
        names |= set(slices.unread(path, wanted))
        for record in slices.head(path, _RECORDS, wanted):
            with suppress(BadRow):
                names |= one_record.unread(record, source) if isinstance(record, Mapping) else set()
    return names
