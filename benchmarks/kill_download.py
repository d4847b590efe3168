"""`kill -9` in the middle of one large file, several times: what is fetched twice, and is the result the same?

    python -m benchmarks.kill_download [--mib 2048] [--kills 5] [--seed 1]

A server process speaks the Hub's protocol on loopback. The real command `python -m pipeline download` fetches one file
under Ray; when a random share of it is there, SIGKILL goes to the command and everything it started (Ray's workers are
in groups of their own, and would go on for a second), and the command is run again.
Asserted: each run asks for the rest exactly from where the partial file ended; the server sent no more than the file
and 16 MiB for each kill (what lay in sockets); the manifest is that of a run nobody killed, which holds the file's
sha256. Printed: how many bytes were sent twice, and how long hashing the whole file again takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.net.download_file import Fetched, Want, fetch  # noqa: E402
from pipeline.net.http_client import Web  # noqa: E402
from schemas.manifest import verify  # noqa: E402
from tests.pipeline.net.hub_server import FakeHub, serving  # noqa: E402

FILE = "big/train.parquet"
SLACK = 16 << 20
RECIPE = """
data:
  sources:
    big: {{format: texts, files: ["*.parquet"], hub: {{dataset: acme/pictures, revision: {commit}}}}}
  pretokenise: {{}}
run:
  locations: {{tokenizer: {folder}}}
  allow_hosts: [127.0.0.1, localhost]
"""


def content(mib: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(1 << 15)) * mib


def serve(mib: int) -> None:
    with serving(FakeHub()) as hub:
        print(hub.port, hub.commit({FILE: content(mib)}), flush=True)
        for _ in sys.stdin:  # a line asks for what was asked since the last one
            files = [r for r in hub.log if r.path.startswith("/cdn/")]
            hub.log.clear()
            print(json.dumps([(r.range, r.sent) for r in files]), flush=True)


class Server:
    """The server's process, and what it was asked for."""

    def __init__(self, mib: int) -> None:
        command = [sys.executable, __file__, "--serve", "--mib", str(mib)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port, self.commit = self._line().split()

    def asked(self) -> list[tuple[str | None, int]]:
        assert self.process.stdin is not None
        self.process.stdin.write("asked\n")
        self.process.stdin.flush()
        return [(start, sent) for start, sent in json.loads(self._line())]

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def start(recipe: Path, out: Path, port: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "download", str(recipe), "--out", str(out)]
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE
    )


def killed(process: subprocess.Popen[str], out: Path, size: int) -> int:
    """Kill a run when `size` bytes are there; how many were, when nobody wrote any more."""
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size >= size for path in out.glob(f"*/files/{FILE}.partial")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the run ended before {size:,} bytes were there; give more --mib")
        time.sleep(0.002)
    for pid in [process.pid, *below(process.pid)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    (partial,) = out.glob(f"*/files/{FILE}.partial")
    time.sleep(0.5)  # a killed process may be within a write
    return partial.stat().st_size


def below(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return children + [one for child in children for one in below(child)]


def finish(recipe: Path, out: Path, port: str) -> bytes:
    """Run to the end; the bytes of the manifest, whose files are read and compared."""
    if start(recipe, out, port).wait() != 0:
        raise SystemExit("the download failed")
    (manifest,) = out.glob("01-download-big-*/manifest.json")
    verify(manifest.parent)
    return manifest.read_bytes()


def measure(mib: int, kills: int, seed: int, folder: Path) -> None:
    server, data = Server(mib), content(mib)
    (folder / "tokenizer.json").write_text("{}")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(commit=server.commit, folder=folder))
    whole = finish(recipe, folder / "whole", server.port)
    assert hashlib.sha256(data).hexdigest().encode() in whole
    server.asked()
    sent, begins = 0, 0
    chance = random.Random(seed)
    for share in sorted(chance.uniform(0.02, 0.9) for _ in range(kills)):
        size = max(int(share * len(data)), begins + SLACK)
        partial = killed(start(recipe, folder / "killed", server.port), folder / "killed", size)
        sent += check(server.asked(), begins)
        print(f"killed at {partial / 2**20:,.1f} MiB", flush=True)
        begins = partial
    assert finish(recipe, folder / "killed", server.port) == whole, "another manifest"
    sent += check(server.asked(), begins)
    twice = sent - len(data)
    assert twice <= kills * SLACK, f"{twice:,} bytes sent twice"
    print(f"{mib} MiB, {kills} kills: {twice / 2**20:.1f} MiB sent twice ({twice / len(data):.2%}), the same manifest")
    (path,) = (folder / "killed").glob(f"*/files/{FILE}")
    want = Want("http://nobody.invalid/", len(data), hashlib.sha256(data).hexdigest())
    started = time.monotonic()
    assert isinstance(fetch(want, path, Web()), Fetched)
    print(f"hashing it again: {time.monotonic() - started:.2f} s")
    server.process.kill()


def check(asked: list[tuple[str | None, int]], begins: int) -> int:
    """One request, for the rest; how much was sent."""
    ((start, sent),) = asked
    assert start == (f"bytes={begins}-" if begins else None), f"asked for {start}, {begins:,} bytes are there"
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.mib)
    with tempfile.TemporaryDirectory(prefix="kill-download-") as folder:
        measure(given.mib, given.kills, given.seed, Path(folder))


if __name__ == "__main__":
    main()
