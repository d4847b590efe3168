"""A published folder on its way to a Hub on loopback, by `huggingface_hub` in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.publish.publish import publish
from tests.pipeline.conftest import ROOT
from tests.pipeline.net.hub_for_push import TOKEN, TakingHub, taking
from tests.pipeline.test_commands import Finished

REPO = "acme/pictures"


@pytest.fixture(scope="module")
def published(tiny_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, context, steps = tiny_run
    folder = tmp_path_factory.mktemp("push") / "published"
    publish(steps, context, path, folder, 9000)
    return folder


@pytest.fixture
def hub() -> Iterator[TakingHub]:
    with taking(TakingHub()) as hub:
        yield hub


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def push(hub: TakingHub, folder: Path, home: Path, *more: str, token: str | None = TOKEN, repo: str = REPO) -> Said:
    """Run the command; the token is nowhere in what it says."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    own |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "-m", "pipeline", "push", str(folder), "--repo", repo, *more]
    done = subprocess.run(command, cwd=ROOT, env=keep | own, capture_output=True, text=True, check=False, timeout=120)
    assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr.splitlines()[-1] if done.stderr else "")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_attributes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path != ".gitattributes"}


def test_all_of_it_arrives_in_one_commit_and_nothing_is_sent_twice(
    hub: TakingHub, published: Path, tmp_path: Path
) -> None:
    said = push(hub, published, tmp_path, "--private")
    assert (said.code, hub.commits, hub.private) == (0, 1, True), said
    assert without_attributes(hub.branches["main"]) == bytes_of(published)
    assert "29 samples" in said.out and hub.endpoint in said.out
    puts = hub.puts()
    assert puts == len(list((published / "data").iterdir())) > 1
    again = push(hub, published, tmp_path)
    assert again.code == 0 and "has all of it already" in again.out
    assert (hub.commits, hub.puts()) == (1, puts)


def test_another_publication_takes_the_place_of_the_first(
    hub: TakingHub, published: Path, tiny_run: Finished, tmp_path: Path
) -> None:
    path, context, steps = tiny_run
    whole = tmp_path / "whole"
    publish(steps, context, path, whole)
    push(hub, published, tmp_path)
    hub.branches["main"]["LICENSE"] = b"a person's own"
    assert push(hub, whole, tmp_path).code == 0
    # data of the first would be read with those of the second
    assert without_attributes(hub.branches["main"]) == bytes_of(whole) | {"LICENSE": b"a person's own"}


def test_a_branch_is_made(hub: TakingHub, published: Path, tmp_path: Path) -> None:
    assert push(hub, published, tmp_path, "--revision", "v2").code == 0
    assert without_attributes(hub.branches["v2"]) == bytes_of(published)
    assert not without_attributes(hub.branches["main"])


def test_an_interrupted_push_sends_only_the_rest(hub: TakingHub, published: Path, tmp_path: Path) -> None:
    hub.faults = [("/commit/", 500)]
    said = push(hub, published, tmp_path)
    assert said.code == 1 and "push again later to go on" in said.err
    assert hub.commits == 0 and not without_attributes(hub.branches["main"])
    puts = hub.puts()
    assert push(hub, published, tmp_path).code == 0
    assert hub.puts() == puts and without_attributes(hub.branches["main"]) == bytes_of(published)


def test_a_file_that_was_refused_is_sent_again_and_no_other(hub: TakingHub, published: Path, tmp_path: Path) -> None:
    hub.faults = [("PUT /bucket", 400)]
    assert push(hub, published, tmp_path).code == 1
    missing = len(list((published / "data").iterdir())) - len(hub.objects)
    puts = hub.puts()
    assert missing >= 1 and push(hub, published, tmp_path).code == 0
    assert hub.puts() - puts == missing


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("repos/create", 403), "may not write there (403: refused"),
        (("repos/create", 401), "doesn't know the token (401)"),
        (("/preupload/", 404), "no such repository or branch"),
        (("objects/batch", 413), "no room for it (413"),
        (("PUT /bucket", 403), "may not write there (403"),
        (("/commit/", 412), "somebody else has written to it meanwhile (412)"),
        (("/commit/", 429), "too many requests (429)"),
        (("/commit/", "cut"), "push again to go on"),
    ],
)
def test_what_a_hub_refuses_is_one_line(
    fault: tuple[str, int | str], message: str, hub: TakingHub, published: Path, tmp_path: Path
) -> None:
    hub.faults = [fault]
    said = push(hub, published, tmp_path)
    assert said.code == 1 and said.err.startswith(f"error: {REPO}: ") and message in said.err
    assert hub.commits == 0


def test_what_a_person_gets_wrong(hub: TakingHub, published: Path, tmp_path: Path) -> None:
    assert "doesn't know the token (401)" in push(hub, published, tmp_path, token="hf_other").err
    missing = push(hub, published, tmp_path, token=None)
    assert missing.code == 2 and "no token" in missing.err
    assert push(hub, published, tmp_path, repo="pictures").code == 2
    push(hub, published, tmp_path)
    public = push(hub, published, tmp_path, "--private")
    assert public.code == 2 and "is there, and public" in public.err


def test_a_folder_that_is_not_whole_is_not_sent(hub: TakingHub, published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(published, copy)
    path = next((copy / "data").iterdir())
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    said = push(hub, copy, tmp_path)
    assert said.code == 1 and "its bytes differ" in said.err
    assert not hub.log
