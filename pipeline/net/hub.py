"""A repository on the Hub, of a dataset or a model: its commit first, then its files as that commit lists them.

Everything after the first question names the commit, so a branch that moves meanwhile can't mix two revisions. The
listing promises size and hash of each file (sha256 for LFS, git's blob sha1 for small ones); download_file.py proves
them. A commit and its listing are content: which server answered is not. `HF_ENDPOINT` names the server, `HF_TOKEN` (or
`hf auth login`) the token.

`huggingface_hub.HfApi` is not used to ask. By itself it asks for a commit once, a 503 being the end, and follows
redirects without looking where to. It was tried (2.4.0) with a client under it that sends through http_client.py; it
listed the same files, but
- its client belongs to the whole process and can't be given to one HfApi: `set_client_factory` closes the one that
  others use, what it replaces can be put back only by a private name, and while a listing ran, another thread's
  request went through our client, to our server;
- it sends a request of its own (`/api/agent-harnesses`), to the server that HF_ENDPOINT named at import;
- it checks nothing of what it parses, and needs what we don't: no `pointerSize`, an odd date or card, and it ends in
  KeyError, TypeError or ValueError. Every check below stayed, and one line no longer said what was wrong;
- the client is httpx's in 1.x and httpx2's in 2.x, and was requests' before.
What it saved (two addresses, `Link: next`, five fields) was less than what was needed to put it there.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.net.http_client import Web
from pipeline.net.listing import clash, nameable
from pipeline.net.patience import Patience
from pipeline.net.retries import read
from pipeline.net.trouble import Failed
from pipeline.net.wanted_file import Want
from schemas.strict import RecipeError
from stages.download import Found
from stages.sources.declaration import HubDataset
from stages.tokenizer_files import HubTokenizer

_PUBLIC = "https://huggingface.co"
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
# 1000 entries a page: more than that many pages is a server that never ends
_MOST_PAGES = 10_000
# A page that is not there by then, in all its attempts, is a server that drips
_PAGE_SECONDS = 900.0
_LARGEST = 1 << 60
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(Exception):
    """The Hub can't be asked just now: one line."""


@dataclass(frozen=True)
class Server:
    """Whom to ask for files, and how. The token is never shown; it travels to workers beside the names of files."""

    endpoint: str
    allowed: tuple[str, ...] = ()
    patience: Patience = field(default_factory=Patience)
    token: str | None = field(default=None, repr=False)

    @classmethod
    def here(cls, allowed: tuple[str, ...], patience: Patience) -> Server:
        """The server that this machine's environment names."""
        from huggingface_hub import get_token  # slow to import, and only Hub sources need it

        endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or _PUBLIC
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise RecipeError(f"HF_ENDPOINT: got {endpoint!r}, wanted an address like {_PUBLIC}")
        return cls(endpoint, allowed, patience, get_token())

    def web(self) -> Web:
        return Web(self.allowed, self.patience)


@dataclass(frozen=True)
class Repository:
    """A repository on a server; `where` names it in errors as the recipe does, there `what` is the key of its name."""

    server: Server
    web: Web
    where: str
    hub: HubDataset | HubTokenizer
    what: str = "dataset"

    def commit(self) -> str:
        """The commit that the recipe's revision means now. Raises RecipeError or HubError."""
        revision = self._revision
        body, _ = self._ask(f"{self._api}/revision/{quote(revision, safe='')}")
        sha = body.get("sha") if isinstance(body, dict) else None
        if not isinstance(sha, str) or not _COMMIT.fullmatch(sha):
            raise HubError(f"{self.where}: {self.server.endpoint} names no commit for {revision!r}")
        if _COMMIT.fullmatch(revision) and sha != revision:
            raise HubError(f"{self.where}: asked for commit {revision}, {self.server.endpoint} gives {sha}")
        return sha

    def files(self, commit: str) -> list[Found]:
        """Every file of a commit. Raises RecipeError or HubError."""
        url: str | None = f"{self._api}/tree/{commit}?recursive=true&expand=false"
        found: list[Found] = []
        asked = {url}
        for _ in range(_MOST_PAGES):
            page, link = self._ask(str(url))
            found += self._entries(page)
            match = _NEXT.search(link)
            if match is None:
                if why := clash(one.file for one in found):
                    raise HubError(f"{self.where}: {why} at {self.server.endpoint}")
                return sorted(found)
            # a mirror may pass on the original's addresses: keep asking the server that we were given
            split = urlsplit(match.group(1))
            url = self._base + split.path + (f"?{split.query}" if split.query else "")
            if url in asked:
                break
            asked.add(url)
        raise HubError(f"{self.where}: the listing at {self.server.endpoint} does not end")

    @property
    def _revision(self) -> str:
        return self.hub.origin["revision"]

    @property
    def _api(self) -> str:
        return f"{self.server.endpoint}/api/{self.hub.api}"

    @property
    def _base(self) -> str:
        split = urlsplit(self.server.endpoint)
        return f"{split.scheme}://{split.netloc}"

    def _ask(self, url: str) -> tuple[Any, str]:
        """(JSON, Link header) of an address."""
        done = read(self.web, url, self.server.token, deadline=time.monotonic() + _PAGE_SECONDS, note=self._note)
        if isinstance(done, Failed):
            raise self._error(done)
        if urlsplit(url).scheme == "https" != urlsplit(done[1].url).scheme:
            # hashes vouch for files, but nothing vouches for the listing that names them
            raise HubError(f"{self.where}: {self.server.endpoint} leads to an address without https; nothing is read")
        try:
            return json.loads(done[0]), done[1].headers.get("Link", "")
        except (ValueError, RecursionError):
            raise HubError(
                f"{self.where}: {self.server.endpoint} answers without JSON; is HF_ENDPOINT right?"
            ) from None

    def _note(self, failed: Failed, wait: float) -> None:
        print(f"note: {self.where}: {failed.detail}; asking again in {wait:.0f} s", file=sys.stderr)

    def _error(self, failed: Failed) -> Exception:
        name, place = self.hub.name, self.server.endpoint
        if failed.code == "RevisionNotFound":
            return RecipeError(f"{self.where}.revision: {name} has no {self._revision!r}")
        if failed.code == "GatedRepo" or failed.status == 403:
            terms = f"accept its terms at {place}/{self.hub.page} and set HF_TOKEN"
            return RecipeError(f"{self.where}.{self.what}: {name} is gated; {terms}")
        if failed.status in (401, 404):
            hint = "the token may not see it" if self.server.token else "or it is private: then set HF_TOKEN"
            return RecipeError(f"{self.where}.{self.what}: no {name} at {place}, {hint}")
        if failed.reason == "address_refused":
            return RecipeError(f"{self.where}: {failed.detail}")
        return HubError(f"{self.where}: {failed.detail} ({failed.reason}); run again later")

    def _entries(self, page: Any) -> Iterator[Found]:
        for entry in page if isinstance(page, list) else [None]:
            if not isinstance(entry, dict) or "type" not in entry:
                raise HubError(f"{self.where}: {self.server.endpoint} answers with another listing than the Hub's")
            if entry["type"] == "file":
                yield self._entry(entry)

    def _entry(self, entry: dict[str, Any]) -> Found:
        path, lfs = entry.get("path"), entry.get("lfs") or entry
        size, digest = (lfs.get("size"), lfs.get("oid")) if isinstance(lfs, dict) else (None, None)
        if not isinstance(path, str) or not isinstance(size, int) or not isinstance(digest, str):
            raise HubError(f"{self.where}: a listed file lacks path, size or hash")
        if not 0 <= size < _LARGEST:
            raise HubError(f"{self.where}: {path[:200]!r} is listed with {str(size)[:30]} bytes")
        if not re.fullmatch(r"[0-9a-f]{64}" if lfs is not entry else r"[0-9a-f]{40}", digest):
            raise HubError(f"{self.where}: {path!r} is listed with the hash {digest[:80]!r}")
        if not nameable(path):
            raise HubError(f"{self.where}: {path[:200]!a} can't be a file's name here")
        return Found(path, size, digest)


@dataclass(frozen=True)
class Revision:
    """A repository at a commit, its files listed."""

    server: Server
    hub: HubDataset | HubTokenizer
    commit: str

    def want(self, found: Found) -> Want:
        """What to fetch for a listed file."""
        page = f"{self.server.endpoint}/{self.hub.page}"
        advice = f"accept the terms at {page} and set HF_TOKEN"
        return Want(f"{page}/resolve/{self.commit}/{quote(found.file)}", found.size, found.digest, advice=advice)

    @property
    def origin(self) -> dict[str, str]:
        """Where the files come from, for run.json: server and name are circumstances, the commit is identity."""
        return {"endpoint": self.server.endpoint, **self.hub.origin}
