"""Images that rows name by address: fetched into packs, each row with its status; what may heal is asked again."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.run.runner import Serial
from schemas.manifest import read, verify
from tests.pipeline import conftest
from tests.pipeline.conftest import ROOT, MakeRecipe, manifests, opened
from tests.pipeline.net.hub_server import FakeHub, Fault, serving

QUICK = {"attempts": 2, "first_wait": 0.01, "longest_wait": 1.0, "connect": 5.0, "read": 2.0}


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40 + number, 40), (number * 20 % 256, 90, 120)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def web() -> Iterator[FakeHub]:
    with serving(FakeHub()) as web:
        web.commit({f"{i}.png": picture(i) for i in range(12)} | {"page.html": b"<html>gone</html>"})
        yield web


def source(web: FakeHub) -> list[dict[str, Any]]:
    """Twelve pictures, and what is wrong in such lists."""
    base = f"{web.endpoint}/plain"
    good = [{"u": f"{base}/{i}.png", "s": hashlib.sha256(picture(i)).hexdigest()} for i in range(12)]
    bad = [
        {"u": f"{base}/missing.png"},
        {"u": f"{base}/page.html"},
        {"u": f"{base}/0.png", "s": "0" * 64},
        {"u": "http://169.254.169.254/latest"},
        {"u": "nonsense"},
        {"u": None},
    ]
    return [{"q": "What?", "a": f"Picture {n}.", **row} for n, row in enumerate([*good, *bad])]


@pytest.fixture
def urls_recipe(make_recipe: MakeRecipe, web: FakeHub, tmp_path: Path) -> Path:
    rows = tmp_path / "list" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text("".join(json.dumps(row) + "\n" for row in source(web)), encoding="utf-8")

    def edit(mapping: dict[str, Any]) -> None:
        data, run = mapping["data"], mapping["run"]
        entry = {"format": "question_answer", "files": ["*.jsonl"], "urls": {"column": "u", "sha256": "s"}}
        data["sources"] = {"caps": entry | {"columns": {"image": "u", "question": "q", "answer": "a"}}}
        for stage in ("benchmarks", "decontaminate", "language", "dedupe", "quality"):
            data.pop(stage)
        data["ingest"] = {"rows_per_part": 5}
        run["locations"] = {"tokenizer": run["locations"]["tokenizer"], "caps": str(rows.parent)}
        run |= {"allow_hosts": ["127.0.0.1"], "patience": QUICK}

    return make_recipe(edit)


def do(path: Path, out: Path) -> tuple[Context, dict[str, Step]]:
    """Download, collect, ingest, as the command does."""
    context, steps = conftest.do(path, out, ("hash", "download", "fetch_images", "ingest"))
    return context, {step.stage.name: step for step in steps}


def test_every_row_has_its_status_and_failures_are_rejects(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    context, steps = do(urls_recipe, tmp_path / "out")
    manifest = verify(context.out / steps["fetch_images"].folder)
    reasons = {
        "not_found": 1, "not_an_image": 1, "wrong_content": 1, "address_refused": 1, "bad_url": 1, "no_url": 1
    }  # fmt: skip
    assert (manifest.counts.rows_in, manifest.counts.kept, manifest.counts.rejected) == (18, 12, reasons)
    folder = context.out / steps["fetch_images"].folder
    assert sorted(p.name for p in folder.glob("*.pack")) == ["images-00000.pack"]
    for row in pq.read_table(folder / "status-00000.parquet").to_pylist()[:12]:
        with (folder / row["pack"]).open("rb") as pack:
            pack.seek(row["offset"])
            data = pack.read(row["size"])
        assert data == picture(row["row"]) and row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["status"], row["http_status"]) == ("ok", 200)
    counts = read(context.out / steps["ingest"].folder).counts
    # the row without an address is a row without an image
    assert (counts.kept, counts.rejected) == (13, {"image_not_fetched": 5})
    rejects = [
        row
        for path in sorted((context.out / steps["ingest"].folder).glob("rejected-*"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert any("not_found" in row["detail"] and "HTTP 404" in row["detail"] for row in rejects)


def test_a_later_run_asks_again_for_what_may_heal_only(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    clean, steps = do(urls_recipe, tmp_path / "clean")
    web.log.clear()
    web.fault("3.png", *[Fault("status", 503)] * 2)
    web.fault("4.png", *[Fault("stall", 20, {}, "4")] * 2)
    context, first = do(urls_recipe, tmp_path / "out")
    counts = read(context.out / first["fetch_images"].folder).counts
    assert (counts.kept, counts.rejected["server_error"], counts.rejected["timeout"]) == (10, 1, 1)
    web.log.clear()
    context, second = do(urls_recipe, tmp_path / "out")
    assert sorted(r.path for r in web.log) == ["/plain/3.png", "/plain/4.png"]
    assert second["ingest"].identity != first["ingest"].identity
    assert read(context.out / second["fetch_images"].folder).counts.kept == 12
    # in the end the bytes are those of a run without trouble
    assert list(second.values()) and manifests(context.out, list(second.values())[:3]) == manifests(
        clean.out, list(steps.values())[:3]
    )
    web.log.clear()
    do(urls_recipe, tmp_path / "out")
    assert web.log == []


def test_one_host_is_not_asked_too_much_at_once(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    """Twelve answers that take 0.2 s each, two at a time: at least 1.2 s."""
    for number in range(12):
        web.fault(f"{number}.png", Fault("slow", 0, {}, "0.2"))
    text = urls_recipe.read_text(encoding="utf-8") + "  crowd: {at_a_time: 12, per_host: 2}\n"
    urls_recipe.write_text(text, encoding="utf-8")
    started = time.monotonic()
    context, steps = do(urls_recipe, tmp_path / "out")
    assert time.monotonic() - started > 1.2
    assert read(context.out / steps["fetch_images"].folder).counts.kept == 12


def test_size_and_time_are_capped(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    text = urls_recipe.read_text(encoding="utf-8")
    caps = "sha256: s\n        max_bytes: 120\n        max_seconds: 0.4"
    assert "sha256: s\n" in text
    urls_recipe.write_text(text.replace("sha256: s\n", caps + "\n"), encoding="utf-8")
    files = dict(web.commits[web.branches["main"]])
    web.commit({**files, "0.png": files["0.png"] + b"x" * 500})
    web.fault("1.png", Fault("drip", 0, {}, "0.05"))
    context, steps = do(urls_recipe, tmp_path / "out")
    rejected = read(context.out / steps["fetch_images"].folder).counts.rejected
    assert rejected["too_large"] >= 2 and rejected["too_slow"] == 1


def test_the_command_runs_all_of_it(web: FakeHub, urls_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(urls_recipe)]) == 0
    shown = capsys.readouterr().out
    assert "fetch_images caps" in shown and "image_not_fetched" in shown
    assert main(["run", str(urls_recipe)]) == 0
    assert "nothing to do" in capsys.readouterr().out


def statuses(context: Context, steps: dict[str, Step]) -> list[dict[str, Any]]:
    table = pq.read_table(context.out / steps["fetch_images"].folder / "status-00000.parquet")
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_what_was_refused_here_is_asked_once_its_host_is_allowed(
    web: FakeHub, urls_recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.RayExecutor", Here)
    refusing = ["run", str(urls_recipe), "--set", "run.allow_hosts=[]"]
    assert main(refusing) == 0
    assert "fetch_images caps      1/1 parts  18 in, 0 kept" in capsys.readouterr().out and web.log == []
    assert main(["fetch_images", *refusing[1:]]) == 0  # asks again, to no avail
    assert main(["run", str(urls_recipe)]) == 0
    assert "18 in, 12 kept" in capsys.readouterr().out and web.log
    web.log.clear()
    assert main(["run", str(urls_recipe)]) == 0
    assert "nothing to do" in capsys.readouterr().out and web.log == []


def test_an_address_is_asked_once_for_all_rows_that_name_it(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    rows = tmp_path / "list" / "rows.jsonl"
    url, right = f"{web.endpoint}/plain/0.png", hashlib.sha256(picture(0)).hexdigest()
    gone = f"{web.endpoint}/plain/missing.png"
    listed = [{"u": url}, {"u": url, "s": "0" * 64}, {"u": gone}, {"u": url, "s": right.upper()}, {"u": gone}]
    rows.write_text("".join(json.dumps({"q": "What?", "a": "It.", **row}) + "\n" for row in listed), encoding="utf-8")
    context, steps = do(urls_recipe, tmp_path / "out")
    assert sorted(r.path for r in web.log) == ["/plain/0.png", "/plain/missing.png"]
    found = statuses(context, steps)
    assert [row["reason"] for row in found] == [None, "wrong_content", "not_found", None, "not_found"]
    assert {row["offset"] for row in found if row["status"] == "ok"} == {0}
    assert (context.out / steps["fetch_images"].folder / "images-00000.pack").read_bytes() == picture(0)
    assert read(context.out / steps["ingest"].folder).counts.kept == 2


_COLLECT = """
import sys
from pathlib import Path
from tests.pipeline.net.test_fetch_many import do
do(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def killed(recipe: Path, out: Path, web: FakeHub, after: int) -> None:
    """A process that collects, ended by SIGKILL when the server was asked `after` times."""
    process = subprocess.Popen([sys.executable, "-c", _COLLECT, str(recipe), str(out)], cwd=ROOT)
    while len(web.log) < after and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_part_loses_no_image_and_leaves_no_trace(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    text = urls_recipe.read_text(encoding="utf-8") + "  crowd: {at_a_time: 2, per_host: 2}\n"
    urls_recipe.write_text(text, encoding="utf-8")
    clean, steps = do(urls_recipe, tmp_path / "clean")
    web.log.clear()
    for number in range(12):
        web.fault(f"{number}.png", *[Fault("slow", 0, {}, "0.1")] * 3)
    killed(urls_recipe, tmp_path / "out", web, 5)
    killed(urls_recipe, tmp_path / "out", web, 10)
    context, again = do(urls_recipe, tmp_path / "out")
    asked = Counter(request.path for request in web.log)
    assert set(asked) == {f"/plain/{name}" for name in [*(f"{n}.png" for n in range(12)), "missing.png", "page.html"]}
    assert asked.total() <= 14 + 2 * 2, "more than those under way were asked for again"
    three = ("fetch_images", "ingest")
    assert manifests(context.out, [again[s] for s in three]) == manifests(clean.out, [steps[s] for s in three])
    folder = context.out / again["fetch_images"].folder
    left = sorted(p.name for p in folder.iterdir())
    assert left == sorted(p.name for p in (clean.out / steps["fetch_images"].folder).iterdir())


@pytest.mark.parametrize("damage", ["a line cut", "bytes cut", "bytes changed", "no bytes", "not lines"])
def test_of_a_damaged_journal_what_is_sound_is_taken_up(
    damage: str, web: FakeHub, urls_recipe: Path, tmp_path: Path
) -> None:
    for number in range(12):
        web.fault(f"{number}.png", *[Fault("slow", 0, {}, "0.1")])
    text = urls_recipe.read_text(encoding="utf-8") + "  crowd: {at_a_time: 1, per_host: 1}\n"
    urls_recipe.write_text(text, encoding="utf-8")
    killed(urls_recipe, tmp_path / "out", web, 6)
    (lines,) = (tmp_path / "out").glob("01-fetch_images-*/journal-*.jsonl")
    data = lines.with_suffix(".bytes")
    known = [json.loads(line) for line in lines.read_bytes().splitlines()]
    assert len(known) >= 6 and known[-1]["offset"]
    last = known[-1]["offset"]
    if damage == "a line cut":
        lines.write_bytes(lines.read_bytes()[:-20])
    elif damage == "bytes cut":
        data.write_bytes(data.read_bytes()[: last + 10])
    elif damage == "bytes changed":
        whole = data.read_bytes()
        data.write_bytes(whole[:last] + b"x" + whole[last + 1 :])
    elif damage == "no bytes":
        data.unlink()
    else:
        lines.write_bytes(b"\xff\x00[1]\n" + lines.read_bytes())
    lost = known if damage in ("no bytes", "not lines") else known[-1:]
    web.log.clear()
    context, steps = do(urls_recipe, tmp_path / "out")
    held = {
        line["url"].removeprefix(web.endpoint) for line in known if line not in lost and web.endpoint in line["url"]
    }
    asked = [request.path for request in web.log]
    assert not held & set(asked) and len(asked) == len(set(asked)) == 14 - len(held)
    verify(context.out / steps["fetch_images"].folder)
    assert read(context.out / steps["fetch_images"].folder).counts.kept == 12


class Here(Serial):
    """In place of Ray, whose start-up is all that these tests would wait for."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        pass

    def begin(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_dead_addresses_do_not_cost_every_later_run(
    web: FakeHub, urls_recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run asks again, and finds nothing new: the third does not ask, `fetch_images` does."""
    monkeypatch.setattr("pipeline.cli.RayExecutor", Here)
    web.fault("3.png", *[Fault("status", 503)] * 100)
    web.fault("4.png", *[Fault("status", 503)] * 3, *[Fault("status", 429)] * 100)
    assert main(["run", str(urls_recipe)]) == 0
    web.log.clear()
    capsys.readouterr()
    assert main(["run", str(urls_recipe)]) == 0
    # other failures than before, but no image more: nothing after it is done again
    assert {r.path for r in web.log} == {"/plain/3.png", "/plain/4.png"}
    assert "1 step done" in capsys.readouterr().out
    web.log.clear()
    assert main(["run", str(urls_recipe)]) == 0
    shown = capsys.readouterr().out
    assert web.log == [] and "2 rows failed" in shown and "nothing to do" in shown
    web.faults.clear()
    assert main(["fetch_images", str(urls_recipe)]) == 0
    assert {r.path for r in web.log} == {"/plain/3.png", "/plain/4.png"}
    assert main(["run", str(urls_recipe)]) == 0
    assert "rows failed" not in capsys.readouterr().out


def test_records_on_the_hub_that_name_images_elsewhere(
    web: FakeHub, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shape of PixMo-Cap: parquet on the Hub with a column of addresses, the images on another server."""
    monkeypatch.setattr("pipeline.cli.RayExecutor", Here)
    files = {}
    for number in range(2):
        mine = range(number * 6, number * 6 + 6)
        urls = [f"{web.endpoint}/plain/{n}.png" for n in mine] + [f"{web.endpoint}/plain/missing{number}.png"]
        columns: dict[str, Any] = {
            "image_url": urls,
            "caption": [f"Picture {n}." for n in range(7)],
            "transcripts": [["a", "b"]] * 7,
        }
        columns |= {
            "seen": pa.array([2**62] * 7, pa.timestamp("us"))
        }  # a time that Python can't hold, and nobody reads
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        files[f"data/train-{number:05d}-of-00002.parquet"] = sink.getvalue().to_pybytes()
    with serving(FakeHub(dataset="allenai/pixmo-cap")) as hub:
        commit = hub.commit(files | {"README.md": b"# PixMo-Cap"})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")

        def edit(mapping: dict[str, Any]) -> None:
            data, run = mapping["data"], mapping["run"]
            extended = {"extends": str(ROOT / "configs" / "sources" / "pixmo_cap.yaml")}
            data["sources"] = {"caps": extended | {"hub": {"dataset": "allenai/pixmo-cap", "revision": commit}}}
            for stage in ("benchmarks", "decontaminate", "language", "dedupe", "quality"):
                data.pop(stage)
            run["locations"] = {"tokenizer": run["locations"]["tokenizer"]}
            run |= {"allow_hosts": ["127.0.0.1", "localhost"], "patience": QUICK}

        path = make_recipe(edit)
        assert main(["run", str(path)]) == 0
        assert not any(request.authorized for request in web.log), "the Hub's token went to a host of images"
        context, steps = opened(path)
        found = {step.stage.name: read(context.out / step.folder).counts for step in steps}
        assert (found["fetch_images"].kept, found["fetch_images"].rejected) == (12, {"not_found": 2})
        assert (found["ingest"].kept, found["ingest"].rejected) == (12, {"image_not_fetched": 2})
        assert found["pretokenise"].kept == 12
        hub.log.clear()
        web.log.clear()
        assert main(["run", str(path)]) == 0
        assert [r for r in hub.log if "/resolve/" in r.path] == [] and web.log == []
