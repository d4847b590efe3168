"""The funnel of a recipe, read from its manifests: rows in, rejected, dropped, kept, and the tokens of what is left.

One computation for the table at the end of a run, the report and the quickstart; it checks that nothing is lost between
the steps either: rows of all sources = rejected at ingest + dropped by reason + kept in shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.table import STAGES
from pipeline.storage import layout
from schemas.manifest import Counts, ManifestError


@dataclass(frozen=True)
class Funnel:
    """`sources`: per source the whole way as one ledger; dropped reasons are `stage.reason`."""

    sources: dict[str, Counts]
    totals: dict[str, int]
    num_shards: int
    shards: str

    @property
    def all(self) -> Counts:
        return sum(self.sources.values(), Counts())


def funnel(steps: Sequence[Step], context: Context) -> Funnel:
    """The funnel of a finished recipe. Raises MissingInput while a step is missing."""
    for step in steps:
        context.finished(step)
    last = steps[-1]
    end = context.finished(last)
    sources: dict[str, Counts] = {}
    for step in last.making("samples"):
        start = context.finished(step).counts
        rest = end.by_source.get(step.label, Counts())
        if start.kept != rest.rows_in:
            raise ManifestError(
                f"{step.label}: {step.stage.name} kept {start.kept:,}, {last.name} saw {rest.rows_in:,}"
            )
        sources[step.label] = Counts(start.rows_in, rest.kept, rest.dropped, start.rejected)
    shards = sum(layout.is_a("shard", file.name) for file in end.files)
    return Funnel(sources, end.facts["totals"], shards, str(context.out / last.folder))


def rows(funnel: Funnel) -> list[tuple[str, list[int]]]:
    """(what, [per source ..., all]) lines of the table, in the order of the funnel."""
    ledgers = [*funnel.sources.values(), funnel.all]
    lines = [("rows in", [c.rows_in for c in ledgers])]
    for word, name in (("rejected", "ingest."), ("dropped", "")):  # reasons of a drop name their stage already
        reasons: dict[str, Any] = {}
        for ledger in ledgers:
            reasons |= getattr(ledger, word)
        for reason in sorted(reasons, key=_order):
            lines.append((f"{word} {name}{reason}", [getattr(c, word).get(reason, 0) for c in ledgers]))
    return [*lines, ("kept", [c.kept for c in ledgers])]


def _order(reason: str) -> tuple[int, str]:
    """Reasons stand in the order of their stages."""
    entry = STAGES.get(reason.split(".")[0])
    return (entry.number if entry else 0, reason)


def show(funnel: Funnel, console: Console | None = None) -> None:
    """Print the table."""
    console = console or Console()
    table = Table(title="Samples", title_justify="left")
    table.add_column("", overflow="fold")
    for name in [*funnel.sources, "all"]:
        table.add_column(name, justify="right")
    for what, numbers in rows(funnel):
        table.add_row(what, *(f"{n:,}" if n else "-" for n in numbers), style="bold" if what == "kept" else None)
    console.print(table)
    t = funnel.totals
    console.print(
        f"{t['num_text_tokens']:,} text + {t['num_image_tokens']:,} image = {t['num_tokens']:,} tokens, "
        f"{t['num_target_tokens']:,} of them targets; {t['num_tiles']:,} tiles; {funnel.num_shards:,} shards",
        highlight=False,
    )
    console.print(f"shards: {funnel.shards}", highlight=False, soft_wrap=True)
