"""Many small looks at a disk, several at a time.

On shared storage every answer takes about a millisecond, whatever is asked, and a large run asks a few hundred thousand
times: is this file there, what does that record say. Threads wait for the answers together; on a local disk they cost
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_THREADS = 16

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def at_once(ask: Callable[[Item], Answer], items: Sequence[Item], together: int = 256) -> list[Answer]:
    """`map` in threads, in the order of the items; each thread takes so many `together`."""
    shares = [items[first : first + together] for first in range(0, len(items), together)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            answer for answers in pool.map(lambda share: [ask(item) for item in share], shares) for answer in answers
        ]
