"""`census`: the numbers of shards without shards, for several recipes side by side, from what is ingested or not."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main
from pipeline.commands.census.ingested import ModelAt, PartJob, count_part
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout
from schemas.manifest import ManifestError, read
from schemas.shard import COUNTS
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import MakeRecipe, do, run, write_yaml
from tests.pipeline.test_schemes import SCHEMES

Finished = tuple[Path, Context, list[Step]]


def census(path: Path | list[Path], *options: str, json_file: Path) -> list[dict[str, Any]]:
    """What the command finds of each recipe, and a check that no sample is lost."""
    paths = path if isinstance(path, list) else [path]
    options = options if "--set" in options else (*options, "--set", "run.workers=1")
    assert main(["census", *map(str, paths), *options, "--json", str(json_file)]) == 0
    found: list[dict[str, Any]] = json.loads(json_file.read_text(encoding="utf-8"))["recipes"]
    for one in found:
        assert_conserved(one)
    return found


def assert_conserved(found: dict[str, Any]) -> None:
    dropped = sum(amount["samples"] for amount in found["dropped"].values())
    assert found["samples"] == found["kept"]["samples"] + dropped
    for name in ("samples", "rows", *COUNTS):
        assert found["kept"][name] == sum(group["kept"][name] for group in found["groups"])
    assert found["samples"] == sum(group["samples"] for group in found["groups"])
    for group in found["groups"]:
        lost = sum(amount["samples"] for amount in group["dropped"].values())
        assert group["samples"] == group["kept"]["samples"] + lost
    assert found["kept"]["rows"] == sum(one["rows"] for one in found["lengths"]["bins"])


def ledger(found: dict[str, Any], own: str) -> dict[str, int]:
    """Dropped samples under the names that the manifest of the shards has."""
    named = found["dropped"].items()
    return {reason if "." in reason else f"{own}.{reason}": amount["samples"] for reason, amount in named}


def assert_equal_to_the_shards(found: dict[str, Any], context: Context, steps: list[Step]) -> None:
    last = steps[-1]
    manifest = read(context.out / last.folder)
    assert found["totals"] == manifest.facts["totals"]
    assert found["kept"]["rows"] == manifest.facts["rows"]
    assert ledger(found, last.stage.name) == manifest.counts.dropped
    assert (found["samples"], found["kept"]["samples"]) == (manifest.counts.rows_in, manifest.counts.kept)
    index = pq.read_table(context.out / last.folder / layout.INDEX).to_pylist()
    tokens: Counter[tuple[str, str | None]] = Counter()
    for row in index:
        tokens[row["source"], row["language"]] += row["num_tokens"]
    mine = {(one["source"], one["language"]): one["kept"]["num_tokens"] for one in found["groups"]}
    assert {place: number for place, number in mine.items() if number} == dict(tokens)
    bounds = found["lengths"]["quantiles"]
    lengths = sorted(row["num_tokens"] for row in index)
    assert (bounds["min"], bounds["median"], bounds["max"]) == (
        lengths[0],
        lengths[(len(lengths) + 1) // 2 - 1],
        lengths[-1],
    )


def test_a_finished_run_has_the_numbers_of_its_shards(tiny_run: Finished, tmp_path: Path) -> None:
    path, context, steps = tiny_run
    found = census(path, json_file=tmp_path / "c.json")[0]
    assert "after decontaminate, language, quality, dedupe" in found["basis"]
    assert_equal_to_the_shards(found, context, steps)
    manifests = [read(context.out / step.folder) for step in steps[-1].making("samples")]
    assert found["rejected"] == sum(sum(m.counts.rejected.values()) for m in manifests) == 2
    # what a filter takes has tokens that would have been kept; what the model recipe drops has none
    assert found["dropped"]["language.wrong_language"]["num_text_tokens"] > 50
    assert found["dropped"]["too_long"]["num_tokens"] == 0 < found["dropped"]["too_long"]["samples"]
    assert found["shards"] == steps[-1].identity


def test_the_quickstarts_numbers_are_those_of_its_shards(finished_run: Finished, tmp_path: Path) -> None:
    path, context, steps = finished_run
    assert_equal_to_the_shards(census(path, json_file=tmp_path / "c.json")[0], context, steps)


@pytest.mark.parametrize("tiles", SCHEMES)
def test_every_scheme_has_the_numbers_of_its_shards(
    tiles: dict[str, Any], tiny_run: Finished, tiny: Path, tmp_path: Path
) -> None:
    """Its own shards over the ingest and the filters of the finished run."""
    out = tmp_path / "out"
    shutil.copytree(tiny_run[1].out, out)
    mapping = tiny_corpus.recipe(tiny, out)
    mapping["data"]["pretokenise"] |= {"tiles": tiles, "max_tokens": 90}
    mapping["data"]["pretokenise"]["tokens"]["row"] = "<row>"
    path = write_yaml(tmp_path / "recipe.yaml", mapping)
    before = census(path, json_file=tmp_path / "c.json")[0]
    assert_equal_to_the_shards(before, *run(path))


def test_a_conversation_that_is_cut_counts_as_its_pieces(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    shutil.copytree(tiny, folder)
    said = [{"role": role, "content": f"{role} says {n} now"} for n in range(9) for role in ("user", "assistant")]
    with (folder / "talks" / "a.jsonl").open("a") as lines:
        lines.write(json.dumps({"messages": said}) + "\n")
    mapping = tiny_corpus.recipe(folder, tmp_path / "out")
    mapping["data"]["pretokenise"] |= {"too_long": "split", "max_tokens": 150}
    path = write_yaml(tmp_path / "recipe.yaml", mapping)
    context, steps = run(path)
    found = census(path, json_file=tmp_path / "c.json")[0]
    assert found["kept"]["rows"] > found["kept"]["samples"] + 1
    assert_equal_to_the_shards(found, context, steps)


def test_recipes_stand_side_by_side_and_share_the_reading(
    tiny_run: Finished, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, context, _ = tiny_run
    others = []
    for number, tiles in enumerate(SCHEMES[:2]):
        mapping = tiny_corpus.recipe(tiny, context.out)
        mapping["data"]["pretokenise"]["tiles"] = tiles
        others.append(write_yaml(tmp_path / f"other{number}.yaml", mapping))
    together = census([path, *others], json_file=tmp_path / "all.json")
    out = capsys.readouterr().out
    assert max(map(len, out.split("\nrecipe:")[0].splitlines())) <= 80
    assert all(name in out for name in ("recipe", "other0", "other1", "llmjp4vl", "llava15-square"))
    alone = [census(one, json_file=tmp_path / "one.json")[0] for one in (path, *others)]
    assert together == alone
    assert len({one["fingerprint"] for one in together}) == 3
    assert len({one["totals"]["num_image_tokens"] for one in together}) == 3
    # in processes, in any order of completion: the same bytes
    census([path, *others], "--set", "run.workers=2", json_file=tmp_path / "two.json")
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "all.json").read_bytes()


def test_before_the_filters_have_run_nothing_is_filtered(
    tiny_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_recipe()
    assert main(["census", str(path)]) == 2
    error = capsys.readouterr().err
    assert "is not finished; run `python -m pipeline run" in error and error.count("\n") == 1
    do(path, None, ("hash", "ingest"))
    found = census(path, json_file=tmp_path / "c.json")[0]
    assert "before any filter (decontaminate, language, quality, dedupe: not all finished)" in found["basis"]
    assert not any("." in reason for reason in found["dropped"])
    do(path, None, ("hash", "ingest", "quality"))
    assert census(path, json_file=tmp_path / "d.json")[0] == found
    run(path)
    after = census(path, json_file=tmp_path / "e.json")[0]
    # what the filters take and what is left is what there was
    costs = sum(amount["num_tokens"] for amount in after["dropped"].values())
    assert after["totals"]["num_tokens"] + costs == found["totals"]["num_tokens"]


def test_headers_give_the_numbers_of_ingest(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tiny_recipe()
    raw = census(path, "--from", "headers", json_file=tmp_path / "raw.json")[0]
    assert "no image was proven whole" in raw["basis"]
    census(path, "--from", "headers", "--set", "run.workers=2", json_file=tmp_path / "two.json")
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "raw.json").read_bytes()
    assert not (tmp_path / "out").exists()
    do(path, None, ("hash", "ingest"))
    ingested = census(path, json_file=tmp_path / "in.json")[0]
    same = ("totals", "kept", "dropped", "samples", "groups", "lengths", "rejected", "rejected_by_source")
    assert {name: raw[name] for name in same} == {name: ingested[name] for name in same}
    assert raw["rejected_by_source"]["signs"] == {"image_missing": 1}


def test_headers_of_parquet_and_zips_differ_from_ingest_by_damaged_pictures_alone(
    finished_run: Finished, tmp_path: Path
) -> None:
    path, context, steps = finished_run
    raw = census(path, "--from", "headers", json_file=tmp_path / "raw.json")[0]
    assert json.loads((tmp_path / "raw.json").read_text())["images_proven"] is False
    for step in steps[-1].making("samples"):
        counts = context.finished(step).counts
        mine, theirs = raw["rejected_by_source"][step.label], counts.rejected
        assert {n: mine.get(n, 0) for n in theirs if n != "image_truncated"} == {
            n: number for n, number in theirs.items() if n != "image_truncated"
        }
        assert mine.get("image_truncated", 0) <= theirs.get("image_truncated", 0)
        samples = sum(group["samples"] for group in raw["groups"] if group["source"] == step.label)
        assert samples + sum(mine.values()) == counts.rows_in


def test_headers_say_what_is_no_image_and_not_what_is_damaged(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    shutil.copytree(tiny, folder)
    (folder / "signs" / "0.png").write_bytes(b"<html>not found</html>")
    path = write_yaml(tmp_path / "recipe.yaml", tiny_corpus.recipe(folder, tmp_path / "out"))
    found = census(path, "--from", "headers", json_file=tmp_path / "c.json")[0]
    assert found["rejected_by_source"]["signs"] == {"image_missing": 1, "image_unreadable": 1}
    assert sum(group["samples"] for group in found["groups"] if group["source"] == "signs") == 12


def test_a_part_that_lost_a_sample_is_no_census(tiny_run: Finished) -> None:
    _, context, steps = tiny_run
    job = PartJob(str(_first_part(context, steps)), 7, (ModelAt(0, str(context.place("tokenizer")), "{}"),))
    with pytest.raises(ManifestError, match="6 samples in it, 7 in its manifest"):
        count_part(job)
    verdict = context.out / steps[-1].making("verdicts")[0].folder / layout.verdict(1)
    model = replace(job.models[0], verdicts=(("judge", str(verdict)),))
    with pytest.raises(ManifestError, match="judge don't speak of these samples"):
        count_part(replace(job, models=(model,)))


def _first_part(context: Context, steps: list[Step]) -> Path:
    return context.out / steps[-1].making("samples")[0].folder / layout.part(0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--from", "nothing"], "--from: got nothing, wanted ingest, headers or a file that ends in .csv"),
        (["--assume", "a.yaml"], "--assume: is for a census --from TABLE.csv"),
        (["--json", "/dev/null/c.json"], "/dev/null/c.json: can't be written"),
        (["--steps", "5"], "--steps: give --batch-tokens"),
        (["--steps", "5", "--epochs", "1"], "--steps and --epochs"),
        (["--batch-tokens", "0"], "--batch-tokens: got 0"),
        (["--tokens-per-second", "nan"], "--tokens-per-second: got nan"),
        (["--batch-tokens", "5", "--batch-samples", "5"], "both say what a step takes"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str], problem: str, tiny_run: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["census", str(tiny_run[0]), *options]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_two_files_of_one_name_are_told_apart(tiny_run: Finished, tmp_path: Path) -> None:
    path = tiny_run[0]
    other = write_yaml(tmp_path / path.name, yaml.safe_load(path.read_text()))
    found = census([path, other], json_file=tmp_path / "c.json")
    assert [one["recipe"] for one in found] == [str(path), str(other)] and found[0]["totals"] == found[1]["totals"]
