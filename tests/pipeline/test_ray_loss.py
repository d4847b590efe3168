"""What a run on a real Ray lives through: a node that dies, a head that dies, parts that never fit into memory.

Ends with one line within 30 s, or goes on; and the same command does what is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests.pipeline.conftest import ROOT

pytestmark = pytest.mark.slow
Running = subprocess.Popen[str]


class Start(Protocol):
    def __call__(self, module: str, *arguments: object, **environment: str) -> Running: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs of ours, whose input and output we hold, and ends what is left of them."""
    started: list[Running] = []

    def start(module: str, *arguments: object, **environment: str) -> Running:
        running = subprocess.Popen(
            [sys.executable, "-m", f"tests.pipeline.{module}", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(running)
        return running

    yield start
    for running in started:
        with running:
            running.kill()


def wait_for(folder: Path, pattern: str, count: int = 1) -> None:
    until = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < until, f"no {pattern} in {folder}"
        time.sleep(0.1)


def children(pid: int, name: str) -> list[int]:
    """The processes that a process has started, whose program is called so."""
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid=,comm="], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if line.split()[1].startswith(name)]


def error(running: Running, seconds: float) -> str:
    """The one line that it ends with, within that time."""
    out, err = running.communicate(timeout=seconds)
    assert running.returncode == 1, (out, err)
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("process", ["gcs_server", "raylet"])
def test_a_ray_of_its_own_that_dies_ends_a_run_with_one_line_and_the_next_goes_on(
    start: Start, tmp_path: Path, process: str
) -> None:
    running = start("ray_tasks", "naps", 6, tmp_path)
    wait_for(tmp_path, "part-*.json")
    for pid in children(running.pid, process):
        os.kill(pid, signal.SIGKILL)
    assert f"Ray on this machine has died ({process})" in error(running, 30)
    before = len(list(tmp_path.glob("part-*.json")))
    assert 0 < before < 6
    out, err = start("ray_tasks", "naps", 6, tmp_path).communicate(timeout=60)
    assert f"{6 - before} done" in out, err


class RayCluster(NamedTuple):
    """Two nodes of one CPU on this machine; `tell` it what to kill."""

    running: Running
    address: str

    def tell(self, what: str) -> None:
        assert self.running.stdin
        self.running.stdin.write(f"{what}\n")
        self.running.stdin.flush()


@pytest.fixture
def cluster(start: Start) -> Iterator[RayCluster]:
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # the paths of its sockets must be short
        running = start("ray_cluster", RAY_TMPDIR=folder, RAY_AUTH_MODE="disabled")
        assert running.stdout
        yield RayCluster(running, running.stdout.readline().strip())
        running.communicate(timeout=30)


def test_a_node_that_dies_costs_its_parts_time(start: Start, cluster: RayCluster, tmp_path: Path) -> None:
    running = start("ray_tasks", "naps", 6, tmp_path, cluster.address)
    wait_for(tmp_path, "begun-*", 2)
    cluster.tell("kill node")
    out, err = running.communicate(timeout=90)
    assert "6 done" in out, err
    assert len(list(tmp_path.glob("part-*.json"))) == 6


def test_a_cluster_whose_head_dies_ends_a_run_with_one_line(start: Start, cluster: RayCluster, tmp_path: Path) -> None:
    running = start("ray_tasks", "naps", 60, tmp_path, cluster.address)
    wait_for(tmp_path, "part-*.json")
    cluster.tell("kill head")
    assert f"Ray's head at {cluster.address} has not answered" in error(running, 30)


def test_a_part_that_never_fits_into_memory_is_named(start: Start, tmp_path: Path) -> None:
    limits = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    running = start("ray_tasks", "hogs", 1, tmp_path, **limits)
    assert f"part 0 of {tmp_path.name}: its worker ran out of memory" in error(running, 120)
