"""Processes of this machine that count, as many as it has cores: each gets names and gives back numbers.

No cluster: the text of a hundred million samples is counted by one machine in minutes to hours, and nothing is written
that would have to be whole. What comes back is added up as it comes, so memory doesn't grow with the data.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from pipeline.graph.errors import StepError

Job = TypeVar("Job")
Result = TypeVar("Result")

_EVERY = 10.0  # seconds between two words of how far it is
_AHEAD = 4  # jobs for each process that wait in line


def each(do: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None) -> Iterator[Result]:
    """What `do` makes of every job, as it comes; `do` is a function of a module. Raises StepError."""
    processes = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if processes <= 1:
        yield from map(do, jobs)
        return
    left = iter(jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_follow) as pool:
        running: set[Future[Result]] = {pool.submit(do, job) for job in islice(left, _AHEAD * processes)}
        ended, told = 0, time.monotonic()
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(do, job) for job in islice(left, len(done))}
                yield from (future.result() for future in done)
                ended += len(done)
                if time.monotonic() - told > _EVERY:
                    told = time.monotonic()
                    print(f"census: {ended:,} of {len(jobs):,} parts", file=sys.stderr, flush=True)
        except BrokenProcessPool:
            raise StepError(
                "census: a worker died, most likely out of memory; run again with a lower --set run.workers=NUMBER"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _follow() -> None:
    """A worker leaves an interrupt to who started it, and ends when that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
