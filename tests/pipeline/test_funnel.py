"""The whole pipeline against the truth about a corpus with planted defects: by reason, and row by row."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.commands.funnel import Funnel, show
from pipeline.commands.funnel import funnel as made
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.graph.task import Record, Task, do
from pipeline.run.runner import Take
from pipeline.steps.samples import parts_of
from schemas.manifest import Counts, read
from tests.pipeline.conftest import Corpus, MakeRecipe, run

Finished = tuple[Path, Context, list[Step]]


def test_the_funnel_is_the_truth_reason_by_reason(finished_run: Finished, corpus: Corpus) -> None:
    _, context, steps = finished_run
    funnel = made(steps, context)
    assert {name: counts.rows_in for name, counts in funnel.sources.items()} == corpus.truth["rows_in"]
    truth = corpus.truth["rejected"].items()
    rejected = {name: {f"ingest.{reason}": n for reason, n in reasons.items()} for name, reasons in truth}
    assert {name: counts.rejected for name, counts in funnel.sources.items()} == rejected
    expected = {f"{s}.{r}": n for s, reasons in corpus.truth["dropped"].items() for r, n in reasons.items()}
    assert funnel.all.dropped == expected
    assert funnel.all.kept == corpus.truth["kept"]


def test_every_planted_defect_meets_its_reason_in_its_row(finished_run: Finished, corpus: Corpus) -> None:
    _, context, steps = finished_run
    found = reasons(context, steps)
    pairs: Counter[tuple[str, str]] = Counter()
    for defect in corpus.truth["defects"]:
        outcome = found[f"{defect['source']}/{defect['file']}#{defect['row']}"]
        if defect["reason"] in ("duplicate", "near_duplicate"):
            pairs[outcome] += 1  # of a pair either may be the one that stays
        else:
            assert outcome == (defect["stage"] or "", defect["reason"] or ""), defect
    assert set(pairs) <= {("dedupe", "duplicate"), ("dedupe", "near_duplicate"), ("", "")}


def reasons(context: Context, steps: list[Step]) -> dict[str, tuple[str, str]]:
    """sample_id -> (stage, reason) for every input row; ("", "") if it is in the shards."""
    last = steps[-1]
    found: dict[str, tuple[str, str]] = {}
    for step in last.inputs:
        for path in sorted((context.out / step.folder).glob("rejected-*.parquet")):
            found |= {row["sample_id"]: ("ingest", row["reason"]) for row in pq.read_table(path).to_pylist()}
    for number, _ in enumerate(parts_of(last.making("samples"), context)):
        table = pq.read_table(context.out / last.folder / f"verdict-{number:05d}.parquet")
        found |= {row["sample_id"]: (row["stage"] or "", row["reason"] or "") for row in table.to_pylist()}
    return found


def test_every_row_is_somewhere_exactly_once(finished_run: Finished, corpus: Corpus) -> None:
    _, context, steps = finished_run
    assert len(reasons(context, steps)) == sum(corpus.truth["rows_in"].values())
    index = pq.read_table(context.out / steps[-1].folder / "index.parquet")
    assert len(set(index["sample_id"].to_pylist())) == index.num_rows == corpus.truth["kept"]


def test_every_manifest_balances(finished_run: Finished) -> None:
    _, context, steps = finished_run
    for step in steps:
        manifest = read(context.out / step.folder)
        whole: Any = sum(manifest.by_source.values(), Counts())
        assert whole == manifest.counts


@pytest.mark.parametrize("count", [2, 185])
def test_the_table_fits_a_terminal_whatever_the_number_of_sources(count: int) -> None:
    numbers = range(count)
    ledgers = {
        f"source_{n:03d}": Counts(1000 + n, 900, {"dedupe.duplicate": 60}, {"ingest.x": 40 + n}) for n in numbers
    }
    totals = dict.fromkeys(("num_tokens", "num_text_tokens", "num_image_tokens", "num_target_tokens", "num_tiles"), 7)
    stream = io.StringIO()
    show(Funnel(ledgers, totals, 1, "out"), Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    for name in ledgers:
        assert any(name in line for line in lines), name
    assert any("dedupe.duplicate" in line and f"{60 * count:,}" in line for line in lines)
    if count > 6:
        (line,) = (line for line in lines if "source_184" in line)
        assert [word for word in line.split() if word[0].isdigit()] == ["1,184", "224", "60", "900"]


def test_two_sources_may_lie_in_one_folder(make_recipe: MakeRecipe) -> None:
    """Their listings are equal, and with them the identity of the steps that are at work side by side."""

    def twice(mapping: dict[str, Any]) -> None:
        mapping["data"]["sources"]["again"] = mapping["data"]["sources"]["llava"]
        mapping["run"]["locations"]["again"] = mapping["run"]["locations"]["llava"]

    context, steps = run(make_recipe(twice), executor=AllAtOnce())
    sources = made(steps, context).sources
    assert sources["again"].rows_in == sources["llava"].rows_in > 0
    assert sources["again"].rejected == sources["llava"].rejected


class AllAtOnce:
    """Takes all tasks that there are before it does one, as a large cluster does."""

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while tasks := list(iter(take, None)):
            yield from ((task, do(task)) for task in tasks)
