"""Weights from a commit of the Hub: fetched by its own library from a loopback server, and no more than is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_shards import CONFIG
from transformers import SiglipVisionConfig, SiglipVisionModel

from tests.pipeline.net.hub_server import FakeHub, serving
from train.__main__ import main

ROOT = Path(__file__).parents[2]
BESIDE = {"modeling_acme.py": b"raise SystemExit", "pytorch_model.bin": b"a pickle", "README.md": b"# A card\n"}
ASK = """
import json, sys
from train.models.hub import local
from train.models.lazy import WeightsError
for place, given in json.loads(sys.argv[1]):
    try:
        print(json.dumps(sorted(path.name for path in local(place, **given).iterdir())))
    except WeightsError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    torch.manual_seed(11)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=16, patch_size=4)).save_pretrained(tmp_path / "tower")
    with serving(FakeHub(kind="models", dataset="acme/tower")) as hub:
        hub.commit({**{path.name: path.read_bytes() for path in (tmp_path / "tower").iterdir()}, **BESIDE})
        yield hub


def ran(hub: FakeHub, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the Hub's library reads its settings when it is imported."""
    given = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=kept | given, capture_output=True, text=True)


def asked(hub: FakeHub, home: Path, *asks: tuple[str, dict[str, bool]]) -> list[list[str] | str]:
    done = ran(hub, home, "-c", ASK, json.dumps(asks))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_commit_is_fetched_without_pickles_and_code_and_a_branch_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    sha = hub.branches["main"]
    weights, branch, moving, code, lacking = asked(
        hub,
        tmp_path / "home",
        (f"acme/tower@{sha}", {}),
        ("acme/tower@main", {}),
        ("acme/tower@main", {"pinned": False}),
        (f"acme/tower@{sha}", {"code": True}),
        (f"acme/nowhere@{sha}", {}),
    )
    assert weights == moving == ["config.json", "model.safetensors"]
    assert code == ["config.json", "model.safetensors", "modeling_acme.py"]
    assert (
        branch == "acme/tower@main: 'main' may move; give the 40 digits of a commit, which the repository's page lists"
    )
    assert isinstance(lacking, str) and lacking.startswith(f"acme/nowhere@{sha}: ") and "\n" not in lacking
    assert not [request for request in hub.log if request.path.endswith(".bin")]


def test_a_folder_of_such_a_name_is_the_folder(hub: FakeHub, tmp_path: Path) -> None:
    here = tmp_path / "acme" / "tower@main"
    here.mkdir(parents=True)
    (here / "a.txt").touch()
    ask = ASK.replace("import json", f"import os\nos.chdir({str(tmp_path)!r})\nimport json", 1)
    done = ran(hub, tmp_path / "home", "-c", f"import train.models.hub{ask}", json.dumps([("acme/tower@main", {})]))
    assert json.loads(done.stdout) == ["a.txt"] and not hub.log


@pytest.mark.slow
def test_a_run_begins_from_a_commit_as_from_the_same_folder(write_config, hub: FakeHub, tmp_path: Path) -> None:
    places = {"hub": f"acme/tower@{hub.branches['main']}", "folder": str(tmp_path / "tower")}
    configs = {
        name: write_config(
            **{
                "model.vision": {**CONFIG["model"]["vision"], "from": place},
                "data.epochs": 1,
                "run.out": str(tmp_path / name),
            }
        ).rename(tmp_path / f"{name}.yaml")
        for name, place in places.items()
    }
    done = ran(hub, tmp_path / "home", "-m", "train", "fit", str(configs["hub"]))
    assert done.returncode == 0, done.stderr
    assert main(["fit", str(configs["folder"])]) == 0
    fetched, there = (next((tmp_path / name).glob("step-*/model-r00000.safetensors")) for name in places)
    assert fetched.read_bytes() == there.read_bytes()


def test_a_server_that_is_not_there_is_one_line(write_config, hub: FakeHub, tmp_path: Path) -> None:
    place = f"acme/other@{'0' * 40}"
    config = write_config(**{"model.vision": {**CONFIG["model"]["vision"], "from": place}})
    done = ran(hub, tmp_path / "home", "-m", "train", "fit", str(config))
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"error: model.vision.from: {place}: ")
