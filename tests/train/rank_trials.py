"""What the ranks of the tests do."""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny_models
import torch
from torch.distributed.tensor import DTensor

from train import checkpoint, config, trainer
from train.__main__ import main
from train.checkpoint import Parts
from train.data.collate import collate
from train.data.loader import Counts, Step, empty
from train.data.plan import Position
from train.data.shards import Sample, Shards
from train.distributed import processes, sharded
from train.log import Line
from train.models import build

FROZEN = {
    "nothing frozen": (),
    "tower frozen": ("vision",),
    "all but projector frozen": ("vision", "language"),
    "all but decoder frozen": ("vision", "projector"),
    "decoder frozen": ("language",),
}
# Packs of a step by rank, as numbers of `tiny_models.mixed`: 0 and 4 are text alone
DEALT = {
    "each its own": [[[0, 1]], [[2, 3, 4]], [[]]],
    "text on one": [[[0, 4]], [[1, 2, 3]], [[]]],
    "text on all": [[[0]], [[4]], [[]]],
    "several packs": [[[0], [2]], [[1, 3], [4]], [[], []]],
    "nothing on the first": [[[]], [[1, 2]], [[0]]],
    "all on one": [[[0, 1], [2, 3], [4]], [[], [], []], [[], [], []]],
}


def fit(path: Path) -> int:
    return main(["fit", str(path)])


def fit_until_killed(path: Path, step: int) -> None:
    """All ranks are killed right after a step, whatever is being written."""

    def watch(line: Line) -> None:
        if line.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.fit(config.load(path), watch)


def gradients(names: list[str], frozen: list[str], dealt: list[str], out: Path) -> None:
    """The largest error of any gradient against one process', by model, what is frozen and how samples are dealt."""
    found: dict[str, Any] = {}
    with processes.joined() as world:
        for case in itertools.product(names, frozen, dealt):
            found[", ".join(case)] = _errors(case[0], FROZEN[case[1]], DEALT[case[2]], world)
        if world.first:
            out.write_text(json.dumps(found))


def gradients_of_one(names: list[str], out: Path) -> None:
    """A group of one process, as a GPU alone is."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    gradients(names, list(FROZEN)[:3], ["all on one"], out)


def gradients_in_bfloat16(out: Path) -> None:
    """Of one pack, and of 16 of the same: how many numbers there are, and how many differ."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    facts = tiny_models.facts("llava")
    pack = collate(tiny_models.mixed(facts), facts)
    model = build.build(tiny_models.config("llava"), facts).train().bfloat16()
    with processes.joined() as world:
        sharded.shard(model, world, torch.device("cpu"), torch.bfloat16)
        found = []
        for count in (1, 16):
            step = Step(count * [pack], _counts(count * [pack]), Position(0, 1))
            sharded.accumulate(model, step, world, torch.device("cpu"))
            found.append(torch.cat([p.grad.full_tensor().flatten() for p in model.parameters()]))
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    out.write_text(json.dumps([int((found[0] != 0).sum()), int((found[0] != found[1]).sum())]))


def _errors(name: str, frozen: tuple[str, ...], dealt: list[list[list[int]]], world: processes.World) -> list[float]:
    """Of the loss, the norm, and the worst of the gradients, relative to the largest gradient of all."""
    facts = tiny_models.facts(name)
    samples = tiny_models.mixed(facts)
    whole = build.build(tiny_models.config(name), facts).train()
    tiny_models.shuffled(whole)
    for part in frozen:
        getattr(whole, part).requires_grad_(False)
    model = copy.deepcopy(whole)
    numbers = [[number for pack in packs for number in pack] for packs in dealt]
    loss = _alone(whole, [collate([samples[n] for rank in numbers for n in rank], facts)])
    counts = _counts([collate([samples[n] for n in rank], facts) for rank in numbers if rank])
    own = [collate([samples[n] for n in pack], facts) if pack else empty(facts) for pack in dealt[world.rank]]
    sharded.shard(model, world, torch.device("cpu"))
    theirs, _ = sharded.accumulate(model, Step(own, counts, Position(0, 1)), world, torch.device("cpu"))
    norm = torch.nn.utils.get_total_norm([p.grad for p in whole.parameters() if p.grad is not None])
    worst = max(_apart(ours, grad, norm) for ours, grad in zip(whole.parameters(), model.parameters(), strict=True))
    return [abs(theirs / loss - 1), abs(sharded.clip(model, 1.0) / float(norm) - 1) if norm else 0.0, worst]


def _alone(model: Any, packs: list[Any]) -> float:
    loss = sum(model(pack).sum() for pack in packs) / sum(pack.num_targets for pack in packs)
    if loss.requires_grad:
        loss.backward()
    return float(loss.detach())


def _counts(packs: list[Any]) -> Counts:
    sums = sum(p.sample_ends[-1] for p in packs), sum(p.num_targets for p in packs), sum(len(p.tiles) for p in packs)
    return Counts(sum(len(p.sample_ends) - 1 for p in packs), *sums, len(packs))


def _apart(ours: Any, theirs: Any, norm: Any) -> float:
    """Infinite where one has a gradient and the other has none."""
    full = theirs.grad.full_tensor() if isinstance(theirs.grad, DTensor) else theirs.grad
    if ours.grad is None or full is None:
        there = ours.grad if full is None else full
        return 0.0 if there is None else float("inf")
    return float((ours.grad - full).abs().max() / norm)


def fit_until_stopped(path: Path, step: int) -> int:
    """All ranks stop after a step; a checkpoint that is being written is finished."""

    def watch(line: Line) -> None:
        if line.step == step:
            raise KeyboardInterrupt

    fit = trainer.fit
    trainer.fit = lambda of: fit(of, watch)
    return main(["fit", str(path)])


def fit_until_killed_while_saving(path: Path, step: int) -> None:
    """All ranks are killed when half of the files of a checkpoint are on the disk."""

    def write(draft: Path, of: Parts) -> dict[str, str]:
        if draft.name == f".{checkpoint.name(step)}":
            whole(draft, dict([*of.items()][:1]))
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(draft, of)

    whole, checkpoint.write = checkpoint.write, write
    trainer.fit(config.load(path))


def fit_on_a_full_disk(path: Path, rank: int, step: int) -> int:
    """On one rank there is no room for a checkpoint."""

    def write(draft: Path, of: Parts) -> dict[str, str]:
        if draft.name == f".{checkpoint.name(step)}":
            raise OSError(28, "No space left on device", str(draft))
        return whole(draft, of)

    whole = checkpoint.write
    if int(os.environ["RANK"]) == rank:
        checkpoint.write = write
    return fit(path)


def fit_until_one_is_killed(path: Path, rank: int, step: int) -> int:
    def watch(line: Line) -> None:
        if line.step == step and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    fit = trainer.fit
    trainer.fit = lambda of: fit(of, watch)
    return main(["fit", str(path)])


def fit_with_a_bad_sample(path: Path, rank: int) -> int:
    """One rank finds a sample of its third step damaged."""
    if int(os.environ["RANK"]) == rank:
        read, seen = Shards.sample, []

        def sample(shards: Shards, number: int) -> Sample:
            seen.append(number)
            found = read(shards, number)
            return replace(found, images=(), image_spans=()) if len(seen) > 8 and found.images else found

        Shards.sample = sample
    return fit(path)
