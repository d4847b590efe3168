"""Several processes write what one writes: losses, norms, extremes and validation, of all samples once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rank_trials
from ranks import launch
from test_train_journal import rows
from tiny_shards import talks, write_shards

from train import config, trainer


def close(one: Any, other: Any) -> bool:
    """Numbers within rounding; all else equal."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    return bool(one == pytest.approx(other, rel=1e-3) if isinstance(one, float) else one == other)


@pytest.mark.parametrize(
    ("count", "batch_size", "weigh"), [pytest.param(2, 8, "sqrt", marks=pytest.mark.slow), (3, 2, "samples")]
)
def test_what_is_written_is_what_one_process_writes(write_config, tmp_path, shards, count, batch_size, weigh):
    """With fewer samples than ranks, too: one of them then computes what is no sample."""
    texts = [text for talk in talks(60) for turn in talk.turns for text in turn]
    made = {"p": talks(7), "q": talks(14)[7:]}
    held = [write_shards(tmp_path / name, made[name], source=name, texts=texts) for name in made]
    keys = {"optimiser.matrices": "adamw", "optimiser.weigh": weigh, "data.batch_size": batch_size}
    keys |= {"data.epochs": None, "data.steps": 6, "run.validation": [*map(str, held)], "run.validate_every": 4}

    def path(name: str) -> Path:
        return write_config(**keys, **{"run.out": str(tmp_path / name)})

    trainer.fit(config.load(path("one")))
    ended = launch(count, tmp_path / "ranks", rank_trials.fit, path("many"))
    assert ended.codes == [0] * count, ended.err
    assert [line.startswith("validation after step 4:") for line in ended.out[0].splitlines()].count(True) == 1
    assert ended.out[1] == ""
    measured = ("seconds", "waited", "memory", "samples_per_second", "tokens_per_second", "packs")
    for name in ("log.jsonl", "validation.jsonl"):
        one, many = (rows(tmp_path / run / name, *measured) for run in ("one", "many"))
        assert len(one) == len(many) > 1
        for ours, theirs in zip(one, many, strict=True):
            assert close(ours, theirs), json.dumps([ours, theirs], indent=1)
    assert rows(tmp_path / "many" / "validation.jsonl")[0]["loss_by_source"].keys() == {"p", "q"}
    assert rows(tmp_path / "many" / "validation.jsonl")[0]["samples"] == 14
    extremes = [rows(tmp_path / run / "samples.jsonl") for run in ("one", "many")]
    ids = [[{seen["sample_id"] for seen in row["highest"] + row["lowest"]} for row in found] for found in extremes]
    assert ids[0] == ids[1] and "" not in set().union(*ids[0])
