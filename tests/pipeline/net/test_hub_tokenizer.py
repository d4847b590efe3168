"""A tokenizer on the Hub: pinned, fetched as a step, and the same to all that follows as a folder with its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from schemas import json_file
from schemas.manifest import ManifestError, verify
from schemas.strict import RecipeError
from tests.pipeline.conftest import MakeRecipe, manifests, opened, run
from tests.pipeline.executors import DiesAfter, Killed
from tests.pipeline.net.hub_server import FakeHub, Fault, serving

QUICK = {"attempts": 3, "first_wait": 0.01, "longest_wait": 2.0, "connect": 2.0, "read": 0.5}
BESIDE = {
    "README.md": b"# A card\n",
    "model.safetensors": b"weights",
    "tokenization_acme.py": b"raise SystemExit",
    "tokenizer.py": b"raise SystemExit",
    "tokenizer.pkl": b"a pickle",
    "tokenizer/tokenizer.json": b"{}",
    "vocab.bin": b"",
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving(FakeHub(page=2, kind="models", dataset="acme/model")) as hub:
        hub.commit({**files(tiny / "tokenizer"), **BESIDE})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def hub_recipe(tiny_recipe: MakeRecipe, hub: FakeHub) -> MakeRecipe:
    """The tiny recipe with the Hub's tokenizer; `entry` overrides what names it, None leaves that out."""

    def make(name: str = "hub.yaml", **entry: Any) -> Path:
        def edit(mapping: dict[str, Any]) -> None:
            named = {"model": hub.dataset, "revision": hub.branches["main"], **entry}
            mapping["data"]["tokenizer"] = {key: value for key, value in named.items() if value is not None}
            del mapping["run"]["locations"]["tokenizer"]
            mapping["run"] |= {"allow_hosts": ["127.0.0.1", "localhost"], "patience": dict(QUICK)}

        return tiny_recipe(edit, name)

    return make


def fetch_of(steps: list[Step]) -> Step:
    (found,) = [step for step in steps if step.stage.name == "fetch_tokenizer"]
    return found


def test_what_is_fetched_makes_the_shards_that_a_folder_with_its_files_makes(
    hub: FakeHub, hub_recipe: MakeRecipe, tiny_recipe: MakeRecipe, tiny: Path, tmp_path: Path
) -> None:
    context, steps = run(hub_recipe(), tmp_path / "hub")
    fetched = context.out / fetch_of(steps).folder
    assert files(fetched / "files") == files(tiny / "tokenizer")
    assert verify(fetched).counts.kept == len(files(tiny / "tokenizer"))
    asked = {request.path for request in hub.log if "/resolve/" in request.path}
    assert asked == {f"/acme/model/resolve/{hub.branches['main']}/{name}" for name in files(tiny / "tokenizer")}
    assert json_file.read(fetched / "run.json")["model"] == "acme/model"
    local, theirs = run(tiny_recipe(), tmp_path / "local")
    assert steps[-1].folder == theirs[-1].folder
    assert manifests(context.out, steps[-1:]) == manifests(local.out, theirs[-1:])
    assert main(["verify", str(context.out)]) == 0


def test_the_plan_before_and_after_and_then_without_the_network(
    hub: FakeHub, hub_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hub_recipe()
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "to fetch" in said and "09-pretokenise-????????" in said and "fetch_tokenizer" in said
    assert not [request for request in hub.log if "/resolve/" in request.path]
    context, _ = run(path)
    context.content.save()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "????" not in said and "to do" not in said
    assert main(["report", str(path)]) == 0 and main(["show", str(path), "signs/signs.jsonl#1"]) == 0


def test_faults_and_a_kill_leave_no_trace(hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = hub_recipe()
    clean, steps = run(path, tmp_path / "clean")
    hub.fault("api", Fault("status", 503))
    hub.fault("tokenizer.json", Fault("cut", 3000), Fault("wrong"))
    with pytest.raises(Killed):
        run(path, tmp_path / "faulty", DiesAfter(2))
    before = hub.sent("tokenizer.json")
    faulty, _ = run(path, tmp_path / "faulty")
    assert hub.sent("tokenizer.json") == before
    assert manifests(faulty.out, steps) == manifests(clean.out, steps)


def test_bytes_that_the_listing_does_not_promise_are_refused(
    hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path
) -> None:
    hub.fault("tokenizer.json", *[Fault("wrong")] * 3)
    with pytest.raises(StepError, match=r"fetch_tokenizer: .*tokenizer\.json: wrong_content"):
        run(hub_recipe(), tmp_path / "out")


def test_one_that_cannot_be_used_ends_the_run_as_soon_as_it_is_there(
    hub: FakeHub, hub_recipe: MakeRecipe, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = json.loads((tiny / "tokenizer" / "tokenizer_config.json").read_text(encoding="utf-8"))
    bare = {name: data for name, data in files(tiny / "tokenizer").items() if "template" not in name}
    named.pop("chat_template", None)
    hub.commit({**bare, "tokenizer_config.json": json.dumps(named).encode()})
    path = hub_recipe()
    with pytest.raises(RecipeError, match=r"data\.tokenizer: .*has no chat template"):
        run(path)
    done = sorted(manifest.parent.name for manifest in (tmp_path / "out").glob("*/manifest.json"))
    assert len(done) == 1 and done[0].startswith("01-fetch_tokenizer-")
    assert main(["plan", str(path)]) == 2
    error = capsys.readouterr().err
    assert "error: data.tokenizer: " in error and "has no chat template" in error and error.count("\n") == 1


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "a branch": (
        {"revision": "main"},
        2,
        "data.tokenizer: revision: got 'main', wanted a commit's 40 digits; https://",
    ),
    "no revision": ({"revision": None}, 2, "data.tokenizer.revision: missing; give a commit of acme/model, https://"),
    "no name": ({"model": "../x"}, 2, "data.tokenizer: model: got '../x', wanted owner/name"),
    "no such model": ({"model": "acme/none"}, 2, "data.tokenizer.model: no acme/none at"),
    "no such commit": ({"revision": "0" * 40}, 2, "data.tokenizer.revision: acme/model has no '0000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_one_line(case: str, hub_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    entry, code, message = WRONG[case]
    assert main(["plan", str(hub_recipe(**entry))]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_model_without_a_fast_tokenizer(
    hub: FakeHub, hub_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit({"tokenizer.model": b"x", "config.json": b"{}"})
    assert main(["plan", str(hub_recipe())]) == 2
    assert (
        "acme/model has no tokenizer.json, only config.json, tokenizer.model; name another" in capsys.readouterr().err
    )


def test_a_folder_goes_before_the_hub(
    hub: FakeHub, hub_recipe: MakeRecipe, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a copy of one's own does, on the command line; then the revision may be left out too."""
    for name, revision in (("a.yaml", hub.branches["main"]), ("b.yaml", None)):
        path = hub_recipe(name, revision=revision)
        assert main(["plan", str(path), "--set", f"run.locations.tokenizer={tiny / 'tokenizer'}"]) == 0
        said = capsys.readouterr()
        assert "note: run.locations.tokenizer is used, and not data.tokenizer" in said.err
        assert "fetch_tokenizer" not in said.out
    assert not hub.log


def test_a_changed_fetched_file_is_found(hub: FakeHub, hub_recipe: MakeRecipe, tmp_path: Path) -> None:
    context, steps = run(hub_recipe(), tmp_path / "out")
    folder = context.out / fetch_of(steps).folder
    path = folder / "files" / "tokenizer_config.json"
    path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
    with pytest.raises(ManifestError, match=r"tokenizer_config\.json"):
        verify(folder)


def test_another_commit_with_the_same_files_makes_nothing_anew(hub: FakeHub, hub_recipe: MakeRecipe) -> None:
    _, steps = run(hub_recipe())
    hub.commit({**hub.commits[hub.branches["main"]], "README.md": b"# Another card\n"})
    path = hub_recipe("moved.yaml")
    _, again = opened(path)
    assert fetch_of(again).folder != fetch_of(steps).folder and not again[-1].identity
    run(path)
    assert opened(path)[1][-1].folder == steps[-1].folder
