"""Images that rows name by address: fetched into packs, each row with its status; what may heal is asked again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.graph import Step, build
from pipeline.runner import Serial, due, run_step
from pipeline.task import Context
from schemas.manifest import read, verify
from tests.pipeline.conftest import MakeRecipe, manifests, opened
from tests.pipeline.hub_server import FakeHub, Fault, serving

QUICK = {"attempts": 2, "first_wait": 0.01, "longest_wait": 1.0, "connect": 1.0, "read": 0.3}


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
    context, _ = opened(path, out)
    for stage in ("download", "collect", "ingest"):
        for step in build(context.recipe.data, context.inventory):
            if step.stage == stage and due(step, context.out):
                run_step(step, context, Serial())
    return context, {step.stage: step for step in build(context.recipe.data, context.inventory)}


def test_every_row_has_its_status_and_failures_are_rejects(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    context, steps = do(urls_recipe, tmp_path / "out")
    manifest = verify(context.out / steps["collect"].folder)
    reasons = {
        "not_found": 1, "not_an_image": 1, "wrong_content": 1, "address_refused": 1, "bad_url": 1, "no_url": 1
    }  # fmt: skip
    assert (manifest.counts.rows_in, manifest.counts.kept, manifest.counts.rejected) == (18, 12, reasons)
    folder = context.out / steps["collect"].folder
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
    web.fault("4.png", *[Fault("stall", 20, {}, "1")] * 2)
    context, first = do(urls_recipe, tmp_path / "out")
    counts = read(context.out / first["collect"].folder).counts
    assert (counts.kept, counts.rejected["server_error"], counts.rejected["timeout"]) == (10, 1, 1)
    web.log.clear()
    context, second = do(urls_recipe, tmp_path / "out")
    assert sorted(r.path for r in web.log) == ["/plain/3.png", "/plain/4.png"]
    assert second["ingest"].identity != first["ingest"].identity
    assert read(context.out / second["collect"].folder).counts.kept == 12
    # in the end the bytes are those of a run without trouble
    assert list(second.values()) and manifests(context.out, list(second.values())[:3]) == manifests(
        clean.out, list(steps.values())[:3]
    )
    web.log.clear()
    do(urls_recipe, tmp_path / "out")
    assert web.log == []


def test_one_host_is_not_asked_too_much_at_once(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    """Twelve answers that take 0.2 s each, two at a time: at least 1.2 s."""
    import time

    for number in range(12):
        web.fault(f"{number}.png", Fault("slow", 0, {}, "0.2"))
    text = urls_recipe.read_text(encoding="utf-8") + "  crowd: {at_a_time: 12, per_host: 2}\n"
    urls_recipe.write_text(text, encoding="utf-8")
    started = time.monotonic()
    context, steps = do(urls_recipe, tmp_path / "out")
    assert time.monotonic() - started > 1.2
    assert read(context.out / steps["collect"].folder).counts.kept == 12


def test_size_and_time_are_capped(web: FakeHub, urls_recipe: Path, tmp_path: Path) -> None:
    text = urls_recipe.read_text(encoding="utf-8")
    caps = "sha256: s\n        max_bytes: 120\n        max_seconds: 0.4"
    assert "sha256: s\n" in text
    urls_recipe.write_text(text.replace("sha256: s\n", caps + "\n"), encoding="utf-8")
    files = dict(web.commits[web.branches["main"]])
    web.commit({**files, "0.png": files["0.png"] + b"x" * 500})
    web.fault("1.png", Fault("drip", 0, {}, "0.05"))
    context, steps = do(urls_recipe, tmp_path / "out")
    rejected = read(context.out / steps["collect"].folder).counts.rejected
    assert rejected["too_large"] >= 2 and rejected["too_slow"] == 1


def test_the_command_runs_all_of_it(web: FakeHub, urls_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(urls_recipe)]) == 0
    shown = capsys.readouterr().out
    assert "collect caps" in shown and "image_not_fetched" in shown
    assert main(["run", str(urls_recipe)]) == 0
    assert "nothing to do" in capsys.readouterr().out
