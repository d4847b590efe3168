"""`push FOLDER --repo owner/name`: a published folder becomes one commit of a dataset repository on the Hub.

Done by `huggingface_hub`, which finds the token where it always lies and never shows it. What the repository has under
the same hash already is not sent, nor is a file's content that an interrupted push has brought: nobody sees any of it
before the one commit at the end. Data files of an earlier publication go with it, for they would be read too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.net.hub import HubError, Server
from pipeline.net.patience import Patience
from pipeline.publish import publication
from schemas.manifest import FileEntry, Manifest, ManifestError, describe
from schemas.published import DATA, MANIFEST
from schemas.shown import shown
from schemas.strict import RecipeError

_TOGETHER = 8  # files whose content is sent before anything is said
_KIND = "dataset"


def push(folder: Path, repo: str, private: bool = False, revision: str | None = None) -> str:
    """What was done, in a line. Raises ManifestError, RecipeError, HubError."""
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise RecipeError(f"--repo {repo}: wanted owner/name")
    manifest = publication.check(folder)
    server = Server.here((), Patience())
    if server.token is None:
        raise RecipeError("no token for the Hub; `hf auth login`, or set HF_TOKEN to one that may write")
    from huggingface_hub import HfApi  # slow to import
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=server.endpoint, token=server.token)
    with _in_words(repo, server):
        return _pushed(api, folder, manifest, repo, private, revision)


def _pushed(api: Any, folder: Path, manifest: Manifest, repo: str, private: bool, revision: str | None) -> str:
    branch = {"repo_id": repo, "repo_type": _KIND, "revision": revision}
    api.create_repo(repo, repo_type=_KIND, private=private or None, exist_ok=True)
    if private and not api.repo_info(repo, repo_type=_KIND).private:
        raise RecipeError(f"--repo {repo}: is there, and public; make it private on the Hub, or leave --private away")
    if revision is not None:
        api.create_branch(repo, branch=revision, repo_type=_KIND, exist_ok=True)
    head = api.repo_info(**branch).sha
    there = dict(_listed(api, head, branch))
    wanted = [*manifest.files, describe(folder, MANIFEST)]
    missing = [entry for entry in wanted if there.get(entry.name) not in (entry.sha256, _blob(folder, entry))]
    stale = sorted(path for path in there if path.startswith(f"{DATA}/") and path not in {one.name for one in wanted})
    where = f"{api.endpoint}/datasets/{repo}"
    if not missing and not stale:
        return f"{where}: has all of it already ({manifest.counts.kept:,} samples)"
    made = _commit(api, folder, missing, stale, head, branch, f"Publish {manifest.identity[:16]}")
    kept = len(wanted) - len(missing)
    before = f", {kept:,} were there" if kept else ""
    return f"{where}: {manifest.counts.kept:,} samples; {len(missing):,} files sent{before}; commit {made}"


def _listed(api: Any, head: str, branch: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, hash) of the repository's files: sha256, or git's of small ones."""
    for entry in api.list_repo_tree(**{**branch, "revision": head}, recursive=True):
        if (blob := getattr(entry, "blob_id", None)) is not None:
            yield entry.path, entry.lfs.sha256 if entry.lfs else blob


def _blob(folder: Path, entry: FileEntry) -> str:
    """The hash that git has for a small file; "" for data."""
    if entry.rows is not None:
        return ""
    import hashlib

    data = (folder / entry.name).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _commit(
    api: Any,
    folder: Path,
    missing: Sequence[FileEntry],
    stale: Iterable[str],
    head: str,
    branch: dict[str, Any],
    text: str,
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    adds = []
    for first in range(0, len(missing), _TOGETHER):
        some = [
            CommitOperationAdd(entry.name, str(folder / entry.name)) for entry in missing[first : first + _TOGETHER]
        ]
        api.preupload_lfs_files(additions=some, **branch)
        adds += some
        print(f"push: {len(adds):,} of {len(missing):,} files sent", file=sys.stderr)
    gone = [CommitOperationDelete(path) for path in stale]
    return str(api.create_commit(operations=[*adds, *gone], commit_message=text, parent_commit=head, **branch).oid)


@contextmanager
def _in_words(repo: str, server: Server) -> Iterator[None]:
    """The library's errors as one line."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (RecipeError, ManifestError):
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise HubError(_told(error, repo, server)) from None


def _told(error: BaseException, repo: str, server: Server) -> str:
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "response", None) is None:
        cause = cause.__cause__
    response = getattr(cause, "response", None)
    status = response.status_code if response is not None else 0
    if status == 401:
        return f"{repo}: {server.endpoint} doesn't know the token (401); `hf auth login` again, or set HF_TOKEN"
    if status == 403:
        return f"{repo}: the token may not write there (403{_reason(response)}); give one that may, or another --repo"
    if status == 404:
        return f"{repo}: no such repository or branch at {server.endpoint}, or the token may not see it (404)"
    if status in (409, 412):
        return f"{repo}: somebody else has written to it meanwhile ({status}); push again"
    if status in (402, 413, 507):
        return f"{repo}: no room for it ({status}{_reason(response)}); make room on the Hub, then push again to go on"
    if status == 429:
        return f"{repo}: {server.endpoint} has had too many requests (429); push again later to go on"
    if status:
        return f"{repo}: {server.endpoint} answers {status}{_reason(response)}; push again later to go on"
    why = str(error.__cause__ or error).replace(server.token or "\0", "***")
    return f"{repo}: {server.endpoint}: {shown(why)[:300]}; push again to go on"


def _reason(response: Any) -> str:
    """What the Hub says of a refusal, in its own header."""
    text = response.headers.get("X-Error-Message", "")
    return f": {shown(text)[:200]}" if text else ""
