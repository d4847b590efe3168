"""What is published: nothing is lost against the shards, `datasets` alone reads it, and it is whole or not there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.publish import files
from pipeline.publish.publish import publish
from pipeline.recipe.load import load
from schemas.manifest import read
from stages.sources.records.parquet_pages import pages
from tests.pipeline import published_corpus
from tests.pipeline.conftest import run, write_yaml

Finished = tuple[Path, Context, list[Step]]
FILE_BYTES = 2000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "raw"
    published_corpus.write(folder)
    return folder


@pytest.fixture(scope="module")
def finished(raw: Path) -> Finished:
    path = write_yaml(raw.parent / "small.yaml", published_corpus.recipe(raw, raw.parent / "out"))
    return (path, *run(path))


@pytest.fixture(scope="module")
def published(finished: Finished) -> Path:
    path, context, steps = finished
    publish(steps, context, path, path.parent / "published", FILE_BYTES)
    return path.parent / "published"


def data_files(folder: Path) -> list[Path]:
    return sorted((folder / "data").glob("*.parquet"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shard_rows(context: Context, last: Step) -> list[dict[str, Any]]:
    """Every row of every shard, in order: of its id the piece that it is, of its scores those that the source gave."""
    rows: list[dict[str, Any]] = []
    for path in sorted((context.out / last.folder).glob("shard-*.arrow")):
        with pa.OSFile(str(path)) as source:
            rows += pa.ipc.open_file(source).read_all().to_pylist()
    origin = {"source": "", "subset": ""}
    return [{**row, **origin, "sample_id": row["sample_id"].partition("~")[2], "scores": _rated(row)} for row in rows]


def _rated(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [score for score in row["scores"] if "." not in score["name"]]


def test_pretokenising_what_was_published_gives_the_same_shards(
    finished: Finished, published: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(published)]) == 0
    answer = capsys.readouterr().out
    assert "nobody reads" not in answer and "not named" not in answer
    source = yaml.safe_load(answer)["data"]["sources"]["published"]
    path = write_yaml(tmp_path / "again.yaml", published_corpus.again(published, raw, tmp_path / "out", source))
    context, steps = run(path)
    assert shard_rows(context, steps[-1]) == (before := shard_rows(finished[1], finished[2][-1]))
    assert any(row["sample_id"] for row in before) and any(len(row["images"]) == 2 for row in before)
    ingest = next(read(context.out / step.folder) for step in steps if step.stage.makes == "samples")
    assert not ingest.counts.rejected and ingest.facts["scores"] == ["formatting_min", "relevance_min"]
    assert main(["report", str(path)]) == 0
    assert "nobody reads" not in (context.out / "report.html").read_text(encoding="utf-8")


def test_ratings_and_languages_survive(finished: Finished, published: Path, raw: Path, tmp_path: Path) -> None:
    source = {"format": "messages", "files": ["data/*.parquet"], "scores": ["scores"]}
    mapping = published_corpus.again(published, raw, tmp_path / "out", source)
    mapping["data"]["quality"] = {"min_scores": {"relevance_min": 3}}
    context, steps = run(write_yaml(tmp_path / "again.yaml", mapping))
    assert read(context.out / steps[-1].folder).counts.dropped == {"quality.low_rating": 4}
    samples = pa.concat_tables(
        pq.read_table(path) for path in sorted((context.out / steps[1].folder).glob("part-*.parquet"))
    )
    assert samples["declared_language"].to_pylist()[:5] == [None, None, "ja", None, "fr"]
    assert samples["licence"].to_pylist()[:3] == [published_corpus.HOSTILE, "unknown", "mit"]


def test_the_samples_are_the_kept_ones_with_the_counts_of_the_shards(finished: Finished, published: Path) -> None:
    _, context, steps = finished
    rows = [row for path in data_files(published) for row in pq.read_table(path).to_pylist()]
    end = read(context.out / steps[-1].folder)
    assert len(rows) == end.counts.kept == 15 and end.counts.dropped == {
        "quality.empty_answer": 1,
        "quality.low_rating": 2,
    }
    for name, total in end.facts["totals"].items():
        assert sum(row[name] for row in rows) == total
    assert [row["sample_id"] for row in rows][:2] == ["talk/a.jsonl#0", "talk/a.jsonl#1"]
    assert [row["is_document"] for row in rows].count(True) == 3
    turned = next(row for row in rows if row["sample_id"] == "talk/a.jsonl#1")
    assert [(one["width"], one["height"]) for one in turned["image_info"]] == [(24, 16), (20, 40)]
    assert turned["images"][1]["bytes"] == published_corpus.turned()
    assert turned["evidence"]["quality"]["smallest_side"] == 16


def test_datasets_alone_shows_images(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    whole = datasets.load_dataset(str(published), cache_dir=str(tmp_path))["train"]
    streamed = list(datasets.load_dataset(str(published), split="train", streaming=True))
    assert len(whole) == len(streamed) == 15
    for row, other in zip(whole, streamed, strict=True):
        assert row["sample_id"] == other["sample_id"]
        for one in (row, other):
            assert all(isinstance(image, Image.Image) for image in one["images"])
        sizes = [(info["width"], info["height"]) for info in row["image_info"]]
        # `datasets` turns images upright, as ingest counts them
        assert [image.size for image in row["images"]] == [image.size for image in other["images"]] == sizes
    names = [str(path) for path in data_files(published)]
    bare = datasets.load_dataset("parquet", data_files=names, cache_dir=str(tmp_path))["train"]
    assert bare.features == whole.features  # each file says them too
    head = yaml.safe_load((published / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert datasets.Features._from_yaml_list(head["dataset_info"]["features"]) == whole.features
    (config,) = head["configs"]
    found = datasets.data_files.DataFilesList.from_patterns([config["data_files"][0]["path"]], base_path=str(published))
    assert [Path(path).name for path in found] == [path.name for path in data_files(published)]


def test_the_card_holds_no_word_of_the_data_as_it_is(published: Path) -> None:
    text = (published / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == ["cc-by-4.0", "cc0-1.0", "mit", "other", "unknown"]
    assert front["size_categories"] == ["n<1K"] and front["dataset_info"]["splits"][0]["num_examples"] == 15
    line = next(line for line in body.splitlines() if "script" in line)
    cell = line.split(" | ")[1]
    ticks = cell[: len(cell) - len(cell.lstrip("`"))]
    # a fence that what is in it can't end, on one line, and no bar that ends the cell
    assert len(ticks) == 3 and cell.endswith(ticks) and ticks not in cell[3:-3] and "``\\|" in cell
    assert "| `talk` | 7 | 1 | 1 | 5 |" in body and "| `quality.low_rating` |" in body


def test_nothing_of_this_machine_stands_in_it_and_the_recipe_can_be_run(
    finished: Finished, published: Path, raw: Path, tmp_path: Path
) -> None:
    for name in ("README.md", "recipe.yaml", "tessera.json"):
        assert str(raw.parent) not in (published / name).read_text(encoding="utf-8")
    path, context, _ = finished
    sets = [f"run.locations.{name}={place}" for name, place in context.recipe.run.locations.items()]
    assert load(published / "recipe.yaml", sets=sets).data == load(path).data


def test_files_are_cut_by_bytes_and_the_same_for_all(finished: Finished, published: Path, tmp_path: Path) -> None:
    path, context, steps = finished
    made = bytes_of(published)
    names = [path.name for path in data_files(published)]
    assert len(names) > 5 and names[0] == f"train-00000-of-{len(names):05d}.parquet"
    again, whole = tmp_path / "again", tmp_path / "whole"
    publish(steps, context, path, again, FILE_BYTES)
    assert bytes_of(again) == made
    publish(steps, context, path, whole)
    assert [path.name for path in data_files(whole)] == ["train-00000-of-00001.parquet"]
    tables = [pa.concat_tables(map(pq.read_table, data_files(folder))) for folder in (published, whole)]
    assert tables[0].equals(tables[1])


def test_touched_sources_are_the_same_publication(
    finished: Finished, published: Path, raw: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "raw"
    shutil.copytree(raw, copied)
    for path in copied.rglob("*.jsonl"):
        os.utime(path, (1, 1))
    path = write_yaml(tmp_path / "small.yaml", published_corpus.recipe(copied, tmp_path / "out"))
    context, steps = run(path)
    publish(steps, context, path, tmp_path / "published", FILE_BYTES)
    assert bytes_of(tmp_path / "published") == bytes_of(published)


def big(number: int) -> pa.Table:
    """Rows of 300 kB each, which nothing makes smaller."""
    rows = [{"t": f"{number} {n}", "images": [{"bytes": os.urandom(300_000), "path": None}]} for n in range(12)]
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    return pa.Table.from_pylist(rows, pa.schema([("t", pa.string()), ("images", kind)]))


def test_pages_and_row_groups_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROUP_BYTES", 2_000_000)
    monkeypatch.setattr(files.Tally, "of", classmethod(lambda cls, rows: cls(rows.num_rows)))
    tables = [big(number) for number in range(3)]
    written = list(files.write_all(tmp_path, "x", tables[0].schema, 3, lambda n: [tables[n]], 5_000_000))
    assert [one.entry.rows for one in written] == [16, 16, 4]
    assert all(one.entry.size <= 5_000_000 for one in written)
    for one in written:
        path = tmp_path / one.entry.name
        about = pq.ParquetFile(path, page_checksum_verification=True).metadata
        for group in map(about.row_group, range(about.num_row_groups)):
            assert group.total_byte_size <= 2_000_000
            column = group.column(1)
            assert column.path_in_schema.endswith("bytes") and column.compression == "UNCOMPRESSED"
            assert column.has_offset_index
            assert (
                pages(path, column.data_page_offset, column.total_compressed_size).largest <= files.PAGE_BYTES + 300_100
            )
    read_back = pa.concat_tables(pq.read_table(tmp_path / one.entry.name) for one in written)
    assert read_back.equals(pa.concat_tables(tables))


KILLED = """
import os, sys
from pathlib import Path
from pipeline.cli import main
from pipeline.publish import files, publish
real = files.describe
def describe(folder, name, rows=None):
    if name == sys.argv[1]:
        os.kill(os.getpid(), 9)
    return real(folder, name, rows)
files.describe = publish.describe = describe
main(["publish", *sys.argv[2:]])
"""


@pytest.mark.parametrize("at", ["data/00001.parquet", "data/00003.parquet", "recipe.yaml"])
def test_a_killed_publish_leaves_nothing_and_ends_with_the_same_bytes(
    at: str, finished: Finished, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = finished[0], tmp_path / "mine"
    arguments = [str(path), "--to", str(target), "--file-bytes", str(FILE_BYTES)]
    done = subprocess.run([sys.executable, "-c", KILLED, at, *arguments], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL and not target.exists()
    (left,) = tmp_path.iterdir()
    first = data_files(left)[0].stat().st_mtime_ns
    assert main(["push", str(left), "--repo", "a/b"]) == 1
    assert "no whole publication" in capsys.readouterr().err
    assert main(["publish", *arguments]) == 0
    assert bytes_of(target) == bytes_of(published) and list(tmp_path.iterdir()) == [target]
    if at.startswith("data"):  # what was whole was not written again; the first row of a part is a file of its own
        assert data_files(target)[0].stat().st_mtime_ns == first


def test_what_was_begun_for_another_publication_is_not_gone_on_with(finished: Finished, tmp_path: Path) -> None:
    arguments = [str(finished[0]), "--to", str(tmp_path / "mine"), "--file-bytes"]
    subprocess.run([sys.executable, "-c", KILLED, "data/00003.parquet", *arguments, "2000"], check=False)
    assert main(["publish", *arguments, "60000"]) == 0
    publish(finished[2], finished[1], finished[0], tmp_path / "new", 60000)
    assert bytes_of(tmp_path / "mine") == bytes_of(tmp_path / "new")


def test_a_language_is_that_of_the_shards(tiny_run: Finished, tmp_path: Path) -> None:
    path, context, steps = tiny_run
    publish(steps, context, path, tmp_path / "mine")
    rows = [row for path in data_files(tmp_path / "mine") for row in pq.read_table(path).to_pylist()]
    shards = shard_rows(context, steps[-1])
    assert [row["language"] for row in rows] == [row["language"] for row in shards] == ["en"] * 29
    assert [row["num_tokens"] for row in rows] == [row["num_tokens"] for row in shards]
    assert {*rows[0]["evidence"]} == {"language", "quality"} and rows[0]["evidence"]["language"]["certain"]


def test_it_is_made_once_and_made_anew_for_another_recipe(
    finished: Finished, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, context, _ = finished
    target = tmp_path / "mine"
    target.mkdir()  # an empty folder is as good as none
    assert main(["publish", str(path), "--to", str(target)]) == 0
    stamp = (target / "tessera.json").stat().st_mtime_ns
    assert main(["publish", str(path), "--to", str(target)]) == 0
    assert (target / "tessera.json").stat().st_mtime_ns == stamp
    mapping = published_corpus.recipe(raw, context.out)
    mapping["data"]["quality"] = {"min_scores": {"relevance_min": 4}}
    other = write_yaml(tmp_path / "other.yaml", mapping)
    run(other)
    assert main(["publish", str(other), "--to", str(target)]) == 0
    assert main(["verify", str(target)]) == 0
    assert "9 samples" in capsys.readouterr().out.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other.yaml"]


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder of something else": (lambda f: (f / "tessera.json").unlink(), "nothing that may be replaced"),
    "a file": (lambda f: (shutil.rmtree(f), f.write_text("x")), "nothing that may be replaced"),
    "a file of somebody's": (lambda f: (f / "notes.txt").write_text("x"), "holds notes.txt"),
    "an edited card": (lambda f: (f / "README.md").write_text("mine"), "README.md"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_ours_is_not_replaced(
    case: str, finished: Finished, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = REFUSED[case]
    target = tmp_path / "there"
    shutil.copytree(published, target)
    damage(target)
    before = bytes_of(tmp_path)
    assert main(["publish", str(finished[0]), "--to", str(target)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert bytes_of(tmp_path) == before


def test_it_lies_nowhere_among_the_data(finished: Finished, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(finished[0]), "--to", str(raw / "talk" / "mine")]) == 2
    assert "lies in the folder of talk" in capsys.readouterr().err


def test_an_unfinished_recipe_says_what_to_run(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_yaml(tmp_path / "small.yaml", published_corpus.recipe(raw, tmp_path / "out"))
    assert main(["publish", str(path), "--to", str(tmp_path / "mine")]) == 2
    error = capsys.readouterr().err
    assert "is not finished; run `python -m pipeline run RECIPE` first" in error and error.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def lose_a_row(folder: Path) -> None:
    path = data_files(folder)[0]
    pq.write_table(pq.read_table(path).slice(1), path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "lost row": (lose_a_row, "train-00000"),
    "gone": (lambda f: data_files(f)[1].unlink(), "missing"),
    "flipped": (lambda f: flip(data_files(f)[1]), "bytes differ"),
    "another": (lambda f: (f / "data" / "train-00009.parquet").write_text("x"), "no file of this publication"),
    "edited": (lambda f: edit(f / "tessera.json"), "edited or damaged"),
    "no json": (lambda f: (f / "tessera.json").write_text("["), "not of a publication"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"images": ', '"images": 1'), encoding="utf-8")


@pytest.mark.parametrize("case", DAMAGE)
def test_verify_names_the_fault(case: str, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGE[case]
    copy = tmp_path / "copy"
    shutil.copytree(published, copy)
    assert main(["verify", str(copy)]) == 0
    damage(copy)
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_rows_that_are_lost_on_the_way_are_an_error(finished: Finished, tmp_path: Path) -> None:
    path, context, steps = finished
    copy = tmp_path / "out"
    shutil.copytree(context.out, copy)
    verdict = copy / steps[-1].folder / "verdict-00000.parquet"
    table = pq.read_table(verdict)
    reasons = ["too_long", *table["reason"].to_pylist()[1:]]
    changed = table.set_column(1, table.schema.field(1), pa.array(reasons, pa.string()))
    size = verdict.stat().st_size
    pq.write_table(changed, verdict, compression="zstd", write_page_checksum=True)
    manifest = copy / steps[-1].folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"size": {size}', f'"size": {verdict.stat().st_size}'))
    assert main(["publish", str(path), "--out", str(copy), "--to", str(tmp_path / "mine")]) == 1
    assert not (tmp_path / "mine").exists()
