"""What the first rows cost beside a peer: rows in LLaVA's layout to shards, whole commands, start-up included.

    python -m benchmarks.first_rows [FOLDER] [--rows 2000] [--rounds 3] [--peer 'COMMAND']

FOLDER holds JSON arrays of {image, conversations} and the images they name; without one it is made: JPEGs of about 0.6
megapixels with captions in eight languages, one row in five a copy of an earlier one. A tokenizer is trained on the
texts. Then, in turns, both on the same two cores:

  ours   `python -m pipeline run`: hashes of all files, ingest, dedupe, language, quality, pretokenise, a fresh folder
  peer   any command line; {rows} is a JSONL file of {"text": ..., "images": [absolute path]}, {out} a fresh folder

Prints wall seconds of every round, their minimum and median, CPU seconds where this user may make a cgroup (root on
Linux), rows/s, and ours / peer by the medians. The bytes of all files are read once before the first round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ingest
from pipeline.quickstart import tokenizer

ROOT = Path(__file__).parent.parent
_CORES = 2
CAPTIONS = {
    "en": "The chart on page {a} shows that the yearly sales of the company grew by {b} percent at the same cost.",
    "ja": "この図は、第{a}四半期における会社の売上高が{b}パーセント増加したことを示しています。",
    "zh": "这张图表显示了公司在第{a}季度的收入增长了百分之{b}，而成本基本保持不变。",
    "de": "Das Diagramm auf Seite {a} zeigt, dass der Umsatz des Unternehmens um {b} Prozent gestiegen ist.",
    "fr": "Le graphique de la page {a} montre que le chiffre d'affaires de l'entreprise a augmenté de {b} pour cent.",
    "es": "El gráfico de la página {a} muestra que los ingresos de la empresa crecieron un {b} por ciento.",
    "ko": "{a}페이지의 도표는 회사의 연간 매출이 {b}퍼센트 증가했음을 보여 줍니다.",
    "ru": "График на странице {a} показывает, что годовая выручка компании выросла на {b} процентов.",
}


class Cost(NamedTuple):
    """Of one run of a command, with all processes below it; `cpu` is None where it can't be counted."""

    wall: float
    cpu: float | None


def make(folder: Path, count: int) -> None:
    """`count` rows: four new pictures, then a copy of one of them, word for word and byte for byte."""
    paths = ingest.make(folder, count - count // 5, "smooth")
    chance, records = random.Random(7), []
    for number, path in enumerate(paths):
        text = chance.choice(list(CAPTIONS.values())).format(a=chance.randint(1, 99), b=chance.randint(1, 99))
        records.append(_record(f"images/{path.name}", text))
        if number % 4 == 3:
            original = chance.choice(records[-4:])
            copy = folder / "images" / f"copy-{number:05d}.jpg"
            shutil.copyfile(folder / original["image"], copy)
            records.append({**original, "image": f"images/{copy.name}"})
    (folder / "records.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")


def _record(image: str, text: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhat does it show?"}, {"from": "gpt", "value": text}]
    return {"image": image, "conversations": turns}


def read(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder; every byte of its images is read on the way, into the page cache."""
    records = [r for path in sorted(folder.glob("*.json")) for r in json.loads(path.read_text(encoding="utf-8"))]
    for record in records:
        (folder / record["image"]).read_bytes()
    return records


def prepare(folder: Path, records: list[dict[str, Any]], top: Path) -> None:
    """Below `top`: the tokenizer, our recipe, and the rows as the peer reads them."""
    raw = top / "raw" / "llava" / "conversations.json"
    raw.parent.mkdir(parents=True)
    raw.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    tokenizer.train(top / "raw", top / "tokenizer")
    source = {"format": "conversations", "files": ["*.json"], "images": "."}
    stages = {"dedupe": {}, "language": {"keep": list(CAPTIONS)}, "quality": {}, "pretokenise": {}}
    places = {"rows": str(folder.absolute()), "tokenizer": str(top / "tokenizer")}
    recipe = {"data": {"sources": {"rows": source}, **stages}, "run": {"workers": _CORES, "locations": places}}
    (top / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    with (top / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for record in records:
            text = "\n".join(turn["value"].replace("<image>", "").strip() for turn in record["conversations"])
            row = {"text": text, "images": [str((folder / record["image"]).absolute())]}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def run(command: list[str], log: Path) -> Cost:
    """Run a command to its end on the first cores of this machine; what it says goes to `log`."""
    cores = sorted(os.sched_getaffinity(0))[:_CORES]
    # Python caches compiled modules unless told not to, and that is what people have
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with accounted() as (enter, used), log.open("wb") as said:

        def begin() -> None:
            os.sched_setaffinity(0, cores)
            enter()

        started = time.monotonic()
        code = subprocess.call(
            command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, preexec_fn=begin
        )
        cost = Cost(time.monotonic() - started, used())
    if code:
        sys.exit(f"{shlex.join(command)} ended with {code}:\n{log.read_text(errors='replace')[-2000:]}")
    return cost


@contextlib.contextmanager
def accounted() -> Iterator[tuple[Callable[[], object], Callable[[], float | None]]]:
    """What a process calls to be counted with all its children, and what gives their CPU seconds."""
    old = Path("/sys/fs/cgroup/cpuacct")
    folder = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"first-rows-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield (lambda: None), (lambda: None)
        return

    def used() -> float:
        if old.is_dir():
            return int((folder / "cpuacct.usage").read_text()) / 1e9
        return int((folder / "cpu.stat").read_text().split()[1]) / 1e6

    try:
        yield (lambda: (folder / "cgroup.procs").write_text(str(os.getpid()))), used
    finally:
        for _ in range(50):  # a daemon may end a little after the command
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.2)


def table(costs: dict[str, list[Cost]], rows: int) -> None:
    print(f"{'':<6}{'wall s, round by round':<30}{'min':>7}{'median':>8}{'rows/s':>8}{'CPU s':>8}")
    for name, found in costs.items():
        walls, cpus = [cost.wall for cost in found], [cost.cpu for cost in found if cost.cpu is not None]
        middle = statistics.median(walls)
        cpu = f"{statistics.median(cpus):8.1f}" if cpus else f"{'-':>8}"
        each = " ".join(f"{wall:.1f}" for wall in walls)
        print(f"{name:<6}{each:<30}{min(walls):7.1f}{middle:8.1f}{rows / middle:8.0f}{cpu}")


def ratios(ours: list[Cost], peer: list[Cost]) -> None:
    for word, position in (("wall", 0), ("CPU", 1)):
        pairs = [(ours_[position], peer_[position]) for ours_, peer_ in zip(ours, peer, strict=True)]
        if all(value is not None for pair in pairs for value in pair):
            a, b = zip(*pairs, strict=True)
            print(f"ours / peer, {word} by the medians: {statistics.median(a) / statistics.median(b):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=2000, help="how many to make where no folder is given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="its command line, with {rows} and {out}")
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="first-rows-"))
    folder = given.folder or top / "rows"
    if given.folder is None:
        make(folder, given.rows)
    records = read(folder)
    prepare(folder, records, top)
    commands = {"ours": f"{shlex.quote(sys.executable)} -m pipeline run {top / 'recipe.yaml'} --out {{out}}"}
    if given.peer:
        commands["peer"] = given.peer
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(given.rounds):
        for name, command in commands.items():
            out = top / f"{name}-{number}"
            words = [
                w.replace("{rows}", str(top / "rows.jsonl")).replace("{out}", str(out)) for w in shlex.split(command)
            ]
            costs[name].append(run(words, top / f"{name}-{number}.log"))
            shutil.rmtree(out, ignore_errors=True)
    megabytes = sum((folder / record["image"]).stat().st_size for record in records) / 1e6
    print(
        f"{len(records):,} rows, {megabytes:,.0f} MB of images, {given.rounds} rounds on {_CORES} cores; logs in {top}"
    )
    table(costs, len(records))
    if given.peer:
        ratios(costs["ours"], costs["peer"])


if __name__ == "__main__":
    main()
