"""The chat format of a folder that holds a model's config, too.

transformers looks into config.json to choose a tokenizer's class, and models with code of their own have another class
or none there. The tokenizer's own files say all that is needed, so it is read from a folder that has only them. Its
template may be in a file that only processors read (chat_template.json).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules

_NAMES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*", "vocab.*", "merges.txt")
_TEMPLATE = "chat_template.jinja"


def files(folder: Path) -> list[Path]:
    """Those that make up a tokenizer."""
    return sorted({path for name in _NAMES for path in folder.glob(name) if path.is_file()})


def chat_format(folder: Path, tokens: ImageTokens, rules: ChatRules, lead: str = "") -> ChatFormat:
    """`lead`: what stands before the chat template. Raises ChatError."""
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place)
        for path in files(folder):
            (alone / path.name).symlink_to(path.resolve())
        if (template := _template(folder)) is not None:
            (alone / _TEMPLATE).unlink(missing_ok=True)
            (alone / _TEMPLATE).write_text(lead + template, encoding="utf-8")
        return ChatFormat.load(alone, tokens, rules, trains=False)


def _template(folder: Path) -> str | None:
    """A folder's chat template, in whichever file it is; None where it has several or none."""
    if (path := folder / _TEMPLATE).is_file():
        return path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (path := folder / name).is_file():
            found = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
            if isinstance(found, str):
                return found
    return None
