"""Processes of this machine that count, as many as it has cores: each gets names and gives back numbers.

No cluster: the text of a hundred million samples is counted by one machine in minutes to hours, and nothing is written
that would have to be whole. What comes back is added up as it comes, so memory doesn't grow with the data.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from pipeline.graph.errors import StepError

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 4  # jobs for each process that wait in line


def each(do: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None) -> Iterator[Result]:
    """What `do` makes of every job, as it comes; `do` is a function of a module. Raises StepError."""
    processes = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if processes <= 1:
        yield from map(do, jobs)
        return
    left = iter(jobs)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running: set[Future[Result]] = {pool.submit(do, job) for job in islice(left, _AHEAD * processes)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(do, job) for job in islice(left, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise StepError(
                "census: a worker died, most likely out of memory; run again with a lower --set run.workers=NUMBER"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
