"""Conversations -> prompts, made ahead on threads: never more than a window of them is held, in their order.

One that can't be answered is told as an error when its turn comes, and nobody waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Feed(Generic[T, U]):
    """`make` turns one into what is waited for; None drops it (it has been told otherwise)."""

    def __init__(self, given: Iterable[T], make: Callable[[int, T], U | None], window: int, threads: int) -> None:
        self._given: Iterator[tuple[int, T]] = enumerate(given)
        self._make, self._window = make, window
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prompts")
        self._ahead: deque[Future[U | None]] = deque()
        self._fill()

    def first(self, wait: bool) -> U | None:
        """The next one, which stays; None if there is none, or none is ready and `wait` is false."""
        while self._ahead and (wait or self._ahead[0].done()):
            found = self._ahead[0].result()
            if found is not None:
                return found
            self.take()
        return None

    def take(self) -> None:
        """The next one leaves, and another is begun."""
        self._ahead.popleft()
        self._fill()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _fill(self) -> None:
        while len(self._ahead) < self._window and (item := next(self._given, None)) is not None:
            self._ahead.append(self._pool.submit(self._make, *item))
