"""Whether the folder of first weights is of the model that a config describes, in what no shape shows.

A config.json is compared where it speaks of the same things: heads, bases, norms, activations. Of a checkpoint of our
own the model's section has to be the config's, but for the seed, and its tokenizer that of the shards; where a part is
taken from it, that part's section, of the decoder its adapters too, and of a tower no tokenizer. The chat template may
be another: two stages of a system may be laid out in two ways, and the ids mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas import strict
from schemas.manifest import hash_file
from train import checkpoint
from train.checkpoint import Files
from train.config import ModelConfig
from train.data.shards import Facts
from train.models import jina_config
from train.models.lazy import WeightsError
from train.models.vision_language import VisionLanguage

_TEMPLATE = "chat_template.jinja"
_TOWER = ("hidden_size", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps", "patch_size")
_DECODER = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("rms_norm_eps", "hidden_act", "attention_bias", "mlp_bias", "use_sliding_window", "num_experts_per_tok"),
    *("num_experts", "norm_topk_prob", "decoder_sparse_step", "moe_intermediate_size"),
)


def check(folder: Path, model: ModelConfig, made: VisionLanguage, key: str, facts: Facts, tokenizer: Files) -> None:
    """Raise WeightsError or CheckpointError with the first thing that differs."""
    if is_own(folder):
        _check_own(folder, model, key, facts, tokenizer)
        return
    found = read(folder)
    if key != "model.language.from":
        tower = found.get("vision_config", found if key == "model.vision.from" else {})
        if depth := tower.get("num_hidden_layers"):
            tower = {**tower, "num_hidden_layers": depth + undrawn_layers(folder)}
        ours: Any = made.vision.config
        wanted = {name: getattr(ours, name) for name in _TOWER} | {"num_hidden_layers": model.vision.num_layers}
        _compare(folder, tower, wanted, "vision")
    if key != "model.vision.from":
        decoder = _decoder(found) if key == "model.from" else _decoder(found) or found
        _compare_decoder(folder, decoder, model, made)


def read(folder: Path) -> dict[str, Any]:
    """A folder's config.json, jina-vlm's with the keys of others; empty where there is none. Raises WeightsError."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: can't be read ({' '.join(str(error).split())}); fetch it again") from None
    found = found if isinstance(found, dict) else {}
    return jina_config.flat(found, path) if jina_config.is_nested(found) else found


def tied(folder: Path) -> bool:
    """Whether a folder says that its embedding is its head."""
    found = read(folder)
    return any(bool(section.get("tie_word_embeddings")) for section in (found, _decoder(found)))


def undrawn_layers(folder: Path) -> int:
    """How many layers of its tower a folder of ours never had, for nothing reads them and none were given."""
    found = read(folder).get("undrawn_layers", 0)
    return found if isinstance(found, int) else 0


def is_own(folder: Path) -> bool:
    """Whether a folder is a checkpoint of a run."""
    return (folder / checkpoint.RECORD).is_file()


def _decoder(found: dict[str, Any]) -> dict[str, Any]:
    section = found.get("text_config", found.get("llm_config", {}))
    return section if isinstance(section, dict) else {}


def _compare_decoder(folder: Path, theirs: dict[str, Any], model: ModelConfig, made: VisionLanguage) -> None:
    ours: Any = made.language.config
    wanted = {name: getattr(ours, name) for name in _DECODER if hasattr(ours, name)}
    if model.language.num_experts is None:
        wanted["intermediate_size"] = model.language.intermediate_size
    _compare(folder, theirs, wanted, "language")
    rope = {**theirs, **(theirs.get("rope_scaling") or {}), **(theirs.get("rope_parameters") or {})}
    _compare(folder, rope, {"rope_theta": model.language.rope_theta}, "language")
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise WeightsError(f"{folder}/config.json: its rotation is of type {kind}; only the default one is known")


def _compare(folder: Path, theirs: dict[str, Any], ours: dict[str, Any], part: str) -> None:
    for name, wanted in ours.items():
        found = theirs.get(name)
        if found is not None and found != wanted:
            raise WeightsError(f"{folder}/config.json: its {name} is {found}, the config's {part} has {wanted}")


def _check_own(folder: Path, model: ModelConfig, key: str, facts: Facts, tokenizer: Files) -> None:
    record = checkpoint.read(folder)
    checkpoint.prove(folder, record)
    sections = record.identity["model"], checkpoint.described(model)
    # Adapters may be new, beside weights that had none
    free = {"init_seed"} | ({"lora"} if sections[0].get("lora") is None else set())
    part = key.removeprefix("model.").removesuffix("from").removesuffix(".")
    kept = {part} if part else sections[0].keys() | sections[1].keys()
    if part == "language":
        kept = {part, "lora"}  # its adapters come with it
    found, wanted = ({"model": {k: v for k, v in section.items() if k in kept - free}} for section in sections)
    cure = f"say it as it was made, or have {key} name another folder"
    checkpoint.refuse_other(folder, found, wanted, cure)
    theirs, ours = strict.build(Facts, record.facts, "facts").fingerprints.tokenizer, facts.fingerprints.tokenizer
    words = {name: hash_file(tokenizer[name]) for name in _only_words(tokenizer)}
    if part != "vision" and theirs != ours and _words(record) != words:
        raise WeightsError(
            f"{folder}: it learnt with the tokenizer {theirs[:8]}, the shards are of {ours[:8]}; write them with its"
        )


def _words(record: checkpoint.Record) -> dict[str, str]:
    """What gives ids their meaning: the files of a checkpoint's tokenizer but for its template, with their hashes."""
    place = f"{checkpoint.TOKENIZER}/"
    files = {name.removeprefix(place): sha256 for name, sha256 in record.files.items() if name.startswith(place)}
    return {name: files[name] for name in _only_words(files)}


def _only_words(files: Iterable[str]) -> list[str]:
    return [name for name in files if name != _TEMPLATE]
