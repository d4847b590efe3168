"""A source on the Hub: pinned, listed, fetched, ingested; the same bytes whatever the server and its troubles."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.filesize import decimal

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.net.hub import Server
from pipeline.net.patience import Patience
from pipeline.steps import download as steps_of_download
from schemas.manifest import read, verify
from tests.pipeline import conftest
from tests.pipeline.conftest import ROOT, Corpus, MakeRecipe, manifests, opened
from tests.pipeline.net.hub_server import FakeHub, Fault, serving

ODD = "geoqa+(mathv360k), x"  # what the names of configs look like on the Hub
ONE = f"{ODD}/train-00000-of-00001.parquet"
TWO = "shapes/train-00000-of-00002.parquet"
QUICK = {"attempts": 3, "first_wait": 0.01, "longest_wait": 2.0, "connect": 2.0, "read": 0.5}


def repository(corpus: Corpus) -> dict[str, bytes]:
    """The source `fine`, under other names, with what else lies in a dataset's repository."""
    root = corpus.folder / "raw" / "fine"
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.parquet"))}
    named = {name.replace("charts", ODD): data for name, data in found.items()}
    return {**named, "README.md": b"# A card\n", ".gitattributes": b"*.parquet filter=lfs\n"}


@pytest.fixture
def hub(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving(FakeHub(page=2)) as hub:
        hub.commit(repository(corpus))
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def hub_recipe(make_recipe: MakeRecipe, hub: FakeHub) -> MakeRecipe:
    """A recipe whose only source is the Hub's; `entry` overrides its hub entry, `source` the source."""

    def make(name: str = "hub.yaml", source: dict[str, Any] | None = None, **entry: Any) -> Path:
        def edit(mapping: dict[str, Any]) -> None:
            data, run = mapping["data"], mapping["run"]
            fine = {"format": "texts", "files": ["*.parquet"], "licence": "cc0-1.0", **(source or {})}
            fine["hub"] = {"dataset": hub.dataset, "revision": hub.branches["main"], **entry}
            data["sources"] = {"fine": fine}
            for stage in ("benchmarks", "decontaminate", "language", "dedupe"):
                data.pop(stage)
            run["locations"] = {"tokenizer": run["locations"]["tokenizer"]}
            run |= {"allow_hosts": ["127.0.0.1", "localhost"], "patience": dict(QUICK)}

        return make_recipe(edit, name)

    return make


def do(path: Path, out: Path, stages: Sequence[str] = ("download", "ingest")) -> tuple[Context, list[Step]]:
    return conftest.do(path, out, stages)


def requests(hub: FakeHub) -> list[str]:
    return [r.path for r in hub.log]


def test_what_is_fetched_is_what_a_folder_would_have_held(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, corpus: Corpus
) -> None:
    context, (download, ingest) = do(hub_recipe(), tmp_path / "out")
    manifest = verify(context.out / download.folder)
    assert download.folder.startswith("01-download-fine-")
    assert manifest.counts.rows_in == manifest.counts.kept == 3
    files = repository(corpus)
    listed = pq.read_table(context.out / download.folder / "files.parquet").to_pylist()
    assert [row["file"] for row in listed] == sorted(n for n in files if n.endswith(".parquet"))
    for row in listed:
        assert (context.out / download.folder / "files" / row["file"]).read_bytes() == files[row["file"]]
    assert read(context.out / ingest.folder).counts.kept > 100
    subsets = pq.read_table(context.out / ingest.folder / "part-00000.parquet")["subset"].to_pylist()
    assert set(subsets) == {ODD}
    assert sum(hub.sent(name) for name in files) == sum(row["size"] for row in listed)


def test_faults_leave_no_trace_in_the_manifests(hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = hub_recipe()
    clean, steps = do(path, tmp_path / "clean")
    hub.fault("api", Fault("status", 503), Fault("status", 429, {"Retry-After": "0"}))
    hub.fault(ONE, Fault("cut", 10_000), Fault("status", 503), Fault("ignore_range"))
    hub.fault(TWO, Fault("wrong"), Fault("stall", 100))
    faulty, _ = do(path, tmp_path / "faulty")
    with serving(FakeHub(page=1000, commits=hub.commits, branches=hub.branches)) as mirror:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_ENDPOINT", mirror.endpoint + "/")
            mirrored, _ = do(path, tmp_path / "mirrored")
    expected = manifests(clean.out, steps)
    assert len(expected) > 4
    assert manifests(faulty.out, steps) == expected
    assert manifests(mirrored.out, steps) == expected


def test_a_mirror_that_passes_on_the_original_s_links_is_asked_itself(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path
) -> None:
    hub.links = "http://127.0.0.1:1"
    context, (download,) = do(hub_recipe(), tmp_path / "out", ["download"])
    assert read(context.out / download.folder).counts.kept == 3


def test_a_file_that_fails_fails_the_step_after_the_others(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hub_recipe()
    hub.fault(ONE, *[Fault("status", 503)] * 3)
    with pytest.raises(StepError) as failed:
        do(path, tmp_path / "out", ["download"])
    message = str(failed.value)
    assert "1 of 3 files could not be fetched" in message
    assert ONE in message and "server_error" in message and "HTTP 503" in message and "Signature" not in message
    assert "3 in, 2 kept, 1 rejected" in capsys.readouterr().out
    before = len(hub.log)
    context, (download,) = do(path, tmp_path / "out", ["download"])
    assert read(context.out / download.folder).counts.kept == 3
    assert all("train-0000" not in path or "geoqa" in path for path in requests(hub)[before:])


def test_a_branch_that_moves_never_mixes_two_revisions(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    first, files = hub.branches["main"], repository(corpus)
    hub.after_info = lambda: hub.commit({**files, TWO: files[ONE]})  # between the first question and the second
    path = hub_recipe(revision="main")
    context, (download,) = do(path, tmp_path / "out", ["download"])
    assert f"'main' is no commit and may move; now it is {first}; write revision: {first}" in capsys.readouterr().err
    assert (context.out / download.folder / "files" / TWO).read_bytes() == files[TWO]
    assert {p.split("/")[5] for p in requests(hub) if "/resolve/" in p} == {first}
    hub.after_info = None
    _, (moved,) = do(path, tmp_path / "out", ["download"])
    assert moved.folder != download.folder
    _, (pinned,) = do(hub_recipe("pinned.yaml", revision=first), tmp_path / "out", ["download"])
    assert pinned.folder == download.folder


def test_a_pinned_dataset_is_planned_without_the_network(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub_recipe()
    do(path, tmp_path / "out")
    before = len(hub.log)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    do(path, tmp_path / "out")
    assert len(hub.log) == before


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"configs": [ODD]}, [ONE]),
        ({"configs": ["shapes"], "limit": 1}, [TWO]),
        ({"configs": ["shapes", ODD], "limit": 1}, [ONE, TWO]),
        ({"limit": 2}, [ONE, TWO]),
        ({"source": {"files": [f"{ODD}/*.parquet", "shapes/*.parquet"]}, "limit": 1}, [ONE, TWO]),
        ({"source": {"files": ["shapes/*-00000-*"]}}, [TWO]),
    ],
)
def test_configs_patterns_and_a_limit(
    entry: dict[str, Any], expected: list[str], hub_recipe: MakeRecipe, tmp_path: Path
) -> None:
    context, (download,) = do(hub_recipe(**entry), tmp_path / "out", ["download"])
    listed = pq.read_table(context.out / download.folder / "files.parquet")["file"].to_pylist()
    assert listed == expected


def test_the_images_of_a_dataset_come_along(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, corpus: Corpus
) -> None:
    root = corpus.folder / "raw" / "llava"
    hub.commit({p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()})
    source = {"format": "conversations", "files": ["*.json"], "images": "images.zip"}
    context, (_, ingest) = do(hub_recipe(source=source, limit=1), tmp_path / "out")
    counts = read(context.out / ingest.folder).counts
    assert counts.kept > 50


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such dataset": ({"dataset": "acme/nothing"}, "hub.dataset: no acme/nothing at http"),
    "no such revision": ({"revision": "v9"}, "hub.revision: acme/pictures has no 'v9'"),
    "no such commit": ({"revision": "0" * 40}, "hub.revision: acme/pictures has no '0000"),
    "no file matches": ({"source": {"files": ["*.csv"]}}, "nothing below acme/pictures at"),
    "no such config": ({"configs": ["shape"]}, "hub.configs: no folder 'shape' with record files; there is shapes ..."),
    "no images": ({"source": {"images": "pictures"}}, "data.sources.fine.images: pictures: no such folder"),
    "not a name": ({"dataset": "../x"}, "wanted owner/name"),
    "limit": ({"limit": 0}, "data.sources.fine.hub: limit: got 0"),
    "typo": ({"revison": "main"}, "did you mean 'revision'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_one_line_and_exit_2(
    case: str, hub_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    entry, message = WRONG[case]
    assert main(["plan", str(hub_recipe(**entry))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_plan_says_how_much_is_to_fetch_and_a_full_disk_stops_before_the_first_byte(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, total = hub_recipe(), sum(len(d) for n, d in hub.commits[hub.branches["main"]].items() if "parquet" in n[-7:])
    assert main(["plan", str(path)]) == 0
    assert f"3 files, {decimal(total)} to fetch" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, total - 1))
    with pytest.raises(StepError, match=r"to fetch, .* free in .*; take less"):
        do(path, tmp_path / "out")
    assert not any("/resolve/" in asked for asked in requests(hub))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, total))
    context, (step,) = do(path, tmp_path / "out", ["download"])
    # killed between the last file and the records: what is there needs no room
    for record in (context.out / step.folder).glob("*.json"):
        record.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    do(path, tmp_path / "out", ["download"])


def test_a_location_beside_a_hub_entry_is_refused(hub_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(hub_recipe()), "--set", "run.locations.fine=/x"]) == 2
    assert "run.locations.fine: its files come from the Hub" in capsys.readouterr().err


def test_a_gated_dataset_wants_a_token_and_never_shows_it(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    hub.gated, hub.token = True, "hf_right"
    path = hub_recipe()
    assert main(["plan", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"acme/pictures is gated; accept its terms at {hub.endpoint}/datasets/acme/pictures" in error
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["plan", str(path)]) == 2
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    context, steps = do(path, tmp_path / "out")
    written = b"".join(p.read_bytes() for p in context.out.rglob("*.json"))
    shown = capsys.readouterr()
    assert b"hf_right" not in written and "hf_" not in shown.out + shown.err
    assert "hf_right" not in repr(context.content.remotes) + repr(steps)


def test_a_file_that_is_refused_says_what_to_do(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing of a commit is remembered, and meanwhile the terms are to be accepted."""
    path = hub_recipe()
    opened(path, tmp_path / "out")[0].content.save()
    hub.gated, hub.token = True, "hf_right"
    with pytest.raises(
        StepError, match=r"HTTP 403 \(GatedRepo\); accept the terms at .*/acme/pictures and set HF_TOKEN"
    ):
        do(path, tmp_path / "out", ["download"])
    # the refusal of a redirect's target is not the Hub's word
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    hub.down = 403
    with pytest.raises(StepError, match=r"HTTP 403\)") as error:
        do(path, tmp_path / "out", ["download"])
    assert "accept" not in str(error.value)


def test_a_server_that_is_no_hub_or_not_there_is_one_line(
    hub: FakeHub, hub_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hub_recipe()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert main(["plan", str(path)]) == 1
    assert "(unreachable); run again later" in capsys.readouterr().err
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert main(["plan", str(path)]) == 2
    assert "HF_ENDPOINT: got 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        (None, "https://huggingface.co"), ("", "https://huggingface.co"), (" http://h/hub/ ", "http://h/hub"),
        ("https://h", "https://h"),
    ],
)  # fmt: skip
def test_whom_the_environment_names(given: str | None, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when it is asked for, and not when a library is imported."""
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setenv("HF_ENDPOINT", given) if given is not None else monkeypatch.delenv("HF_ENDPOINT", False)
    server = Server.here(("h",), Patience())
    assert (server.endpoint, server.allowed, server.token) == (endpoint, ("h",), "hf_mine")


@pytest.mark.parametrize("name", ["../../escape.parquet", "/etc/x.parquet", "a//b.parquet", "x.parquet.partial"])
def test_a_listed_name_can_t_leave_the_folder(
    name: str, hub: FakeHub, hub_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit({name: b"x"})
    assert main(["plan", str(hub_recipe())]) == 1
    assert "can't be a file's name here" in capsys.readouterr().err


def test_a_folder_that_can_t_be_written_is_one_line(hub_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", str(hub_recipe()), "--out", "/sys"]) == 1
    error = capsys.readouterr().err
    assert "/sys/.lock: Permission denied; make room or give another --out" in error and error.count("\n") == 1


def many(hub: FakeHub, number: int = 100) -> dict[str, bytes]:
    """A commit of many small files."""
    files = {f"many/{k:03d}.parquet": b"%03d" % k * 500 for k in range(number)}
    hub.commit(files)
    return files


@pytest.mark.parametrize("bytes_per_task", [1, 1 << 20], ids=["a task each", "many to a task"])
def test_a_server_that_is_down_is_not_asked_for_every_file(
    bytes_per_task: int, hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_of_download, "_BYTES_PER_TASK", bytes_per_task)
    many(hub)
    path = hub_recipe()
    hub.fault("many/000.parquet", Fault("none"))
    hub.down = 503
    with pytest.raises(StepError) as failed:
        do(path, tmp_path / "out", ["download"])
    assert "the server fails; 99 of 100 files left, run again to go on: many/0" in str(failed.value)
    assert "HTTP 503" in str(failed.value)
    assert len({r.path for r in hub.log if r.status == 503}) < 10
    hub.down = 0
    before = len(hub.log)
    context, (download,) = do(path, tmp_path / "out", ["download"])
    assert verify(context.out / download.folder).counts.kept == 100
    assert not [r for r in hub.log[before:] if r.path.endswith("000.parquet")]


def test_failures_of_single_files_never_add_up_to_a_dead_server(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path
) -> None:
    for name in list(many(hub))[::4]:
        hub.fault(name, *[Fault("status", 500)] * 3)
    with pytest.raises(StepError) as failed:
        do(hub_recipe(), tmp_path / "out", ["download"])
    assert "25 of 100 files could not be fetched" in str(failed.value) and "and 24 more" in str(failed.value)


@pytest.mark.slow
def test_a_server_that_went_away_ends_the_command_soon(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command under Ray: the listing is remembered, and then nobody is there."""
    many(hub, 1000)
    path = hub_recipe()
    opened(path, tmp_path / "out")[0].content.save()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    command = [sys.executable, "-m", "pipeline", "download", str(path), "--out", str(tmp_path / "out")]
    patience = ["--set", "run.patience.first_wait=1"]
    done = subprocess.run([*command, *patience], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: download fine: the server does not answer; 1,000 of 1,000 files left")
    assert "unreachable" in done.stderr and done.stderr.count("\n") == 1


def test_kill_9_of_a_run_in_the_middle_of_a_file(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path, corpus: Corpus
) -> None:
    """The real command under Ray; what was there before the end is not fetched again."""
    hub.commit({**repository(corpus), TWO: bytes(3 << 20)})
    path = hub_recipe()
    clean, steps = do(path, tmp_path / "clean", ["download"])
    hub.log.clear()
    hub.fault(TWO, Fault("stall", 2_000_000))
    out = tmp_path / "killed"
    waiting = ["--set", "run.patience.read=60", "--set", "run.workers=1"]
    command = [sys.executable, "-m", "pipeline", "download", str(path), "--out", str(out), *waiting]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    partial = out / steps[0].folder / "files" / f"{TWO}.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size == 2_000_000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    context, _ = do(path, out, ["download"])
    assert manifests(context.out, steps) == manifests(clean.out, steps)
    files = hub.commits[hub.branches["main"]]
    assert {name: hub.sent(name) for name in files if name.endswith(".parquet")} == {
        name: len(data) for name, data in files.items() if name.endswith(".parquet")
    }
