"""A tokenizer from a folder, with a chat template that can be used; all else is refused in one line.

No code of the folder runs, and nothing is fetched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# An embedding has a row for each id up to the largest: so many are 34 GB at a width of 1,024
MOST_IDS = 1 << 24


class ChatError(ValueError):
    """A tokenizer or chat template that can't be used as it is: one line saying why and what to do."""


@contextmanager
def opened(folder: Path | str) -> Iterator[Any]:
    """The tokenizer, while torch is hidden. Raises ChatError."""
    if not Path(folder).is_dir():
        raise ChatError(f"{folder}: no such tokenizer folder; point at one with tokenizer.json and a chat template")
    with _torch_hidden():
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            # what its readers raise is theirs to choose: an Exception of Rust, a KeyError, an OSError about the Hub
            own = "custom code" in str(error)  # it has a tokenizer.json, which needs none of that code
            advice = (
                "set tokenizer_class in tokenizer_config.json to PreTrainedTokenizerFast"
                if own
                else "get its files again"
            )
            raise ChatError(f"{folder}: can't be read as a tokenizer ({one_line(error)}); {advice}") from error
        yield tokenizer


def check(tokenizer: Any, date: str | None = None) -> str:
    """The chat template of a tokenizer that can be used; `date`: what it is told for today's. Raises ChatError."""
    if not getattr(tokenizer, "is_fast", False):
        raise ChatError("the tokenizer has no tokenizer.json; convert it to a fast tokenizer first")
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= MOST_IDS:
        raise ChatError(f"the tokenizer has the id {largest:,}, and no model has {MOST_IDS:,} tokens; number them anew")
    if type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece":
        raise ChatError("the tokenizer is a WordPiece, which loses characters; take that of a language model")
    if getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        raise ChatError("the tokenizer leaves out merges at random; set model.dropout in tokenizer.json to null")
    if not tokenizer.chat_template:
        raise ChatError("the tokenizer has no chat template; add chat_template.jinja to its folder")
    try:
        template = str(tokenizer.get_chat_template())
    except ValueError:
        names = ", ".join(map(repr, tokenizer.chat_template))
        raise ChatError(
            f"the tokenizer has several chat templates ({names}) and none is 'default'; name one so"
        ) from None
    if "strftime_now" in template and date is None:
        raise ChatError(
            "the chat template prints today's date, so no two days give the same tokens; say one as `chat.date`"
        )
    if date is not None and "strftime_now" not in template:
        raise ChatError("the chat template asks for no date; leave out `chat.date`")
    return template


def one_line(error: Exception) -> str:
    """Kind and first words of an error that somebody else's code raised."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:160]}{'...' if len(said) > 160 else ''}"


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """Let transformers load without torch, which a tokenizer doesn't need and which takes longer than all the rest.

    Only where neither is imported yet. From then on transformers takes torch for absent in this process: one that wants
    its models as well imports torch first, as all of `train` does.
    """
    hide = not {"torch", "transformers"} & set(sys.modules)
    if hide:
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # else it says that it misses torch
        sys.modules["torch"] = None  # type: ignore[assignment]  # what Python takes for "not installed"
    try:
        yield
    finally:
        if hide:
            del sys.modules["torch"]
