"""`python -m train plan`: what a config comes to before anything is trained, as tables or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from train import estimate, log
from train.config import Config
from train.data import realised
from train.data.folders import AnyShards
from train.data.plan import Plan
from train.models import build

_GIB = 2**30


def made(config: Config, plan: Plan, shards: AnyShards, tflops: float, mfu: float, ranks: int) -> dict[str, Any]:
    """All of it. Hours are FLOPs / (`tflops` x `mfu` x `ranks`)."""
    run, packs = realised.both(plan, shards)
    model = build.shell(config.model, shards.facts, config.optimiser)
    flops = estimate.flops(model, config, shards.facts, run)
    memory = estimate.memory(model, config, shards.facts, run, packs)
    return {
        "steps": plan.total,
        "epochs": float(run.samples.sum() / len(shards)),
        "left_out": shards.num_left_out,
        "steps_per_epoch": plan.draws.steps_per_epoch,
        **{name: int(getattr(run, name).sum()) for name in ("samples", "tokens", "targets", "tiles")},
        "packing": asdict(packs),
        "sources": _sources(plan, run),
        "estimated_flops": flops,
        "estimated_hours": flops / (tflops * 1e12 * mfu * ranks) / 3600,
        "assumed": {"tflops": tflops, "mfu": mfu, "ranks": ranks},
        "estimated_bytes": asdict(memory) | {"total": memory.total},
        "fingerprint": plan.fingerprint(),
    }


def counted(plan: Plan, shards: AnyShards) -> dict[str, int]:
    """Samples, tokens and target tokens of the run, and the samples of the shards that it is made without."""
    run = realised.amounts(plan, shards)
    return {
        "samples": int(run.samples.sum()),
        "tokens": int(run.tokens.sum()),
        "target_tokens": int(run.targets.sum()),
        "left_out": shards.num_left_out,
    }


def _sources(plan: Plan, run: realised.Amounts) -> dict[str, dict[str, float]]:
    names, codes = plan.labels
    passes = run.samples / np.bincount(codes, minlength=len(names))
    found = {}
    for number, name in enumerate(names):
        row: dict[str, float] = {"passes": float(passes[number])}
        for unit in ("samples", "tokens", "targets"):
            amount = getattr(run, unit)
            row |= {unit: int(amount[number]), f"{unit}_share": float(amount[number] / max(1.0, amount.sum()))}
        found[name] = row
    return found


def show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, indent=2))
        return
    console = log.console()
    for line in _lines(report):
        console.print(line, highlight=False)
    console.print(_table(report["sources"]))


def _lines(of: dict[str, Any]) -> list[str]:
    packs, memory, assumed = of["packing"], of["estimated_bytes"], of["assumed"]
    imbalance = ", ".join(f"{value:.3f} on {ranks}" for ranks, value in packs["imbalance"].items())
    parts = ", ".join(f"{name} {memory[name] / _GIB:,.2f}" for name in memory if name != "total")
    without = [f"{of['left_out']:,} samples left out by data.leave_out"] if of["left_out"] else []
    return [
        f"{of['steps']:,} steps, {of['epochs']:,.2f} epochs, {of['samples']:,} samples, {of['tokens']:,} tokens "
        f"({of['targets']:,} targets), {of['tiles']:,} tiles; plan {of['fingerprint'][:8]}",
        *without,
        f"packs of {packs['steps']} steps: {packs['packs']:,.1f} a step, fill {packs['fill']:.1%}; costs, most / mean: "
        f"{imbalance} ranks",
        f"memory, an estimate: {memory['total'] / _GIB:,.2f} GiB ({parts})",
        f"time, an estimate: {of['estimated_hours']:,.2f} h for {of['estimated_flops']:.3g} FLOPs at "
        f"{assumed['tflops']:,g} TFLOP/s x {assumed['mfu']:g} on {assumed['ranks']}",
    ]


def _table(sources: dict[str, dict[str, float]]) -> Table:
    table = Table("source", box=None)
    for title in ("passes", "samples", "%", "tokens", "%", "targets", "%"):
        table.add_column(title, justify="right")
    for name, row in sources.items():
        cells = [f"{row['passes']:,.2f}"]
        for unit in ("samples", "tokens", "targets"):
            cells += [f"{row[unit]:,}", f"{row[f'{unit}_share']:.2%}"]
        table.add_row(name, *cells)
    return table
