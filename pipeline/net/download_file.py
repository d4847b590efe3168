"""One file over HTTP(S) to disk: whole and verified under its name, or not there.

Bytes go to the partial file (partial_file.py), and what an earlier process left of it is gone on with (`Range` with
`If-Range`). A server that answers with the whole file, or with another version, starts the file anew. Only when size
and hash are as promised does the file get its name, last and at once.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from pipeline.net.answer import refusal
from pipeline.net.http_client import Web
from pipeline.net.partial_file import CHUNK, Partial, held
from pipeline.net.retries import Attempts
from pipeline.net.trouble import Failed, Trouble, shown
from pipeline.net.wanted_file import PARTIAL, Fetched, Hashes, Want

# A cut connection counts as progress, and not as one more failure, if it brought this much
_PROGRESS = 1 << 20
# A server that sends less in the seconds of run.patience.read is given up like one that sends nothing
_LEAST = 1 << 16


def fetch(want: Want, path: Path, web: Web, token: str | None = None) -> Fetched | Failed:
    """Get a file, or what is missing of it. Outcomes are values; the partial file of a failure stays for later."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if done := _there(path, want):
            return done
        with held(path.with_name(path.name + PARTIAL)):
            return _there(path, want) or _fetch(want, path, web, token)
    except OSError as error:
        return Failed("disk", f"{path.name}: {error.strerror or error}", True)


def _there(path: Path, want: Want) -> Fetched | None:
    """The file under its name, if it is what is wanted: renamed, but the process ended before a record was written."""
    if not (want.digest and path.is_file()):
        return None
    hashes = Hashes(want)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            hashes.update(chunk)
    return Fetched(path.stat().st_size, hashes.sha256.hexdigest()) if hashes.wanted() == want.digest else None


def _fetch(want: Want, path: Path, web: Web, token: str | None) -> Fetched | Failed:
    partial = Partial(path, want)
    attempts, most, wrong = Attempts(want.url, web.patience), partial.size, 0
    while True:
        try:
            _transfer(want, partial, web, token)
            return partial.finish()
        except Trouble as trouble:
            wrong += trouble.failed.reason == "wrong_content"
            progress = partial.size >= most + _PROGRESS
            most = max(most, partial.size)
            if wrong > 1:
                partial.forget()  # the next run begins anew
            if wrong > 1 or not attempts.again(trouble.failed, progress):
                return trouble.failed


def _transfer(want: Want, partial: Partial, web: Web, token: str | None) -> None:
    """One attempt at what is missing."""
    if partial.size and partial.size == partial.total:
        return
    with web.open(want.url, partial.headers(), token) as answer:
        if answer.status == 416:
            partial.forget()
            raise Trouble(Failed("wrong_content", f"{shown(want.url)}: is shorter than what was fetched", True))
        if answer.status not in (200, 206):
            raise Trouble(_advised(refusal(answer), want))
        partial.begin(answer)
        # a file begun is one that begin() found; "wb" leaves nothing of what it did not
        with partial.path.open("r+b" if partial.size else "wb", buffering=0) as stream:
            stream.seek(partial.size)
            pace = _Pace(web.patience.read, partial.size)
            # read1: what has arrived is written at once, so a cut loses none of it
            while chunk := answer.response.read1(CHUNK):
                partial.add(stream, chunk)
                pace.check(partial.size, want.url)


def _advised(failed: Failed, want: Want) -> Failed:
    """What the user can do, beside what is wrong; a 403 that may heal is a signature of the server's own."""
    helps = want.advice and failed.reason == "forbidden" and not failed.may_heal
    return dataclasses.replace(failed, detail=f"{failed.detail}; {want.advice}") if helps else failed


class _Pace:
    """Ends what a byte now and then keeps the read timeout from ending: so little in that time is too little."""

    def __init__(self, seconds: float, size: int) -> None:
        self.seconds, self.size, self.since = seconds, size, time.monotonic()

    def check(self, size: int, url: str) -> None:
        now = time.monotonic()
        if size - self.size >= _LEAST:
            self.size, self.since = size, now
        elif now - self.since > self.seconds:
            detail = f"{shown(url)}: {size - self.size:,} bytes in {self.seconds:g} s"
            raise Trouble(Failed("timeout", detail, True))
