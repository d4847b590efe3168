"""What an upstream folder says, file by file: its config.json, the image processor's settings, the tokenizer's ids.

Here is what all kinds of folders have in common; which is which is said in upstream_folder.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING

from schemas import fingerprints
from schemas.manifest import hash_file
from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from train.config import ModelConfig
from train.data.shards import Facts
from train.inference.errors import OpenError
from train.inference.tokenizer_files import files

CONFIG = "config.json"


class Derived(NamedTuple):
    """`lead`: what the folder's processor puts before every prompt, as the beginning of its chat template."""

    model: ModelConfig
    facts: Facts
    lead: str = ""


def read(folder: Path) -> dict[str, Any]:
    """config.json. Raises OpenError."""
    return told(folder / CONFIG)


def processor(folder: Path) -> dict[str, Any]:
    """The settings of the image processor, wherever this version of a folder has them."""
    whole = folder / "processor_config.json"
    if whole.is_file() and isinstance(found := told(whole).get("image_processor"), dict):
        return found
    return told(folder / "preprocessor_config.json")


def section(folder: Path, name: str, default: str) -> Any:
    """A part of a config with what its class has for all that it does not say."""
    given = dict(read(folder).get(name) or {})
    found = given.pop("model_type", default)
    if found not in CONFIG_MAPPING:
        raise OpenError(f"{folder}: its {name} is of a model {found!r}, which transformers does not know")
    return CONFIG_MAPPING[found](**given)


def vocabulary(folder: Path) -> dict[str, int]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise OpenError(f"{path}: missing; fetch it, or convert the tokenizer to a fast one")
    found: dict[str, int] = Tokenizer.from_file(str(path)).get_vocab()
    return found


def image_tokens(folder: Path, ids: Mapping[str, Any]) -> ImageTokens:
    """`ids`: the ids of an image's tokens by their kind; their texts are the tokenizer's."""
    texts = {number: text for text, number in vocabulary(folder).items()}
    for name, number in ids.items():
        if number not in texts:
            raise OpenError(f"{folder}: its tokenizer has no token {number}, which is to be its {name} token")
    names = {name: texts[number] for name, number in ids.items()}
    return ImageTokens(**names, ids={names[kind]: number for kind, number in ids.items()})


def facts(folder: Path, scheme: Any, chat: ChatFormat, rules: ChatRules) -> Facts:
    prints = fingerprints.taken({path.name: hash_file(path) for path in files(folder)}, asdict(scheme))
    return Facts(scheme, chat.image_tokens, rules, chat.image_token_id, chat.vocab_size, prints)


def want(folder: Path, name: str, found: Any, *wanted: Any) -> None:
    if found not in wanted:
        names = " or ".join(map(str, wanted))
        raise OpenError(f"{folder}: {name} is {found}, and our own classes have {names}")


def told(path: Path) -> dict[str, Any]:
    """Raises OpenError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OpenError(f"{path}: can't be read ({' '.join(str(error).split())}); fetch it again") from None
    if not isinstance(found, dict):
        raise OpenError(f"{path}: is no JSON object; fetch it again")
    return found
