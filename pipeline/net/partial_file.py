"""The beginning of a file: `<name>.partial`, and the note `<name>.partial.json` that says what it is the beginning of.

Whatever ends the process, the next one asks for the rest, if the note names this very file and a server can tell
whether the rest belongs to it. A file too small to be worth a note has none. Nothing is flushed here: what a loss of
power leaves is hashed again before it is believed, and whoever writes a record flushes its files first (commit.flush).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path

from pipeline.net.answer import Answer, number
from pipeline.net.trouble import Failed, Trouble, shown
from pipeline.net.wanted_file import PARTIAL, Fetched, Hashes, Want
from schemas import json_file

CHUNK = 1 << 20
# Says `aws:kms` where S3 keeps an object encrypted with a key of KMS: its ETag is then no hash of the content
_ENCRYPTION = "x-amz-server-side-encryption"
# A smaller file gets no note, which would be a second file to make and remove for each: begun anew it costs no more
_NOTED = 1 << 20
# How many seconds a partial file that another process writes to is waited for
_LINGERS = 30.0


@contextmanager
def held(partial: Path) -> Iterator[None]:
    """Write to a partial file alone: a worker of Ray outlives its killed run by about a second, and goes on writing."""
    deadline = time.monotonic() + _LINGERS
    while True:
        with partial.open("ab", buffering=0) as stream:
            _lock(stream.fileno(), deadline)
            if not (partial.is_file() and os.path.samestat(os.fstat(stream.fileno()), partial.stat())):
                continue  # whoever held it has given it its name, or removed it
            try:
                yield
            finally:
                with suppress(FileNotFoundError):
                    if not partial.stat().st_size:
                        partial.unlink()
            return


def _lock(file: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another process is fetching this file") from None
            time.sleep(0.1)


class Partial:
    """The beginning of a file, its hashes so far, and the note of what it belongs to."""

    def __init__(self, target: Path, want: Want) -> None:
        self.target, self.want = target, want
        self.path = target.with_name(target.name + PARTIAL)
        self.note = target.with_name(target.name + PARTIAL + ".json")
        self.etag, self.total, self.size = "", want.size, 0
        self.unproven = False
        self.hashes = Hashes(want)
        self._take_up()

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if there is a beginning."""
        match = {"If-Match": self.want.version} if self.want.version else {}
        if not self.size:
            return match
        return match | {"Range": f"bytes={self.size}-"} | ({"If-Range": self.etag} if self.etag and not match else {})

    def begin(self, answer: Answer) -> None:
        """Check what the answer is a part of, and write it down before its first byte."""
        etag, total = _strong(answer.headers.get("ETag", "")), _total(answer, self.size)
        if total is not None and self.want.size is not None and total != self.want.size:
            detail = f"{shown(self.want.url)}: {total:,} bytes offered, {self.want.size:,} listed"
            self.forget()
            raise Trouble(Failed("wrong_content", detail, True))
        if answer.status == 200 or not self.size:
            self._restart()
        elif total is None or (self.etag and etag and etag != self.etag):
            if "Content-Range" in answer.headers:  # without it the headers may have been cut: ask once more
                self.forget()
            raise Trouble(Failed("wrong_content", f"{shown(self.want.url)}: another part came than asked for", True))
        self.etag, self.total = etag or self.etag, total if total is not None else self.want.size
        self.unproven = answer.headers.get(_ENCRYPTION, "").startswith("aws:kms")
        # not flushed: a note that is lost or cut costs the beginning, never the truth
        if self.total is None or self.total >= _NOTED:
            self.note.write_text(json.dumps(self._described(), sort_keys=True) + "\n", encoding="utf-8")
        else:
            self.note.unlink(missing_ok=True)

    def add(self, stream: RawIOBase, chunk: bytes) -> None:
        """Append to the file and to the hashes."""
        if self.total is not None and self.size + len(chunk) > self.total:
            self.forget()
            raise Trouble(Failed("wrong_content", f"{shown(self.want.url)}: more than {self.total:,} bytes", True))
        view = memoryview(chunk)
        while view:
            view = view[stream.write(view) or 0 :]
        self.size += len(chunk)
        self.hashes.update(chunk)

    def finish(self) -> Fetched:
        """Give the file its name, if it is what was promised."""
        place = shown(self.want.url)
        if self.total is not None and self.size != self.total:
            raise Trouble(Failed("cut_short", f"{place}: {self.size:,} of {self.total:,} bytes came", True))
        came = self.hashes.wanted()
        if self.want.digest and came != self.want.digest and not (self.unproven and self.want.by_etag):
            self.forget()
            detail = f"{place}: hash {came[:16]}, listed {self.want.digest[:16]}"
            raise Trouble(Failed("wrong_content", detail, True))
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)
        return Fetched(self.size, self.hashes.sha256.hexdigest())

    def forget(self) -> None:
        """Nothing of it can be used."""
        self._restart()
        self.path.write_bytes(b"")
        self.note.unlink(missing_ok=True)

    def _restart(self) -> None:
        self.size, self.etag, self.hashes = 0, "", Hashes(self.want)

    def _take_up(self) -> None:
        """Go on with an earlier beginning, if it is one of this very file and a server can be asked for the rest."""
        try:
            known = json_file.read(self.note)
            length = self.path.stat().st_size
        except (OSError, ValueError):
            return  # none, or its note is lost: from the first byte
        ours = isinstance(known, dict) and all(known.get(key) == value for key, value in self._wanted().items())
        if not ours or (self.want.size is not None and length > self.want.size):
            return
        if not self.want.digest and not known.get("etag"):
            return  # without hash and version nobody could tell whether the rest belongs to it
        with self.path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                self.hashes.update(chunk)
        self.size, self.etag, self.total = length, known.get("etag") or "", known.get("size")
        self.unproven = known.get("unproven") is True

    def _wanted(self) -> dict[str, object]:
        """What the file is by. The address, as a hash, only where nothing better tells: it may hold a signature."""
        named = self.want.digest or self.want.version
        place = "" if named else hashlib.sha256(self.want.url.encode()).hexdigest()[:16]
        return {"digest": self.want.digest, "version": self.want.version, "url": place}

    def _described(self) -> dict[str, object]:
        return self._wanted() | {"etag": self.etag, "size": self.total, "unproven": self.unproven}


def _strong(etag: str) -> str:
    """An ETag that may stand in If-Range; a weak one may not (RFC 9110, 13.1.5)."""
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag) else ""


def _total(answer: Answer, offset: int) -> int | None:
    """The size of the whole file as an answer gives it; none for a part that does not begin at `offset`."""
    if answer.status == 206:
        part = r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})"
        match = re.fullmatch(part, answer.headers.get("Content-Range", "").strip())
        return int(match.group(2)) if match and int(match.group(1)) == offset else None
    return number(answer.headers.get("Content-Length", ""))
