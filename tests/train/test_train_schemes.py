"""Shards of every tile scheme are read and cut; the model takes those whose tiles are equally many tokens each."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny_shards import CONFIG, png

from schemas import strict
from schemas.fingerprints import Fingerprints
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Pad
from stages.tiles.scheme import Scheme, count
from train.__main__ import main
from train.config import ModelConfig
from train.data.collate import CollateError, collate
from train.data.shards import Facts, ImageSpan, Sample
from train.models import build

KINDS = {"patch": 3, "row": 4, "start": 5, "end": 6}
IDS = {"<image>": 3, "<row>": 4, "<img>": 5, "</img>": 6}
TOKENS = ImageTokens("<image>", "<img>", "</img>", "<row>", IDS)


def facts(scheme: Scheme) -> Facts:
    return Facts(scheme, TOKENS, DEFAULTS, KINDS["patch"], 10, Fingerprints("", ""))  # type: ignore[arg-type]


def picture(scheme: Scheme, width: int, height: int) -> Sample:
    """A sample of one image and a word."""
    grid = scheme.grid(width, height)
    ids = [KINDS[kind] for kind, number in scheme.runs(grid, width, height) for _ in range(number)]
    span = ImageSpan(grid, width, height, 0, len(ids))
    target, unchanged = np.array([[len(ids) + 1, len(ids) + 2]]), np.empty((0, 2), np.int64)
    return Sample("s", np.array([*ids, 1, 2]), target, unchanged, (png("red", (width, height)),), (span,))


def test_shards_that_the_model_cannot_read_are_refused_in_one_line(shards, tmp_path, write_config, capsys):
    path = shutil.copytree(shards, tmp_path / "shards") / "manifest.json"
    found = json.loads(path.read_text())
    found["facts"]["tiles"] = asdict(Jina())
    path.write_text(json.dumps(found))
    assert main(["fit", str(write_config(**{"data.shards": str(path.parent)}))]) == 2
    error = capsys.readouterr().err
    told = "error: data.shards: cut by the tile scheme jina, and model.family internvl_siglip reads internvl, llmjp4vl"
    assert error.startswith(told) and error.count("\n") == 1


def test_a_pack_holds_the_tiles_and_the_image_tokens_of_a_scheme_with_rows():
    scheme = Jina(tile=28, patch=2, margin=4)
    sample = picture(scheme, 40, 30)
    pack = collate([sample, sample], facts(scheme))
    (span,) = sample.image_spans
    assert pack.tiles.shape == (2 * span.grid.num_tiles, 28, 28, 3) and span.grid.num_tiles > 2
    assert len(pack.image_positions) == 2 * count(scheme.runs(span.grid, 40, 30), "patch")
    sample.input_ids[20] = KINDS["patch"] if sample.input_ids[20] != KINDS["patch"] else KINDS["row"]
    with pytest.raises(CollateError, match="its grid makes"):
        collate([sample], facts(scheme))


def test_image_tokens_are_the_ends_of_rows_too_where_these_have_none_of_their_own():
    scheme = Jina(tile=28, patch=2, margin=4)
    sample = picture(scheme, 40, 30)
    ids = np.where(sample.input_ids == KINDS["row"], KINDS["patch"], sample.input_ids)
    without = replace(facts(scheme), tokens=ImageTokens("<image>", "<img>", "</img>", ids=IDS))
    pack = collate([replace(sample, input_ids=ids)], without)
    (span,) = sample.image_spans
    assert len(pack.image_positions) == count(scheme.runs(span.grid, 40, 30), "patch", "row")


def test_tiles_of_llava_go_through_the_model():
    scheme = Llava15Pad(tile=16, patch=4)
    model = build.build(strict.build(ModelConfig, CONFIG["model"]), facts(scheme))
    pack = collate([picture(scheme, 40, 30), picture(scheme, 5, 9)], facts(scheme))
    assert pack.tiles.shape == (2, 16, 16, 3) and len(pack.image_positions) == 2 * scheme.tokens_per_tile
    assert torch.isfinite(model(pack)).all()
