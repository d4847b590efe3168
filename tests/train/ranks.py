"""Several processes that train together, as torchrun starts them, but forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["train.__main__", "tiny_models"])
LONGEST = 90.0


class Ended(NamedTuple):
    """How the ranks ended, in order."""

    codes: list[int | None]
    out: list[str]
    err: list[str]


def launch(count: int, folder: Path, target: Callable[..., Any], *arguments: Any) -> Ended:
    """Run `target(*arguments)` on so many ranks; what they print goes to files in the folder."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks: list[BaseProcess] = [
        SERVER.Process(target=_enter, args=(rank, count, port, folder, target, arguments)) for rank in range(count)
    ]
    for rank in ranks:
        rank.start()
    until = time.monotonic() + LONGEST
    for rank in ranks:
        rank.join(max(0.0, until - time.monotonic()))
    stuck = [rank for rank in ranks if rank.is_alive()]
    for rank in stuck:
        rank.kill()
    assert not stuck, "ranks wait for each other"
    texts = [[(folder / f"{name}-{rank}").read_text() for rank in range(count)] for name in ("out", "err")]
    return Ended([rank.exitcode for rank in ranks], *texts)


def _enter(rank: int, count: int, port: int, folder: Path, target: Callable[..., Any], arguments: tuple[Any]) -> None:
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(folder / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = target(*arguments)
    sys.stdout.flush()
    sys.exit(code)
