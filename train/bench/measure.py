"""Made-up shards -> steps of the trainer on them, timed; or, on the meta device, what the steps would come to.

The loop is the trainer's own (`Run.advance`), loader, clipping, optimiser and log included; nothing is saved. The clock
runs from the end of the warm-up to the end of the last step, and the device has finished at both. A floor is the time
that the model's FLOPs take at 790 TFLOP/s, which dense products of these sizes reach on an H100 or H200.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from schemas.strict import RecipeError
from train import estimate, metrics
from train.bench import corpora, shards, sizes
from train.bench.corpora import CORPORA, Corpus, Drawn
from train.config import Config
from train.data import plan as planning
from train.data import realised
from train.data.folders import open_shards
from train.data.shards import Facts
from train.distributed import processes
from train.distributed.processes import World
from train.log import Line
from train.models import build, flops
from train.models.vision_language import VisionLanguage
from train.trainer import Run

FLOOR = 790e12  # FLOP/s
_DRAWN = 20_000  # samples whose means stand in a report


@dataclass(frozen=True)
class Options:
    """`samples`: of a step, where they are not the config's; `sizes`: None is the config's where a GPU runs them."""

    like: str
    meta: bool
    sizes: Literal["config", "tiny"] | None
    steps: int
    warm_up: int
    samples: int | None

    @property
    def corpus(self) -> Corpus:
        return CORPORA[self.like]


def named_like(path: Path) -> str:
    """The corpus of a config by the config's name. Raises RecipeError."""
    found = [name for name in CORPORA if path.stem.startswith(name)]
    if not found:
        names = ", ".join(CORPORA)
        raise RecipeError(f"{path}: its name begins with no corpus that a bench makes up; give --like, one of {names}")
    return found[0]


def report(config: Config, options: Options) -> dict[str, Any] | None:
    """All of it; None but for the first of several processes."""
    with processes.joined() as world, _folder(world) as folder:
        of = sizes.for_bench(config, str(folder), str(folder / "run"), options.steps + options.warm_up, options.samples)
        small = options.sizes == "tiny" if options.sizes else not options.meta and _device(of).type == "cpu"
        of = sizes.tiny(of, options.corpus.longest) if small else of
        language, corpus = of.model.language, options.corpus
        ids = language.vocab_size and language.vocab_size + (language.extra_vocab_size or 0)
        facts = corpus.facts(ids or corpus.vocab_size)
        shell = build.shell(of.model, facts, of.optimiser)
        found = _about(of, options, small) | _plan(shell, of, facts, corpora.draw(corpus, _DRAWN))
        if not options.meta:
            found |= {"measured": _measured(of, options, facts, world, folder, found)}
        return found if world.first else None


@contextmanager
def _folder(world: World) -> Iterator[Path]:
    """One for all processes, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as folder:
        yield Path(world.told(folder))
        world.sum(0.0)  # none is done before all are


def _about(config: Config, options: Options, small: bool) -> dict[str, Any]:
    of = config.optimiser
    return {
        "command": " ".join(["python -m train", *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {name: _version(name) for name in ("torch", "transformers", "pyarrow", "pillow")}
        | {"python": platform.python_version(), "cuda": torch.version.cuda},
        "device": "meta" if options.meta else _name(_device(config)),
        "sizes": "tiny" if small else "config",
        "family": config.model.family,
        **{"corpus": options.like, "states": of.states, "compute": of.compute, "recompute": config.run.recompute},
        "lora": config.model.lora and asdict(config.model.lora),
        "parts": {name: how if isinstance(how, str) else asdict(how) for name, how in of.parts.items()},
        **{"batch_size": config.data.batch_size, "batch_tokens": config.data.batch_tokens},
        "max_tokens_per_pack": config.data.max_tokens_per_pack,
    }


def _plan(shell: VisionLanguage, config: Config, facts: Facts, drawn: Drawn) -> dict[str, Any]:
    """Of the model in these sizes, whatever it is run on: one GPU's memory, and FLOPs."""
    index: Any = drawn.index()
    data = replace(config.data, steps=max(1, min(config.data.steps or 1, _DRAWN // (config.data.batch_size or 256))))
    plan = planning.make(data, index, *build.costs_of(shell, config.model, facts))
    amounts, packing = realised.both(plan, index)
    one = replace(config, run=replace(config.run, threads=1))
    memory = estimate.memory(shell, one, facts, amounts, packing)
    work, count = _work(shell, config, facts, drawn), len(drawn.text)
    each = sum(work.values()) / count
    samples = float(amounts.samples.sum() / plan.total)
    trained = sum(p.numel() for p in shell.parameters() if p.requires_grad)
    return {
        "parameters": flops.parameters(shell) | {"trained": trained},
        "means": {name: float(getattr(drawn, name).mean()) for name in ("tokens", "text", "targets", "tiles")},
        "samples_per_step": samples,
        "packs": {"per_step": packing.packs, "fill": packing.fill, "imbalance": packing.imbalance[1]},
        "flops_per_sample": each,
        "flops_per_sample_by_part": {name: value / count for name, value in work.items()},
        "flops_per_step": each * samples,
        "floor": {"tflops": FLOOR / 1e12, "samples_per_second": FLOOR / each},
        "estimated_bytes": asdict(memory) | {"total": memory.total},
    }


def _work(shell: VisionLanguage, config: Config, facts: Facts, drawn: Drawn) -> dict[str, float]:
    """FLOPs of all these samples, forward and backward, by part."""
    of = flops.training(shell, config.model, facts)
    return of.parts(drawn.tokens.tolist(), int(drawn.targets.sum()), int(drawn.tiles.sum()))


def _measured(
    config: Config, options: Options, facts: Facts, world: World, folder: Path, found: dict[str, Any]
) -> dict[str, Any]:
    """Steps after the warm-up, all processes together."""
    with world.agreed():
        if world.first:
            rows = round(found["samples_per_step"] * (options.steps + options.warm_up)) + 1
            shards.write(folder, options.corpus, corpora.draw(options.corpus, min(rows, _DRAWN), seed=1), facts)
            (folder / "run").mkdir()
    with world.agreed():
        opened = open_shards(config.data.shards)
        # A few steps of a schedule that is made for many: what it says of the length is not asked here
        plan = planning.make(config.data, opened, *build.costs(config.model, opened.facts, config.optimiser))
        run = Run(config, opened, plan, world)
    run.start()
    lines: list[Line] = []
    began = time.perf_counter()
    with run.pool, run.saver:
        for step in run.steps():
            lines.append(run.advance(step))
            if len(lines) == options.warm_up:
                _finish(run.device)
                began = time.perf_counter()
        _finish(run.device)
        seconds = time.perf_counter() - began
    return _rates(lines[options.warm_up :], seconds, run, world.count, found["floor"]["samples_per_second"])


def _rates(lines: list[Line], seconds: float, run: Run, devices: int, floor: float) -> dict[str, Any]:
    samples, tokens = sum(line.samples for line in lines), sum(line.tokens for line in lines)
    peak = metrics.peak(run.device)
    # Each line's share of the peak is of its own seconds; the whole is of the clock
    mfu = sum((line.mfu or 0.0) * line.seconds for line in lines) / seconds if peak else None
    return {
        **{"steps": len(lines), "seconds": seconds, "devices": devices, "samples": samples, "tokens": tokens},
        "samples_per_second": samples / seconds,
        "tokens_per_second": tokens / seconds,
        "mfu": mfu,
        "tflops": mfu * peak / 1e12 if mfu and peak else None,
        "share_of_floor": samples / seconds / devices / floor if peak else None,
        "data_wait": sum(line.waited for line in lines) / seconds,
        "peak_bytes": metrics.memory(run.device),
        "seconds_of_steps": [round(line.seconds, 4) for line in lines],
        "losses": [round(line.loss, 4) for line in lines],
    }


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device(config: Config) -> torch.device:
    return processes.device(config.run.device)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def _commit() -> str | None:
    """Of the source, and whether it was changed since; None where there is no git to ask."""
    here, told = Path(__file__).parent, list[str]()
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        except OSError:
            return None
        told.append(done.stdout.strip())
    return f"{told[0]}{' and changes' if told[1] else ''}" if told[0] else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    means = ", ".join(f"{value:,.1f} {name}" for name, value in found["means"].items())
    print(f"{found['family']} like {found['corpus']}, {found['sizes']} sizes, on {found['device']}")
    print(f"a sample: {means}; {found['flops_per_sample'] / 1e12:,.3f} TFLOP; a step: {found['samples_per_step']:,.0f}")
    if found["sizes"] == "config":
        memory, floor = found["estimated_bytes"]["total"] / 2**30, found["floor"]
        print(
            f"floor {floor['samples_per_second']:,.1f} samples/s at {floor['tflops']:g} TFLOP/s; memory, an estimate: "
            f"{memory:,.1f} GiB"
        )
    if at := found.get("measured"):
        mfu = "" if at["mfu"] is None else f", MFU {at['mfu']:.1%}, {at['share_of_floor']:.1%} of the floor"
        print(
            f"{at['samples_per_second']:,.2f} samples/s, {at['tokens_per_second']:,.0f} tokens/s{mfu}; data wait "
            f"{at['data_wait']:.2%}; at most {at['peak_bytes'] / 2**30:,.2f} GiB"
        )
