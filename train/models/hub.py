"""A folder of weights by its place: one on this machine, or a commit of a repository on the Hugging Face Hub.

    models/tower                       a folder
    google/siglip2-...@<40 digits>     a commit; its files lie in the Hub's cache (HF_HOME) once they are fetched

A branch moves, and weights that move would make other runs of the same config: only a commit's digits are taken where
that matters. Safetensors, their tables and the files of tokenizers are fetched, never pickles and never code, unless
asked for. HF_TOKEN or a login opens repositories that are not public; HF_ENDPOINT names another server.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from train.models.lazy import WeightsError

_PLACE = re.compile(r"([\w.-]+/[\w.-]+)@([\w./-]+)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
CODE = "*.py"


def local(place: str | Path, pinned: bool = True, code: bool = False) -> Path:
    """The folder of a place, fetched if it is on the Hub. `pinned`: it has to name a commit. Raises WeightsError."""
    named = _PLACE.fullmatch(str(place))
    if named is None or Path(place).exists():
        return Path(place)
    name, revision = named.groups()
    if pinned and not _COMMIT.fullmatch(revision):
        raise WeightsError(
            f"{place}: {revision!r} may move; give the 40 digits of a commit, which the repository's page lists"
        )
    return _fetched(name, revision, code)


def _fetched(name: str, revision: str, code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [*_FILES, *([CODE] if code else [])]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        server = os.environ.get("HF_ENDPOINT", "the Hub")
        raise WeightsError(
            f"{name}@{revision}: {server} didn't give it ({why}); mend the name, log in by HF_TOKEN, or give a folder"
        ) from None
