"""Samples + verdicts -> SHARD rows: exact token ids, target spans and tile plans, without opening an image.

Every count is arithmetic on the text and on (width, height): the grid is chosen from the size, its tokens are
counted, placeholders are expanded to exactly what the model will see, and the original image bytes are copied
through. The trainer cuts tiles by the stored grid. A sample that any filter dropped is counted under that filter's
name; an over-long one or one without targets gets a verdict here. Nothing is truncated: by the recipe an over-long
conversation is dropped, or cut between its rounds into several rows (stages/split.py). The ledger counts samples, not
rows: a sample that is cut is kept once, and its verdict says how many rows it gives. Samples come and shards go in
pieces, so that the size of a part is no matter of memory.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from schemas.manifest import Counts
from schemas.shard import COUNTS, INDEX, SHARD
from schemas.verdict import verdict_schema
from stages.chat import ChatFormat
from stages.shard_rows import Dropped, PretokeniseParams, rows_of
from stages.stage import check_reasons, grouped

VERSION = 6

REASONS = {
    "too_long": "more than max_tokens tokens",
    "no_target": "no token bears loss",
    "no_grid": "the tile scheme has no grid for an image of such sides",
    "template_refuses": "the chat template can't lay out these roles",
    "control_text": "the tokenizer makes a control token of the text, whatever is done about it",
}

VERDICT = verdict_schema(
    pa.schema(
        [
            ("stage", pa.string()),
            ("rows", pa.int32()),
            *[(name, pa.int32()) for name in COUNTS],
            ("detail", pa.string()),
        ]
    )
)


class Pretokenised(NamedTuple):
    """A piece of a part: a batch of the shard, its index rows, a verdict per sample (first reason to drop it) and the
    ledger."""

    shard: pa.Table
    index: pa.Table
    verdict: pa.Table
    counts: Counts


class _Judged(NamedTuple):
    """What became of one sample: its verdict, and its row of the shard if it is kept. Further rows of a sample that is
    cut follow without a verdict."""

    verdict: dict[str, Any] | None
    row: dict[str, Any] | None

    @property
    def size(self) -> int | None:
        """The bytes that it takes in the shard, about."""
        if self.row is None:
            return None
        return 4 * len(self.row["input_ids"]) + sum(len(image["bytes"]) for image in self.row["images"])


class Damaged(ValueError):
    """A sample is not what ingest made."""


def pretokenise(
    pieces: Iterable[pa.Table],
    verdicts: Mapping[str, pa.Table],
    number: int,
    chat: ChatFormat,
    params: PretokeniseParams,
) -> Iterator[Pretokenised]:
    """One part -> one shard, piece by piece; at least one.

    `pieces`: the samples; `verdicts`: filter name -> VERDICT rows of this part; `number`: the shard's number. Raises
    ValueError if a verdict does not speak of exactly these samples, Damaged for images that are not ingest's.
    """
    first = 0
    for group in grouped(_judged(pieces, verdicts, chat, params), lambda judged: judged.size):
        shard = pa.Table.from_pylist([judged.row for judged in group if judged.row is not None], SHARD)
        judged = [judged.verdict for judged in group if judged.verdict is not None]
        yield Pretokenised(shard, _index(shard, number, first), pa.Table.from_pylist(judged, VERDICT), _ledger(judged))
        first += shard.num_rows


def _judged(
    pieces: Iterable[pa.Table], verdicts: Mapping[str, pa.Table], chat: ChatFormat, params: PretokeniseParams
) -> Iterator[_Judged]:
    start = 0
    for samples in pieces:
        mine = {stage: verdict.slice(start, samples.num_rows) for stage, verdict in verdicts.items()}
        start += samples.num_rows
        dropped = first_drop(samples["sample_id"], mine)
        languages = _languages(samples, mine)
        for row, language, (stage, reason) in zip(samples.to_pylist(), languages, dropped, strict=True):
            yield from _judge(row, language, stage, reason, chat, params)
    for stage, verdict in verdicts.items():
        if verdict.num_rows != start:
            raise ValueError(f"the verdicts of {stage} don't speak of these samples row by row; run {stage} again")


def _judge(
    row: Mapping[str, Any],
    language: str | None,
    stage: str | None,
    reason: str | None,
    chat: ChatFormat,
    params: PretokeniseParams,
) -> Iterator[_Judged]:
    """A sample's rows of the shard, or why there is none; `stage` and `reason`: the filter that dropped it."""
    verdict = {"sample_id": row["sample_id"], "stage": stage, "reason": reason}
    if reason is not None:
        yield _Judged(verdict, None)
        return
    _prove(row)
    try:
        found, detail = rows_of(row, chat, params)
    except Dropped as drop:
        own = {"stage": "pretokenise", "reason": drop.reason, "detail": drop.detail, "num_tokens": drop.num_tokens}
        yield _Judged(verdict | own, None)
        return
    sums = {name: sum(one[name] for one in found) for name in COUNTS}
    first: dict[str, Any] | None = verdict | {"rows": len(found), "detail": detail, **sums}
    for one in found:
        yield _Judged(first, {**one, "language": language})
        first = None


def _prove(row: Mapping[str, Any]) -> None:
    """Raise Damaged unless every image is the one that ingest looked at: its bytes are copied, and its size is used."""
    for number, (image, info) in enumerate(zip(row["images"], row["image_info"], strict=True), 1):
        if hashlib.sha256(image["bytes"]).hexdigest() != info["sha256"]:
            raise Damaged(f"{row['sample_id']}: image {number} has other bytes than its sha256 says")


def first_drop(sample_ids: pa.ChunkedArray, verdicts: Mapping[str, pa.Table]) -> list[tuple[str | None, str | None]]:
    """(filter, reason) that drops each sample first, in the order of `verdicts`; (None, None) where all keep it."""
    drops: list[tuple[str | None, str | None]] = [(None, None)] * len(sample_ids)
    for stage, verdict in verdicts.items():
        if not verdict["sample_id"].equals(sample_ids):
            raise ValueError(f"the verdicts of {stage} don't speak of these samples row by row; run {stage} again")
        for row, reason in enumerate(verdict["reason"].to_pylist()):
            if reason is not None and drops[row] == (None, None):
                drops[row] = (stage, reason)
    return drops


def _languages(samples: pa.Table, verdicts: Mapping[str, pa.Table]) -> list[str | None]:
    column = verdicts["language"]["language"] if "language" in verdicts else samples["declared_language"]
    return list(column.to_pylist())


def _index(shard: pa.Table, number: int, first: int) -> pa.Table:
    rows = range(first, first + shard.num_rows)
    place = {"shard": pa.array([number] * len(rows), pa.int32()), "row": pa.array(rows, pa.int32())}
    return pa.table(
        {name: place.get(name, shard[name] if name in shard.column_names else None) for name in INDEX.names}
    )


def _ledger(judged: list[dict[str, Any]]) -> Counts:
    own = [verdict["reason"] for verdict in judged if verdict["stage"] == "pretokenise"]
    check_reasons(own, REASONS, "pretokenise")
    found = Counter(f"{verdict['stage']}.{verdict['reason']}" for verdict in judged if verdict["reason"] is not None)
    return Counts(len(judged), len(judged) - found.total(), dict(sorted(found.items())))


def ledger(verdict: pa.Table) -> Counts:
    """The ledger of the verdicts of a shard."""
    return _ledger(verdict.to_pylist())


def totals(index: pa.Table) -> dict[str, int]:
    """Sums of the five counts over an index."""
    return {name: pc.sum(index[name]).as_py() or 0 for name in COUNTS}
