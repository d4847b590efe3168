"""A recipe's chat from end to end: pieces, label changes and bound ids come into the shards, and all else agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.commands import verify
from schemas.manifest import ManifestError, describe
from tests.pipeline.conftest import run, write_yaml
from tests.pipeline.tiny_corpus import END, PAD, recipe, tokenizer
from train.data.collate import collate
from train.data.shards import Shards

FREE = 259  # the first id that the tiny corpus's tokenizer doesn't have


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe of conversations, most of them too long, and its shard folder."""
    top = tmp_path_factory.mktemp("chats")
    (top / "talks").mkdir()
    rounds = [[f"What is the number {n}?", f"The number is {n}, as it was said."] for n in range(12)]
    talks = [[turn for pair in rounds[: 1 + n] for turn in pair] for n in range(10)]
    lines = [
        json.dumps({"messages": [{"role": ("user", "assistant")[i % 2], "content": one} for i, one in enumerate(said)]})
        for said in talks
    ]
    (top / "talks" / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer(top / "tokenizer")
    mapping = recipe(top, top / "out")
    mapping["data"] = {
        "sources": {"talks": mapping["data"]["sources"]["talks"]},
        "ingest": {"rows_per_part": 4},
        "quality": "off",
        "pretokenise": {
            **mapping["data"]["pretokenise"],
            "tokens": {"image": "<image>", "ids": {"<image>": FREE + 5}},
            "chat": {"labels": {"ends": {END: PAD}}},
            "too_long": "split",
        },
    }
    mapping["run"]["locations"] = {name: str(top / name) for name in ("talks", "tokenizer")}
    path = write_yaml(top / "recipe.yaml", mapping)
    run(path, top / "out")
    return path, next((top / "out").glob("*pretokenise*"))


def facts(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def test_samples_are_counted_once_and_rows_as_many_as_there_are(made: tuple[Path, Path]) -> None:
    manifest, opened = facts(made[1]), Shards(made[1])
    ids = [opened.sample(n).sample_id for n in range(len(opened))]
    wholes = {one.partition("~")[0] for one in ids}
    assert (manifest["counts"]["rows_in"], manifest["counts"]["kept"], len(wholes)) == (10, 10, 10)
    assert manifest["facts"]["rows"] == len(opened) == len(set(ids)) == 18
    assert verify.check(made[1]).counts.kept == 10


def test_the_trainer_labels_as_the_recipe_says_with_the_ids_that_were_bound(made: tuple[Path, Path]) -> None:
    opened = Shards(made[1])
    assert opened.facts.image_token_id == FREE + 5 and opened.facts.tokens.ids == {"<image>": FREE + 5}
    assert facts(made[1])["facts"]["tokens"]["ids"] == {"<image>": FREE + 5}
    sample = opened.sample(0)
    pack = collate([sample], opened.facts)
    ((start, end),) = sample.target_spans
    ((place, label),) = sample.label_changes
    assert place == end - 1 and pack.labels[0, place] == label != sample.input_ids[place]
    assert np.array_equal(pack.labels[0, start:place], sample.input_ids[start:place])


def test_show_prints_every_piece(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(made[0]), "talks/a.jsonl#9"]) == 0
    said = capsys.readouterr().out
    pieces = said.count("piece ")
    assert pieces > 2 and f"piece          talks/a.jsonl#9~{pieces}of{pieces}" in said
    assert all(f"The number is {n}, as" in said.replace("\n", " ") for n in range(10))


def test_a_verdict_that_says_other_rows_is_found(made: tuple[Path, Path], tmp_path: Path) -> None:

    folder = Path(shutil.copytree(made[1], tmp_path / made[1].name))
    path = folder / "verdict-00001.parquet"
    table = pq.read_table(path)
    rows = [n + 1 for n in table["rows"].to_pylist()]
    pq.write_table(table.set_column(table.schema.get_field_index("rows"), "rows", pa.array(rows, pa.int32())), path)
    for name in ("manifest.json", "part-00001.json"):
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        for entry in told["files"]:
            if entry["name"] == path.name:
                entry.update(vars(describe(folder, path.name, entry["rows"])))
        (folder / name).write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"rows are \d+, its files give \d+"):
        verify.check(folder)
