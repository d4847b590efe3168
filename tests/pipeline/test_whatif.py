"""`whatif` says what a run with other limits would keep, sample by sample and token by token; or that it can't say."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from schemas import yaml_file
from schemas.shard import COUNTS
from tests.pipeline import whatif_corpus
from tests.pipeline.conftest import run, write_yaml

Finished = tuple[Path, Context, list[Step]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("whatif")
    whatif_corpus.write(folder / "raw")
    path = write_yaml(folder / "recipe.yaml", whatif_corpus.recipe(folder / "raw", folder / "out"))
    context, steps = run(path)
    context.content.save()
    return path, context, steps


def verdicts(context: Context, steps: list[Step]) -> dict[str, dict[str, Any]]:
    """What pretokenise says of every sample."""
    files = sorted((context.out / steps[-1].folder).glob("verdict-*.parquet"))
    return {row["sample_id"]: row for file in files for row in pq.read_table(file).to_pylist()}


def kept(context: Context, steps: list[Step]) -> set[str]:
    return {name for name, row in verdicts(context, steps).items() if row["reason"] is None}


def put(mapping: dict[str, Any], setting: str) -> None:
    """A setting, written into a recipe by hand."""
    key, _, value = setting.partition("=")
    *names, last = key.split(".")
    for name in names:
        mapping = mapping.setdefault(name, {})
    mapping[last] = yaml_file.parse(value, "test")


def really(finished: Finished, settings: list[str], folder: Path) -> tuple[Context, list[Step]]:
    """A run with these settings, in the same output folder."""
    mapping = yaml.safe_load(finished[0].read_text(encoding="utf-8"))
    for setting in settings:
        put(mapping, setting)
    return run(write_yaml(folder / "changed.yaml", mapping))


def asked(
    finished: Finished, settings: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], Mapping[str, tuple[bool, bool]]]:
    """What `whatif` says: its JSON, and of each sample whether it is kept and would be."""
    capsys.readouterr()
    sets = [word for setting in settings for word in ("--set", setting)]
    assert main(["whatif", str(finished[0]), *sets, "--json", "--ids", str(folder / "ids.parquet")]) == 0
    rows = pq.read_table(folder / "ids.parquet").to_pylist()
    return json.loads(capsys.readouterr().out), {row["sample_id"]: (row["before"], row["after"]) for row in rows}


ONE = [
    "data.quality.min_image_side=1",
    "data.quality.min_image_side=57",
    "data.quality.max_characters=120",
    "data.quality.answers.max_characters=60",
    "data.quality.answers.max_characters=null",
    "data.quality.answers.min_compression=0.75",
    "data.quality.min_scores={relevance_min: 3}",
    "data.quality.turns={min_ratings: {relevance_ratings: 3}, remove: all}",
    "data.quality=off",
    "data.language.keep=[en, fr]",
    "data.language.keep=[fr]",
    "data.language.min_confidence=0.9",
    "data.language.undetermined=drop",
    "data.language.sources={talks: {keep: [fr]}}",
    "data.decontaminate.text.coverage=0.4",
    "data.decontaminate.text.coverage=1",
    "data.decontaminate.text=null",
    "data.decontaminate.match.radius=0",
    "data.decontaminate.match.radius=5",
    "data.decontaminate={match: {radius: 2}, text: {coverage: 0.95}}",
    "data.dedupe.prefer=[rating]",
    "data.dedupe.prefer=[resolution]",
]


def check(finished: Finished, settings: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What is said is what a run then does; gives what is said."""
    said, ids = asked(finished, settings, folder, capsys)
    before, after = kept(*finished[1:]), kept(*(made := really(finished, settings, folder)))
    assert ids == {name: (name in before, name in after) for name in ids}, settings
    rows = verdicts(*made)
    assert set(ids) == set(rows)
    total = said.get("all", {})
    assert total["after"] == len(after) == total["before"] + total["gained"] - total["lost"]
    assert {name: total[f"{name}_after"] for name in COUNTS} == made[0].finished(made[1][-1]).facts["totals"]
    for source, amounts in said["sources"].items():
        mine = [row for name, row in rows.items() if name.startswith(f"{source}/") and row["reason"] is None]
        assert {name: amounts[f"{name}_after"] for name in COUNTS} == {n: sum(r[n] for r in mine) for n in COUNTS}
    return said


@pytest.mark.parametrize("setting", ONE)
def test_another_limit_keeps_what_whatif_said(
    finished: Finished, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = check(finished, [setting], tmp_path, capsys)
    assert said["changed"] == [setting.split(".")[1].split("=")[0]]


def drawn(number: int) -> list[str]:
    """One to three settings of different filters, some of them near what the samples have."""
    draw = random.Random(number)
    turns = f"{{min_ratings: {{relevance_ratings: {draw.randrange(1, 6)}}}, remove: [low_turn_rating]}}"
    every = [
        f"data.quality.min_image_side={draw.choice((1, 33, 49, 57, 65))}",
        f"data.quality.answers.max_characters={draw.randrange(20, 330)}",
        f"data.quality.turns={turns}",
        f"data.quality.min_scores={{relevance_min: {draw.randrange(1, 6)}}}",
        f"data.language.min_confidence={draw.choice((0.3, 0.5, 0.7, 0.8, 0.95))}",
        f"data.language.min_characters={draw.randrange(0, 60)}",
        f"data.language.mixed={draw.choice(('keep', 'drop'))}",
        f"data.decontaminate.text.coverage={draw.choice((0.3, 0.5, 0.6, 0.75, 0.9, 1))}",
        f"data.decontaminate.match.radius={draw.randrange(11)}",
        f"data.dedupe.prefer={draw.sample(['source', 'resolution', 'rating'], draw.randrange(0, 4))}",
    ]
    return draw.sample(every, draw.randrange(2, 5))


@pytest.mark.parametrize("number", range(12))
def test_several_limits_at_once_keep_what_whatif_said(
    finished: Finished, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(finished, drawn(number), tmp_path, capsys)


def test_the_corpus_has_samples_on_both_sides_of_the_limits(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the tests above would hold whatever is said."""
    seen: dict[str, set[str]] = {}
    for setting in ONE:
        said, _ = asked(finished, [setting], tmp_path, capsys)
        for name, amounts in said["filters"].items():
            seen.setdefault(name, set()).update(key for key, count in amounts.items() if count)
    one = {"drops", "keeps", "lost", "gained"}
    assert seen["quality"] >= one and seen["language"] >= one and seen["decontaminate"] >= one
    assert seen["dedupe"] >= {*one, "of_gained"}


def error(path: Path, settings: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of settings that are refused: one line."""
    capsys.readouterr()
    assert main(["whatif", str(path), *(word for setting in settings for word in ("--set", setting))]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("data.dedupe.match.radius=5", "compare is made of it; this needs a run of compare"),
        ("data.dedupe.text.jaccard=0.9", "this needs a run of compare"),
        ("data.decontaminate.text.ngram=6", "coverage alone is compared with what was found"),
        ("data.decontaminate.match.radius=11", "match.radius: got 11, it looked no further than 10"),
        (
            "data.decontaminate.match.leeway=3",
            "leeway is about the pictures themselves; this needs a run of decontaminate",
        ),
        ("data.ingest.rows_per_part=3", "data.ingest is no filter's section"),
        ("data.pretokenise.max_tokens=30", "data.pretokenise is no filter's section"),
        ("data.sources.talks.licence=x", "data.sources is no filter's section"),
        ("data.qualty.min_pixels=3", "data.qualty: unknown key; did you mean"),
        ("data.quality.min_pixel=3", "did you mean"),
        ("data.quality.min_scores={wit_min: 2}", "no source rates its rows under that name"),
        ("data.mixture.at_most=20", "mixture didn't run; this needs a run of it"),
        ("data.quality.min_image_side", "wanted data.FILTER.KEY=VALUE"),
        ("run.workers=1", "nothing to change"),
    ],
)
def test_what_the_evidence_cannot_say_is_refused_in_one_line(
    finished: Finished, setting: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in error(finished[0], [setting], capsys)


def test_a_rule_that_was_off_is_refused_unless_all_was_measured(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = yaml.safe_load(finished[0].read_text(encoding="utf-8"))
    mapping["data"]["quality"]["evidence"] = "needed"
    path = write_yaml(tmp_path / "needed.yaml", mapping)
    assert "quality is not finished; run `python -m pipeline run" in error(path, ["data.quality.min_pixels=9"], capsys)
    run(path)
    says = error(path, ["data.quality.answers.min_compression=0.75"], capsys)
    assert "answers.min_compression was off when it ran; run with evidence: all, or run the filter again" in says
    says = error(path, ["data.quality.japanese.max_ascii_run=9"], capsys)
    assert "japanese.max_ascii_run was off" in says
    assert main(["whatif", str(path), "--set", "data.quality.max_pixels=3000"]) == 0


def test_settings_that_change_nothing_say_so(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", str(finished[0]), "--set", "data.quality.min_image_side=40"]) == 0
    assert capsys.readouterr().out == "these settings change nothing: the recipe says so already\n"


def test_nothing_is_written_into_the_output_folder(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    out = finished[1].out
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["whatif", str(finished[0]), "--set", "data.quality.min_image_side=60"]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    said = capsys.readouterr().out
    assert "Rows" in said and "Tokens" in said and "dedupe follows" in said


def test_the_report_tells_the_cost_of_each_least_rating(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the rows that are kept, as many as this filter alone would then drop."""
    assert main(["report", str(finished[0]), "--out", str(finished[1].out)]) == 0
    rated = json.loads((finished[1].out / "report.json").read_text(encoding="utf-8"))["ratings"]
    assert [(one["source"], one["of"], one["name"]) for one in rated] == [
        ("rated", "rows", "relevance_min"),
        ("rated", "turns", "relevance_ratings"),
    ]
    for least, below in enumerate(rated[0]["below"], 1):
        said, _ = asked(finished, [f"data.quality.min_scores={{relevance_min: {least}}}"], tmp_path, capsys)
        assert said["filters"]["quality"]["lost"] == below
    assert 0 == rated[0]["below"][0] < rated[0]["below"][1] < rated[0]["below"][4] < rated[0]["rated"]


@pytest.mark.parametrize("by", ["samples", "tokens"])
def test_the_mixture_that_follows_is_chosen_anew(
    finished: Finished, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = yaml.safe_load(finished[0].read_text(encoding="utf-8"))
    mapping["data"]["mixture"] = {"by": by, "shares": {"kind": {"image": 40, "text": 60}}}
    path = write_yaml(tmp_path / "mixed.yaml", mapping)
    mixed: Finished = (path, *run(path))
    for settings in (
        ONE[1:2],
        ONE[6:7],
        ["data.dedupe.prefer=[rating]"],
        ["data.mixture.shares.kind={image: 70, text: 30}"],
    ):
        said = check(mixed, settings, tmp_path, capsys)
        assert "mixture" in (said["changed"] if "mixture" in settings[0] else said["following"])
    assert "adds up to 120 %" in error(path, ["data.mixture.shares.kind={image: 70, text: 50}"], capsys)
    assert "no sample is of such a language" in error(path, ["data.mixture.limits.language={ja: 5}"], capsys)
