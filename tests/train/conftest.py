"""Fixtures of the trainer's tests: a tiny shard folder, and configs for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_shards import CONFIG, merged, talks, write_shards

from train import config, trainer


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 samples in three shards."""
    return write_shards(tmp_path_factory.mktemp("shards"), talks(60))


@pytest.fixture(scope="session")
def learnt(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model that has learnt the colours; its config lies beside it."""
    folder = tmp_path_factory.mktemp("learnt")
    changes = {"data.epochs": 12, "data.max_tokens_per_pack": 400, "run.checkpoint_every": 1000}
    told = merged(CONFIG, **{"data.shards": str(shards), "run.out": str(folder / "run"), **changes})
    (folder / "config.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    summary = trainer.fit(config.load(folder / "config.yaml"))
    assert summary.last_loss < 0.2 * summary.first_loss
    return folder / "run"


@pytest.fixture
def write_config(tmp_path: Path, shards: Path) -> Callable[..., Path]:
    """Write a config for the shards that differs from CONFIG in some dotted keys; returns its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "config.yaml"
        defaults = {"data.shards": str(shards), "run.out": str(tmp_path / "run")}
        path.write_text(yaml.safe_dump(merged(CONFIG, **{**defaults, **changes})), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for packs."""
    with ThreadPoolExecutor(2) as threads:
        yield threads
