"""A place -> a model that answers, with its chat format: everything that is needed, and nothing of the shards.

    opened("out/train.yaml")            the newest checkpoint of a training config, proven to be that config's
    opened("out/model")                 the newest checkpoint of a run
    opened("out/model/step-000120")     a checkpoint
    opened("exported")                  a folder that we wrote for other programs: tessera.json beside config.json
    opened("llava")                     an upstream folder of a family that we have (upstream_folder.py)
    opened("owner/name@main")           such a folder on the Hub (train/models/hub.py)

Adapters are merged into the weights. On a GPU it computes in bfloat16, on a CPU in float32, if nothing else is said.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from schemas import strict
from schemas.fingerprints import of_tokenizer
from schemas.manifest import hash_file
from stages.chat import ChatFormat
from train import checkpoint, config, run_folder
from train.checkpoint import CheckpointError
from train.config import ModelConfig
from train.data.shards import Facts
from train.inference import upstream_files, upstream_folder
from train.inference.errors import OpenError
from train.inference.identity import identity
from train.inference.tokenizer_files import chat_format
from train.models import build, hub, lora, pretrained
from train.models.vision_language import VisionLanguage

EXPORTED = "tessera.json"
_VERSION = 1


@dataclass(frozen=True)
class Opened:
    """`context`: the most tokens of a prompt and its answer; `stops`: the ids that end an answer."""

    model: VisionLanguage
    facts: Facts
    chat: ChatFormat
    config: ModelConfig
    folder: Path
    tokenizer: Path
    context: int
    stops: frozenset[int]

    @property
    def name(self) -> str:
        """What a table calls it: of a checkpoint the run's folder, too."""
        return self.identity["name"]

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """What it is, wherever it lies."""
        return identity(self.folder)


@dataclass(frozen=True)
class _Found:
    """What a folder says of the model in it; `lead`: what stands before its chat template."""

    config: ModelConfig
    facts: Facts
    tokenizer: Path
    context: int
    lead: str = ""


def opened(place: str | Path, device: str | None = None, dtype: torch.dtype | None = None) -> Opened:
    """Raises OpenError, and what reading a config, a checkpoint, weights or a tokenizer raises: one line each."""
    folder = located(place)
    own = (folder / checkpoint.RECORD).is_file()
    found = _checkpoint(folder) if own else _exported(folder) if (folder / EXPORTED).is_file() else _upstream(folder)
    chat = chat_format(found.tokenizer, found.facts.tokens, found.facts.chat, found.lead)
    made = build.build(found.config, found.facts).eval()
    if own:
        checkpoint.load(folder, made)
    else:
        pretrained.load(made, replace(found.config, from_=str(folder)), found.facts)
    lora.merge(made)
    stops = frozenset(chat.stop_ids) | frozenset(told_stops([folder, found.tokenizer]))
    placed(made, device, dtype)
    return Opened(
        made, found.facts, chat, replace(found.config, lora=None), folder, found.tokenizer, found.context, stops
    )


def located(place: str | Path, code: bool = False) -> Path:
    """The folder of the model at a place: a checkpoint's, or one with a config.json; `code`: with that of its own, if
    it is fetched. Raises OpenError."""
    path = hub.local(place, pinned=False, code=code).expanduser()
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _of_config(path)
    if not path.is_dir():
        raise OpenError(
            f"{place}: no such model; give a training config (.yaml), the folder of a run, a checkpoint or an exported "
            "model, or owner/name@COMMIT of the Hub"
        )
    if any((path / name).is_file() for name in (checkpoint.RECORD, EXPORTED, upstream_files.CONFIG)):
        return path
    if newest := run_folder.newest(path):
        return newest[0]
    raise OpenError(
        f"{path}: holds no model: no checkpoint of a run (step-...), no {EXPORTED}, no {upstream_files.CONFIG}; name "
        "a folder that has one"
    )


def is_own(folder: Path) -> bool:
    """Whether we wrote it."""
    return any((folder / name).is_file() for name in (checkpoint.RECORD, EXPORTED))


def _of_config(path: Path) -> Path:
    """The newest checkpoint of a config's run, proven to be of that config."""
    of = config.load(path)
    newest = run_folder.newest(Path(of.run.out))
    if newest is None:
        raise CheckpointError(f"{of.run.out}: no checkpoint; run `python -m train fit` with this config first")
    folder, record = newest
    # The shards may be gone by now, and so the first weights, and answering does not read them.
    theirs = record.identity
    data = theirs["data"]
    ours = checkpoint.identity(of, data["shards"], theirs.get("weights"), data.get("leave_out"))
    checkpoint.refuse_other(folder, theirs, ours)
    return folder


def _checkpoint(folder: Path) -> _Found:
    record = checkpoint.read(folder)
    checkpoint.prove(folder, record)
    facts = strict.build(Facts, record.facts, "facts")
    tokenizer = folder / checkpoint.TOKENIZER
    _check_tokenizer(tokenizer, facts)
    # No sample that it learnt from was longer
    longest = int(record.identity["data"]["max_tokens_per_pack"])
    return _Found(strict.build(ModelConfig, record.identity["model"], "model"), facts, tokenizer, longest)


def _check_tokenizer(folder: Path, facts: Facts) -> None:
    hashes = {path.name: hash_file(path) for path in folder.iterdir()}
    if (found := of_tokenizer(hashes)) != (wanted := facts.fingerprints.tokenizer):
        raise OpenError(
            f"{folder}: is another tokenizer, {found[:8]}; the model learnt with {wanted[:8]}; put back the files of "
            "the checkpoint"
        )


def _exported(folder: Path) -> _Found:
    path = folder / EXPORTED
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        version = told["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OpenError(f"{path}: can't be read ({' '.join(str(error).split())}); export the model again") from None
    if version != _VERSION:
        raise OpenError(f"{path}: version {version}, this program reads {_VERSION}; use the program that wrote it")
    model = strict.build(ModelConfig, told.get("model"), f"{path}: model")
    facts = strict.build(Facts, told.get("facts"), f"{path}: facts")
    return _Found(model, facts, folder, told.get("context") or upstream_folder.context(folder))


def _upstream(folder: Path) -> _Found:
    model, facts, lead = upstream_folder.derived(folder)
    return _Found(model, facts, folder, upstream_folder.context(folder), lead)


def told_stops(folders: Iterable[Path]) -> set[int]:
    """The ids that the models' own generation_config.json says end an answer."""
    found: set[int] = set()
    for path in (folder / "generation_config.json" for folder in folders):
        if path.is_file():
            ids: Any = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            found |= {ids} if isinstance(ids, int) else set(ids or ())
    return found


def placed(model: VisionLanguage, device: str | None, dtype: torch.dtype | None) -> None:
    """Bring a model where it computes, and its weights to what they are held in; buffers stay float32."""
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    held = dtype or (torch.bfloat16 if torch.device(where).type == "cuda" else torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(held)
    model.to(where)
