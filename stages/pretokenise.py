"""Samples + verdicts -> ROWS: exact token ids, target spans and tile plans, without opening an image.

Every count is arithmetic on the text and on (width, height): the grid is chosen from the size, its tokens are counted,
and placeholders are expanded to exactly what the model will see (stages/shard_rows.py). Image bytes are not even read:
they join the rows when a shard is written (stages/shard_images.py). A sample that any filter dropped is counted under
that filter's name; an over-long one or one without targets gets a verdict here; one of which a filter keeps some turns
is cut to these first (stages/kept_turns.py). The ledger counts samples, not rows: a sample that is cut to pieces is
kept once, and its verdict says how many rows it gives. Samples come and rows go in pieces, so that the size of a part
is no matter of memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from schemas.manifest import Counts
from schemas.shard import COUNTS, ROWS
from schemas.verdict import verdict_schema
from stages.chat import ChatFormat
from stages.kept_turns import Kept, cut, kept_turns
from stages.shard_rows import Dropped, PretokeniseParams, rows_of
from stages.stage import check_reasons, grouped

VERSION = 9

# What is read of SAMPLE, in parquet's names
COLUMNS = (
    *("sample_id", "source", "subset", "licence", "messages", "scores", "declared_language"),
    *(f"image_info.list.element.{name}" for name in ("sha256", "size", "width", "height")),
)

_LEAST = 1 << 20  # bytes of a batch that small shards are not cut below

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
    """A piece of a part: a batch of rows, the bytes that they take in a shard, a verdict per sample (the first reason
    to drop it) and the ledger."""

    rows: pa.Table
    size: int
    verdict: pa.Table
    counts: Counts


class _Judged(NamedTuple):
    """What became of one sample: its verdict, and its row if it is kept, which takes `size` bytes. Further rows of a
    sample that is cut follow without a verdict."""

    verdict: dict[str, Any] | None
    row: dict[str, Any] | None = None
    size: int | None = None


def pretokenise(
    pieces: Iterable[pa.Table], verdicts: Mapping[str, pa.Table], chat: ChatFormat, params: PretokeniseParams
) -> Iterator[Pretokenised]:
    """One part, piece by piece; at least one piece comes.

    `pieces`: the samples' COLUMNS; `verdicts`: filter name -> VERDICT rows of this part. Raises ValueError if a verdict
    does not speak of exactly these samples.
    """
    most = max(params.shard_bytes, _LEAST)
    for group in grouped(_judged(pieces, verdicts, chat, params), lambda judged: judged.size, most):
        rows = pa.Table.from_pylist([judged.row for judged in group if judged.row is not None], ROWS)
        judged = [judged.verdict for judged in group if judged.verdict is not None]
        size = sum(judged.size or 0 for judged in group)
        yield Pretokenised(rows, size, pa.Table.from_pylist(judged, VERDICT), _ledger(judged))


def _judged(
    pieces: Iterable[pa.Table], verdicts: Mapping[str, pa.Table], chat: ChatFormat, params: PretokeniseParams
) -> Iterator[_Judged]:
    start = 0
    for samples in pieces:
        mine = {stage: verdict.slice(start, samples.num_rows) for stage, verdict in verdicts.items()}
        dropped = first_drop(samples["sample_id"], mine)
        kept = kept_turns(samples.num_rows, mine)
        known = zip(_languages(samples, mine), _evidence(samples, mine), dropped, kept, strict=True)
        for number, (row, (language, scores, drop, turns)) in enumerate(
            zip(samples.to_pylist(), known, strict=True), start
        ):
            origin = {name: row[name] for name in ("subset", "licence")}
            beside = {**origin, "language": language, "scores": scores, "sample": number}
            yield from _judge(row, beside, drop, turns, chat, params)
        start += samples.num_rows
    for stage, verdict in verdicts.items():
        if verdict.num_rows != start:
            raise ValueError(f"the verdicts of {stage} don't speak of these samples row by row; run {stage} again")


def _judge(
    row: dict[str, Any],
    beside: Mapping[str, Any],
    drop: tuple[str | None, str | None],
    turns: Kept,
    chat: ChatFormat,
    params: PretokeniseParams,
) -> Iterator[_Judged]:
    """A sample's rows with what is known `beside` the sample, or why there is none.

    `drop`: by which filter, why; `turns`: the rounds that stay.
    """
    stage, reason = drop
    verdict = {"sample_id": row["sample_id"], "stage": stage, "reason": reason}
    if reason is not None:
        yield _Judged(verdict)
        return
    sizes = [info["size"] for info in row["image_info"]]
    try:
        found, detail = rows_of(cut({**row, "images": range(len(sizes))}, turns), chat, params)
    except Dropped as dropped:
        own = {"reason": dropped.reason, "detail": dropped.detail, "num_tokens": dropped.num_tokens}
        yield _Judged({**verdict, "stage": "pretokenise", **own})
        return
    sums = {name: sum(one[name] for one in found) for name in COUNTS}
    first: dict[str, Any] | None = verdict | {"rows": len(found), "detail": detail, **sums}
    for one in found:
        size = 4 * len(one["input_ids"]) + sum(sizes[number] for number in one["image_numbers"])
        yield _Judged(first, {**one, **beside}, size)
        first = None


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


def _evidence(samples: pa.Table, verdicts: Mapping[str, pa.Table]) -> list[list[dict[str, Any]]]:
    """The numbers that a shard keeps of each sample: the source's scores, then those of the filters' evidence."""
    told = [
        (f"{stage}.{name}", verdict[name].to_pylist())
        for stage, verdict in verdicts.items()
        for name in verdict.column_names
        if pa.types.is_floating(verdict[name].type) or pa.types.is_integer(verdict[name].type)
    ]
    return [
        (scores or []) + [{"name": name, "value": all_of[row]} for name, all_of in told if all_of[row] is not None]
        for row, scores in enumerate(samples["scores"].to_pylist())
    ]


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
