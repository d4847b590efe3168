"""Whose turn it is: the addresses of a part in one line per host, a few of each host asked at a time.

Workers take the next address of a host that has a free turn, so one host with many addresses, or a slow one, keeps no
worker from the others. An address whose host gave no sign of life is asked once more, when all others are done; after
three silences in a row the rest of the host's line waits until then as well. Then one address of such a host is tried:
if it answers, the line goes on, and if it is silent too, the rest of the line is given up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SILENCES = 3


def host_of(url: str) -> str:
    """The host that an address names; "" where it names none (the request will say so)."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@dataclass
class _Line:
    """The addresses of one host. `silences`: in a row; `busy`: requests under way; `probed`: one of a silent host.

    `silent`: to be asked once more in the end; `over`: the end has come.
    """

    waiting: deque[str] = field(default_factory=deque)
    silent: list[str] = field(default_factory=list)
    busy: int = 0
    silences: int = 0
    probed: bool = False
    over: bool = False

    @property
    def paused(self) -> bool:
        return self.silences >= SILENCES


class Lines:
    """Hands out addresses to threads, each once or twice. Whoever calls `done` calls `take` or `stop` next."""

    def __init__(self, urls: Iterable[str], per_host: int) -> None:
        self._per_host = per_host
        self._lines: dict[str, _Line] = {}
        for url in urls:
            self._lines.setdefault(host_of(url), _Line()).waiting.append(url)
        self._ready = deque(self._lines)  # hosts with a free turn, each once
        self._busy, self._over = 0, False
        self._changed = threading.Condition()

    @property
    def down(self) -> set[str]:
        """The hosts that were silent several times in a row in the end."""
        return {host for host, line in self._lines.items() if line.paused}

    def take(self) -> str | None:
        """The next address to ask; waits for a free turn. None: there is nothing left to do."""
        with self._changed:
            while not self._over:
                if self._ready:
                    return self._next()
                if self._busy:
                    self._changed.wait()
                elif not self._probe():
                    self.stop()
            return None

    def done(self, url: str, silent: bool) -> None:
        """Give a turn back; `silent`: the host gave no sign of life."""
        with self._changed:
            host = host_of(url)
            line = self._lines[host]
            line.busy -= 1
            self._busy -= 1
            line.silences = line.silences + 1 if silent else 0
            if silent and line.probed:
                line.waiting.clear()
            elif silent and not line.over:
                line.silent.append(url)
            line.probed = False
            self._offer(host, line)  # nobody is woken: the worker that is done takes the next itself

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _next(self) -> str:
        host = self._ready.popleft()
        line = self._lines[host]
        line.busy += 1
        self._busy += 1
        url = line.waiting.popleft()
        self._offer(host, line)
        if self._ready:
            self._changed.notify()
        return url

    def _offer(self, host: str, line: _Line) -> None:
        free = line.busy < self._per_host and not line.paused
        if line.waiting and free and host not in self._ready:
            self._ready.append(host)

    def _probe(self) -> bool:
        """The end: let one address of every silent host be tried; whether there is any."""
        for host, line in self._lines.items():
            line.waiting.extend(line.silent)
            line.silent.clear()
            line.over = True
            if line.waiting:
                line.probed = True
                self._ready.append(host)
        return bool(self._ready)
