"""The funnel of a recipe, read from its manifests: rows in, rejected, dropped, kept, and the tokens of what is left.

One computation for the table at the end of a run, the report and the quickstart; it checks that nothing is lost between
the steps either: rows of all sources = rejected at ingest + dropped by reason + kept in shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.commands.terminal import plain
from pipeline.graph.context import Context
from pipeline.graph.stage import TURNS, Step
from pipeline.storage import layout
from schemas.manifest import Counts, ManifestError
from schemas.shown import shown

_BESIDE = 6  # so many sources have a column each


@dataclass(frozen=True)
class Funnel:
    """`sources`: per source the whole way as one ledger; every reason is `stage.reason`.

    `meanings`: what each reason says, in the order of the stages. `turns`: of each filter that may remove some, the
    ledger of the turns that it saw. `benchmarks`: of a recipe without shards, where each lies.
    """

    sources: dict[str, Counts]
    totals: dict[str, int]
    num_shards: int
    shards: str
    meanings: Mapping[str, str] = field(default_factory=dict)
    turns: Mapping[str, Counts] = field(default_factory=dict)
    benchmarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def all(self) -> Counts:
        return sum(self.sources.values(), Counts())


def funnel(steps: Sequence[Step], context: Context) -> Funnel:
    """The funnel of a finished recipe. Raises MissingInput while a step is missing."""
    for step in steps:
        context.finished(step)
    meanings = {f"{step.stage.name}.{r}": text for step in steps for r, text in step.stage.reasons.items()}
    last = steps[-1]
    if last.stage.makes != "shards":
        return _of_benchmarks([step for step in steps if step.stage.makes == "samples"], context, meanings)
    end = context.finished(last)
    sources: dict[str, Counts] = {}
    for step in last.making("samples"):
        start = context.finished(step).counts
        rest = end.by_source.get(step.label, Counts())
        if start.kept != rest.rows_in:
            raise ManifestError(
                f"{step.label}: {step.stage.name} kept {start.kept:,}, {last.name} saw {rest.rows_in:,}"
            )
        sources[step.label] = Counts(start.rows_in, rest.kept, rest.dropped, _rejected(step, start))
    shards = sum(layout.is_a("shard", file.name) for file in end.files)
    turns = {step.stage.name: counted for step in last.making("verdicts") if (counted := _turns(step, context))}
    return Funnel(sources, end.facts["totals"], shards, str(context.out / last.folder), meanings, turns)


def _rejected(step: Step, counts: Counts) -> dict[str, int]:
    return {f"{step.stage.name}.{reason}": count for reason, count in counts.rejected.items()}


def _of_benchmarks(steps: Sequence[Step], context: Context, meanings: Mapping[str, str]) -> Funnel:
    """The way of benchmarks ends where they are ingested."""
    ledgers: dict[str, Counts] = {}
    for step in steps:
        counts = context.finished(step).counts
        ledgers[step.label] = Counts(counts.rows_in, counts.kept, {}, _rejected(step, counts))
    places = {step.label: str(context.out / step.folder) for step in steps}
    return Funnel(ledgers, {}, 0, "", meanings, benchmarks=places)


def _turns(step: Step, context: Context) -> Counts | None:
    """The turns that a filter saw, of all sources. Raises ManifestError where turns are lost."""
    by_source = context.finished(step).facts.get(TURNS)
    return None if by_source is None else sum((Counts(**counted) for counted in by_source.values()), Counts())


def rows(funnel: Funnel) -> list[tuple[str, list[int]]]:
    """(what, [per source ..., all]) lines of the table, in the order of the funnel."""
    ledgers = [*funnel.sources.values(), funnel.all]
    lines = [("rows in", [c.rows_in for c in ledgers])]
    place = {reason: number for number, reason in enumerate(funnel.meanings)}
    for word in ("rejected", "dropped"):
        for reason in sorted(getattr(funnel.all, word), key=lambda reason: place.get(reason, 0)):
            lines.append((f"{word} {reason}", [getattr(c, word).get(reason, 0) for c in ledgers]))
    return [*lines, ("kept", [c.kept for c in ledgers])]


def _by_source(funnel: Funnel) -> list[tuple[str, list[int]]]:
    """A line per source, where a column for each would not fit beside the others."""
    ledgers = funnel.sources.items()
    return [(n, [c.rows_in, sum(c.rejected.values()), sum(c.dropped.values()), c.kept]) for n, c in ledgers]


def _print(console: Console, title: str, columns: Sequence[str], lines: Sequence[tuple[str, list[int]]]) -> None:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("", overflow="fold")
    for name in columns:
        table.add_column(Text(name), justify="right")
    for what, numbers in lines:
        style = "bold" if what == "kept" else None
        table.add_row(Text(what), *(f"{n:,}" if n else "-" for n in numbers), style=style)
    console.print(table)


def show(funnel: Funnel, console: Console | None = None) -> None:
    """Print the table."""
    console = console or plain()
    many = len(funnel.sources) > _BESIDE
    if many:
        _print(console, "Sources", ["rows in", "rejected", "dropped", "kept"], _by_source(funnel))
    lines = [(what, numbers[-1:] if many else numbers) for what, numbers in rows(funnel)]
    _print(console, "Samples", ["all"] if many else [*funnel.sources, "all"], lines)
    for name, counted in funnel.turns.items():
        lost = "".join(f" + {count:,} {name}.{reason}" for reason, count in counted.dropped.items())
        console.print(f"{counted.rows_in:,} turns = {counted.kept:,} kept by {name}{lost}", soft_wrap=True)
    for name, folder in funnel.benchmarks.items():
        console.print(f"{name}: {shown(folder)}", soft_wrap=True)
    if not funnel.shards:
        return
    t = funnel.totals
    console.print(
        f"{t['num_text_tokens']:,} text + {t['num_image_tokens']:,} image = {t['num_tokens']:,} tokens, "
        f"{t['num_target_tokens']:,} of them targets; {t['num_tiles']:,} tiles; "
        f"{funnel.num_shards:,} shard{'' if funnel.num_shards == 1 else 's'}",
        soft_wrap=True,
    )
    console.print(f"shards: {shown(funnel.shards)}", soft_wrap=True)
