"""The chat format of a folder that holds a model's config, too.

transformers looks into config.json to choose a tokenizer's class, and models with code of their own have another class
or none there. The tokenizer's own files say all that is needed, so it is read from a folder that has only them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules

_NAMES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*", "vocab.*", "merges.txt")


def files(folder: Path) -> list[Path]:
    """Those that make up a tokenizer."""
    return sorted({path for name in _NAMES for path in folder.glob(name) if path.is_file()})


def chat_format(folder: Path, tokens: ImageTokens, rules: ChatRules) -> ChatFormat:
    """Raises ChatError."""
    with tempfile.TemporaryDirectory() as alone:
        for path in files(folder):
            (Path(alone) / path.name).symlink_to(path.resolve())
        return ChatFormat.load(alone, tokens, rules)
