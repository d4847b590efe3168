"""Which files are a tokenizer, and what they are as content: in a folder of one's own, or in a model's repository.

The weights beside them are of no matter here, and code and pickles are never touched. Where the files come from is no
part of what they are: a fetched tokenizer and a copy of it in a folder name what is made with them by the same hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.identity import fingerprint

VERSION = 1

# config.json names the class that reads the others, where tokenizer_config.json doesn't
_NAMES = ("tokenizer", "special_tokens", "added_tokens", "chat_template", "vocab", "merges", "spiece", "sentencepiece")
_KINDS = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_MODEL = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubTokenizer:
    """The tokenizer of a model's repository on the Hub.

    model     owner/name
    revision  a commit's 40 digits: the tokenizer decides every id, so nothing that may move will do. A recipe may leave
              it out where `run.locations.tokenizer` names a folder
    """

    model: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if not _MODEL.fullmatch(self.model) or ".." in self.model:
            raise ValueError(f"model: got {self.model!r}, wanted owner/name")
        if self.revision is not None and not _COMMIT.fullmatch(self.revision):
            raise ValueError(f"revision: got {self.revision!r}, wanted a commit's 40 digits; {self.advice}")

    @property
    def advice(self) -> str:
        """Where commits are to be found."""
        return f"https://huggingface.co/{self.model}/commits/main lists them"

    @property
    def name(self) -> str:
        return self.model

    @property
    def page(self) -> str:
        """Below a server: where its files lie."""
        return self.model

    @property
    def api(self) -> str:
        return f"models/{self.model}"

    @property
    def origin(self) -> dict[str, str]:
        return {"model": self.model, "revision": self.revision or ""}


def is_part(name: str) -> bool:
    """Whether a file of a folder, by its name, is part of a tokenizer; none of a folder below it is."""
    return name == "config.json" or (name.startswith(_NAMES) and name.endswith(_KINDS) and "/" not in name)


def content(sha256: Mapping[str, str]) -> str:
    """A tokenizer as one hash. `sha256`: of its files by their names."""
    return fingerprint(dict(sorted(sha256.items())))
