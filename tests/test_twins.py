"""The three systems in small, each from raw data to a trained answer: what a connector wired wrongly would not reach.

Who sees no picture and gives the commonest answer to each question has 26 % of the held-out ones right. The floors are
at least twice that, and below what one run measured (the configs' headers), since other machines round differently.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.quickstart.__main__ import places, prepare

ROOT = Path(__file__).parent.parent
TWINS = ROOT / "configs" / "train" / "tiny"
FLOORS = {
    "llm-jp-4-vl": {"llm-jp-4-vl": 0.9},
    "vqwen3": {"vqwen3-parts": 0.9, "vqwen3-stage1": 0.9, "vqwen3-stage2": 0.9},
    "jina-vlm": {"jina-vlm": 0.65},
}


def run(*words: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, check=True)


def moved(text: str, out: Path) -> str:
    return text.replace("out/tiny/", f"{out}/")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's raw corpus and tokenizer, and the twins' configs with their places in this folder."""
    out = tmp_path_factory.mktemp("twins")
    prepare(out)
    for config in TWINS.glob("*.yaml"):
        (out / config.name).write_text(moved(config.read_text(encoding="utf-8"), out), encoding="utf-8")
    return out


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("system", FLOORS)
def test_a_twin_learns_to_answer_from_pictures(system: str, out: Path) -> None:
    sets = [word for name, place in places(out).items() for word in ("--set", f"run.locations.{name}={place}")]
    run("pipeline", "run", ROOT / "configs" / "recipes" / "tiny" / f"{system}.yaml", "--out", out / system, *sets)
    for name, floor in FLOORS[system].items():
        run("train", "fit", out / f"{name}.yaml")
        run(
            "train",
            "evaluate",
            out / f"{name}.yaml",
            "--benchmarks",
            out / system,
            "--only",
            "held_out",
            "--out",
            out / name,
        )
        summary = json.loads((out / name / "held_out" / "summary.json").read_text(encoding="utf-8"))
        assert summary["n"] == 300 and summary["score"] >= floor, summary


def test_each_twin_is_tested_and_its_recipe_is_there() -> None:
    assert {name for stages in FLOORS.values() for name in stages} == {path.stem for path in TWINS.glob("*.yaml")}
    assert set(FLOORS) == {path.stem for path in (ROOT / "configs" / "recipes" / "tiny").glob("*.yaml")}
