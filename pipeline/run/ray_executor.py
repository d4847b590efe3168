"""The only file that imports ray: runs tasks as plain 1-CPU Ray tasks, as many at a time as the cluster has CPUs.

Plain tasks, not actors: an actor pool that holds every CPU starves what feeds it and waits for ever (ray#44687). A task
carries names and returns counts, so nothing of an image passes through the object store. Ray is started when the first
task is due, so a finished recipe never pays for it. A worker that dies (out of memory, a lost node) is tried again
twice; an error in a task ends the step.
"""

from __future__ import annotations

import logging
import os
import secrets
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
_MEMORY_RETRIES = 5  # Ray's own count has no end, and waits longer each time
_PATIENCE = 30.0
_SILENCE = 2.0  # seconds after which a person is told what is waited for
_OBJECTS = 150 * 1024 * 1024  # bytes; only tasks and records, of kilobytes, pass through Ray
_LOST = 15.0  # seconds without Ray's head after which a run ends; Ray would take 60 and end the process


class RayExecutor:
    """Executes on this machine's Ray (default) or on the cluster at `address`."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._address, self._wanted = address, workers
        self._starting: Future[int] | None = None
        self._own: _OwnRay | None = None

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        """Yield tasks and records as they come, None once a second.

        Raises StepError if the cluster can't hold one task, or dies.
        """
        first = take()
        if first is None:
            return
        workers = self._start()
        import ray

        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(do)
        running: dict[Any, Task] = {remote.remote(first): first}
        head = _Head(self._own)
        begun, silent = time.monotonic(), True
        while True:
            while len(running) < workers and (task := take()) is not None:
                running[remote.remote(task)] = task
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=1.0)
            head.check()
            for reference in done:
                silent = False
                task = running.pop(reference)
                yield task, _result(reference, task)
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
        if self._starting is None:
            return
        if self._starting.exception() is None:
            import ray

            ray.shutdown()
        if self._own is not None:
            self._own.stop()

    def _start(self) -> int:
        """Connect once; the number of tasks to run at a time."""
        if self._starting is None:
            self.begin()
        assert self._starting is not None
        if not wait([self._starting], _SILENCE).done:
            print("starting Ray", flush=True)
        return self._starting.result()

    def _connected(self) -> int:
        inside_job = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") is not None
        _knock(self._address)
        _set_environment(self._address, inside_job)
        if self._address or inside_job:
            _connect(self._address or "auto", None if inside_job else _SHIPPED)
        else:
            self._own = _OwnRay(self._wanted)
            _connect(self._own.address, _SHIPPED if _shadowed() else None)
        return _fit(self._wanted)


class _OwnRay:
    """A Ray of this run alone, on this machine: a cluster that happens to run here is joined only when asked for.

    It is started as `ray.init` does it, but without an autoscaler and a reader of logs that nobody needs (1.5 s of the
    first 2,000 rows), and without the one port that two runs on a machine can't share.
    """

    def __init__(self, wanted: int | None) -> None:
        import ray
        from ray._private.node import Node
        from ray._private.parameter import RayParams
        from ray._private.utils import get_num_cpus  # heeds the limits of a container

        cpus = int(get_num_cpus())
        _enough(cpus, wanted, "this machine")
        params = RayParams(
            num_cpus=wanted or cpus,
            object_store_memory=_OBJECTS,
            include_dashboard=False,
            include_log_monitor=False,
            no_monitor=True,
            dashboard_agent_listen_port=None,
        )
        try:
            self._node = Node(params, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise StepError(f"Ray can't be started on this machine: {_first_line(error)}") from None
        self.address: str = self._node.gcs_address
        ray._private.worker._worker_logs_enabled = False  # obituaries of 30 lines; ours is one

    def dead(self) -> list[str]:
        """Which of its processes have died that it can't do without."""
        return [name for name, _ in self._node.dead_processes() if name in ("gcs_server", "raylet")]

    def stop(self) -> None:
        self._node.kill_all_processes(check_alive=False, allow_graceful=True)


class _Head:
    """Looks whether Ray's head, and the node that this program runs on, are still there."""

    def __init__(self, own: _OwnRay | None) -> None:
        import ray

        self._own = own
        self._where: str = ray.get_runtime_context().gcs_address
        self._node: str = ray.get_runtime_context().get_node_id()
        self._seen = self._looked = time.monotonic()

    def check(self) -> None:
        """Raises StepError."""
        if self._own is not None and (dead := self._own.dead()):
            raise StepError(f"Ray on this machine has died ({', '.join(dead)}); run the same command again to go on")
        now = time.monotonic()
        if now - self._looked < 2:
            return
        self._looked = now
        if _answers(self._where):
            self._seen = now
            self._check_node()
        elif now - self._seen > _LOST:
            raise StepError(
                f"Ray's head at {self._where} has not answered for {_LOST:.0f} s; "
                "start it again, then run the same command again to go on"
            )

    def _check_node(self) -> None:
        import ray

        if self._own is None and any(n["NodeID"] == self._node and not n["Alive"] for n in ray.nodes()):
            raise StepError(
                "Ray on the node of this program has died; start it again, then run the same command again to go on"
            )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _connect(address: str, shipped: dict[str, Any] | None) -> None:
    import ray

    try:
        ray.init(address=address, runtime_env=shipped, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StepError(
            f"Ray at {address} can't be reached: {_first_line(error)}; if it asks for a token, set RAY_AUTH_TOKEN"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shadowed() -> bool:
    """Whether the current folder, which Ray puts first on its workers' path, holds another package of a name of ours.

    Shipping costs workers of their own: about 3 s of the first 2,000 rows.
    """
    return any(Path(name).exists() and not Path(name).samefile(_HOME / name) for name in _PACKAGES)


def _set_environment(address: str | None, inside_job: bool) -> None:
    """What Ray reads when it is imported: so this comes before any `import ray`."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(_MEMORY_RETRIES))
    if address is None and not inside_job:
        os.environ["RAY_AUTH_MODE"] = "token"  # other users of this machine stay out
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    elif os.environ.get("RAY_AUTH_TOKEN") or Path("~/.ray/auth_token").expanduser().is_file():
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
    _enough(cpus, wanted, "the Ray cluster")
    return wanted or cpus


def _enough(cpus: int, wanted: int | None, who: str) -> None:
    if cpus < (wanted or 1):
        raise StepError(
            f"run.workers: {wanted or 1} parts at a time need {wanted or 1} CPUs and {who} has {cpus}; "
            "lower run.workers or add nodes"
        )


def _result(reference: object, task: Task) -> Record:
    import ray

    part = f"part {task.number} of {Path(task.folder).name}"
    try:
        return ray.get(reference)  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        reason = str(error).splitlines()[0]
        raise StepError(
            f"{part}: its worker died {_RETRIES + 1} times, most likely out of memory ({reason}); "
            "lower run.workers, then run the same command again to go on"
        ) from None
    except ray.exceptions.LocalRayletDiedError:
        raise StepError("Ray on this machine has died; run the same command again to go on") from None
    except ray.exceptions.OutOfMemoryError as error:
        raise StepError(
            f"{part}: its worker ran out of memory {_MEMORY_RETRIES + 1} times; lower run.workers or "
            f"data.ingest.max_row_bytes ({str(error).splitlines()[0]})"
        ) from None
