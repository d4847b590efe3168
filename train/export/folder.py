"""An export: everything that goes into its folder, and the folder that is there only when it is whole.

    config.json  model*.safetensors  tokenizer.json  ...  what transformers reads
    modeling_*.py  processing.py     where transformers has no class for the model
    tessera.json                     what we read: the model's section, the facts of the shards, where it comes from
    README.md                        the card

Written to a hidden folder beside it, proven there and renamed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from train import checkpoint
from train.export import code, processor, weights
from train.export.failure import ExportError
from train.inference.opened import EXPORTED as RECORD
from train.inference.opened import Opened
from train.models import published
from train.models.families import FAMILIES

VERSION = 1
_CODE = {
    "internvl_siglip": ("llmjpvl", {"AutoConfig": "LLMjpVLConfig", "AutoModel": "LLMjpVLModel"}),
    "jina": ("jvlm", {"AutoConfig": "JinaVLMConfig", "AutoModel": "JinaVLM", "AutoModelForCausalLM": "JinaVLM"}),
}


@dataclass(frozen=True)
class How:
    """`shard_size`: bytes of a file of weights at most."""

    dtype: torch.dtype = torch.bfloat16
    shard_size: int = 5_000_000_000


def write(out: Path, of: Opened, origin: Mapping[str, Any], how: How, card: str, prove: Callable[[Path], None]) -> None:
    """Write a new folder. `origin`: where the model comes from; `prove` raises unless what lies in the hidden folder
    is right. Raises ExportError."""
    draft = out.with_name(f".{out.name}.part")
    if out.exists():
        raise ExportError(f"{out}: is there already; remove it or name another folder with --out")
    if draft.exists():
        shutil.rmtree(draft)  # of an export that was killed
    draft.mkdir(parents=True)
    try:
        _fill(draft, of, origin, how)
        (draft / "README.md").write_text(card, encoding="utf-8")
        prove(draft)
        checkpoint.flush(*sorted(path for path in draft.rglob("*") if path.is_file()), draft)
        draft.rename(out)
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def _fill(draft: Path, of: Opened, origin: Mapping[str, Any], how: How) -> None:
    family = of.config.family
    files = weights.save(draft, published.names(of.model, of.config), how.dtype, how.shard_size)
    told = _for_others(FAMILIES[family].describe(of.model, of.config, of.facts), of.context)
    told["dtype"] = str(how.dtype).removeprefix("torch.")
    if family in _CODE:
        name, classes = _CODE[family]
        told["auto_map"] = {auto: f"modeling_{name}.{found}" for auto, found in classes.items()}
        (draft / f"modeling_{name}.py").write_text(code.modelling(name), encoding="utf-8")
    _write(draft / "config.json", told)
    for file in files:  # safetensors lets nobody else read what it writes
        shutil.copymode(draft / "config.json", draft / file)
    processor.save(draft, of.chat, of.facts, family, sorted(of.stops))
    _write(draft / RECORD, record(of, origin))


def _for_others(told: dict[str, Any], context: int) -> dict[str, Any]:
    """With the model's own context, for the default of a class would cut what others generate, and with the rotation's
    base where readers before transformers 5 look for it: they would take another in silence."""
    for section in [told[key] for key in ("text_config", "llm_config") if key in told]:
        section["max_position_embeddings"] = context
        section["rope_theta"] = section["rope_parameters"]["rope_theta"]
    return told


def record(of: Opened, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What we read of an export. Adapters are merged, and the template says the date of the recipe itself."""
    facts = replace(of.facts, chat=replace(of.facts.chat, date=None))
    return {
        "version": VERSION,
        "model": checkpoint.described(of.config),
        "facts": json.loads(json.dumps(asdict(facts))),
        "context": of.context,
        **origin,
    }


def _write(path: Path, told: dict[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
