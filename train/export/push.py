"""An export becomes one commit of a model repository on the Hub, by `huggingface_hub`, which finds the token where it
always lies and never shows it. What the repository has already is not sent again. Files of weights that it has from
before and the export has not are deleted: of `model.safetensors` and an index readers take the first.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.shown import shown
from train.export.failure import ExportError
from train.inference.opened import EXPORTED

_WEIGHTS = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"]
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


class Hub:
    """A repository that may be written to, as far as is known here. Raises ExportError."""

    def __init__(self, repo: str, private: bool) -> None:
        from huggingface_hub import HfApi, get_token  # slow to import
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()

        if not _REPO.fullmatch(repo):
            raise ExportError(f"--push {repo}: wanted owner/name")
        self.repo, self.private, self.token = repo, private, get_token()
        if self.token is None:
            raise ExportError("no token for the Hub; `hf auth login`, or set HF_TOKEN to one that may write")
        self.api: Any = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=self.token)

    def push(self, folder: Path) -> str:
        """Where it is then. Raises ExportError; the folder stays."""
        if not (folder / EXPORTED).is_file():
            raise ExportError(f"{folder}: is no export ({EXPORTED} is not there); export the model to a folder first")
        with self._in_words(folder):
            self.api.create_repo(self.repo, repo_type="model", private=self.private or None, exist_ok=True)
            there = self.api.repo_info(self.repo, repo_type="model")
            if self.private and not there.private:
                raise ExportError(f"--push {self.repo}: is there, and public; make it private, or leave --private away")
            made = self.api.upload_folder(
                repo_id=self.repo,
                repo_type="model",
                folder_path=str(folder),
                delete_patterns=_WEIGHTS,
                commit_message=f"Export {folder.name}",
                parent_commit=there.sha,
            )
        return f"{self.api.endpoint}/{self.repo}, commit {made.oid}"

    @contextmanager
    def _in_words(self, folder: Path) -> Iterator[None]:
        """The library's errors as one line."""
        from huggingface_hub.errors import HTTPError

        try:
            yield
        except ExportError:
            raise
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            again = f"the export lies in {folder}: `export {folder} --push {self.repo}` sends it again"
            raise ExportError(f"{self.repo}: {self._told(error)}; {again}") from None

    def _told(self, error: BaseException) -> str:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "response", None) is None:
            cause = cause.__cause__
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        if status == 401:
            return f"{self.api.endpoint} doesn't know the token (401)"
        if status == 403:
            return "the token may not write there (403)"
        if status:
            return f"{self.api.endpoint} answers {status}"
        why = " ".join(str(error.__cause__ or error).split()).replace(self.token or "\0", "***")
        return f"{self.api.endpoint}: {shown(why)[:300]}"
