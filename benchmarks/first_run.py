"""What a newcomer's first run costs: the quickstart, timed as a whole, with the memory of all its processes.

    python -m benchmarks.first_run [--out FOLDER]

Runs `python -m pipeline.quickstart` into a fresh folder, then the finished recipe again, then the pipeline into another
folder with one worker, and prints: seconds, peak memory of the process tree, held-out accuracy, seconds of the second
run, and whether the manifests of both folders are the same bytes. Installation is not part of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


def timed(*command: str) -> tuple[float, float]:
    """(seconds, peak GiB of the process and all below it, shared memory counted once per process)."""
    started, peak = time.monotonic(), 0
    process = psutil.Popen([sys.executable, "-m", *command], cwd=ROOT)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.25):
            total = 0
            for one in [process, *process.children(recursive=True)]:
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue  # it ended between the listing and the question
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return time.monotonic() - started, peak / 2**30


def manifests(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("*/manifest.json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="first-run-"))
    first, other = out / "quickstart", out / "again"
    asked = dict.fromkeys(("held_out", "validation"), "benchmark")
    names = {"fine": "fine", "japanese": "japanese", "llava": "llava", **asked}
    places = {name: first / "raw" / folder for name, folder in names.items()} | {"tokenizer": first / "tokenizer"}
    sets = [word for name, place in places.items() for word in ("--set", f"run.locations.{name}={place}")]
    recipe = ["pipeline", "run", "configs/quickstart.yaml", *sets]
    seconds, memory = timed("pipeline.quickstart", "--out", str(first))
    again, _ = timed(*recipe, "--out", str(first))
    timed(*recipe, "--out", str(other), "--set", "run.workers=1")
    accuracy = json.loads((first / "answers.summary.json").read_text())["exact_match"]
    same = all(manifests(first).get(name) == data for name, data in manifests(other).items())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"\ncommit {commit.stdout.strip()}, {psutil.cpu_count()} CPUs")
    print(f"quickstart {seconds:.0f} s, peak memory {memory:.1f} GiB, held-out accuracy {accuracy:.1%}")
    print(f"finished recipe again {again:.1f} s; another folder, one worker: same bytes {same}")


if __name__ == "__main__":
    main()
