"""First weights from folders of safetensors: a tower, a decoder, or a whole checkpoint, published or our own.

`model.vision.from`, `model.language.from` and `model.from` name the folders, or commits on the Hub (hub.py). Each may
be the output of a run, whose newest checkpoint is meant then (a second stage begins so, with its own schedule and a
new optimiser), or a checkpoint of one; `vision.from` and `language.from` take that part alone. What none of them gives
is as `init_seed` draws it.

Every load is strict: each parameter of the part is given once, in its shape, as floats, and each weight of the folder
has a place. (`from_pretrained` of transformers draws anew what it doesn't find, without an error.) Where the folder has
a config.json, it must not contradict ours in what no shape shows, such as the base of the rotation.

What may be there without a place, and is left out:

  text_model.*, *_projection.*, logit_*   the other tower of CLIP or SigLIP, and what compares the two
  *.position_ids, *.rotary_emb.inv_freq   computed, not learnt; old files carry them

What is kept in `unread`, for checkpoints, and not run: layers of the tower after the last that is read, its last norm
if only blocks are read, and the head with which SigLIP sums up an image. Those layers must be there: a tower of other
depth would be read at the wrong one. Where we wrote a model they need not be: weights drawn by a seed have none, and
its config.json says so (`undrawn_layers`).

What may lack: adapters (lora.py), which are then as drawn, and the head, where the folder's embedding is its head too.
If ours has its own, it begins as a copy.

The embedding and the head may have more rows than the folder's (tokens were added): each new row is the mean of those
that are there. Fewer are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from schemas.identity import fingerprint
from schemas.manifest import hash_file
from train import checkpoint, run_folder
from train.checkpoint import Files
from train.config import ModelConfig
from train.data.shards import Facts
from train.models import experts, hub, lazy, lora, same_config
from train.models.families import FAMILIES
from train.models.lazy import Lazies, Lazy, Pairs, WeightsError
from train.models.vision_language import VisionLanguage

_LEFT_OUT = re.compile(
    r"(.*\.)?(text_model\..*|(visual|text)_projection\..*|logit_(scale|bias)|position_ids|rotary_emb\.inv_freq)"
)
_TOWER: Pairs = (
    ("vision_model.", "vision."),
    *((f"{name}.", f"vision.{name}.") for name in ("embeddings", "encoder", "pre_layrnorm", "post_layernorm", "head")),
)
_DECODER: Pairs = (("model.", "language.model."), ("lm_head.", "language.lm_head."))
OWN: Pairs = tuple((f"{part}.", f"{part}.") for part in ("vision", "projector", "language"))
EMBEDDING, HEAD = "language.model.embed_tokens.weight", "language.lm_head.weight"
_KINDS = ("weight", "bias")
_HEAD = ("attention.out_proj", "layernorm", "mlp.fc1", "mlp.fc2")
_SUMMARY = {
    *(f"vision.head.{name}" for name in ("probe", "attention.in_proj_weight", "attention.in_proj_bias")),
    *(f"vision.{name}.{kind}" for name in ("post_layernorm", *(f"head.{name}" for name in _HEAD)) for kind in _KINDS),
}


def load(made: VisionLanguage, model: ModelConfig, facts: Facts, tokenizer: Files | None = None) -> None:
    """Fill in what the config's folders hold; `tokenizer` are the shards' files of it. Raises WeightsError."""
    for key, folder, pairs, part in _folders(model):
        try:
            same_config.check(folder, model, made, key, facts, tokenizer or {})
            _load(made, model, folder, pairs, part)
        except WeightsError as error:
            raise WeightsError(f"{key}: {error}") from None


def identity(model: ModelConfig) -> dict[str, str]:
    """What makes first weights others: key of the folder -> hash of its files. They are read whole."""
    return {
        key: fingerprint([(path.name, hash_file(path)) for path in lazy.files(folder)])
        for key, folder, _, _ in _folders(model)
    }


def _folders(model: ModelConfig) -> Iterator[tuple[str, Path, Pairs, str]]:
    """Key, folder, names and the part of the model that it has to fill."""
    if model.from_ is not None:
        yield "model.from", _newest("model.from", model.from_), (*FAMILIES[model.family].names, *OWN), ""
    for part, config, pairs in (("vision", model.vision, _TOWER), ("language", model.language, _DECODER)):
        if config.from_ is not None:
            folder = _newest(key := f"model.{part}.from", config.from_)
            yield key, folder, OWN if same_config.is_own(folder) else pairs, f"{part}."


def _newest(key: str, place: str) -> Path:
    """The folder, or of a run's output the newest checkpoint in it. Raises WeightsError."""
    try:
        folder = hub.local(place)
    except WeightsError as error:
        raise WeightsError(f"{key}: {error}") from None
    if not folder.is_dir():
        raise WeightsError(
            f"{key}: {folder} is no folder; give one with weights, that of a run, or owner/name@COMMIT of the Hub"
        )
    if any((folder / name).is_file() for name in (lazy.WEIGHTS, lazy.INDEX, checkpoint.RECORD)):
        return folder
    if found := run_folder.newest(folder):
        return found[0]
    raise WeightsError(
        f"{key}: {folder} has no checkpoint of a run, no {lazy.WEIGHTS} and no {lazy.INDEX}; let the first stage "
        "finish, or give a folder with weights"
    )


def _load(made: VisionLanguage, model: ModelConfig, folder: Path, pairs: Pairs, part: str) -> None:
    on_disk = lazy.opened(folder)
    known = {name: weight for name, weight in on_disk.items() if not _LEFT_OUT.fullmatch(name)}
    if part and same_config.is_own(folder):
        known = {name: weight for name, weight in known.items() if name.startswith(part)}
    elif part == "":
        known = FAMILIES[model.family].fold(known, model)
    found, unexpected = lazy.renamed(known, pairs)
    found = experts.stacked(found)
    wanted = {name: tensor for name, tensor in made.state_dict().items() if name.startswith(part)}
    # The file of a tied model has the table once, under either name
    if model.language.tie_embeddings and EMBEDDING not in found and HEAD in found:
        found[EMBEDDING] = found.pop(HEAD)
    if HEAD in wanted and HEAD not in found and EMBEDDING in found:
        if not model.language.tie_embeddings and not same_config.tied(folder):
            raise WeightsError(f"{folder}: has no head, and its config.json doesn't say that the embedding is it")
        found[HEAD] = _first_rows(found[EMBEDDING], len(wanted[HEAD]))
    layers = _unread_layers(made, model)
    unread = {name: found.pop(name) for name in [*found] if name not in wanted and name in layers | _SUMMARY}
    unexpected += [weight.origin for name, weight in found.items() if name not in wanted]
    _refuse(folder, "has", sorted(unexpected), "which nothing in the model takes; is it of another family or depth?")
    missing = [name for name in wanted if name not in found and not lora.is_adapter(name)]
    if not (same_config.is_own(folder) or same_config.undrawn_layers(folder)):
        missing += sorted(layers - unread.keys()) if part in ("", "vision.") else []
    _refuse(folder, "lacks", missing, "which the model has; is it of another family or size?")
    if model.language.tie_embeddings and HEAD in found:
        _refuse_other_head(folder, found)
    for name, parameter in wanted.items():
        if name in found:
            _place(folder, name, parameter, found[name])
    made.unread.update({name: weight.read() for name, weight in unread.items()})


def _unread_layers(made: VisionLanguage, model: ModelConfig) -> set[str]:
    """The names of the weights of layers after the last that is read."""
    first = "vision.encoder.layers.0."
    names = [name.removeprefix(first) for name in made.state_dict() if name.startswith(first)]
    layers = range(len(made.vision.encoder.layers), model.vision.num_layers)  # type: ignore[union-attr,arg-type]
    return {f"vision.encoder.layers.{layer}.{name}" for layer in layers for name in names}


def _refuse(folder: Path, verb: str, names: list[str], why: str) -> None:
    if names:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        raise WeightsError(f"{folder}: {verb} {names[0]}{more}, {why}")


def _refuse_other_head(folder: Path, found: Lazies) -> None:
    head, table = found[HEAD], found[EMBEDDING]
    if head.origin != table.origin and not torch.equal(head.read(), table.read()):
        raise WeightsError(f"{folder}: its head is not its embedding; set model.language.tie_embeddings to false")


def _first_rows(table: Lazy, rows: int) -> Lazy:
    """The head that a tied table is."""
    kept = min(rows, table.shape[0])
    return lazy.changed(table, (kept, *table.shape[1:]), lambda tensor: tensor[:kept])


def _place(folder: Path, name: str, parameter: Tensor, weight: Lazy) -> None:
    """Copy a weight into its parameter, in the parameter's dtype; new rows of tables are the mean of the others."""
    if not weight.dtype.is_floating_point:
        raise WeightsError(f"{folder}: {weight.origin} holds no floats; give weights that are not quantised")
    grows = name in (EMBEDDING, HEAD) and weight.shape[1:] == parameter.shape[1:]
    if weight.shape != tuple(parameter.shape) and not (grows and weight.shape[0] < parameter.shape[0]):
        hint = "; set model.language.vocab_size to its rows" if grows else ""
        got = f"{list(weight.shape)}, wanted {list(parameter.shape)}"
        raise WeightsError(f"{folder}: {weight.origin} is {got} ({name}){hint}")
    tensor = weight.read()
    with torch.no_grad():
        parameter[: len(tensor)].copy_(tensor) if parameter.ndim else parameter.copy_(tensor)
        if parameter.ndim and len(tensor) < len(parameter):
            parameter[len(tensor) :] = tensor.double().mean(0).to(parameter.dtype)
