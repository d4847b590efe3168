"""What our own download costs beside `curl`: the same files from the same loopback Hub, checksums included.

    python -m benchmarks.hub_fetch [--mib 128] [--rounds 3]

A server process speaks the Hub's protocol (redirect to another host name, then the file). Both sides get four large and
64 small files one after another over kept connections, and prove every sha256: `curl --location` and then
`sha256sum --check`; ours with `pipeline.fetch`, which hashes what passes, flushes every file to the disk and renames
it. Rounds alternate; the table gives medians and the ratio ours / curl.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.fetch import Fetched, Want, fetch  # noqa: E402
from pipeline.web import Web  # noqa: E402
from tests.pipeline.hub_server import FakeHub, serving  # noqa: E402

Files = dict[str, bytes]


def contents(mib: int) -> dict[str, Files]:
    """The two sets of files: few large, many small; the same bytes wherever they are made."""
    block = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(1 << 15))
    large = {f"large/{i}.parquet": bytes([i]) + block * mib for i in range(4)}
    return {"large": large, "small": {f"small/{i}.parquet": bytes([i]) + block[: 256 << 10] for i in range(64)}}


def serve(mib: int) -> None:
    sets = contents(mib)
    with serving(FakeHub()) as hub:
        hub.commit(sets["large"] | sets["small"])
        print(hub.port, hub.branches["main"], flush=True)
        sys.stdin.read()


def curl(base: str, files: Files, digests: dict[str, str], folder: Path) -> float:
    started = time.monotonic()
    (folder / "config").write_text("".join(f'url = "{base}/{n}"\noutput = "{folder / n}"\n' for n in files))
    subprocess.run(["curl", "-sSL", "--fail", "--create-dirs", "-K", folder / "config"], check=True)
    (folder / "sums").write_text("".join(f"{digests[n]}  {folder / n}\n" for n in files))
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", folder / "sums"], check=True)
    return time.monotonic() - started


def ours(base: str, files: Files, digests: dict[str, str], folder: Path) -> float:
    started = time.monotonic()
    web = Web(("127.0.0.1", "localhost"))
    for name, data in files.items():
        done = fetch(Want(f"{base}/{name}", len(data), digests[name]), folder / name, web)
        assert isinstance(done, Fetched), done
    web.close()
    return time.monotonic() - started


def measure(base: str, sets: dict[str, Files], rounds: int) -> None:
    print(f"{'files':<24} {'curl + sha256sum':>18} {'ours':>10} {'ours / curl':>12}")
    for name, files in sets.items():
        digests = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
        seconds: dict[str, list[float]] = {"curl": [], "ours": []}
        for number in range(2 * rounds):
            side = ("curl", "ours")[number % 2]
            folder = Path(tempfile.mkdtemp(prefix="hub-fetch-"))
            seconds[side].append((curl if side == "curl" else ours)(base, files, digests, folder))
            shutil.rmtree(folder)
        mib = sum(map(len, files.values())) / 2**20
        theirs, mine = (statistics.median(seconds[side]) for side in ("curl", "ours"))
        what = f"{len(files)} {name}, {mib:,.0f} MiB"
        print(f"{what:<24} {mib / theirs:>12,.0f} MiB/s {mib / mine:>4,.0f} MiB/s {mine / theirs:>12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=128, help="size of each large file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.mib)
    command = [sys.executable, __file__, "--serve", "--mib", str(given.mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, commit = server.stdout.readline().split()
        measure(f"http://127.0.0.1:{port}/datasets/acme/pictures/resolve/{commit}", contents(given.mib), given.rounds)
        server.communicate()


if __name__ == "__main__":
    main()
