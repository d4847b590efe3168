"""Tasks for a real Ray: they take their time, or too much memory. As a program: run N of them, as a recipe's run does.

python -m tests.pipeline.ray_tasks {naps|hogs} COUNT FOLDER [ADDRESS]
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path

from pipeline.graph.errors import StepError
from pipeline.graph.task import Done, Job, Task, load_record
from pipeline.run.ray_executor import RayExecutor
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts


def nap(job: Job, writer: PartWriter) -> Done:
    """Two seconds; leaves a file that says it began."""
    (writer.folder / f"begun-{time.time_ns()}").touch()
    time.sleep(2)
    return Done({"some": Counts(rows_in=job.amount, kept=job.amount)})


def hog(job: Job, writer: PartWriter) -> Done:
    """Holds 64 MiB more each tenth of a second, to 4 GiB."""
    held = []
    for _ in range(64):
        held.append(bytearray(64 << 20))
        time.sleep(0.1)
    return nap(job, writer)


def main() -> int:
    kind, count, folder, *rest = sys.argv[1:]
    do = {"naps": nap, "hogs": hog}[kind]
    tasks = [Task("id", folder, number, do, Job(amount=1)) for number in range(int(count))]
    left = deque(task for task in tasks if load_record(task) is None)
    executor = RayExecutor(rest[0] if rest else None, None)
    done = 0
    try:
        for ended in executor.run(lambda: left.popleft() if left else None):
            done += ended is not None
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        executor.close()
    print(f"{done} done")
    return 0


if __name__ == "__main__":
    Path(sys.argv[3]).mkdir(exist_ok=True)
    sys.exit(main())
