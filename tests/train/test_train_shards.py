"""Shards are read back exactly as they were written, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_shards import SCHEME, TOKENS, png, row, talks

from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from stages.chat import ChatFormat
from train.data.shards import Shards


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(shards, tmp_path / "07-pretokenise-abcd1234"))


def test_every_sample_is_read_back_as_written(shards):
    opened = Shards(shards)
    chat = ChatFormat.load(opened.tokenizer_folder, TOKENS)
    for number, talk in enumerate(talks(len(opened))):
        wanted, got = row(number, talk, chat), opened.sample(number)
        assert got.sample_id == wanted["sample_id"]
        assert got.input_ids.tolist() == wanted["input_ids"]
        assert [tuple(span) for span in got.target_spans.tolist()] == wanted["target_spans"]
        assert got.images == tuple(png(*picture) for picture in talk.pictures)
        spans = [(tile["rows"], tile["cols"], tile["start"], tile["num_tokens"]) for tile in wanted["tiles"]]
        assert [(s.grid.rows, s.grid.cols, s.start, s.num_tokens) for s in got.image_spans] == spans


def test_lengths_and_facts_are_those_of_the_files(shards):
    opened = Shards(shards)
    samples = [opened.sample(number) for number in range(len(opened))]
    assert opened.num_tokens.tolist() == [len(sample.input_ids) for sample in samples]
    assert opened.num_tiles.tolist() == [sum(s.grid.num_tiles for s in sample.image_spans) for sample in samples]
    assert opened.facts.scheme == SCHEME
    assert np.concatenate([sample.input_ids for sample in samples]).max() < opened.facts.vocab_size


def test_an_output_folder_with_one_shard_folder_stands_for_it(copy):
    assert Shards(copy.parent).folder == copy


def test_an_output_folder_with_two_shard_folders_is_ambiguous(copy):
    shutil.copytree(copy, copy.parent / "07-pretokenise-ffff0000")
    with pytest.raises(RecipeError, match=r"2 shard folders \(07-pretokenise-abcd1234, 07-pretokenise-ffff0000\)"):
        Shards(copy.parent)


def test_a_folder_without_shards_says_what_to_run(tmp_path):
    with pytest.raises(RecipeError, match="holds no finished shards; run `python -m pipeline run` first"):
        Shards(tmp_path)


@pytest.mark.parametrize("name", ["shard-00001.arrow", "index.parquet", "tokenizer/tokenizer.json"])
def test_a_cut_file_is_refused_by_name(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ManifestError, match=rf"{name}: .* bytes, the manifest promises"):
        Shards(copy)


def test_the_manifest_of_another_stage_is_refused(copy):
    path = copy / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stage": "ingest", "facts": {}}))
    with pytest.raises(ManifestError, match="ingest manifest has no fact 'tiles'"):
        Shards(copy)
