"""A file that changes while it is read, or was another one for a moment: never a sample under the old name."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.graph.errors import StepError
from pipeline.graph.task import Record, Task, do
from pipeline.run.runner import Take
from pipeline.steps.ingest import IngestJob
from pipeline.steps.record_slices import SliceJob
from stages.sources.listing import Changed, Listed, times, unchanged
from stages.sources.records.slices import Slice, read, slices
from stages.sources.records.streams import DataError
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import do as do_stages
from tests.pipeline.conftest import manifests, opened, write_yaml

ROWS = [{"image": f"{n}.png", "caption": f"A sign with {n} on it."} for n in range(12)]
STAGES = ("hash", "ingest")


def text(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def table(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


IMAGES = {f"{n}.png": tiny_corpus.picture(n) for n in range(12)}
OTHERS = {f"{n}.png": tiny_corpus.picture(n + 50) for n in range(12)}
CHANGED = [{**row, "caption": row["caption"].replace("sign", "sigh")} for row in ROWS]
FOLDER = {f"images/{name}": data for name, data in IMAGES.items()}
PAIRS = {n.replace(".png", ".txt"): row["caption"].encode() for n, row in zip(IMAGES, ROWS, strict=True)}


def pairs(images: dict[str, bytes]) -> bytes:
    both = images | PAIRS
    return tarred({name: both[name] for name in sorted(both)})


# what is changed -> (the files of the source, the file, what it holds for a while, the source's declaration)
KINDS: dict[str, tuple[dict[str, bytes], str, bytes, dict[str, Any]]] = {
    "jsonl": ({**FOLDER, "a.jsonl": text(ROWS)}, "a.jsonl", text(CHANGED), {}),
    "json": (
        {**FOLDER, "a.json": json.dumps(ROWS).encode()},
        "a.json",
        json.dumps(CHANGED).encode(),
        {"files": ["*.json"]},
    ),
    "gz": (
        {**FOLDER, "a.jsonl.gz": gzip.compress(text(ROWS), 0, mtime=0)},
        "a.jsonl.gz",
        gzip.compress(text(CHANGED), 0, mtime=0),
        {"files": ["*.gz"]},
    ),
    "parquet": ({**FOLDER, "a.parquet": table(ROWS)}, "a.parquet", table(CHANGED), {"files": ["*.parquet"]}),
    "image": ({**FOLDER, "a.jsonl": text(ROWS)}, "images/5.png", OTHERS["5.png"], {}),
    "zip": ({"i.zip": zipped(IMAGES), "a.jsonl": text(ROWS)}, "i.zip", zipped(OTHERS), {"images": "i.zip"}),
    "tar": ({"i.tar": tarred(IMAGES), "a.jsonl": text(ROWS)}, "i.tar", tarred(OTHERS), {"images": "i.tar"}),
    "webdataset": (
        {"a.tar": pairs(IMAGES)},
        "a.tar",
        pairs(OTHERS),
        {"format": "webdataset", "files": ["*.tar"], "images": None},
    ),
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path, tiny: Path) -> tuple[Path, Path, bytes]:
    """A recipe on one source, a file of it, and other bytes for the file."""
    files, name, other, declared = KINDS[request.param]
    for file, data in files.items():
        (tmp_path / "raw" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / file).write_bytes(data)
    mapping = tiny_corpus.recipe(tiny, tmp_path / "out")
    declaration = {"format": "caption", "images": "images", "files": ["*.jsonl"], "prompt": "What?"} | declared
    mapping["data"] = {
        "sources": {"mine": {k: v for k, v in declaration.items() if v is not None}},
        "ingest": {"rows_per_part": 4},
        "pretokenise": mapping["data"]["pretokenise"],
    }
    mapping["run"]["locations"] = {"mine": str(tmp_path / "raw"), "tokenizer": str(tiny / "tokenizer")}
    return write_yaml(tmp_path / "recipe.yaml", mapping), tmp_path / "raw" / name, other


class Meddling:
    """Does tasks as they come; before the second task of ingest, or the first that cuts, something happens."""

    def __init__(self, kind: type, at: int, happens: Callable[[], object]) -> None:
        self._kind, self._left, self._happens = kind, at, happens

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while (task := take()) is not None:
            if isinstance(task.job, self._kind):
                self._left -= 1
                if self._left == 0:
                    self._happens()
            yield task, do(task)


def put_back(path: Path, data: bytes, status: os.stat_result) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def meddle(path: Path, other: bytes, how: str) -> Callable[[], object]:
    before, status = path.read_bytes(), path.stat()

    def swap() -> None:
        put_back(path, other, status)

    def swap_and_put_back() -> None:
        put_back(path, other, status)
        put_back(path, before, status)

    return {
        "other bytes": swap,
        "put back": swap_and_put_back,
        "shortened": lambda: os.truncate(path, len(before) // 2),
        "deleted": path.unlink,
        "a folder": lambda: (path.unlink(), path.mkdir()),
        "a pipe": lambda: (path.unlink(), os.mkfifo(path)),
    }[how]


HOW = ("other bytes", "put back", "shortened", "deleted", "a folder", "a pipe")


@pytest.mark.parametrize("how", HOW)
def test_a_part_that_read_what_was_not_listed_is_not_recorded(source: tuple[Path, Path, bytes], how: str) -> None:
    recipe, path, other = source
    original = path.read_bytes()
    with pytest.raises((StepError, Changed)) as caught:
        do_stages(recipe, None, STAGES, Meddling(IngestJob, 2, meddle(path, other, how)))
    error = str(caught.value)
    assert path.name in error and "run again" in error and "\n" not in error and "fetched" not in error
    (folder,) = (recipe.parent / "out").glob("02-ingest-mine-*")
    assert not (folder / "manifest.json").exists() and len(list(folder.glob("part-*.json"))) < 3
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(original)
    context, steps = do_stages(recipe, None, STAGES)
    undisturbed, same = do_stages(recipe, recipe.parent / "other", STAGES)
    assert manifests(context.out, steps) == manifests(undisturbed.out, same)


@pytest.mark.parametrize("how", HOW)
def test_a_file_that_changes_while_its_records_are_looked_for_is_one_line(
    source: tuple[Path, Path, bytes], how: str
) -> None:
    recipe, path, other = source
    with pytest.raises((StepError, DataError)) as caught:
        do_stages(recipe, None, STAGES, Meddling(SliceJob, 1, meddle(path, other, how)))
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_not_those_that_were_hashed_are_refused_whatever_the_times_say(
    source: tuple[Path, Path, bytes],
) -> None:
    """As if the times of a file lied (a network's disk): its hash is asked where all of it is read."""
    recipe, path, _ = source
    if path.name.endswith((".parquet", ".zip", ".tar")):
        pytest.skip("not every byte is read")
    context, steps = opened(recipe)
    do_stages(recipe, None, ("hash",))
    (listed,) = (context.out / steps[0].folder).glob("files.parquet")
    files = pq.read_table(listed)
    wrong = [row["sha256"] if path.name not in row["file"] else "0" * 64 for row in files.to_pylist()]
    pq.write_table(files.set_column(3, "sha256", pa.array(wrong)), listed)
    manifest = listed.with_name("manifest.json")
    text = json.loads(manifest.read_text())
    next(f for f in text["files"] if f["name"] == listed.name)["size"] = listed.stat().st_size
    manifest.write_text(json.dumps(text))
    with pytest.raises(StepError, match="its bytes are not those that were hashed"):
        do_stages(recipe, None, ("ingest",))


def test_the_command_says_it_in_one_line(
    source: tuple[Path, Path, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path, other = source
    meddling = Meddling(IngestJob, 1, meddle(path, other, "put back"))
    monkeypatch.setattr("pipeline.cli.RayExecutor", lambda *_: meddling)
    meddling.begin = meddling.close = lambda: None  # type: ignore[attr-defined]
    assert main(["run", str(recipe)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path.name}: changed" in error and "parts could not be read" in error


def test_what_happens_between_two_looks_is_seen_at_the_second(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    status = path.stat()
    listed = Listed("a.bin", 3, times(status))
    with unchanged(tmp_path, [listed]):
        assert path.read_bytes() == b"abc"
    with pytest.raises(Changed, match=r"a\.bin: changed \(written or moved since it was listed, 3 bytes still\)"):
        with unchanged(tmp_path, [listed]):
            put_back(path, b"xyz", status)
            put_back(path, b"abc", status)
            raise ValueError("whatever this led to")


@pytest.mark.parametrize("kind", ["gz", "parquet"])
def test_what_a_process_kept_open_is_not_read_for_a_file_that_took_its_place(tmp_path: Path, kind: str) -> None:
    """Of the same size and with the same time of its last change."""
    path = tmp_path / f"a.{'jsonl.gz' if kind == 'gz' else kind}"
    parts: list[Slice] = []
    for rows in (ROWS, CHANGED):
        path.write_bytes(gzip.compress(text(rows), 0, mtime=0) if kind == "gz" else table(rows))
        os.utime(path, ns=(0, 0))
        parts = parts or slices(path, path.name, 4)
        part = parts.pop(0)
        assert [record for _, record in read(path, part)] == rows[part.first : part.first + 4]
