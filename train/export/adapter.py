"""The adapters of a checkpoint alone, in peft's layout, to be read beside the base model."""

from __future__ import annotations

import shutil
from pathlib import Path

from schemas import strict
from train import checkpoint
from train.config import ModelConfig
from train.data.shards import Facts
from train.export.failure import ExportError
from train.inference.opened import located
from train.models import build, published


def write(out: Path, place: str) -> None:
    """Write a new folder. Raises ExportError and ModelError."""
    folder = located(place)
    if out.exists():
        raise ExportError(f"{out}: is there already; remove it or name another folder with --out")
    if not (folder / checkpoint.RECORD).is_file():
        raise ExportError(f"{folder}: is no checkpoint, and elsewhere adapters are merged; name the run's folder")
    record = checkpoint.read(folder)
    checkpoint.prove(folder, record)
    config = strict.build(ModelConfig, record.identity["model"], "model")
    if config.lora is None:
        raise ExportError(f"{folder}: has no adapters (model.lora); leave out --adapter")
    made = build.build(config, strict.build(Facts, record.facts, "facts"))
    checkpoint.load(folder, made)
    draft = out.with_name(f".{out.name}.part")
    if draft.exists():
        shutil.rmtree(draft)  # of one that was killed
    published.save_adapter(draft, made, config)
    draft.rename(out)
