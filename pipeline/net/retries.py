"""Asking again: whether, and after how long a wait; and a small body that is asked for until it is there.

Waits double and are spread by the URL, so that a thousand workers don't come back at once; a server's own word
(Retry-After) goes before. Some troubles never heal, and some waits are too long: then a later run asks.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from pipeline.net.answer import Answer, refusal
from pipeline.net.http_client import Web
from pipeline.net.patience import Patience
from pipeline.net.trouble import Failed, Trouble, shown

Note = Callable[[Failed, float], None]
# Seconds after which somebody who waits wants to know why
_LONG = 5.0


class Attempts:
    """Failed attempts at one URL: whether to try again, after a wait that grows and is keyed by the URL.

    `note` is called once, before the first wait that makes it long: with what failed, and the seconds to wait.
    """

    def __init__(self, url: str, patience: Patience, note: Note | None = None) -> None:
        self.url, self.patience, self.failed = url, patience, 0
        self._note, self._began = note, time.monotonic()

    def again(self, failed: Failed, progress: bool = False, deadline: float | None = None) -> bool:
        """Wait and say yes, or say no. Progress since the last attempt starts the count anew."""
        self.failed = 1 if progress else self.failed + 1
        wait = self._wait() if failed.wait is None else failed.wait
        if not failed.may_heal or self.failed >= self.patience.attempts or wait > self.patience.longest_wait:
            return False
        if deadline is not None and time.monotonic() + wait >= deadline:
            return False
        if self._note is not None and time.monotonic() - self._began + wait > _LONG:
            self._note(failed, wait)
            self._note = None
        time.sleep(wait)
        return True

    def _wait(self) -> float:
        """Doubles; the second half is spread by the URL."""
        key = hashlib.sha256(f"{self.url} {self.failed}".encode()).digest()
        spread = 0.5 + 0.5 * int.from_bytes(key[:4], "big") / 2**32
        return min(self.patience.first_wait * 2.0 ** (self.failed - 1) * spread, self.patience.longest_wait)


def read(
    web: Web, url: str, token: str | None = None, most: int = 64 * 2**20, deadline: float | None = None,
    leave_silent: bool = False, note: Note | None = None,
) -> tuple[bytes, Answer] | Failed:  # fmt: skip
    """A small body, with retries until `deadline` (of time.monotonic); `leave_silent`: none if the host is silent."""
    attempts = Attempts(url, web.patience, note)
    while True:
        try:
            with web.open(url, token=token, deadline=deadline) as answer:
                if answer.status != 200:
                    raise Trouble(refusal(answer))
                return _body(answer, most), answer
        except Trouble as trouble:
            left = leave_silent and trouble.failed.silent
            if left or not attempts.again(trouble.failed, deadline=deadline):
                return trouble.failed


def _body(answer: Answer, most: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.response.read1(1 << 18):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise Trouble(Failed("too_large", f"{shown(answer.url)}: more than {most:,} bytes", False))
    return b"".join(pieces)
