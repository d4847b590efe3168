"""What our own download costs beside `curl`: the same files from the same loopback Hub, checksums included.

    python -m benchmarks.hub_fetch [--mib 128] [--rounds 3]

A server process speaks the Hub's protocol (redirect to another host name, then the file). All get the same files one
after another over kept connections and prove every sha256: one `curl --location` for all and then one `sha256sum
--check`; the same and then `sync` of the files; ours as the download step does it in one process, which also flushes
the files to the disk, renames them, and records each task. Rounds alternate; the table gives medians in ms for each
file, and ours as a ratio to both.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.graph.task import Task, do  # noqa: E402
from pipeline.net.hub import Revision, Server  # noqa: E402
from pipeline.steps.download import DOWNLOAD, FetchJob, shares  # noqa: E402
from stages.download import Found  # noqa: E402
from stages.sources.declaration import HubDataset  # noqa: E402
from tests.pipeline.net.hub_server import FakeHub, serving  # noqa: E402

Files = dict[str, bytes]
DATASET = "acme/pictures"


def contents(mib: int) -> dict[str, Files]:
    """Sets of files by name, from few large to many small; the same bytes wherever they are made."""
    block = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(1 << 15))

    def some(number: int, size: str, data: bytes) -> Files:
        return {f"{size}/{i:04d}.parquet": b"%04d" % i + data for i in range(number)}

    sets = [(4, f"{mib} MiB", block * mib), (64, "256 KiB", block[: 256 << 10]), (1000, "16 KiB", block[: 16 << 10])]
    return {f"{number} of {size}": some(number, size.replace(" ", "-"), data) for number, size, data in sets}


def serve(mib: int) -> None:
    with serving(FakeHub()) as hub:
        hub.commit({name: data for files in contents(mib).values() for name, data in files.items()})
        print(hub.port, hub.branches["main"], flush=True)
        sys.stdin.read()


def curl(revision: Revision, found: list[Found], folder: Path, sync: bool = False) -> None:
    places = {folder / f.file: f for f in found}
    urls = {path: revision.want(f).url for path, f in places.items()}
    (folder / "config").write_text("".join(f'url = "{url}"\noutput = "{path}"\n' for path, url in urls.items()))
    subprocess.run(["curl", "-sSL", "--fail", "--create-dirs", "-K", folder / "config"], check=True)
    (folder / "sums").write_text("".join(f"{f.digest}  {path}\n" for path, f in places.items()))
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", folder / "sums"], check=True)
    if sync:
        subprocess.run(["sync", *places], check=True)


def ours(revision: Revision, found: list[Found], folder: Path) -> None:
    for number, files in enumerate(shares(found)):
        wants = tuple((f.file, revision.want(f)) for f in files)
        job = FetchJob(amount=0, source="fine", wants=wants, server=revision.server)
        done = do(Task("", str(folder), number, DOWNLOAD.phases[0].do, job))
        assert not done.problem, done.problem


SIDES: dict[str, Callable[[Server, str, list[Found], Path], None]] = {
    "curl": curl,
    "curl, sync": functools.partial(curl, sync=True),
    "ours": ours,
}


def measure(revision: Revision, sets: dict[str, Files], rounds: int) -> None:
    heads = [f"{side}, ms/file" for side in SIDES] + ["ours / curl", "ours / curl, sync"]
    print(f"{'files':<20}" + "".join(f"{head:>20}" for head in heads))
    for name, files in sets.items():
        found = [Found(file, len(data), hashlib.sha256(data).hexdigest()) for file, data in files.items()]
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side, run in SIDES.items():
                with tempfile.TemporaryDirectory(prefix="hub-fetch-") as folder:
                    os.sync()  # what the side before left to be written
                    started = time.monotonic()
                    run(revision, found, Path(folder))
                    seconds[side].append(time.monotonic() - started)
        theirs, synced, mine = (statistics.median(seconds[side]) for side in SIDES)
        each = "".join(f"{1000 * one / len(files):>20.2f}" for one in (theirs, synced, mine))
        print(f"{name:<20}{each}{mine / theirs:>20.2f}{mine / synced:>20.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=128, help="size of each large file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.mib)
    command = [sys.executable, __file__, "--serve", "--mib", str(given.mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, commit = process.stdout.readline().split()
        server = Server(f"http://127.0.0.1:{port}", ("127.0.0.1", "localhost"))
        measure(Revision(server, HubDataset(DATASET), commit), contents(given.mib), given.rounds)
        process.communicate()


if __name__ == "__main__":
    main()
