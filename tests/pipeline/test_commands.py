"""The commands on a finished run and on broken ones: what a person sees."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.run import runner
from pipeline.run.runner import Serial
from pipeline.steps.table import STAGES
from schemas.manifest import ManifestError, read
from schemas.sample import REJECT
from schemas.strict import RecipeError
from tests.pipeline.conftest import Corpus, MakeRecipe, opened, run, write_json

Finished = tuple[Path, Context, list[Step]]


@pytest.fixture
def copy(finished_run: Finished, tmp_path: Path) -> Path:
    """A copy of the shard folder that a test may damage."""
    _, context, steps = finished_run
    target = tmp_path / "shards"
    shutil.copytree(context.out / steps[-1].folder, target)
    return target


def test_a_finished_recipe_starts_nothing(finished_run: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, steps = finished_run
    assert main(["run", str(path)]) == 0
    assert f"nothing to do: all {len(steps)} steps are finished" in capsys.readouterr().out


def test_plan_names_the_key_that_moved(
    finished_run: Finished, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    _, context, _ = finished_run

    def longer(mapping: dict[str, Any]) -> None:
        mapping["data"]["pretokenise"]["max_tokens"] = 300

    assert main(["plan", str(make_recipe(longer)), "--out", str(context.out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "changed: max_tokens" in next(line for line in lines if "pretokenise" in line)
    assert "done" in next(line for line in lines if "dedupe" in line)


def test_show_prints_a_sample_and_a_rejected_row(
    finished_run: Finished, corpus: Corpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    path, _, _ = finished_run
    for kind, expected in (("wrong_language", "drop: wrong_language"), ("empty_answer", "drop: empty_answer")):
        defect = next(d for d in corpus.truth["defects"] if d["reason"] == kind)
        assert main(["show", str(path), f"{defect['source']}/{defect['file']}#{defect['row']}"]) == 0
        assert expected in capsys.readouterr().out
    bad = next(d for d in corpus.truth["defects"] if d["reason"] == "placeholder_mismatch")
    assert main(["show", str(path), f"{bad['source']}/{bad['file']}#{bad['row']}"]) == 0
    out = capsys.readouterr().out
    assert "rejected at ingest" in out and "placeholders, 1 images" in out
    wrong = {(d["source"], d["file"], d["row"]) for d in corpus.truth["defects"]}
    row = next(r for r in range(50) if ("llava", "conversations.json", r) not in wrong)
    assert main(["show", str(path), f"llava/conversations.json#{row}"]) == 0
    assert "of them targets" in capsys.readouterr().out


def test_rejects_are_one_table(
    finished_run: Finished, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, context, steps = finished_run
    assert main(["rejects", str(path)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "sample_id\treason\tdetail"
    shown = {tuple(line.split("\t")[:2]) for line in lines}
    assert all(len(line.split("\t")) == 3 for line in lines)
    reasons = STAGES["ingest"].reasons
    planted = {(f"{d['source']}/{d['file']}#{d['row']}", d["reason"]) for d in corpus.truth["defects"]}
    assert shown == {entry for entry in planted if entry[1] in reasons}
    assert main(["rejects", str(path), "--save", str(tmp_path / "all.parquet")]) == 0
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.schema.equals(REJECT) and table.num_rows == len(lines) == len(shown) > 3
    assert {(r["sample_id"], r["reason"]) for r in table.to_pylist()} == shown
    assert main(["rejects", str(path), "--save", "/dev/null/all.parquet"]) == 2
    # what was never finished, or has lost a row since, is no table
    assert main(["rejects", str(path), "--out", str(tmp_path / "new")]) == 2
    assert "nothing is ingested yet" in capsys.readouterr().err
    copied = tmp_path / "copied"
    shutil.copytree(context.out, copied)
    ingest = next(s for s in steps if s.stage.name == "ingest" and read(context.out / s.folder).counts.rejected)
    edit_manifest(copied / ingest.folder, lambda m: m["files"].remove(next(
        f for f in m["files"] if f["name"].startswith("rejected-") and f["rows"]
    )))  # fmt: skip
    assert main(["rejects", str(path), "--out", str(copied)]) == 1
    assert "rejects in its files" in capsys.readouterr().err


def test_rejects_tell_what_made_stop_if_end_the_run(
    corpus: Corpus, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_recipe(lambda mapping: mapping["run"].update(stop_if={"ingest.image_missing": 0.0}))
    with pytest.raises(StepError, match=r"ingest fine: .*rejects RECIPE.*--set"):
        run(path)
    capsys.readouterr()
    assert main(["rejects", str(path)]) == 0
    shown = capsys.readouterr()
    missing = [d for d in corpus.truth["defects"] if (d["source"], d["reason"]) == ("fine", "image_missing")]
    assert missing and all(f"fine/{d['file']}#{d['row']}\timage_missing" in shown.out for d in missing)
    assert "ingest fine is not finished: 5 of its parts" in shown.err
    assert "ingest llava is not finished: 0 of its parts" in shown.err
    assert main(["rejects", str(path), "--save", "x.csv"]) == 2


def one_source(mapping: dict[str, Any], name: str) -> None:
    data = mapping["data"]
    data["sources"] = {name: data["sources"][name]}
    for stage in ("benchmarks", "decontaminate", "language", "dedupe", "quality"):
        data.pop(stage)
    mapping["run"]["locations"] = {k: v for k, v in mapping["run"]["locations"].items() if k in (name, "tokenizer")}


def test_an_output_folder_among_the_data_is_no_data(
    corpus: Corpus, make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus.folder / "raw" / "llava", tmp_path / "mine")

    def edit(mapping: dict[str, Any]) -> None:
        one_source(mapping, "llava")
        mapping["data"]["sources"]["llava"]["files"] = ["*.json"]
        mapping["run"] |= {"out": str(tmp_path / "mine" / "out")}
        mapping["run"]["locations"]["llava"] = str(tmp_path / "mine")

    path = make_recipe(edit)
    _, steps = run(path)
    assert [step.identity for step in opened(path)[1]] == [step.identity for step in steps]
    assert main(["plan", str(path), "--out", str(tmp_path / "mine")]) == 2
    assert "is also the folder of llava" in capsys.readouterr().err


def test_verify_takes_an_output_folder(finished_run: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    _, context, steps = finished_run
    assert main(["verify", str(context.out)]) == 0
    assert capsys.readouterr().out.count(": sound.") == len(steps)


def test_verify_accepts_a_sound_folder(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copy)]) == 0
    assert "sound" in capsys.readouterr().out


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    mapping = json.loads(path.read_text(encoding="utf-8"))
    edit(mapping)
    path.write_text(json.dumps(mapping), encoding="utf-8")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "not a finished step"),
    "flipped byte": (lambda f: flip(f / "shard-00001.arrow"), "shard-00001.arrow: its bytes differ"),
    "cut": (lambda f: (f / "index.parquet").write_bytes(b"PAR1"), "index.parquet: 4 bytes"),
    "missing": (lambda f: (f / "tokenizer" / "tokenizer.json").unlink(), "tokenizer.json: missing"),
    "lost row": (
        lambda f: edit_manifest(f, lambda m: m["counts"].update(kept=m["counts"]["kept"] - 1)),
        "rows are lost",
    ),
    "totals": (lambda f: edit_manifest(f, lambda m: m["facts"]["totals"].update(num_tiles=1)), "totals"),
    "not json": (lambda f: (f / "manifest.json").write_text("{"), "not a manifest"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_verify_names_the_fault(case: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGE[case]
    damage(copy)
    assert main(["verify", str(copy)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def only(source: str) -> Callable[[dict[str, Any]], object]:
    """Edit: this one source, nothing else."""

    def edit(mapping: dict[str, Any]) -> None:
        mapping["data"]["sources"] = {source: mapping["data"]["sources"][source]}
        for key in ("benchmarks", "decontaminate", "language", "quality", "dedupe"):
            mapping["data"].pop(key)
        for place in {"fine", "japanese", "llava", "held_out", "validation"} - {source}:
            mapping["run"]["locations"].pop(place)

    return edit


def test_an_empty_source_ends_with_a_sentence(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    write_json(tmp_path / "llava" / "conversations.json", [])
    shutil.make_archive(str(tmp_path / "llava" / "images"), "zip", tmp_path / "llava")

    def edit(mapping: dict[str, Any]) -> None:
        only("llava")(mapping)
        mapping["data"] |= {"dedupe": {}, "quality": {}}
        mapping["run"]["locations"]["llava"] = str(tmp_path / "llava")

    with pytest.raises(StepError, match="no sample is left of 0"):
        run(make_recipe(edit))


def test_a_broken_json_file_is_one_sentence(make_recipe: MakeRecipe, tmp_path: Path, corpus: Corpus) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(corpus.places["llava"], folder)
    text = (folder / "conversations.json").read_bytes()
    (folder / "conversations.json").write_bytes(text[: len(text) // 2])

    def edit(mapping: dict[str, Any]) -> None:
        only("llava")(mapping)
        mapping["run"]["locations"]["llava"] = str(folder)

    with pytest.raises(
        StepError, match=r"ingest llava: 1 of 1 files could not be read: .*conversations.json: broken JSON"
    ):
        run(make_recipe(edit))


def test_half_text_only_rows_are_all_kept_and_five_bad_images_cost_five_rows(
    make_recipe: MakeRecipe, tmp_path: Path, corpus: Corpus
) -> None:
    folder = tmp_path / "llava"
    folder.mkdir()
    pictures = sorted((Path(corpus.places["held_out"]) / "test" / "images").glob("*.png"))
    turns = [{"from": "human", "value": "<image>\nwhat is it?"}, {"from": "gpt", "value": "a picture"}]
    records = [{"image": f"{k:03d}.png", "conversations": turns} for k in range(100)]
    records += [{"conversations": [{"from": "human", "value": f"{k}?"}, turns[1]]} for k in range(100)]  # type: ignore[list-item]
    for k in range(100):
        data = pictures[k % len(pictures)].read_bytes()
        (folder / f"{k:03d}.png").write_bytes(
            {3: b"", 20: b"<html>", 41: data[:60], 42: data[:70], 99: b""}.get(k, data)
        )
    write_json(folder / "conversations.json", records)

    def edit(mapping: dict[str, Any]) -> None:
        only("llava")(mapping)
        mapping["data"]["sources"]["llava"]["images"] = "."
        mapping["run"]["locations"]["llava"] = str(folder)

    context, steps = opened(make_recipe(edit))
    runner.run(steps[:2], context, Serial())
    counts = context.finished(steps[1]).counts
    assert counts.kept == 195
    assert sum(counts.rejected.values()) == 5


def test_a_folder_of_another_step_is_refused(finished_run: Finished, make_recipe: MakeRecipe) -> None:
    _, _, steps = finished_run
    other, _ = run(make_recipe())
    folder = other.out / steps[-1].folder
    edit_manifest(folder, lambda m: m.update(identity="0" * 64))
    with pytest.raises(ManifestError, match="holds another step"):
        run(make_recipe())


def test_a_reason_above_its_share_stops_the_run_and_a_higher_share_lets_it_go_on(make_recipe: MakeRecipe) -> None:
    def careful(mapping: dict[str, Any]) -> None:
        mapping["run"]["stop_if"] = {"ingest.image_truncated": 0.001}

    with pytest.raises(StepError, match=r"image_truncated, run.stop_if allows 0.1%"):
        run(make_recipe(careful))
    context, steps = run(make_recipe())
    assert all(context.manifest(step) for step in steps)


def test_a_minimum_for_a_score_that_nobody_gives_is_refused(make_recipe: MakeRecipe) -> None:
    def misspelt(mapping: dict[str, Any]) -> None:
        mapping["data"]["quality"]["min_scores"] = {"relevence_min": 2}

    with pytest.raises(RecipeError, match=r"relevence_min: no sample is rated under that name; .*relevance_min"):
        run(make_recipe(misspelt))


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_file_that_is_gone_or_cut_is_made_again(damage: Callable[[Path], object], make_recipe: MakeRecipe) -> None:
    path = make_recipe()
    context, steps = run(path)
    lost = context.out / next(s for s in steps if s.stage.name == "ingest").folder / "part-00001.parquet"
    whole, record = lost.read_bytes(), (lost.parent / "manifest.json").read_bytes()
    damage(lost)
    run(path)
    assert lost.read_bytes() == whole
    assert (lost.parent / "manifest.json").read_bytes() == record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "README.md"], "not a finished step"),
        (["plan", "RECIPE", "--set", "run.workers=["], "not YAML"),
        (["run", "RECIPE", "--out", "README.md"], "can't be made a folder"),
        (["plan", "configs/quickstart_train.yaml"], "is a training config"),
        (["language", "NO LANGUAGE"], "no section data.language"),
    ],
)
def test_what_a_person_can_get_wrong_is_one_line(
    arguments: list[str], message: str, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RECIPE": lambda: make_recipe(), "NO LANGUAGE": lambda: make_recipe(lambda m: m["data"].pop("language"))}
    given = [str(places[a]()) if a in places else a for a in arguments]
    assert main(given) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
