"""The only file that imports ray: runs tasks as plain 1-CPU Ray tasks, as many at a time as the cluster has CPUs.

Plain tasks, not actors: an actor pool that holds every CPU starves what feeds it and waits for ever (ray#44687). A task
carries names and returns counts, so nothing of an image passes through the object store. Ray is started when the first
task is due, so a finished recipe never pays for it. A worker that dies (out of memory, a lost node) is tried again
twice; an error in a task ends the step.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pipeline.graph.errors import StepError
from pipeline.graph.task import Record, Task, do
from pipeline.run.runner import Take

# What a worker runs is this program's own packages, not what is installed on its node or lies in the current folder,
# which Ray would search first. In a checkout they lie beside data, installed beside all other packages: nothing else is
# shipped. A submitted job brings its own folder.
_PACKAGES = ("schemas", "stages", "pipeline")
_HOME = Path(__file__).parent.parent.parent
_SHIPPED = {
    "working_dir": str(_HOME),
    "excludes": ["/*", "!/.", *(f"!/{name}" for name in _PACKAGES), "__pycache__"],
}
_RETRIES = 2
_PATIENCE = 30.0
_SILENCE = 2.0  # seconds after which a person is told what is waited for


class RayExecutor:
    """Executes on this machine's Ray (default) or on the cluster at `address`."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._address, self._wanted = address, workers
        self._starting: Future[int] | None = None

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        """Yield tasks and records as they come, None once a second. Raises StepError if the cluster can't hold one."""
        first = take()
        if first is None:
            return
        workers = self._start()
        import ray

        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(do)
        running: dict[Any, Task] = {remote.remote(first): first}
        begun, silent = time.monotonic(), True
        while True:
            while len(running) < workers and (task := take()) is not None:
                running[remote.remote(task)] = task
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=1.0)
            for reference in done:
                silent = False
                yield running.pop(reference), _result(reference)
            if silent and time.monotonic() - begun > _PATIENCE:
                silent = False
                free = ray.available_resources().get("CPU", 0)
                print(f"waiting for Ray: no part is done after {_PATIENCE:.0f} s; {free:.0f} CPUs are free", flush=True)
            yield None

    def begin(self) -> None:
        """Start Ray beside what the caller does next; a fault shows when the first task is due."""
        # Ray's processes end with the thread that started them: it must last as long as this executor
        self._thread = ThreadPoolExecutor(1, "ray")
        self._starting = self._thread.submit(self._connected)

    def close(self) -> None:
        """Leave Ray; a cluster at an address keeps running."""
        if self._starting is not None and self._starting.exception() is None:
            import ray

            ray.shutdown()

    def _start(self) -> int:
        """Connect once; the number of tasks to run at a time."""
        if self._starting is None:
            self.begin()
        assert self._starting is not None
        if not wait([self._starting], _SILENCE).done:
            print("starting Ray", flush=True)
        return self._starting.result()

    def _connected(self) -> int:
        _connect(self._address)
        return _fit(self._wanted)


def _connect(address: str | None) -> None:
    inside_job = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") is not None
    _knock(address)
    _set_environment(address)
    import ray

    try:
        ray.init(
            # "local": a cluster that happens to run on this machine is joined only when asked for
            address=address or ("auto" if inside_job else "local"),
            runtime_env=_SHIPPED if not inside_job and (address or _shadowed()) else None,
            include_dashboard=None if address or inside_job else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "; if it asks for a token, set RAY_AUTH_TOKEN" if address else ""
        where = address or "this machine"
        raise StepError(f"Ray at {where} can't be reached: {str(error).splitlines()[0]}{hint}") from None


def _shadowed() -> bool:
    """Whether the current folder, which Ray puts first on its workers' path, holds another package of a name of ours.

    Shipping costs workers of their own: about 3 s of the first 2,000 rows.
    """
    return any(Path(name).exists() and not Path(name).samefile(_HOME / name) for name in _PACKAGES)


def _set_environment(address: str | None) -> None:
    """What Ray reads when it is imported: so this comes before any `import ray`."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address and (os.environ.get("RAY_AUTH_TOKEN") or Path("~/.ray/auth_token").expanduser().is_file()):
        # Clusters ask for a token by default, but a client sends its own only in this mode.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _knock(address: str | None) -> None:
    """Ray ends the whole process where nobody answers, so ask first. Raises StepError."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # this machine, or "auto"
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise StepError(f"Ray at {address} can't be reached: {error}; is `ray start --head` running there?") from None


def _fit(wanted: int | None) -> int:
    import ray

    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < (wanted or 1):
        raise StepError(
            f"run.workers: {wanted or 1} parts at a time need {wanted or 1} CPUs and the Ray cluster has {cpus}; "
            "lower run.workers or add nodes"
        )
    return wanted or cpus


def _result(reference: object) -> Record:
    import ray

    try:
        return ray.get(reference)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.WorkerCrashedError as error:
        raise StepError(f"a worker died {_RETRIES + 1} times on one part, most likely out of memory: {error}") from None
    except ray.exceptions.OutOfMemoryError as error:
        raise StepError(
            "a worker ran out of memory on one part; lower run.workers or data.ingest.max_row_bytes "
            f"({str(error).splitlines()[0]})"
        ) from None
