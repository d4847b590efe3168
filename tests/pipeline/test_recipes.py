"""The model recipes of configs/recipes/, each from data in the layouts of its real sources to shards, ids and labels.

What a shard must hold is written out here as the systems write it, and encoded by their tokenizers as they stand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from pipeline.cli import main
from pipeline.graph.build import build, foresee
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.recipe.load import load
from pipeline.run import runner
from pipeline.steps.table import STAGES
from schemas import yaml_file
from schemas.manifest import Counts
from stages.chat import ChatFormat
from tests.pipeline import recipe_sources as raw
from tests.pipeline.conftest import ROOT
from tests.pipeline.executors import Counts as Counting
from tests.pipeline.net.hub_server import FakeHub, serving

RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.yaml"))
TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "llm-jp": raw.llm_jp, "vqwen3": raw.qwen3, "jina": raw.qwen3_base
}  # fmt: skip
FINAL = "<|start|>assistant<|channel|>final<|message|>"
VL = "<|start|>system<|message|>You are LLM-jp-VL, a Multimodal LLM trained by LLM-jp.<|end|>"


@dataclass(frozen=True)
class Made:
    """A finished recipe."""

    context: Context
    steps: list[Step]

    @property
    def folder(self) -> Path:
        return self.context.out / self.steps[-1].folder

    @cached_property
    def tokenizer(self) -> Any:
        """As it lies beside the shards."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer")

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of the shards by source and number, such as "finevision 0": in the order of the samples."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.folder.glob("shard-*.arrow")):
            with pa.memory_map(str(path)) as file:
                for row in pa.ipc.open_file(file).read_all().to_pylist():
                    found[f"{row['source']} {sum(key.startswith(row['source'] + ' ') for key in found)}"] = row
        return found

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def targets(self, row: dict[str, Any]) -> list[str]:
        """What bears loss, span by span, with its labels in place of the tokens."""
        labels = list(row["input_ids"])
        for change in row["label_changes"]:
            labels[change["position"]] = change["id"]
        return [self.tokenizer.decode(labels[start:end]) for start, end in row["target_spans"]]

    def counts(self, name: str) -> Counts:
        (step,) = [step for step in self.steps if step.name == name]
        return self.context.finished(step).counts


def places(name: str, folder: Path, web: str = "http://127.0.0.1:1") -> list[str]:
    """The words of a command line that say where a recipe's data lie, which are made there."""
    sources = yaml_file.read(ROOT / "configs" / "recipes" / f"{name}.yaml")["data"]["sources"]
    for source in sources:
        raw.pixmo(folder / source, web) if source == "pixmo" else raw.SOURCES[source](folder / source)
    next(make for begin, make in TOKENIZERS.items() if name.startswith(begin))(folder / "tokenizer")
    return [f"run.locations.{place}={folder / place}" for place in (*sources, "tokenizer")]


def run(name: str, out: Path, sets: list[str]) -> Made:
    recipe = load(f"configs/recipes/{name}.yaml", str(out), None, ["run.allow_hosts=[127.0.0.1, localhost]", *sets])
    context = Context(recipe, Content(recipe))
    steps = build(context, STAGES)
    foresee(steps, context)
    runner.run(steps, context, Counting())
    return Made(context, steps)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Made]]:
    """Each recipe, run once on its own data."""
    known: dict[str, Made] = {}
    with serving(FakeHub()) as web:
        web.commit({"large.jpg": raw.picture(raw.LARGE)})

        def make(name: str) -> Made:
            if name not in known:
                top = tmp_path_factory.mktemp(name)
                known[name] = run(name, top / "out", places(name, top, web.endpoint))
            return known[name]

        yield make


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_how_it_is_run_and_what_comes_out(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = path.read_text(encoding="utf-8").split("\ndata:")[0]
    sources = yaml_file.read(path)["data"]["sources"]
    assert f"python -m pipeline run configs/recipes/{path.name} --out " in head
    assert set(re.findall(r"--set run\.locations\.(\w+)=", head)) - {"tokenizer"} == set(sources)
    assert "# Expected time: " in head and "# Expected numbers, as published: " in head
    assert main(["plan", f"configs/recipes/{path.name}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: run.locations.{next(iter(sources))}: missing; say where it lies, --set run.loc")
    assert all(name in error for name in sources) and error.count("\n") == 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_sound_shards_of_every_source(path: Path, made: Callable[[str], Made]) -> None:
    done = made(path.stem)
    sources = yaml_file.read(path)["data"]["sources"]
    assert {key.split()[0] for key in done.rows} == set(sources)
    assert main(["verify", str(done.context.out)]) == 0


@pytest.mark.parametrize("name", ["llm-jp-4-vl", "jina-vlm-align", "jina-vlm-instruct"])
def test_the_published_shares_that_a_recipe_tells_of_can_be_had(name: str, tmp_path: Path) -> None:
    said = (ROOT / "configs" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    (tmp_path / "copy.yaml").write_text(re.sub(r"^  # (?=(language|mixture): )", "  ", said, flags=re.M), "utf-8")
    sources = yaml_file.read(tmp_path / "copy.yaml")["data"]["sources"]
    data = load(str(tmp_path / "copy.yaml"), sets=[f"run.locations.{n}=/x" for n in (*sources, "tokenizer")]).data
    assert data.mixture is not None and data.mixture.shares.keys
    assert data.language is None or data.language.min_share == 0


def test_llm_jp_4_vl(made: Callable[[str], Made]) -> None:
    done = made("llm-jp-4-vl")
    large, turns, both, text, japanese = done.rows.values()
    image = f"<|image_start|>{'<|image_pad|>' * 3328}<|image_end|>"
    assert large["input_ids"] == done.ids(
        f"{VL}<|start|>user<|message|>{image}How many bars?<|end|>{FINAL}Three.<|return|>"
    )
    (tile,) = large["tiles"]
    first, ids = tile["start"], large["input_ids"]
    assert (tile["rows"], tile["cols"], tile["thumbnail"], tile["num_tokens"]) == (3, 4, True, 3330)
    assert ids[first : first + 3330] == [15, *[14] * 3328, 16] and (ids[0], ids[-1]) == (10, 2)
    assert done.targets(large) == ["<|channel|>final<|message|>Three.<|return|>"]
    # an answer that others follow: its end is an 11, which is labelled 2
    (change,) = turns["label_changes"]
    assert (turns["input_ids"][change["position"]], change["id"]) == (11, 2)
    assert done.targets(turns) == [f"<|channel|>final<|message|>{said}<|return|>" for said in ("A sign.", "Yes.")]
    assert turns["num_image_tokens"] == 258
    # two images share what the text leaves: at most 6 tiles each, and both fit
    assert [(t["rows"], t["cols"], t["num_tokens"]) for t in both["tiles"]] == [(2, 3, 1794)] * 2
    assert both["num_tokens"] <= 4096
    assert text["num_image_tokens"] == 0 and text["input_ids"] == done.ids(
        f"{VL}<|start|>user<|message|>2+2?<|end|>{FINAL}4<|return|>"
    )
    assert done.targets(japanese) == ["<|channel|>final<|message|>猫です。<|return|>"]
    assert done.counts("pretokenise").dropped == {"pretokenise.too_long": 1}


@pytest.mark.skipif("LLM_JP_TOKENIZER" not in os.environ, reason="LLM_JP_TOKENIZER names no folder of the real one")
def test_the_published_prompt_of_llm_jp_4_vl_has_297_tokens() -> None:
    folder = os.environ["LLM_JP_TOKENIZER"]
    sets = [f"run.locations.{name}={folder}" for name in ("finevision", "jagle", "tokenizer")]
    params = load("configs/recipes/llm-jp-4-vl.yaml", sets=sets).data.pretokenise
    chat = ChatFormat.load(folder, params.tokens, params.chat)
    content = [{"type": "image", "text": ""}, {"type": "text", "text": "この画像について説明してください。"}]
    ids = chat.encode_prompt([{"role": "user", "content": content}], [256]).input_ids
    assert len(ids) == 297 and ids.count(14) == 256 and chat.vocab_size == 196_608


def test_vqwen3_stage1(made: Callable[[str], Made]) -> None:
    done = made("vqwen3-stage1")
    for number, row in enumerate(done.rows.values()):
        caption = done.ids(f"caption {number}<|im_end|>")
        assert row["input_ids"] == [151_669] * 576 + caption and caption[-1] == 151_645
        assert row["target_spans"] == [[576, 576 + len(caption)]] and not row["label_changes"]
        assert [(t["rows"], t["cols"], t["start"], t["num_tokens"]) for t in row["tiles"]] == [(1, 1, 0, 576)]
    assert len(done.rows) == 2


def test_vqwen3_stage2(made: Callable[[str], Made]) -> None:
    done = made("vqwen3-stage2")
    image, rows = "<image>" * 576, list(done.rows.values())
    start, end = "<|im_start|>", "<|im_end|>\n"
    assert rows[0]["input_ids"] == done.ids(f"{start}user\n{image}\nWhat colour?{end}{start}assistant\nRed 0.{end}")
    assert done.targets(rows[0]) == [f"Red 0.{end}"]
    # an image stands where it stood
    asked = f"{start}user\nWhich?\n{image}{end}{start}assistant\nThis.{end}"
    assert rows[1]["input_ids"] == done.ids(f"{asked}{start}user\nIs it <think>?{end}{start}assistant\nNo.{end}")
    assert done.targets(rows[1]) == [f"This.{end}", f"No.{end}"]
    # the empty thought of Qwen3's own template is nowhere; the one that a user names is Qwen3's token, as it is there
    assert [sum(row["input_ids"].count(token) for row in rows) for token in (151_667, 151_668)] == [1, 0]
    assert [row["num_image_tokens"] for row in rows] == [576] * 6 + [0] * 3
    assert rows[6]["input_ids"] == done.ids(f"{start}user\nhi{end}{start}assistant\nhello{end}")
    assert [row["sample_id"][-5:] for row in rows[7:]] == ["~1of2", "~2of2"]
    assert done.counts("ingest mix665k").rejected == {"image_missing": 1}


def test_jina_vlm_align(made: Callable[[str], Made]) -> None:
    done = made("jina-vlm-align")
    start, end, patch, row = 151_936, 151_937, 151_938, 151_939
    wide = done.rows["pixmo 0"]
    ((first, length),) = [(tile["start"], tile["num_tokens"]) for tile in wide["tiles"]]
    whole, grid = ([patch] * 14 + [row]) * 14, ([patch] * 44 + [row]) * 34
    assert wide["input_ids"][first : first + length] == [start, *whole, end, start, *grid, end] and length == 1744
    before, after = done.ids("<|im_start|>user\n"), done.ids("Describe the image in detail.<|im_end|>\n")
    assert wide["input_ids"][:first] == before
    assert wide["input_ids"][first + length :] == after + done.ids(
        "<|im_start|>assistant\nA wide wall, seen 0 times.<|im_end|>\n"
    )
    assert done.targets(wide) == ["A wide wall, seen 0 times.<|im_end|>"]
    assert [done.rows[f"pangea {n}"]["num_image_tokens"] for n in range(5)] == [424, 1744, 424, 424, 0]
    assert done.rows["text 0"]["input_ids"] == done.ids("<|im_start|>assistant\nOnce upon a time.<|im_end|>\n")
    assert done.tokenizer.convert_tokens_to_ids("<|image|>") == 151_940
    assert done.counts("ingest pixmo").rejected == {"image_not_fetched": 1}
    assert done.counts("pretokenise").dropped == {"pretokenise.too_long": 1}


def test_jina_vlm_instruct(made: Callable[[str], Made]) -> None:
    done = made("jina-vlm-instruct")
    images = {key: row["num_image_tokens"] for key, row in done.rows.items()}
    assert [n for key, n in images.items() if key.startswith("onevision")] == [1744, 0]
    assert [n for key, n in images.items() if key.startswith("cauldron")] == [2 * 424]
    assert [n for key, n in images.items() if key.startswith("cambrian")] == [1744, 0, 0]
    assert [n for key, n in images.items() if key.startswith("aya")] == [0, 0, 0]
    # 512 x 512 is a grid of 2 x 2
    assert [n for key, n in images.items() if key.startswith("finevision")] == [1744, 814, 2 * 1744, 814, 0]
    assert done.targets(done.rows["finevision 1"]) == ["A sign.<|im_end|>", "Yes.<|im_end|>"]
    assert done.counts("pretokenise").kept == len(images)


def test_llm_jp_4_text(made: Callable[[str], Made]) -> None:
    done = made("llm-jp-4-text")
    system = (
        "<|start|>system<|message|>You are LLM-jp-4, a large language model trained by LLM-jp.\n"
        "Knowledge cutoff: 2025-12\nCurrent date: 2026-04-03\n\nReasoning: medium\n\n"
        "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
    )
    talk = done.rows["instructions 0"]
    assert talk["input_ids"] == done.ids(
        f"{system}<|start|>developer<|message|># Instructions\n\nYou answer in short.\n\n<|end|>"
        f"<|start|>user<|message|>What is the capital of Japan?<|end|>{FINAL}It is Tokyo.<|end|>"
        f"<|start|>user<|message|>And of France?<|end|>{FINAL}It is Paris.<|return|>"
    )
    channel = "<|channel|>final<|message|>"
    assert done.targets(talk) == [f"{channel}It is Tokyo.<|return|>", f"{channel}It is Paris.<|return|>"]
    assert done.targets(done.rows["aya 1"]) == [f"{channel}日本の首都は東京です。<|return|>"]
    assert done.counts("language").dropped == {"wrong_language": 1}
    assert done.tokenizer.convert_ids_to_tokens([14, 15, 16]) == ["<|image_pad|>", "<|image_start|>", "<|image_end|>"]


def test_a_pinned_tokenizer_is_fetched_from_the_hub_at_the_commit_of_the_recipe(
    tmp_path: Path, made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, sets = "vqwen3-stage1", places("vqwen3-stage1", tmp_path)
    revision = load(f"configs/recipes/{name}.yaml", sets=sets).data.tokenizer.revision  # type: ignore[union-attr]
    with serving(FakeHub(kind="models", dataset="Qwen/Qwen3-4B")) as hub:
        files = {path.name: path.read_bytes() for path in (tmp_path / "tokenizer").iterdir()}
        hub.commits[str(revision)] = {**files, "model.safetensors": b"weights"}
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        found = run(name, tmp_path / "out", sets[:-1])
    assert found.steps[0].name == "fetch_tokenizer"
    assert found.folder.name == made(name).folder.name


@pytest.mark.slow
def test_a_recipe_runs_by_its_command(tmp_path: Path, made: Callable[[str], Made]) -> None:
    """The real command under Ray."""
    sets = [word for place in places("llm-jp-4-vl", tmp_path) for word in ("--set", place)]
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        "configs/recipes/llm-jp-4-vl.yaml",
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run([*command, *sets], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "o").glob("*-pretokenise-*")
    assert (folder / "index.parquet").read_bytes() == (made("llm-jp-4-vl").folder / "index.parquet").read_bytes()
